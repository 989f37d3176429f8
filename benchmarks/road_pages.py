"""Large pages of a compressed TIFF into cubes under a memory limit: how often each is decoded, and what is held."""

from __future__ import annotations

import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

SIDE = 4096
UNIQUE = 8
LIMIT = 2**30
TITLE = f"pages of {SIDE:,}² of a deflate TIFF → 64³ under 1 GiB"


def page(number: int) -> Any:
    """Return a page of texture and a little noise, which deflate takes to about a fifth."""
    y, x = np.ogrid[:SIDE, :SIDE]
    texture = 1000 + 500 * np.sin(number / 9.0) * np.cos(y / 130.0) + 300 * np.sin(x / 70.0)
    noise = np.random.default_rng(number).integers(0, 4, (SIDE, SIDE))
    return (texture // 8 * 8 + noise).astype("<u2")


def stored_pages(count: int, cache: Path) -> Path:
    """Store a TIFF of one strip a page, so that no part of a page can be decoded alone; pages repeat after eight."""
    import tifffile

    path = cache / f"pages_{count}.tif"
    if not path.exists():
        encoded = [zlib.compress(page(n).tobytes(), 1) for n in range(min(count, UNIQUE))]

        def strips() -> Iterator[bytes]:
            for n in range(count):
                yield encoded[n % UNIQUE]

        partial = path.with_suffix(".partial")
        tifffile.imwrite(
            partial, strips(), shape=(count, SIDE, SIDE), dtype="uint16", compression="zlib", rowsperstrip=SIDE,
            photometric="minisblack", bigtiff=True, metadata=None,
        )  # fmt: skip
        partial.rename(path)
    return path


def measured_pages(engine: Callable[..., Any], count: int, cache: Path) -> dict[str, Any]:
    """Copy once, in a process of its own that counts what it decodes, and compare a few cubes."""
    import zarr

    source = stored_pages(count, cache)
    folder = Path(tempfile.mkdtemp(prefix="pages-", dir=cache))
    options = {"num_workers": 2, "chunks": (64, 64, 64), "codec": "zstd:1", "memory_limit": LIMIT}
    job = {"source": str(source), "key": None, "out": str(folder / "out.zarr"), "mask": None, "ours": options}
    try:
        process = engine("ours", "--count-pages")
        answer = process.copy(job)
        process.close()
        stored = zarr.open_array(str(folder / "out.zarr"), mode="r")
        for z in sorted({0, count // 2, count - 1}):
            if not np.array_equal(stored[z, :256], page(z % UNIQUE)[:256]):
                raise SystemExit(f"page {z} differs from the input")
    finally:
        shutil.rmtree(folder)
    return {
        "title": TITLE,
        "pages": count,
        "decodes": answer["pages"],
        "seconds": answer["seconds"],
        "peak_bytes": answer["peak_bytes"],
        "memory_limit": LIMIT,
        "two_passes": answer["pages"] > count,
    }
