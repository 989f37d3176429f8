"""What a picture shows and how it looks, as a value, from which the options of the command line are derived."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bioimage_py.errors import InvalidArgumentError
from bioimage_py.option import option

_SIZES = (64, 4096)


@dataclass(frozen=True)
class Look:
    """The options of `preview`, checked; position, time and channels are checked against the source that is shown."""

    position: Sequence[int] | Mapping[str, int] | None = option(
        "where the slices are, in voxels, such as 64,256,256 or z=64 (default: the middle)",
        metavar="INDICES",
        read="position",
    )
    projection: str | None = option("a projection instead of slices", choices=("max", "mean"))
    time: int | None = option("time point (default: the first)", metavar="INDEX", read="count")
    channels: int | Sequence[int] | None = option(
        "which channels, such as 0,2", metavar="INDICES", read="indices"
    )
    kind: str | None = option(
        "what the image shows (default: by its data type and name)", choices=("image", "labels")
    )
    contrast: tuple[float, float] | None = option(
        "values that become black and white", metavar="LOW,HIGH", read="pair"
    )
    percentiles: tuple[float, float] = option(
        "percentiles that become black and white if no contrast is known (default: 0.1,99.8)",
        default=(0.1, 99.8),
        metavar="LOW,HIGH",
        read="pair",
    )
    size: int = option("longest edge of a panel (default: 512)", default=512, metavar="PIXELS", read="count")
    read_limit: int | str = option(
        "read at most this many bytes, decoded (default: 8GiB)", default="8GiB", metavar="SIZE"
    )

    def __post_init__(self) -> None:
        for name, known in (("kind", ("labels", "image")), ("projection", ("max", "mean"))):
            if (value := getattr(self, name)) is not None and value not in known:
                raise InvalidArgumentError(f"{name} must be one of {', '.join(known)}, got {value!r}")
        if self.contrast is not None:
            object.__setattr__(self, "contrast", _pair("contrast", self.contrast))
        low, high = _pair("percentiles", self.percentiles)
        object.__setattr__(self, "percentiles", (low, high))
        if low < 0 or high > 100:
            raise InvalidArgumentError(f"percentiles are from 0 to 100, got {self.percentiles!r}")
        whole = hasattr(self.size, "__index__") and not isinstance(self.size, bool)
        if not whole or not _SIZES[0] <= self.size <= _SIZES[1]:
            raise InvalidArgumentError(
                f"size is a whole number of pixels from {_SIZES[0]} to {_SIZES[1]}, got {self.size!r}"
            )


def _pair(name: str, values: Any) -> tuple[float, float]:
    try:
        low, high = (float(value) for value in values)
    except (TypeError, ValueError):
        low = high = math.nan
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise InvalidArgumentError(f"{name} is two numbers, the lower one first, got {values!r}")
    return low, high
