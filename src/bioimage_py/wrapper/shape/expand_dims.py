"""Axes of one voxel added to a source."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import Any

import numpy as np

from bioimage_py.chunks import AnyArray
from bioimage_py.errors import InvalidArgumentError
from bioimage_py.geometry import Box
from bioimage_py.metadata import ImageMetadata
from bioimage_py.wrapper.base import WrapperSource
from bioimage_py.wrapper.registration import register_wrapper


@register_wrapper("expand_dims")
class ExpandDimsSource(WrapperSource):
    """The source with axes of one voxel inserted, as `numpy.expand_dims(source, axis)` does.

    Parameters
    ----------
    source
        Source, array, handle or path.
    axis
        Position of the new axis among the axes of the result, or a tuple of positions; negative ones count from the end.

    Raises
    ------
    InvalidArgumentError
        If a position is out of bounds, repeated, or no integer.

    Examples
    --------
    >>> image = np.zeros((3, 4), "uint8")
    >>> ExpandDimsSource(image, 0).shape, ExpandDimsSource(image, (0, -1)).shape
    ((1, 3, 4), (1, 3, 4, 1))
    """

    def __init__(self, source: Any, axis: int | tuple[int, ...]) -> None:
        super().__init__(source)
        with self.closing_on_error():
            self.axis = _checked_axes(axis, self.ndim)
        old = iter(range(self.ndim))
        self._origins = tuple(
            None if n in self.axis else next(old) for n in range(self.ndim + len(self.axis))
        )
        shape, chunks = self.shape, self.chunks
        self.shape = tuple(1 if o is None else shape[o] for o in self._origins)
        self.chunks = None if chunks is None else tuple(1 if o is None else chunks[o] for o in self._origins)

    def parameters(self) -> dict[str, Any]:
        """Return the positions of the new axes."""
        return {"axis": self.axis}

    @property
    def metadata(self) -> ImageMetadata:
        """Metadata of the input, with nothing known about the new axes."""
        source = self.inputs[0]
        return source.metadata.fitting(source.ndim).with_axes_selected(self._origins).fitting(self.ndim)

    def read_shapes(self, shape: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        """Yield the shape without the new axes."""
        yield tuple(n for n, origin in zip(shape, self._origins, strict=True) if origin is not None)

    def _read(self, box: Box) -> AnyArray:
        old = [n for n, origin in enumerate(self._origins) if origin is not None]
        inner = Box(tuple(box.begin[n] for n in old), tuple(box.end[n] for n in old))
        return self.read_input(inner).reshape(box.shape)


def _checked_axes(axis: Any, ndim: int) -> tuple[int, ...]:
    given = tuple(axis) if isinstance(axis, (tuple, list)) else (axis,)
    total = ndim + len(given)
    axes = []
    for one in given:
        try:
            position = operator.index(one)
        except TypeError:
            raise InvalidArgumentError(
                f"axis must be an integer or a tuple of integers, got {axis!r}"
            ) from None
        if isinstance(one, (bool, np.bool_)) or not -total <= position < total:
            raise InvalidArgumentError(f"axis {one!r} is out of bounds for a result of {total} axes")
        axes.append(position % total)
    if len(set(axes)) != len(axes):
        raise InvalidArgumentError(f"axis {axis!r} names an axis of the result twice")
    return tuple(sorted(axes))
