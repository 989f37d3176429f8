"""What is taken for granted where a file says nothing, each with the option that states it."""

from __future__ import annotations

from collections.abc import Sequence

from bioimage_py.errors import Hint
from bioimage_py.metadata.model import ImageMetadata
from bioimage_py.metadata.overrides import spatial_axes


def assumptions(metadata: ImageMetadata, shape: Sequence[int], *, completed: bool = True) -> tuple[Hint, ...]:
    """Return what is assumed of an array: by the reader of its file, and of voxels whose size or unit is not known.

    Unless `completed`, what is not known at all is left out, as in the metadata of a format that need not say it. Nothing is said of what the user has stated, nor of the size of voxels along an axis that has only one.

    Examples
    --------
    >>> found = assumptions(ImageMetadata(("z", "y", "x"), (1.0, 0.5, 0.5), (None, "micrometer", "micrometer")), (9, 64, 64))
    >>> print(*found)
    the voxel size along z is not known and taken as 1: state it with voxel_size and units
    """
    found = metadata.fitting(len(shape))
    hints = list(metadata.assumed)
    if completed and found.axes is None and 2 <= len(shape) <= 5:
        names = "tczyx"[-len(shape) :]
        hints.append(
            Hint.of(
                f"its axes have no names and are taken as {', '.join(names)}: state them with {{}}",
                axes=names,
            )
        )
    space = [axis for axis in spatial_axes(found.axes, len(shape)) if shape[axis] > 1]
    hints += _of_voxel_size(found, space, completed=completed)
    return tuple(
        hint for hint in hints if hint.call is None or not set(hint.call.options) <= set(metadata.stated)
    )


def _of_voxel_size(metadata: ImageMetadata, space: Sequence[int], *, completed: bool) -> list[Hint]:
    sizes, units = metadata.voxel_size, metadata.units or (None,) * len(metadata.voxel_size or ())
    if not space:
        return []
    if sizes is None:
        return [_size_hint("is not known and taken as 1")] if completed else []
    stated = "voxel_size" in metadata.stated
    measured = any(units[axis] for axis in space)
    bare = [axis for axis in space if units[axis] is None]
    unknown = [axis for axis in bare if measured and sizes[axis] == 1 and not stated]
    names = metadata.axes or tuple(f"axis {n}" for n in range(len(sizes)))
    found = []
    if unknown:
        found.append(_size_hint(f"along {_listed(names, unknown)} is not known and taken as 1"))
    if completed and (without := [axis for axis in bare if axis not in unknown]):
        along = f" along {_listed(names, without)}" if measured else ""
        found.append(
            Hint.of(f"the unit of the voxel size{along} is not known: state it with {{}}", units=...)
        )
    return found


def _size_hint(text: str) -> Hint:
    return Hint.of(f"the voxel size {text}: state it with {{}}", voxel_size=..., units=...)


def _listed(names: Sequence[str], axes: Sequence[int]) -> str:
    return " and ".join(names[axis] for axis in axes)
