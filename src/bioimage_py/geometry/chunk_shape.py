"""Which chunk shape a new array gets when nobody says, and the tiles that digests are made of."""

from __future__ import annotations

import math

_TILE = 64
_LEAST, _MOST = 2**18, 2**20
_EDGE = 64


def tile_shape(ndim: int) -> tuple[int, ...]:
    """Return the tiles of a digest, as docs/digest.md specifies them."""
    return (1,) * max(0, ndim - 3) + (_TILE,) * min(3, ndim)


def default_chunks(
    shape: tuple[int, ...], itemsize: int, axes: tuple[str, ...] | None = None
) -> tuple[int, ...]:
    """Return chunks of 0.25 to 1 MiB, as near to cubes as the shape allows.

    Axes other than x, y and z have extent 1: viewers show one channel and time point at once. Without names the last three
    axes are space, but a last axis of at most 4 samples (RGB) is kept whole.
    """
    spatial = _spatial(shape, axes)
    chunks = [min(max(1, n), _EDGE) if d in spatial else 1 for d, n in enumerate(shape)]
    if shape and shape[-1] <= 4 and len(shape) - 1 not in spatial:
        chunks[-1] = max(1, shape[-1])

    def n_bytes() -> int:
        return math.prod(chunks) * itemsize

    while n_bytes() < _LEAST:
        growable = [d for d in spatial if chunks[d] < shape[d]]
        if not growable:
            break
        d = min(growable, key=lambda d: (chunks[d], -d))
        chunks[d] = min(shape[d], 2 * chunks[d])
    while n_bytes() > _MOST and max(chunks) > 1:
        d = max(range(len(chunks)), key=lambda d: (chunks[d], -d))
        chunks[d] = -(-chunks[d] // 2)
    return tuple(chunks)


def _spatial(shape: tuple[int, ...], axes: tuple[str, ...] | None) -> list[int]:
    if axes is not None and any(a in "zyx" for a in axes):
        return [d for d, a in enumerate(axes) if a in ("z", "y", "x")]
    last = len(shape)
    if len(shape) in (3, 4) and shape[-1] in (3, 4) and min(shape[-3:-1]) > 16:
        last -= 1
    return list(range(max(0, last - 3), last))


def sensible_chunks(
    chunks: tuple[int, ...], shape: tuple[int, ...], itemsize: int, axes: tuple[str, ...] | None = None
) -> bool:
    """Whether an input's chunks are worth keeping: 32 KiB to 8 MiB, or the whole array, and no thin slab.

    On each spatial axis a chunk must have 16 voxels or the whole extent.
    """
    whole = all(c >= n for c, n in zip(chunks, shape, strict=True))
    n_bytes = math.prod(min(c, n) for c, n in zip(chunks, shape, strict=True)) * itemsize
    if n_bytes > 2**23 or (n_bytes < 2**15 and not whole):
        return False
    return all(chunks[d] >= min(16, shape[d]) for d in _spatial(shape, axes))
