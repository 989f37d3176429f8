"""A source with voxels added around it, and sources one behind the other."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from bioimage_py.chunks import AnyArray
from bioimage_py.errors import InvalidArgumentError
from bioimage_py.geometry import Box, checked_whole
from bioimage_py.metadata import ImageMetadata
from bioimage_py.sources import Source
from bioimage_py.wrapper.arguments import checked_number, checked_sources, holds
from bioimage_py.wrapper.base import WrapperSource
from bioimage_py.wrapper.shape.axes import axis_number
from bioimage_py.wrapper.spec import register_wrapper

_MODES = ("constant", "edge", "reflect", "symmetric")


@register_wrapper("pad")
class PadSource(WrapperSource):
    """The source with voxels added at the end of its axes or on both sides, as `numpy.pad` adds them to the whole array.

    Only the voxels needed for the region asked for are read. `chunks` are those of the source, though its grid now
    begins after the padding. The origin in the metadata is that of the first added voxel.

    Parameters
    ----------
    source
        Source, array, handle or path.
    pad_width
        How many voxels to add: one integer for all axes, or one entry per axis. An integer adds so many at the end of the
        axis; a pair `(before, after)` adds on both sides.
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

    Examples
    --------
    >>> line = np.array([1, 2, 3])
    >>> PadSource(line, 2)[...].tolist()
    [1, 2, 3, 0, 0]
    >>> PadSource(line, [(2, 1)], mode="reflect")[...].tolist()
    [3, 2, 1, 2, 3, 2]
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

    def input_boxes(self, box: Box) -> Iterator[tuple[int, Box]]:
        if self.mode == "constant":
            yield 0, box.intersect(self._inner).relative_to(self._inner.begin)
        else:
            ends = [(int(o.min()), int(o.max()) + 1) for o in self._origins(box)]
            yield 0, Box(tuple(b for b, _ in ends), tuple(e for _, e in ends))

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

    def _origins(self, box: Box) -> list[npt.NDArray[np.intp]]:
        """Return which voxels of the input an axis repeats, for each."""
        ends = zip(box.begin, box.end, self._inner.begin, self._inner.shape, strict=True)
        return [repeated_voxels(np.arange(b, e) - begin, n, self.mode) for b, e, begin, n in ends]

    def _repeated(self, box: Box) -> AnyArray:
        ((_, inner),) = self.input_boxes(box)
        block = self.read_input(inner)
        for axis, (origin, first) in enumerate(zip(self._origins(box), inner.begin, strict=True)):
            if origin.size != block.shape[axis] or np.any(np.diff(origin) != 1):
                block = block.take(origin - first, axis=axis)
        return block


def repeated_voxels(position: npt.NDArray[np.intp], extent: int, mode: str) -> npt.NDArray[np.intp]:
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
        pair = entry if isinstance(entry, (list, tuple, np.ndarray)) and np.ndim(entry) else (0, entry)
        if len(pair) != 2:
            raise InvalidArgumentError(
                f"pad_width of axis {axis} must be an integer or a pair (before, after), got {pair!r}"
            )
        before, after = (checked_whole(n, f"pad_width of axis {axis}") for n in pair)
        pairs.append((before, after))
    return tuple(pairs)


