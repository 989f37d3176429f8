"""Axes of a source in another order or direction, and axes added to it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from bioimage_py.chunks import AnyArray
from bioimage_py.errors import InvalidArgumentError
from bioimage_py.geometry import Box, as_integer
from bioimage_py.metadata import ImageMetadata
from bioimage_py.sources import Source
from bioimage_py.wrapper.base import WrapperSource
from bioimage_py.wrapper.spec import register_wrapper


@register_wrapper("transpose")
class TransposeSource(WrapperSource):
    """The source with its axes in another order, as `numpy.transpose(source, axes)` does.

    A transposed transposed source reads the first one directly. Chunks and metadata go with their axes.

    Parameters
    ----------
    source
        Source, array, handle or path.
    axes
        The axes of the source in their new order, each a number or, where the metadata name them, a name: `(2, 1, 0)`,
        `("c", "z", "y", "x")`, `"czyx"`. Default: reversed.

    Raises
    ------
    InvalidArgumentError
        If not every axis is named once.

    Examples
    --------
    >>> image = np.arange(6).reshape(2, 3)
    >>> TransposeSource(image)[1:].tolist()
    [[1, 4], [2, 5]]
    """

    axes: tuple[int, ...]

    def __init__(self, source: Any, axes: Iterable[int | str] | None = None) -> None:
        inner = source if type(source) is TransposeSource else None
        super().__init__(source if inner is None else inner.inputs[0])
        with self.closing_on_error():
            named = self.inputs[0] if inner is None else inner
            given = tuple(range(self.ndim))[::-1] if axes is None else tuple(axes)
            order = tuple(axis_number(axis, named) for axis in given)
            if sorted(order) != list(range(self.ndim)):
                raise InvalidArgumentError(f"axes must name each of the {self.ndim} axes once, got {axes!r}")
        self.axes = order if inner is None else tuple(inner.axes[axis] for axis in order)
        self._take_axes(self.axes)
        if self.axes == tuple(range(self.ndim))[::-1]:
            self.storage_order = "C" if self.inputs[0].storage_order == "F" else "F"

    @property
    def metadata(self) -> ImageMetadata:
        return super().metadata.with_axes_selected(self.axes)

    def ome_xml(self) -> str | None:
        return self.inputs[0].ome_xml()

    def read_shapes(self, shape: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        yield tuple(n for _, n in sorted(zip(self.axes, shape, strict=True)))

    def input_boxes(self, box: Box) -> Iterator[tuple[int, Box]]:
        axes = sorted(zip(self.axes, box.begin, box.end, strict=True))
        yield 0, Box(tuple(begin for _, begin, _ in axes), tuple(end for *_, end in axes))

    def _read(self, box: Box) -> AnyArray:
        ((_, inner),) = self.input_boxes(box)
        return self.read_input(inner).transpose(self.axes)


@register_wrapper("flip")
class FlipSource(WrapperSource):
    """The source mirrored along axes, as `numpy.flip(source, axis)` does.

    Flips of a flipped source are combined. The metadata stay as they are: the mirror image lies where the image was;
    channel names stay with their channels, and anatomical orientations are reversed.

    Parameters
    ----------
    source
        Source, array, handle or path.
    axis
        An axis as a number or, where the metadata name them, a name; or a tuple of them. Default: all axes.

    Raises
    ------
    InvalidArgumentError
        If an axis is not one of the source, or given twice.

    Examples
    --------
    >>> FlipSource(np.arange(5), 0)[1:3].tolist()
    [3, 2]
    """

    axis: tuple[int, ...]

    def __init__(self, source: Any, axis: Any = None) -> None:
        inner = source if type(source) is FlipSource else None
        super().__init__(source if inner is None else inner.inputs[0])
        with self.closing_on_error():
            single = axis is not None and (isinstance(axis, str) or not isinstance(axis, Iterable))
            given = range(self.ndim) if axis is None else (axis,) if single else axis
            axes = [axis_number(one, self.inputs[0]) for one in given]
            if len(set(axes)) != len(axes):
                raise InvalidArgumentError(f"axis {axis!r} names an axis twice")
        self.axis = tuple(sorted(set(axes) ^ set(() if inner is None else inner.axis)))

    @property
    def metadata(self) -> ImageMetadata:
        metadata, axes = super().metadata.with_axes_flipped(self.axis), super().metadata.axes or ()
        if "c" in axes and axes.index("c") in self.axis:
            count = self.shape[axes.index("c")]
            return metadata.for_channels(count).with_channels_selected(range(count)[::-1])
        return metadata

    def input_boxes(self, box: Box) -> Iterator[tuple[int, Box]]:
        for axis in self.axis:
            extent = self.shape[axis]
            box = box.with_axis(axis, extent - box.end[axis], extent - box.begin[axis])
        yield 0, box

    def _read(self, box: Box) -> AnyArray:
        ((_, mirrored),) = self.input_boxes(box)
        return np.flip(self.read_input(mirrored), self.axis)


@register_wrapper("expand_dims")
class ExpandDimsSource(WrapperSource):
    """The source with axes of one voxel inserted, as `numpy.expand_dims(source, axis)` does.

    Parameters
    ----------
    source
        Source, array, handle or path.
    axis
        Position of the new axis among the axes of the result, or several of them; negative ones count from the end.

    Raises
    ------
    InvalidArgumentError
        If a position is out of bounds, repeated, or not an integer.

    Examples
    --------
    >>> image = np.zeros((3, 4), "uint8")
    >>> ExpandDimsSource(image).shape, ExpandDimsSource(image, (0, -1)).shape
    ((1, 3, 4), (1, 3, 4, 1))
    """

    def __init__(self, source: Any, axis: int | tuple[int, ...] = 0) -> None:
        super().__init__(source)
        with self.closing_on_error():
            self.axis = _new_axes(axis, self.ndim)
        old = iter(range(self.ndim))
        self._origins = tuple(
            None if n in self.axis else next(old) for n in range(self.ndim + len(self.axis))
        )
        self._take_axes(self._origins)

    @property
    def metadata(self) -> ImageMetadata:
        source = self.inputs[0]
        return source.metadata.fitting(source.ndim).with_axes_selected(self._origins).fitting(self.ndim)

    def read_shapes(self, shape: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        yield tuple(n for n, origin in zip(shape, self._origins, strict=True) if origin is not None)

    def input_boxes(self, box: Box) -> Iterator[tuple[int, Box]]:
        old = [n for n, origin in enumerate(self._origins) if origin is not None]
        yield 0, Box(tuple(box.begin[n] for n in old), tuple(box.end[n] for n in old))

    def _read(self, box: Box) -> AnyArray:
        ((_, inner),) = self.input_boxes(box)
        return self.read_input(inner).reshape(box.shape)


def axis_number(axis: Any, source: Source) -> int:
    """Return the number of an axis of a source, given as a number (also from the end) or as its name."""
    if isinstance(axis, str):
        names = source.metadata.axes
        if names is None or len(names) != source.ndim or axis not in names:
            unnamed = "it has no names of axes; use a number"
            known = unnamed if names is None else f"its axes are {', '.join(names)}"
            raise InvalidArgumentError(f"{source.name} has no axis {axis!r}: {known}")
        return names.index(axis)
    number = as_integer(axis)
    if number is None:
        raise InvalidArgumentError(f"an axis must be a number or a name, got {axis!r}")
    return _in_bounds(number, source.ndim, f"{source.ndim} axes")


def _new_axes(axis: Any, ndim: int) -> tuple[int, ...]:
    given = tuple(axis) if isinstance(axis, (tuple, list)) else (axis,)
    total = ndim + len(given)
    axes = []
    for number in map(as_integer, given):
        if number is None:
            raise InvalidArgumentError(f"axis must be an integer or a tuple of integers, got {axis!r}")
        axes.append(_in_bounds(number, total, f"a result of {total} axes"))
    if len(set(axes)) != len(axes):
        raise InvalidArgumentError(f"axis {axis!r} names an axis of the result twice")
    return tuple(sorted(axes))


def _in_bounds(number: int, ndim: int, what: str) -> int:
    if not -ndim <= number < ndim:
        raise InvalidArgumentError(f"axis {number} is out of bounds for {what}")
    return number % ndim


def turned_like(first: Source, second: Source) -> Source:
    """Return the second source with its axes in the order of the first, where both name the same ones."""
    axes, own = ([axis.lower() for axis in one.metadata.axes or ()] for one in (first, second))
    if axes == own or sorted(axes) != sorted(own):
        return second
    return TransposeSource(second, [own.index(axis) for axis in axes])
