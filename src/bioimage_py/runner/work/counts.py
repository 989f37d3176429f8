"""Work that counts what it does: from nothing for each attempt, and told as a tally, or as plain JSON for the run folder.

A function of the user counts nothing. Every worker imports this module, which therefore imports none of ours.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    from bioimage_py.kernels import Tally

AnyWork = TypeVar("AnyWork")


def counted_anew(work: AnyWork) -> AnyWork:
    """Return the same work with nothing counted yet; itself if it does not count."""
    anew = getattr(work, "counted_anew", None)
    return work if anew is None else cast("AnyWork", anew())


def tally_of(work: Any) -> Tally | None:
    """Return what work has counted so far; None if it does not count."""
    tally = getattr(work, "tally", None)
    return None if tally is None else cast("Tally | None", tally())


def counting(work: Any) -> Callable[[], dict[str, Any]] | None:
    """Return what tells as plain JSON what the work has counted so far; None if it does not count."""
    if tally_of(work) is None:
        return None

    def count() -> dict[str, Any]:
        tally = tally_of(work)
        assert tally is not None
        return tally.to_json()

    return count