@register_wrapper("concatenate")
class ConcatenateSource(WrapperSource):
    """Sources joined along an axis, as `numpy.concatenate(sources, axis)` does: a list of files as one volume.

    The dtype is the one that numpy promotes to. Chunks are those of the first source, metadata too; channel names are
    joined. Sources joined along the same axis before are read directly. A region reads only the sources that it meets.

    For files with one axis less, wrap each in `ExpandDimsSource` first.

    Parameters
    ----------
    sources
        Sources, arrays, handles or paths; at least one. All have the same shape except along the axis.
    axis
        Number of the axis or, where the metadata of the first source name it, its name.

    Raises
    ------
    InvalidArgumentError
        If no source is given, their shapes do not fit (the message says which), or no dtype holds the values of all.

    Examples
    --------
    >>> upper, lower = np.zeros((1, 3), "uint8"), np.ones((2, 3), "uint8")
    >>> ConcatenateSource([upper, lower])[:, 0].tolist()
    [0, 1, 1]
    """

    axis: int

    def __init__(self, sources: Sequence[Any], axis: int | str = 0) -> None:
        super().__init__(*checked_sources(sources, type(self)))
        with self.closing_on_error():
            self.axis = axis_number(axis, self.inputs[0])
            self.inputs = tuple(part for source in self.inputs for part in self._joined_in(source))
            self._check_shapes()
            self.dtype = self._common_dtype()
        self._ends = tuple(accumulate(source.shape[self.axis] for source in self.inputs))
        self.shape = (*self.shape[: self.axis], self._ends[-1], *self.shape[self.axis + 1 :])

    @classmethod
    def from_parameters(cls, inputs: Sequence[Source], parameters: Mapping[str, Any]) -> Self:
        return cls(inputs, **parameters)

    @property
    def name(self) -> str:
        more = f" and {len(self.inputs) - 1} more" if len(self.inputs) > 1 else ""
        return f"{type(self).__name__}({self.inputs[0].name}{more})"

    @property
    def metadata(self) -> ImageMetadata:
        metadata = super().metadata
        if metadata.axes is None or metadata.axes[self.axis] != "c":
            return metadata
        each = [source.metadata.for_channels(source.shape[self.axis]) for source in self.inputs]
        return replace(
            metadata,
            channel_names=_joined([some.channel_names for some in each]),
            channel_colors=_joined([some.channel_colors for some in each]),
            contrast_limits=_joined([some.contrast_limits for some in each]),
        )

    def _joined_in(self, source: Source) -> tuple[Source, ...]:
        if isinstance(source, ConcatenateSource) and source.axis == self.axis:
            return source.inputs
        return (source,)

    def _check_shapes(self) -> None:
        def across(source: Source) -> tuple[Any, ...]:
            return source.ndim, source.shape[: self.axis], source.shape[self.axis + 1 :]

        first = self.inputs[0]
        for source in self.inputs:
            if across(source) != across(first):
                raise InvalidArgumentError(
                    f"the sources must have the same shape except along axis {self.axis}: {first.name} has {first.shape}, "
                    f"{source.name} has {source.shape}"
                )

    def _common_dtype(self) -> np.dtype[Any]:
        dtypes = sorted({source.dtype.newbyteorder("=") for source in self.inputs}, key=str)
        common = np.result_type(*dtypes)
        for dtype in dtypes:
            # numpy promotes 64-bit integers of both kinds to float64, which rounds them.
            rounds = dtype.kind in "iu" and dtype.itemsize == 8 and common.kind not in "iu"
            if rounds or not np.can_cast(dtype, common, "safe"):
                raise InvalidArgumentError(
                    f"no dtype holds the voxels of all sources, which are {', '.join(map(str, dtypes))}: "
                    "wrap them in CastSource"
                )
        return common

    def scratch_bytes(self, shape: tuple[int, ...]) -> int:
        itemsize = max(source.dtype.itemsize for source in self.inputs)
        parts = zip(self.inputs, self.read_shapes(shape), strict=True)
        return math.prod(shape) * itemsize + max(source.scratch_bytes(part) for source, part in parts)

    def input_boxes(self, box: Box) -> Iterator[tuple[int, Box]]:
        first = bisect_right(self._ends, box.begin[self.axis])
        last = bisect_right(self._ends, box.end[self.axis] - 1)
        for position in range(first, last + 1):
            start = self._ends[position - 1] if position else 0
            begin, end = max(start, box.begin[self.axis]), min(self._ends[position], box.end[self.axis])
            yield position, box.with_axis(self.axis, begin - start, end - start)

    def _read(self, box: Box) -> AnyArray:
        blocks = [
            np.empty(part.shape, self.dtype) if part.is_empty() else self.read_input(part, position)
            for position, part in self.input_boxes(box)
        ]
        joined = blocks[0] if len(blocks) == 1 else np.concatenate(blocks, self.axis)
        return joined.astype(self.dtype, copy=False)


def _joined(each: list[tuple[Any, ...] | None]) -> Any:
    """Return what is known of the channels of all sources, None if of some nothing is."""
    if any(some is None for some in each):
        return None
    return tuple(value for some in each if some is not None for value in some)
