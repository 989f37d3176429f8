"""Axes of a source in another order or direction."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from bioimage_py.chunks import AnyArray
from bioimage_py.errors import InvalidArgumentError
from bioimage_py.geometry import Box
from bioimage_py.metadata import ImageMetadata
from bioimage_py.sources import Source
from bioimage_py.wrapper.base import WrapperSource
from bioimage_py.wrapper.registration import register_wrapper


@register_wrapper("transpose")
class TransposeSource(WrapperSource):
    """The source with its axes in another order, as `numpy.transpose(source, axes)` does.

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

    Notes
    -----
    A transposed transposed source reads the first one directly. Chunks and metadata go with their axes.

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
        shape, chunks = self.shape, self.chunks
        self.shape = tuple(shape[axis] for axis in self.axes)
        self.chunks = None if chunks is None else tuple(chunks[axis] for axis in self.axes)

    def parameters(self) -> dict[str, Any]:
        """Return the order of the input's axes, as numbers."""
        return {"axes": self.axes}

    @property
    def metadata(self) -> ImageMetadata:
        """Metadata of the input, axis by axis."""
        return super().metadata.with_axes_selected(self.axes)

    def read_shapes(self, shape: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        """Yield the shape with its axes in the order of the input."""
        yield tuple(n for _, n in sorted(zip(self.axes, shape, strict=True)))

    def _read(self, box: Box) -> AnyArray:
        begin, end = [0] * self.ndim, [0] * self.ndim
        for axis, first, last in zip(self.axes, box.begin, box.end, strict=True):
            begin[axis], end[axis] = first, last
        return self.read_input(Box(tuple(begin), tuple(end))).transpose(self.axes)


@register_wrapper("flip")
class FlipSource(WrapperSource):
    """The source mirrored along axes, as `numpy.flip(source, axis)` does.

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

    Notes
    -----
    Flips of a flipped source are put together. The metadata stay as they are: the mirror image lies where the image was;
    names of channels go with their channels, and orientations in a body are turned round.

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

    def parameters(self) -> dict[str, Any]:
        """Return the axes that are mirrored, as numbers."""
        return {"axis": self.axis}

    @property
    def metadata(self) -> ImageMetadata:
        """Metadata of the input, with its channels in the order that they are in now."""
        metadata, axes = super().metadata.with_axes_flipped(self.axis), super().metadata.axes or ()
        if "c" in axes and axes.index("c") in self.axis:
            count = self.shape[axes.index("c")]
            return metadata.for_channels(count).with_channels_selected(range(count)[::-1])
        return metadata

    def _read(self, box: Box) -> AnyArray:
        begin, end = list(box.begin), list(box.end)
        for axis in self.axis:
            extent = self.shape[axis]
            begin[axis], end[axis] = extent - box.end[axis], extent - box.begin[axis]
        return np.flip(self.read_input(Box(tuple(begin), tuple(end))), self.axis)


def axis_number(axis: Any, source: Source) -> int:
    """Return the number of an axis of a source, given as a number (also from the end) or as its name.

    Raises
    ------
    InvalidArgumentError
        If there is none such.
    """
    if isinstance(axis, str):
        names = source.metadata.axes
        if names is None or len(names) != source.ndim or axis not in names:
            known = (
                "it has no names of axes; use a number"
                if names is None
                else f"its axes are {', '.join(names)}"
            )
            raise InvalidArgumentError(f"{source.name} has no axis {axis!r}: {known}")
        return names.index(axis)
    try:
        number = None if isinstance(axis, (bool, np.bool_)) else operator.index(axis)
    except TypeError:
        number = None
    if number is None:
        raise InvalidArgumentError(f"an axis must be a number or a name, got {axis!r}")
    if not -source.ndim <= number < source.ndim:
        raise InvalidArgumentError(f"axis {number} is out of bounds for {source.ndim} axes")
    return number % source.ndim
