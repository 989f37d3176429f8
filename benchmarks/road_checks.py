"""Whether an output of the table of roads holds the right voxels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from data import volume
from road_inputs import CHUNK, ball, present_chunks, same_count
from road_rows import Row


def check_output(row: Row, edge: int, out: Path, cache: Path) -> None:
    """Compare an output with what was stored, voxel by voxel, and end if they differ."""
    import zarr

    stored = zarr.open_array(str(out), mode="r")
    if row.mask is not None:
        _check_masked(stored, edge, cache)
    elif row.input in ("sparse", "same-count"):
        chunks = present_chunks(edge) if row.input == "sparse" else same_count(edge)
        _check_sparse(stored, chunks, out, cache)
    else:
        vol = volume(edge, cache)
        for z in range(0, edge, CHUNK):
            if not np.array_equal(stored[z : z + CHUNK], vol[z : z + CHUNK]):
                raise SystemExit(
                    f"{row.title}: the output differs from the input in planes {z} to {z + CHUNK}"
                )


def _original(at: tuple[int, ...], shape: tuple[int, ...], cache: Path) -> Any:
    """Return the voxels of a chunk of an array that repeats the 512³ volume."""
    vol = volume(512, cache)
    side = 512 // CHUNK
    begin = [i % side * CHUNK for i in at]
    extent = [min(CHUNK, n - i * CHUNK) for i, n in zip(at, shape, strict=True)]
    return vol[tuple(slice(b, b + e) for b, e in zip(begin, extent, strict=True))]


def _slices(at: tuple[int, ...]) -> tuple[slice, ...]:
    return tuple(slice(i * CHUNK, (i + 1) * CHUNK) for i in at)


def _check_sparse(stored: Any, chunks: list[tuple[int, int, int]], out: Path, cache: Path) -> None:
    made = sum(1 for p in (out / "c").rglob("*") if p.is_file())
    if made != len(chunks):
        raise SystemExit(f"{made} chunks were written, {len(chunks)} are stored in the input")
    for at in chunks:
        if not np.array_equal(stored[_slices(at)], _original(at, stored.shape, cache)):
            raise SystemExit(f"chunk {at} differs from the input")


def _check_masked(stored: Any, edge: int, cache: Path) -> None:
    """Compare the chunks around the ball; nothing else may be stored."""
    first, last = edge * 3 // 8 // CHUNK, -(-(edge * 5 // 8) // CHUNK)
    total = 0
    for at in np.ndindex((last - first,) * 3):
        here = tuple(first + i for i in at)
        part = _slices(here)
        selected = ball(edge, tuple(s.start for s in part), tuple(min(s.stop, edge) for s in part))
        expected = np.where(selected, _original(here, stored.shape, cache), 0)
        if not np.array_equal(stored[part], expected):
            raise SystemExit(f"chunk {here} differs from the input under its mask")
        total += bool(expected.any())
    written = stored.nchunks_initialized
    if written < total or written > (last - first) ** 3:
        raise SystemExit(f"{written} chunks were written, {total} hold voxels under the mask")
