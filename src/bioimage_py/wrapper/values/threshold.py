"""A binary mask of what is above a threshold."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from bioimage_py.chunks import AnyArray
from bioimage_py.errors import InvalidArgumentError
from bioimage_py.geometry import Box
from bioimage_py.wrapper.arguments import checked_number
from bioimage_py.wrapper.functions import FunctionSource
from bioimage_py.wrapper.spec import register_wrapper


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
