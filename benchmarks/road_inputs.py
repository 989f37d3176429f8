"""Inputs of the table of roads, stored on first use and kept under `.cache/data`."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import moves
import numpy as np
from data import prepare

CHUNK = 64
SHARE = 0.01
"""Part of the chunks that a sparse volume has, and part of the voxels that a mask selects."""


def _moves(kind: str, codec: str, chunks: int = CHUNK) -> Any:
    grid = moves.Grid(kind, codec, (chunks,) * 3)
    return lambda edge, cache: moves.stored(grid, edge, cache)[0]


def _data(name: str) -> Any:
    return lambda edge, cache: prepare(name, edge, cache)


INPUTS: dict[str, Any] = {
    "v3-zstd": _moves("v3", "zstd"),
    "v2-zstd": _moves("v2", "zstd"),
    "v2-blosc": _moves("v2", "blosc"),
    "tiny": _moves("v3", "zstd", 16),
    "n5-gzip": _data("gzip.n5"),
    "hdf5-gzip": _data("gzip.h5"),
    "slabs": _data("slabs.zarr"),
    "tiled-tiff": _data("tiled.tif"),
    "slices": _data("slices"),
    "plain-tiff": _data("plain.tif"),
    "sparse": lambda edge, cache: _large("sparse", edge, cache),
    "same-count": lambda edge, cache: _large("same-count", edge, cache),
    "full": lambda edge, cache: _large("full", edge, cache),
    "ball": lambda edge, cache: _large("ball", edge, cache),
}


def stored_input(name: str, edge: int, cache: Path) -> Path:
    """Return the path of an input, made on first use."""
    path: Path = INPUTS[name](edge, cache)
    return path


def present_chunks(edge: int, wanted: int | None = None) -> list[tuple[int, int, int]]:
    """Return which chunks a sparse volume has: `wanted` of them, or 1 %, spread evenly by chance."""
    side = -(-edge // CHUNK)
    count = max(1, round(SHARE * side**3)) if wanted is None else min(wanted, side**3)
    chosen = np.random.default_rng(2).choice(side**3, count, replace=False)
    return [tuple(int(i) for i in np.unravel_index(n, (side,) * 3)) for n in sorted(chosen)]  # type: ignore[misc]


def same_count(edge: int) -> list[tuple[int, int, int]]:
    """Return as many chunks as a sparse volume of 2,000³ has."""
    return present_chunks(edge, round(SHARE * 32**3))


def ball(edge: int, begin: tuple[int, ...], end: tuple[int, ...]) -> Any:
    """Return the part of a mask in a box: a ball in the middle that holds 1 % of the volume."""
    radius = edge * (SHARE * 3 / (4 * np.pi)) ** (1 / 3)
    axes = np.ogrid[tuple(slice(b, e) for b, e in zip(begin, end, strict=True))]
    return sum((x + 0.5 - edge / 2) ** 2 for x in axes) < radius**2


def linked_array(path: Path, shape: tuple[int, ...], chunks: Any, cache: Path, *, copies: bool) -> None:
    """Make a Zarr v3 array (zstd, 64³) whose chunks are those of the 512³ volume, repeated.

    They are hard links, which costs no disk and little page cache, or copies of their own.
    """
    made = moves.Grid("v3", "zstd")
    origin = moves.stored(made, 512, cache)[0]
    moves.made(path, made, 512)
    metadata = (path / "zarr.json").read_text()
    (path / "zarr.json").write_text(metadata.replace('"shape":[512,512,512]', f'"shape":{list(shape)}'))
    assert f'"shape":{list(shape)}' in (path / "zarr.json").read_text(), metadata
    side = 512 // CHUNK
    for at in chunks:
        target = path.joinpath("c", *map(str, at))
        target.parent.mkdir(parents=True, exist_ok=True)
        source = origin.joinpath("c", *(str(i % side) for i in at))
        if copies:
            shutil.copyfile(source, target)
        else:
            os.link(source, target)


def _all_chunks(edge: int) -> Any:
    return grid((edge,) * 3)


def grid(shape: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    return itertools.product(*(range(-(-n // CHUNK)) for n in shape))


def _large(name: str, edge: int, cache: Path) -> Path:
    path = cache / f"{edge}" / f"roads-{name}.zarr"
    done = path.with_suffix(".done")
    if not done.exists():
        shutil.rmtree(path, ignore_errors=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        if name == "ball":
            _store_ball(path, edge)
        else:
            chunks = {"sparse": present_chunks, "same-count": same_count}.get(name, _all_chunks)(edge)
            linked_array(path, (edge,) * 3, chunks, cache, copies=name != "full")
        done.write_text("")
    return path


def _store_ball(path: Path, edge: int) -> None:
    import zarr

    array = zarr.create_array(
        str(path), shape=(edge,) * 3, chunks=(CHUNK,) * 3, dtype="uint8", fill_value=0, overwrite=True
    )
    first, last = edge * 3 // 8 // CHUNK, -(-(edge * 5 // 8) // CHUNK)
    for at in itertools.product(range(first, last), repeat=3):
        begin = tuple(i * CHUNK for i in at)
        end = tuple(min(edge, b + CHUNK) for b in begin)
        part = ball(edge, begin, end)
        if part.any():
            array[tuple(slice(b, e) for b, e in zip(begin, end, strict=True))] = part.astype("uint8")
