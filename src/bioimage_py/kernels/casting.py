"""From the input's dtype to the output's, with a rule for voxels that do not fit; comparing numbers without rounding."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from bioimage_py.chunks import AnyArray
from bioimage_py.errors import CastingError, Hint, InvalidArgumentError
from bioimage_py.sources import cast_values, saturated

Casting = Literal["unsafe", "same_kind", "safe", "check", "clip"]


def check_casting(casting: str, source: np.dtype[Any], target: np.dtype[Any]) -> None:
    """Raise if the rule is unknown, or if it forbids this pair of dtypes whatever the voxels are."""
    if casting not in get_args(Casting):
        raise InvalidArgumentError(f"casting must be one of {', '.join(get_args(Casting))}, got {casting!r}")
    if casting in ("safe", "same_kind") and not np.can_cast(source, target, casting=casting):  # type: ignore[arg-type]
        raise CastingError(
            f"casting {casting!r} does not allow {source} → {target}",
            hints=[
                Hint.of("give a {} that holds the input's values", dtype=...),
                Hint.of("or, to allow it as long as no voxel changes, give {}", casting="check"),
            ],
        )


def can_hold(source: np.dtype[Any], target: np.dtype[Any]) -> bool:
    """Whether every value of the source dtype survives in the target dtype."""
    if source.kind in "iu" and target.kind in "fc":
        # numpy calls int64 → float64 safe, though integers beyond 2**53 are rounded.
        return bool(np.iinfo(source).bits - (source.kind == "i") <= np.finfo(target).nmant + 1)
    return bool(np.can_cast(source, target, casting="safe"))


def cast(values: AnyArray, target: np.dtype[Any], casting: str, origin: tuple[int, ...]) -> AnyArray:
    """As `cast_values`; the array itself where nothing changes. With `"check"`, a voxel that would change is an error; `"clip"` saturates."""
    if values.dtype == target:
        return values
    if casting == "clip":
        clipped = np.empty(values.shape, target)
        # In pieces: what a piece takes in between is small.
        with np.nditer(
            [values, clipped],
            ["external_loop", "buffered", "zerosize_ok"],
            [["readonly"], ["writeonly"]],
            buffersize=2**17,
        ) as pieces:
            for given, made in pieces:
                made[...] = saturated(given, target)
        return clipped
    result = cast_values(values, target)
    if casting == "check":
        changed = differing(result, values)
        if changed.any():
            at = np.unravel_index(int(np.argmax(changed)), changed.shape)
            where = tuple(int(a) + o for a, o in zip(at, origin, strict=True))
            raise CastingError(
                f"voxel {where} is {values[at]} as {values.dtype} and would become {result[at]} as {target} "
                f"({int(np.count_nonzero(changed))} voxels of its block change)"
            )
    return result


def differing(a: AnyArray, b: AnyArray) -> npt.NDArray[np.bool_]:
    """Return where two arrays of one shape hold different numbers, whatever their dtypes; NaN equals NaN."""
    with np.errstate(all="ignore"):
        differs = np.asarray(a != b)
        for whole, other in ((a, b), (b, a)):
            # numpy compares these as float64, which rounds integers beyond 2**53.
            if whole.dtype.kind in "iu" and whole.dtype.itemsize == 8 and other.dtype.kind in "fc":
                differs = differs | _rounded(whole, other.real)
        if a.dtype.kind in "fc" or b.dtype.kind in "fc":
            differs = differs & ~((a != a) & (b != b))  # noqa: PLR0124 - NaN is not itself
    return np.asarray(differs)


def _rounded(whole: AnyArray, real: AnyArray) -> Any:
    """Return where a number is not the integer, though it may be after rounding."""
    # As a float the largest integer is rounded up to the first one that does not fit.
    inside = real < float(np.iinfo(whole.dtype).max)
    return ~inside | (np.where(inside, real, 0).astype(whole.dtype) != whole)
