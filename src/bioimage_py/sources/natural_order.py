"""The order in which people count: 2 before 10."""

from __future__ import annotations

import re

__all__ = ["natural_key"]


def natural_key(name: str) -> tuple[object, ...]:
    """Return a sort key that counts numbers as numbers, so that `s2` comes before `s10`.

    Examples
    --------
    >>> sorted(["s10.tif", "s2.tif", "S1.tif"], key=natural_key)
    ['S1.tif', 's2.tif', 's10.tif']
    """
    parts = re.split(r"([0-9]+)", name.lower())
    # The name, which tells equal keys apart, must never meet a number of a longer one: "img" and "img1".
    return tuple(int(part) if n % 2 else part for n, part in enumerate(parts)), name
