"""Users' functions of a block, with and without the voxels around it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy.typing as npt

from bioimage_py.chunks import AnyArray
from bioimage_py.geometry import Box
from bioimage_py.wrapper.arguments import checked_extents
from bioimage_py.wrapper.function_source import FunctionSource
from bioimage_py.wrapper.registration import register_wrapper


@register_wrapper("simple_transformation")
class SimpleTransformationSource(FunctionSource):
    """A source whose voxels are `transformation(block)`, for a function that treats every voxel by itself.

    Parameters
    ----------
    source
        Source, array, handle or path.
    transformation
        Called as `transformation(block)` with an array of any region's shape and the source's dtype, from several
        threads at once; it may change the array. It returns an array of the same shape. A voxel's result must depend on
        that voxel only, as regions of any shape are asked for.
    dtype
        dtype of the result; what the function returns is cast to it with numpy's `astype`. Default: learnt by calling
        the function with one voxel that is zero.

    Raises
    ------
    InvalidArgumentError
        If the function cannot be called, or returned another shape; the message names both shapes.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.array([[1, 2, 3], [4, 5, 6]], "uint8")
    >>> inverted = SimpleTransformationSource(image, lambda block: 255 - block)
    >>> inverted.dtype, inverted[1, :2].tolist()
    (dtype('uint8'), [251, 250])
    >>> SimpleTransformationSource(image, np.sqrt, dtype="float32")[0].tolist()
    [1.0, 1.4140625, 1.732421875]
    """

    keeps_values = False

    def __init__(
        self,
        source: Any,
        transformation: Callable[[AnyArray], Any],
        dtype: npt.DTypeLike | None = None,
    ) -> None:
        super().__init__((source,), transformation, dtype)
        with self.closing_on_error():
            self.infer_dtype()

    def _read(self, box: Box) -> AnyArray:
        return self.cast(self.call(box, self.own_block(box)))


@register_wrapper("simple_transformation_with_halo")
class SimpleTransformationWithHaloSource(FunctionSource):
    """A source whose voxels are `transformation(block)`, for a function that looks at most `halo` voxels around.

    The function is given the region asked for and `halo` voxels on each side, fewer where the array ends; the halo is
    cut off what it returns. So it treats the array's border as it does when it is called with the whole array, and every
    region reads the same as from the whole.

    Parameters
    ----------
    source
        Source, array, handle or path.
    transformation
        Called as `transformation(block)` with an array of the grown region's shape and the source's dtype, from several
        threads at once; it may change the array. It returns an array of the same shape, halo included.
    halo
        How many voxels away a voxel's result can depend on: one integer, or one per axis.
    dtype
        dtype of the result; what the function returns is cast to it with numpy's `astype`. Default: learnt by calling
        the function with one voxel that is zero.

    Raises
    ------
    InvalidArgumentError
        If `halo` has another length than the array has axes or is negative, if the function cannot be called, or if it
        returned another shape; the message names both shapes.

    Examples
    --------
    >>> import numpy as np
    >>> def sum_of_neighbours(block):
    ...     padded = np.pad(block, 1, mode="edge")
    ...     return padded[:-2] + padded[2:]
    >>> line = np.array([0, 10, 20, 30, 40])
    >>> source = SimpleTransformationWithHaloSource(line, sum_of_neighbours, halo=1)
    >>> source[...].tolist(), source[2:4].tolist()
    ([10, 20, 40, 60, 70], [40, 60])
    """

    keeps_values = False

    def __init__(
        self,
        source: Any,
        transformation: Callable[[AnyArray], Any],
        halo: int | tuple[int, ...],
        dtype: npt.DTypeLike | None = None,
    ) -> None:
        super().__init__((source,), transformation, dtype)
        with self.closing_on_error():
            self.halo = checked_extents(halo, self.ndim, "halo")
            self.infer_dtype()

    def parameters(self) -> dict[str, Any]:
        """Return the function, the dtype if it was given, and the halo per axis."""
        return {**super().parameters(), "halo": self.halo}

    def read_shapes(self, shape: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        """Yield the shape with its halo."""
        yield tuple(min(n + 2 * h, extent) for n, h, extent in zip(shape, self.halo, self.shape, strict=True))

    def _read(self, box: Box) -> AnyArray:
        outer = box.grow(self.halo, self.shape)
        result = self.call(outer, self.own_block(outer))
        inner: tuple[Any, ...] = (*box.relative_to(outer.begin).slices, ...)
        return self.cast(result[inner])
