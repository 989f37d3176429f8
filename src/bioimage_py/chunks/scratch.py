"""Memory that a thread uses again and again, and copying chunks in and out of it."""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np

from bioimage_py.chunks.encoding import AnyArray


class Scratch(threading.local):
    """Memory that a thread uses for one chunk after the other: the system zeroes new memory page by page at first touch."""

    def __init__(self) -> None:
        self._memory: dict[str, AnyArray] = {}

    def bytes(self, name: str, n_bytes: int) -> AnyArray:
        """Return so many bytes, with anything in them, that stay until the thread asks for the same name again."""
        found = self._memory.get(name)
        if found is None or found.size < n_bytes:
            self._memory[name] = found = np.empty(n_bytes, np.uint8)
        return found[:n_bytes]

    def array(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> AnyArray:
        return self.bytes(name, math.prod(shape) * dtype.itemsize).view(dtype).reshape(shape)


_LONGEST_BYTES = 512


def copy_rows(target: AnyArray, values: AnyArray) -> None:
    """Do `target[...] = values`, in half the time where rows have up to 512 bytes: each is moved as one item."""
    if target.dtype == values.dtype and target.shape == values.shape and target.ndim > 1:
        n_bytes = target.shape[-1] * target.itemsize
        whole = target.strides[-1] == values.strides[-1] == target.itemsize
        if whole and target.itemsize < n_bytes <= _LONGEST_BYTES:
            row = np.dtype((np.void, n_bytes))
            target, values = target.view(row), values.view(row)
    target[...] = values
