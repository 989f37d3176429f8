"""Wrappers that call functions: of a block, with and without the voxels around it, of a position, of several sources, a comparison."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from bioimage_py.chunks import AnyArray
from bioimage_py.errors import InvalidArgumentError
from bioimage_py.geometry import Box
from bioimage_py.metadata import ImageMetadata
from bioimage_py.sources import Source, cast_values
from bioimage_py.wrapper.arguments import checked_dtype, checked_extents, checked_number, checked_sources
from bioimage_py.wrapper.base import WrapperSource
from bioimage_py.wrapper.spec import register_wrapper


class FunctionSource(WrapperSource):
    """Base of the wrappers that call a user's function.

    The function is called from several threads at once. Blocks that it is given are its own: in native byte order,
    C-contiguous, and changing them changes no input. An error raised in it keeps its type and its traceback and gets a
    note that names the wrapper and the region. What it returns must have the shape asked for. It is cast to the
    wrapper's `dtype`: as numpy's `astype` does if the dtype was given, else only where no value can change.
    """

    keeps_values = False

    def __init__(
        self, inputs: tuple[Any, ...], transformation: Callable[..., Any], dtype: npt.DTypeLike | None
    ) -> None:
        if not callable(transformation):
            raise InvalidArgumentError(
                f"transformation must be a function, got {type(transformation).__name__} {transformation!r}"
            )
        given = None if dtype is None else checked_dtype(dtype)
        super().__init__(*inputs)
        self.transformation = transformation
        self.dtype_given = given is not None
        if given is not None:
            self.dtype = given

    def parameters(self) -> dict[str, Any]:
        learnt = {} if self.dtype_given else {"dtype": None}
        return {name: learnt.get(name, value) for name, value in super().parameters().items()}

    def scratch_bytes(self, shape: tuple[int, ...]) -> int:
        """Add the copies that the function may change."""
        parts = zip(self.inputs, self.read_shapes(shape), strict=True)
        return super().scratch_bytes(shape) + sum(math.prod(s) * source.dtype.itemsize for source, s in parts)

    def own_block(self, box: Box, position: int = 0) -> AnyArray:
        """Return the voxels of an input as an array that the function may change."""
        return np.array(self.inputs[position].read(box), dtype=self._native(position), order="C", subok=False)

    def infer_dtype(self) -> None:
        """Unless the dtype was given, take that of what the function makes of one voxel that is zero."""
        if self.dtype_given:
            return
        box = Box.whole((1,) * self.ndim)
        blocks = [np.zeros(box.shape, self._native(n)) for n in range(len(self.inputs))]
        try:
            with np.errstate(all="ignore"):
                result = self.call(box, *blocks)
        except InvalidArgumentError:
            raise
        except Exception as error:
            error.add_note(
                f"{self.name} called it with arrays of shape {box.shape} to learn the dtype of its result: "
                "give dtype=... where it cannot work on one voxel"
            )
            raise
        self.dtype = result.dtype.newbyteorder("=")

    def call(self, box: Box, *arguments: Any) -> AnyArray:
        """Return what the function returns for a region, after checking that it is voxels in the region's shape."""
        try:
            returned = self.transformation(*arguments)
        except Exception as error:
            error.add_note(f"raised in the function of {self.name}, for the region {box.text}")
            raise
        result = np.asarray(returned)
        if result.shape != box.shape or result.dtype.kind not in "biufc":
            got = f"{result.dtype} of shape {result.shape}"
            raise InvalidArgumentError(
                f"the function of {self.name} must return numbers in shape {box.shape} for the region {box.text}, "
                f"but it returned {got if isinstance(returned, np.ndarray) else f'{type(returned).__name__} ({got})'}"
            )
        return result

    def cast(self, result: AnyArray) -> AnyArray:
        if not self.dtype_given and not np.can_cast(result.dtype, self.dtype, "safe"):
            raise InvalidArgumentError(
                f"the function of {self.name} returned {result.dtype}, which does not fit the dtype {self.dtype} that "
                f"was expected of it: give dtype={result.dtype.name!r}, or the dtype that you want it cast to"
            )
        return cast_values(result, self.dtype)

    def _native(self, position: int) -> np.dtype[Any]:
        return self.inputs[position].dtype.newbyteorder("=")


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
    >>> image = np.array([[1, 2, 3], [4, 5, 6]], "uint8")
    >>> inverted = SimpleTransformationSource(image, lambda block: 255 - block)
    >>> inverted.dtype, inverted[1, :2].tolist()
    (dtype('uint8'), [251, 250])
    >>> SimpleTransformationSource(image, np.sqrt, dtype="float32")[0].tolist()
    [1.0, 1.4140625, 1.732421875]
    """

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
    >>> def sum_of_neighbours(block):
    ...     padded = np.pad(block, 1, mode="edge")
    ...     return padded[:-2] + padded[2:]
    >>> line = np.array([0, 10, 20, 30, 40])
    >>> source = SimpleTransformationWithHaloSource(line, sum_of_neighbours, halo=1)
    >>> source[...].tolist(), source[2:4].tolist()
    ([10, 20, 40, 60, 70], [40, 60])
    """

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

    def read_shapes(self, shape: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        yield tuple(min(n + 2 * h, extent) for n, h, extent in zip(shape, self.halo, self.shape, strict=True))

    def input_boxes(self, box: Box) -> Iterator[tuple[int, Box]]:
        yield 0, box.grow(self.halo, self.shape)

    def _read(self, box: Box) -> AnyArray:
        outer = box.grow(self.halo, self.shape)
        result = self.call(outer, self.own_block(outer))
        inner: tuple[Any, ...] = (*box.relative_to(outer.begin).slices, ...)
        return self.cast(result[inner])


@register_wrapper("transformation")
class TransformationSource(FunctionSource):
    """A source of any shape, whose voxels in a region are `transformation(source, region)`.

    The function knows where it is and reads what it needs: it may flip, transpose, mosaic, or add a gradient.

    Axes, voxel size and origin are taken over where the shape is the source's; of a result of another shape nothing is
    known but the attributes.

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
        If the function cannot be called, `shape` is not a tuple of non-negative integers, or the function returned another
        shape than the region's; the message names both shapes.

    Examples
    --------
    >>> def transposed(source, region):
    ...     rows, columns = region.slices
    ...     return source[columns, rows].T
    >>> image = np.arange(6).reshape(2, 3)
    >>> flipped = TransformationSource(image, transposed, shape=(3, 2))
    >>> flipped[1:].tolist()
    [[1, 4], [2, 5]]
    """

    def __init__(
        self,
        source: Any,
        transformation: Callable[[Source, Box], Any],
        shape: tuple[int, ...] | None = None,
        dtype: npt.DTypeLike | None = None,
    ) -> None:
        if shape is not None and not isinstance(shape, (list, tuple)):
            raise InvalidArgumentError(f"shape must be a tuple of integers, got {shape!r}")
        given = None if shape is None else checked_extents(shape, len(shape), "shape")
        super().__init__((source,), transformation, dtype)
        if given is not None and given != self.shape:
            self.shape = given
            self.chunks = None

    @property
    def metadata(self) -> ImageMetadata:
        if self.shape == self.inputs[0].shape:
            return super().metadata
        return ImageMetadata(attributes=self.inputs[0].metadata.attributes)

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
    >>> red, green = np.array([10, 20, 30]), np.array([1, 2, 3])
    >>> MultiTransformationSource([red, green], lambda r, g: r / g)[1:].tolist()
    [10.0, 10.0]
    """

    def __init__(
        self,
        sources: Sequence[Any],
        transformation: Callable[..., Any],
        dtype: npt.DTypeLike | None = None,
    ) -> None:
        super().__init__(checked_sources(sources, type(self)), transformation, dtype)
        with self.closing_on_error():
            if any(source.shape != self.shape for source in self.inputs):
                shapes = ", ".join(f"{source.shape} of {source.name}" for source in self.inputs)
                raise InvalidArgumentError(f"the sources must have one shape, got {shapes}")
            self.chunks = next((s.chunks for s in self.inputs if s.chunks is not None), None)
            self.infer_dtype()

    @classmethod
    def from_parameters(cls, inputs: Sequence[Source], parameters: Mapping[str, Any]) -> Self:
        return cls(inputs, **parameters)

    def _read(self, box: Box) -> AnyArray:
        blocks = (self.own_block(box, position) for position in range(len(self.inputs)))
        return self.cast(self.call(box, *blocks))


@register_wrapper("threshold")
class ThresholdSource(FunctionSource):
    """The mask `operator(source, threshold)`, of dtype bool.

    Parameters
    ----------
    source
        Source, array, handle or path.
    threshold
        A number. It is compared as numpy compares with a Python number, so 0.5 with float32 voxels in float32.
    operator
        A comparison of numpy (`numpy.greater`, `numpy.less_equal`, `numpy.equal`, …), or a function called as
        `operator(block, threshold)` from several threads at once, which returns an array of booleans of the block's
        shape in which a voxel depends on that voxel only. Default: `numpy.greater`.

    Raises
    ------
    InvalidArgumentError
        If `threshold` is not a number or NaN, or `operator` cannot be called or does not return booleans.

    Examples
    --------
    >>> image = np.array([[1, 7], [9, 3]], "uint16")
    >>> ThresholdSource(image, 4)[...].tolist()
    [[False, True], [True, False]]
    >>> ThresholdSource(image, 7, operator=np.less_equal)[0].tolist()
    [True, True]
    """

    def __init__(
        self, source: Any, threshold: float, operator: Callable[[Any, Any], Any] = np.greater
    ) -> None:
        number = checked_number(threshold, "threshold")
        if isinstance(number, float) and math.isnan(number):
            raise InvalidArgumentError("threshold must be a number, got NaN: nothing is above or below it")
        if not callable(operator):
            raise InvalidArgumentError(
                f"operator must be a comparison such as numpy.greater, got {type(operator).__name__} {operator!r}"
            )
        super().__init__((source,), operator, None)
        self.threshold = number
        self.operator = operator
        with self.closing_on_error():
            self._compared(Box.whole((1,) * self.ndim), np.zeros((1,) * self.ndim, self.dtype))
        self.dtype = np.dtype(bool)

    def _read(self, box: Box) -> AnyArray:
        untouched = isinstance(self.operator, np.ufunc)
        return self._compared(box, self.read_input(box) if untouched else self.own_block(box))

    def _compared(self, box: Box, block: AnyArray) -> AnyArray:
        mask = self.call(box, block, self.threshold)
        if mask.dtype != bool:
            raise InvalidArgumentError(
                f"the operator of {self.name} must return booleans, but {self.operator!r} returned {mask.dtype}; "
                "for other results use SimpleTransformationSource"
            )
        return mask
