"""A region of a source as a source of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bioimage_py.chunks import AnyArray
from bioimage_py.errors import InvalidArgumentError, InvalidIndexError
from bioimage_py.geometry import BlockWithHalo, Box, basic_index
from bioimage_py.metadata import ImageMetadata
from bioimage_py.wrapper.base import WrapperSource
from bioimage_py.wrapper.spec import register_wrapper


@register_wrapper("roi")
class RoiSource(WrapperSource):
    """The region `source[roi]`, read lazily; a region of a region reads the first source directly.

    Parameters
    ----------
    source
        Source, array, handle or path.
    roi
        An integer, a slice with step 1, an Ellipsis, a tuple of them, or a `Box` or `Block`. As in numpy, an integer
        drops its axis, negative numbers count from the end, and axes left out are taken whole. Unlike in numpy, a slice
        that leaves the array is an error.

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
    that of the region.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.arange(24).reshape(2, 3, 4)
    >>> region = RoiSource(image, (1, slice(0, 2), ...))
    >>> region.shape, region[0, 1:3].tolist()
    ((2, 4), [13, 14])
    """

    box: Box
    kept: tuple[int, ...]

    def __init__(self, source: Any, roi: Any) -> None:
        outer = source if type(source) is RoiSource else None
        super().__init__(source if outer is None else outer.inputs[0])
        whole = self.inputs[0].shape
        with self.closing_on_error():
            box, kept = _selection(roi, whole if outer is None else outer.shape)
        if outer is not None:
            box, kept = outer.in_input(box), tuple(outer.kept[axis] for axis in kept)
        self.box = box
        self.kept = kept
        self._take_axes(kept)
        self.shape = tuple(box.shape[axis] for axis in kept)

    def parameters(self) -> dict[str, Any]:
        return {"roi": tuple(s if axis in self.kept else s.start for axis, s in enumerate(self.box.slices))}

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

    def _read(self, box: Box) -> AnyArray:
        return self.read_input(self.in_input(box)).reshape(box.shape)


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
        selected = basic_index(roi, shape)
    except InvalidIndexError as error:
        raise InvalidArgumentError(
            f"the roi {roi!r} does not fit an array of shape {shape}: {error}"
        ) from error
    items = list(roi) if isinstance(roi, tuple) else [roi]
    if Ellipsis in items:
        at = items.index(Ellipsis)
        items[at : at + 1] = [slice(None)] * (len(shape) - len(items) + 1)
    items += [slice(None)] * (len(shape) - len(items))
    for axis, (item, extent) in enumerate(zip(items, shape, strict=True)):
        bounds = (item.start, item.stop) if isinstance(item, slice) else ()
        if any(bound is not None and not -extent <= bound <= extent for bound in bounds):
            raise InvalidArgumentError(
                f"the roi leaves the array along axis {axis}: slice {item.start}:{item.stop} of {extent} voxels "
                f"(array of shape {shape})"
            )
    kept = tuple(axis for axis, item in enumerate(items) if isinstance(item, slice))
    return selected.box, kept
