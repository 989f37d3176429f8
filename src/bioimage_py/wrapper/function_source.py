"""What the wrappers of users' functions share: calling the function, and checking what it returned."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from bioimage_py.chunks import AnyArray
from bioimage_py.errors import InvalidArgumentError
from bioimage_py.geometry import Box
from bioimage_py.sources import cast_values
from bioimage_py.wrapper.arguments import checked_dtype
from bioimage_py.wrapper.base import WrapperSource


class FunctionSource(WrapperSource):
    """Base of the wrappers that call a user's function.

    The function is called from several threads at once. Blocks that it is given are its own: in native byte order,
    C-contiguous, and changing them changes no input. An error raised in it keeps its type and its traceback and gets a
    note that names the wrapper and the region. What it returns must have the shape asked for. It is cast to the
    wrapper's `dtype`: as numpy's `astype` does if the dtype was given, else only where no value can change.

    Parameters
    ----------
    inputs
        What to read, each taken by `as_source`.
    transformation
        The function.
    dtype
        dtype of the result, or None.

    Raises
    ------
    InvalidArgumentError
        If `transformation` cannot be called or `dtype` is no boolean or numeric dtype.
    """

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
        """Return the function, and the dtype if it was given."""
        return {"transformation": self.transformation, "dtype": self.dtype if self.dtype_given else None}

    def scratch_bytes(self, shape: tuple[int, ...]) -> int:
        """Return the bytes of what is read, the copy that the function may change, and what the inputs hold meanwhile."""
        copies = zip(self.inputs, self.read_shapes(shape), strict=True)
        return super().scratch_bytes(shape) + sum(
            math.prod(s) * source.dtype.itemsize for source, s in copies
        )

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
        """Return the function's result in the wrapper's dtype."""
        if not self.dtype_given and not np.can_cast(result.dtype, self.dtype, "safe"):
            raise InvalidArgumentError(
                f"the function of {self.name} returned {result.dtype}, which does not fit the dtype {self.dtype} that "
                f"was expected of it: give dtype={result.dtype.name!r}, or the dtype that you want it cast to"
            )
        return cast_values(result, self.dtype)

    def _native(self, position: int) -> np.dtype[Any]:
        return self.inputs[position].dtype.newbyteorder("=")
