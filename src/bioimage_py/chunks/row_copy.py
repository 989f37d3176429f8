"""Copying between parts of arrays whose rows are short, as chunks are cut from blocks and put into them."""

from __future__ import annotations

import numpy as np

from bioimage_py.chunks.encoding import AnyArray

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
