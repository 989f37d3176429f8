"""A source with voxels added around it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from bioimage_py.chunks import AnyArray
from bioimage_py.errors import InvalidArgumentError
from bioimage_py.geometry import Box
from bioimage_py.metadata import ImageMetadata
from bioimage_py.wrapper.arguments import checked_number, checked_whole, holds
from bioimage_py.wrapper.base import WrapperSource
from bioimage_py.wrapper.spec import register_wrapper

_MODES = ("constant", "edge", "reflect", "symmetric")


@register_wrapper("pad")
class PadSource(WrapperSource):
    """The source with voxels added on its sides, as `numpy.pad` adds them to the whole array.

    Parameters
    ----------
    source
        Source, array, handle or path.
    pad_width
        How many voxels to add: one integer for all sides, or one entry per axis, each an integer for both sides or a
        pair `(before, after)`. `(1, 2)` for two axes means 1 on both sides of the first and 2 on both sides of the second.
    mode
        `"constant"`; `"edge"` repeats the outermost voxel; `"reflect"` mirrors at its centre and `"symmetric"` at its
        outer face, again and again where the padding is wider than the array.
    constant_value
        Value of the added voxels in mode `"constant"`; the source's dtype must hold it.

    Raises
    ------
    InvalidArgumentError
        If a width is negative or the number of entries is not that of the axes, the mode is not known, the dtype cannot
        hold `constant_value`, or an axis without voxels is padded in another mode than `"constant"`.

    Notes
    -----
    Only the voxels needed for the region asked for are read. `chunks` are those of the source, though its grid now
    begins after the padding. The origin in the metadata is that of the first added voxel.

    Examples
    --------
    >>> line = np.array([1, 2, 3])
    >>> PadSource(line, [(2, 1)])[...].tolist()
    [0, 0, 1, 2, 3, 0]
    >>> PadSource(line, 2, mode="reflect")[...].tolist()
    [3, 2, 1, 2, 3, 2, 1]
    """

    def __init__(self, source: Any, pad_width: Any, mode: str = "constant", constant_value: Any = 0) -> None:
        if mode not in _MODES:
            raise InvalidArgumentError(f"pad mode must be one of {', '.join(_MODES)}, got {mode!r}")
        value = checked_number(constant_value, "constant_value")
        super().__init__(source)
        with self.closing_on_error():
            self.pad_width = _checked_width(pad_width, self.shape)
            if mode == "constant" and not holds(self.dtype, value):
                raise InvalidArgumentError(
                    f"constant_value {value!r} does not fit the dtype {self.dtype} of the source"
                )
            for axis, (extent, widths) in enumerate(zip(self.shape, self.pad_width, strict=True)):
                if mode != "constant" and extent == 0 and any(widths):
                    raise InvalidArgumentError(
                        f"axis {axis} of {self.inputs[0].name} has no voxels to pad with in mode {mode!r}; use 'constant'"
                    )
        self.mode = mode
        self.constant_value = value
        self._inner = Box.whole(self.shape).shift(tuple(before for before, _ in self.pad_width))
        self.shape = tuple(
            before + n + after for n, (before, after) in zip(self.shape, self.pad_width, strict=True)
        )

    @property
    def metadata(self) -> ImageMetadata:
        metadata = self.inputs[0].metadata.fitting(self.ndim)
        axes = metadata.axes or ()
        if "c" in axes and any(self.pad_width[axes.index("c")]):
            metadata = metadata.with_channels_selected(None)
        return metadata.shifted(tuple(-before for before, _ in self.pad_width))

    def scratch_bytes(self, shape: tuple[int, ...]) -> int:
        repeated = 0 if self.mode == "constant" else math.prod(shape) * self.dtype.itemsize
        return super().scratch_bytes(shape) + repeated

    def _read(self, box: Box) -> AnyArray:
        if self._inner.contains(box):
            return self.read_input(box.relative_to(self._inner.begin))
        return self._with_constant(box) if self.mode == "constant" else self._repeated(box)

    def _with_constant(self, box: Box) -> AnyArray:
        out = np.full(box.shape, self.constant_value, self.dtype)
        shared = box.intersect(self._inner)
        if not shared.is_empty():
            out[shared.relative_to(box.begin).slices] = self.read_input(shared.relative_to(self._inner.begin))
        return out

    def _repeated(self, box: Box) -> AnyArray:
        origins = [
            _origins(np.arange(b, e) - begin, extent, self.mode)
            for b, e, begin, extent in zip(
                box.begin, box.end, self._inner.begin, self._inner.shape, strict=True
            )
        ]
        begin = tuple(int(o.min()) for o in origins)
        block = self.read_input(Box(begin, tuple(int(o.max()) + 1 for o in origins)))
        for axis, (origin, first) in enumerate(zip(origins, begin, strict=True)):
            if origin.size != block.shape[axis] or np.any(np.diff(origin) != 1):
                block = block.take(origin - first, axis=axis)
        return block


def _origins(position: npt.NDArray[np.intp], extent: int, mode: str) -> npt.NDArray[np.intp]:
    """Return which voxel of an axis each position, inside or outside of it, repeats."""
    if mode == "edge" or extent == 1:
        return np.clip(position, 0, extent - 1)
    period = 2 * extent if mode == "symmetric" else 2 * (extent - 1)
    folded = position % period
    return np.where(folded < extent, folded, (period - 1 if mode == "symmetric" else period) - folded)


def _checked_width(pad_width: Any, shape: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    if not isinstance(pad_width, (list, tuple)) and np.ndim(pad_width) == 0:
        pad_width = (checked_whole(pad_width, "pad_width"),) * len(shape)
    if len(pad_width) != len(shape):
        raise InvalidArgumentError(
            f"pad_width must be one integer, or one entry per axis: got {len(pad_width)} entries for {len(shape)} axes: "
            f"{pad_width!r}"
        )
    pairs = []
    for axis, entry in enumerate(pad_width):
        pair = entry if isinstance(entry, (list, tuple, np.ndarray)) else (entry, entry)
        if len(pair) != 2:
            raise InvalidArgumentError(
                f"pad_width of axis {axis} must be an integer or a pair (before, after), got {pair!r}"
            )
        before, after = (checked_whole(n, f"pad_width of axis {axis}") for n in pair)
        pairs.append((before, after))
    return tuple(pairs)
