"""A region of a source, or chosen positions along an axis, as a source of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from bioimage_py.chunks import AnyArray
from bioimage_py.errors import InvalidArgumentError, InvalidIndexError
from bioimage_py.geometry import BlockWithHalo, Box, as_integer, basic_index
from bioimage_py.metadata import ImageMetadata
from bioimage_py.wrapper.base import WrapperSource
from bioimage_py.wrapper.shape.axes import axis_number
from bioimage_py.wrapper.spec import register_wrapper


@register_wrapper("roi")
class RoiSource(WrapperSource):
    """A region of a source, read lazily and written into the source; a region of a region leads to the first source directly.

    Parameters
    ----------
    source
        Source, array, handle or path.
    roi
        An integer, a slice with step 1, an Ellipsis, a tuple of them, or a `Box` or `Block`. As in numpy, negative numbers
        count from the end, and axes left out are taken whole. Unlike in numpy, a slice that leaves the array is an error.
    squeeze
        Whether an integer drops its axis, as in numpy. Otherwise the axis stays, with one voxel.

    Attributes
    ----------
    box
        The region, in voxels of the input.
    kept
        The axes of the input that are axes of this source.

    Raises
    ------
    InvalidArgumentError
        If `roi` has more entries than the source has axes, leaves the array, or is of another type.

    Notes
    -----
    `chunks` are those of the source, also where the region does not begin on their grid. The origin in the metadata is
    that of the region. Where the source is writable, so is the region: all voxels around it are kept. A region that begins
    inside a chunk or shard is written at once only, because two blocks could meet in one.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.arange(24).reshape(2, 3, 4)
    >>> RoiSource(image, (1, slice(0, 2))).shape
    (1, 2, 4)
    >>> region = RoiSource(image, (1, slice(0, 2)), squeeze=True)
    >>> region.shape, region[0, 1:3].tolist()
    ((2, 4), [13, 14])
    >>> region[0] = 0
    >>> image[1].tolist()
    [[0, 0, 0, 0], [16, 17, 18, 19], [20, 21, 22, 23]]
    """

    box: Box
    kept: tuple[int, ...]

    def __init__(self, source: Any, roi: Any, squeeze: bool = False) -> None:
        outer = source if type(source) is RoiSource else None
        super().__init__(source if outer is None else outer.inputs[0])
        whole = self.inputs[0].shape
        with self.closing_on_error():
            box, kept = _selection(roi, whole if outer is None else outer.shape)
            if not squeeze:
                kept = tuple(range(box.ndim))
        if outer is not None:
            box, kept = outer.in_input(box), tuple(outer.kept[axis] for axis in kept)
        self.box = box
        self.kept = kept
        self._take_axes(kept)
        self.shape = tuple(box.shape[axis] for axis in kept)
        inner = self.inputs[0]
        self.writable, self.read_only_because = inner.writable, inner.read_only_because
        self.concurrent_writes = inner.concurrent_writes
        for begin, end, unit in zip(box.begin, box.end, inner.write_unit or (), strict=False):
            if begin % unit and end - begin > 1:
                self.concurrent_writes = False
                self.at_once_because = (
                    f"its region {box.text} begins inside a chunk or shard of {inner.name}, in which two blocks could meet: "
                    f"begin it at multiples of {inner.write_unit}"
                )

    def parameters(self) -> dict[str, Any]:
        roi = tuple(s if axis in self.kept else s.start for axis, s in enumerate(self.box.slices))
        return {"roi": roi, "squeeze": True}

    @property
    def write_unit(self) -> tuple[int, ...] | None:
        unit = self.inputs[0].write_unit
        return None if unit is None else tuple(unit[axis] for axis in self.kept)

    @property
    def metadata(self) -> ImageMetadata:
        metadata = self.inputs[0].metadata.fitting(self.inputs[0].ndim)
        if metadata.axes is not None and "c" in metadata.axes:
            axis = metadata.axes.index("c")
            channels = range(self.box.begin[axis], self.box.end[axis]) if axis in self.kept else None
            metadata = metadata.with_channels_selected(channels)
        return metadata.shifted(self.box.begin).with_axes_selected(self.kept)

    def in_input(self, box: Box) -> Box:
        """Return a box of this source in voxels of its input, with one voxel along the axes dropped."""
        begin, end = list(self.box.begin), list(self.box.end)
        for axis, first, last in zip(self.kept, box.begin, box.end, strict=True):
            end[axis] = begin[axis] + last
            begin[axis] += first
        return Box(tuple(begin), tuple(end))

    def read_shapes(self, shape: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        extents = dict(zip(self.kept, shape, strict=True))
        yield tuple(extents.get(axis, 1) for axis in range(self.inputs[0].ndim))

    def input_boxes(self, box: Box) -> Iterator[tuple[int, Box]]:
        yield 0, self.in_input(box)

    def _read(self, box: Box) -> AnyArray:
        return self.read_input(self.in_input(box)).reshape(box.shape)

    def _write(self, box: Box, values: AnyArray) -> None:
        inside = self.in_input(box)
        self.inputs[0].write(inside, values.reshape(inside.shape))

    def flush(self) -> None:
        self.inputs[0].flush()


def _selection(roi: Any, shape: tuple[int, ...]) -> tuple[Box, tuple[int, ...]]:
    """Return the box in an array of this shape, and the axes that are not indexed by an integer."""
    if isinstance(roi, BlockWithHalo):
        roi = roi.outer_block
    if isinstance(roi, Box):
        if roi.ndim != len(shape) or any(
            not 0 <= b <= e <= n for b, e, n in zip(roi.begin, roi.end, shape, strict=True)
        ):
            raise InvalidArgumentError(f"the roi {tuple(roi)} is not a region of an array of shape {shape}")
        return Box(roi.begin, roi.end), tuple(range(len(shape)))
    try:
        selected = basic_index(roi, shape, inside=True)
    except InvalidIndexError as error:
        raise InvalidArgumentError(
            f"the roi {roi!r} does not fit an array of shape {shape}: {error}"
        ) from error
    kept = [axis for axis in range(len(shape)) if isinstance(selected.squeeze[axis], slice)]
    return selected.box, tuple(kept)


@register_wrapper("select")
class SelectSource(WrapperSource):
    """Chosen positions along one axis, such as channels or time points, as `numpy.take(source, index, axis)` does.

    A selection along the axis of another one that keeps it reads the first source directly. Only the chosen planes are read.

    Parameters
    ----------
    source
        Source, array, handle or path.
    index
        A position, which drops the axis; or a list of positions in any order, which keeps it. Negative ones count from the
        end. Along the axis "c" a channel's name stands for its position.
    axis
        Number of the axis or, where the metadata name them, its name. Default: `"c"`.

    Raises
    ------
    InvalidArgumentError
        If there is no such axis, position or channel, or the list is empty.

    Examples
    --------
    >>> image = np.arange(12).reshape(3, 2, 2)
    >>> SelectSource(image, 1, axis=0)[...].tolist(), SelectSource(image, [2, 0], axis=0)[:, 0, 0].tolist()
    ([[4, 5], [6, 7]], [8, 0])
    """

    axis: int
    index: tuple[int, ...]
    drops: bool

    def __init__(self, source: Any, index: Any, axis: int | str = "c") -> None:
        super().__init__(source)
        with self.closing_on_error():
            self.axis = axis_number(axis, self.inputs[0])
            self.drops = isinstance(index, str) or np.ndim(index) == 0
            chosen = [index] if self.drops else list(index)
            if not chosen:
                raise InvalidArgumentError("index must name at least one position, got an empty list")
            self.index = tuple(self._position(one) for one in chosen)
        inner = self.inputs[0]
        if type(inner) is SelectSource and inner.axis == self.axis and not inner.drops:
            self.index = tuple(inner.index[position] for position in self.index)
            self.inputs = inner.inputs
        self._take_axes([None if axis == self.axis else axis for axis in self._kept()])
        if not self.drops:
            self.shape = (*self.shape[: self.axis], len(self.index), *self.shape[self.axis + 1 :])

    def parameters(self) -> dict[str, Any]:
        return {"index": self.index[0] if self.drops else list(self.index), "axis": self.axis}

    @property
    def metadata(self) -> ImageMetadata:
        metadata = self.inputs[0].metadata.fitting(self.inputs[0].ndim)
        if metadata.axes is not None and metadata.axes[self.axis] == "c":
            metadata = metadata.for_channels(self.inputs[0].shape[self.axis])
            metadata = metadata.with_channels_selected(None if self.drops else self.index)
        if not self.drops and metadata.voxel_size is not None:
            metadata = self._spaced(metadata)
        return metadata.with_axes_selected(self._kept())

    def _spaced(self, metadata: ImageMetadata) -> ImageMetadata:
        """Return metadata whose places along the axis are kept if they are evenly spaced."""
        begin = [0] * self.inputs[0].ndim
        begin[self.axis] = self.index[0]
        sizes, units = list(metadata.voxel_size or ()), metadata.units
        steps = set(np.diff(self.index).tolist())
        if len(steps) == 1 and min(steps) > 0:
            sizes[self.axis] *= steps.pop()
        elif steps:
            sizes[self.axis] = 1.0
            if units is not None:
                units = (*units[: self.axis], None, *units[self.axis + 1 :])
        return replace(metadata.shifted(begin), voxel_size=tuple(sizes), units=units)

    def _kept(self) -> tuple[int, ...]:
        return tuple(axis for axis in range(self.inputs[0].ndim) if axis != self.axis or not self.drops)

    def _position(self, given: Any) -> int:
        source = self.inputs[0]
        extent = source.shape[self.axis]
        if isinstance(given, str):
            metadata = source.metadata
            along_channels = metadata.axes is not None and metadata.axes[self.axis] == "c"
            names = (metadata.channel_names or ()) if along_channels else ()
            if given not in names:
                raise InvalidArgumentError(
                    f"{source.name} has no channel {given!r} along axis {self.axis}; its channels are {', '.join(names) or 'not named'}"
                )
            return names.index(given)
        if (position := as_integer(given)) is None:
            raise InvalidArgumentError(f"index must be integers or names of channels, got {given!r}")
        if not -extent <= position < extent:
            raise InvalidArgumentError(
                f"index {given} is out of bounds for axis {self.axis} with {extent} voxels"
            )
        return position % extent

    def read_shapes(self, shape: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        yield (*shape[: self.axis], 1, *shape[self.axis :]) if self.drops else shape

    def input_boxes(self, box: Box) -> Iterator[tuple[int, Box]]:
        if self.drops:
            yield 0, box.with_new_axis(self.axis, self.index[0], self.index[0] + 1)
            return
        wanted = self.index[box.begin[self.axis] : box.end[self.axis]]
        if wanted and list(wanted) == list(range(wanted[0], wanted[-1] + 1)):
            yield 0, box.with_axis(self.axis, wanted[0], wanted[-1] + 1)
        else:
            yield from ((0, box.with_axis(self.axis, n, n + 1)) for n in wanted)

    def _read(self, box: Box) -> AnyArray:
        read = [self.read_input(inner) for _, inner in self.input_boxes(box)]
        return read[0].reshape(box.shape) if len(read) == 1 else np.concatenate(read, self.axis)
