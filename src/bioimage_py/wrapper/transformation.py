"""Users' functions of a position, and of several sources."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Self

import numpy.typing as npt

from bioimage_py.chunks import AnyArray
from bioimage_py.errors import InvalidArgumentError
from bioimage_py.geometry import Box
from bioimage_py.metadata import ImageMetadata
from bioimage_py.sources import Source
from bioimage_py.wrapper.arguments import checked_whole
from bioimage_py.wrapper.function_source import FunctionSource
from bioimage_py.wrapper.registration import register_wrapper


@register_wrapper("transformation")
class TransformationSource(FunctionSource):
    """A source of any shape, whose voxels in a region are `transformation(source, region)`.

    The function knows where it is and reads what it needs: it may flip, transpose, mosaic, or add a gradient.

    Parameters
    ----------
    source
        Source, array, handle or path.
    transformation
        Called as `transformation(source, region)` from several threads at once. `source` is a `Source`: it is read with
        `source[slices]`; do not change what it returns, which may be the input's own memory. `region` is a `Box` in
        voxels of the result, with `begin`, `end`, `shape` and `slices`. It returns an array of shape `region.shape`,
        which must not depend on how the result is cut into regions.
    shape
        Shape of the result. Default: that of the source.
    dtype
        dtype of the result; what the function returns is cast to it with numpy's `astype`. Default: that of the source;
        then the function must return it, or a dtype whose values all fit it.

    Raises
    ------
    InvalidArgumentError
        If the function cannot be called, `shape` is no tuple of non-negative integers, or the function returned another
        shape than the region's; the message names both shapes.

    Notes
    -----
    Axes, voxel size and origin are taken over where the shape is the source's; of a result of another shape nothing is
    known but the attributes.

    Examples
    --------
    >>> import numpy as np
    >>> def transposed(source, region):
    ...     rows, columns = region.slices
    ...     return source[columns, rows].T
    >>> image = np.arange(6).reshape(2, 3)
    >>> flipped = TransformationSource(image, transposed, shape=(3, 2))
    >>> flipped[1:].tolist()
    [[1, 4], [2, 5]]
    """

    keeps_values = False

    def __init__(
        self,
        source: Any,
        transformation: Callable[[Source, Box], Any],
        shape: tuple[int, ...] | None = None,
        dtype: npt.DTypeLike | None = None,
    ) -> None:
        given = None if shape is None else _checked_shape(shape)
        super().__init__((source,), transformation, dtype)
        if given is not None and given != self.shape:
            self.shape = given
            self.chunks = None

    @property
    def metadata(self) -> ImageMetadata:
        """Metadata of the source; of another shape only its attributes."""
        metadata = self.inputs[0].metadata
        if self.shape == self.inputs[0].shape:
            return super().metadata
        return ImageMetadata(attributes=metadata.attributes)

    def parameters(self) -> dict[str, Any]:
        """Return the function, the shape, and the dtype if it was given."""
        return {**super().parameters(), "shape": self.shape}

    def _read(self, box: Box) -> AnyArray:
        region = Box(box.begin, box.end)
        return self.cast(self.call(region, self.inputs[0], region))


@register_wrapper("multi_transformation")
class MultiTransformationSource(FunctionSource):
    """A source whose voxels are `transformation(*blocks)`, with one block of each of several sources of one shape.

    Parameters
    ----------
    sources
        Sources, arrays, handles or paths; at least one, all of one shape. Chunks are those of the first that has some,
        metadata those of the first.
    transformation
        Called as `transformation(block_0, block_1, ...)` with one array per source, all of the region's shape and each
        of its source's dtype, from several threads at once; it may change them. It returns an array of that shape. A
        voxel's result must depend on that voxel only.
    dtype
        dtype of the result; what the function returns is cast to it with numpy's `astype`. Default: learnt by calling
        the function with one voxel that is zero per source.

    Raises
    ------
    InvalidArgumentError
        If no source is given, their shapes differ (the message lists them), the function cannot be called, or it
        returned another shape; the message names both shapes.

    Examples
    --------
    >>> import numpy as np
    >>> red, green = np.array([10, 20, 30]), np.array([1, 2, 3])
    >>> MultiTransformationSource([red, green], lambda r, g: r / g)[1:].tolist()
    [10.0, 10.0]
    """

    keeps_values = False

    def __init__(
        self,
        sources: Sequence[Any],
        transformation: Callable[..., Any],
        dtype: npt.DTypeLike | None = None,
    ) -> None:
        one = isinstance(sources, (str, os.PathLike)) or hasattr(sources, "shape")
        if one or not isinstance(sources, Iterable):
            raise InvalidArgumentError(
                f"MultiTransformationSource takes a list of sources, got {type(sources).__name__}"
            )
        super().__init__(tuple(sources), transformation, dtype)
        with self.closing_on_error():
            if any(source.shape != self.shape for source in self.inputs):
                shapes = ", ".join(f"{source.shape} of {source.name}" for source in self.inputs)
                raise InvalidArgumentError(f"the sources must have one shape, got {shapes}")
            self.chunks = next((s.chunks for s in self.inputs if s.chunks is not None), None)
            self.infer_dtype()

    @classmethod
    def from_parameters(cls, inputs: Sequence[Source], parameters: Mapping[str, Any]) -> Self:
        """Return the wrapper with these inputs as its `sources`."""
        return cls(inputs, **parameters)

    def _read(self, box: Box) -> AnyArray:
        blocks = (self.own_block(box, position) for position in range(len(self.inputs)))
        return self.cast(self.call(box, *blocks))


def _checked_shape(shape: Any) -> tuple[int, ...]:
    if not isinstance(shape, (list, tuple)):
        raise InvalidArgumentError(f"shape must be a tuple of integers, got {shape!r}")
    return tuple(checked_whole(extent, f"shape of axis {axis}") for axis, extent in enumerate(shape))
