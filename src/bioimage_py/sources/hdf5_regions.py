"""Reading a region of a contiguous dataset straight from its file.

With `pread` and not a memory map: mapped pages count against the memory limit of a run, and a truncated file
would end the process (SIGBUS) where `pread` raises an error.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np

from bioimage_py.geometry import Box
from bioimage_py.sources.base import AnyArray
from bioimage_py.sources.hdf5_index import ReadDescriptor

__all__ = ["read_region"]

# Measured: one more call from Python costs what copying this many bytes from the page cache costs.
_BYTES_PER_CALL = 16 * 2**10
_MOST_AT_ONCE = 8 * 2**20


def read_region(
    descriptor: ReadDescriptor, offset: int, shape: tuple[int, ...], dtype: np.dtype[Any], box: Box
) -> AnyArray:
    """Return the voxels in a box of a C-ordered array that begins at an offset of a file.

    Rows that lie close together are read with what is between them; rows far apart one by one.
    """
    out: AnyArray = np.empty(box.shape, dtype)
    strides = [dtype.itemsize] * len(shape)
    for axis in reversed(range(len(shape) - 1)):
        strides[axis] = strides[axis + 1] * shape[axis + 1]
    together = _axes_read_together(box, strides, dtype.itemsize)
    inner_shape, inner_strides = box.shape[together:], strides[together:]
    span = _span(inner_shape, inner_strides, dtype.itemsize)
    dense = span == math.prod(inner_shape) * dtype.itemsize
    start = offset + sum(b * s for b, s in zip(box.begin, strides, strict=True))
    targets = out.reshape(-1, *inner_shape)
    pieces = (
        (at, targets[n, ...])  # the Ellipsis makes it a view even of an array without axes
        for n, at in enumerate(_offsets(start, box.shape[:together], strides))
    )
    if dense:
        for at, target in pieces:
            descriptor.read_into(target.reshape(-1).view(np.uint8).data, at)
        return out
    scratch = np.empty(span, np.uint8)
    picked: AnyArray = np.ndarray(inner_shape, dtype, scratch.data, strides=tuple(inner_strides))
    for at, target in pieces:
        descriptor.read_into(scratch.data, at)
        target[...] = picked
    return out


def _offsets(start: int, shape: tuple[int, ...], strides: list[int]) -> Iterator[int]:
    """Yield the offsets of the pieces that are read one by one, in C order."""
    steps = [range(0, n * s, s) for n, s in zip(shape, strides, strict=False)]
    return (start + sum(step) for step in product(*steps))


def _span(shape: tuple[int, ...], strides: list[int], itemsize: int) -> int:
    """Bytes from the first voxel of a region to the end of its last."""
    return sum((n - 1) * s for n, s in zip(shape, strides, strict=True)) + itemsize


def _axes_read_together(box: Box, strides: list[int], itemsize: int) -> int:
    """Return the first axis from which on the box is read in one call."""
    axis = box.ndim
    while axis:
        inner = _span(box.shape[axis:], strides[axis:], itemsize)
        gap = strides[axis - 1] - inner
        whole = _span(box.shape[axis - 1 :], strides[axis - 1 :], itemsize)
        if box.shape[axis - 1] > 1 and (gap > _BYTES_PER_CALL or (gap and whole > _MOST_AT_ONCE)):
            break
        axis -= 1
    return axis
