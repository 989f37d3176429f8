"""The rows of the table of roads, as plain data: what is copied, into what, beside whom, and what is promised."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Shape = tuple[int, int, int]
CUBE: Shape = (64, 64, 64)
CUBES: tuple[Shape, ...] = ((64, 512, 512), (128, 128, 128), (256, 256, 256))
SLABS: tuple[Shape, ...] = ((64, 512, 512), (128, 512, 512))
SHARDS: tuple[Shape, ...] = ((256, 256, 256), (256, 256, 512), (256, 512, 512))
ZSTD = {"name": "zstd", "configuration": {"level": 1, "checksum": False}}
BLOSC = {
    "name": "blosc",
    "configuration": {
        "cname": "lz4",
        "clevel": 5,
        "shuffle": "shuffle",
        "typesize": 2,
        "blocksize": 0,
    },
}


def gzip(level: int) -> dict[str, Any]:
    return {"name": "gzip", "configuration": {"level": level}}


@dataclass(frozen=True)
class Limit:
    """A promise beside one reference, or the best of several.

    Attributes
    ----------
    engines
        The references; the fastest of them counts.
    most
        Ours may take this many times as long; below 1 it has to be that much faster.
    """

    engines: tuple[str, ...]
    most: float

    def __str__(self) -> str:
        return f"within {self.most:g}×" if self.most >= 1 else f"{1 / self.most:g}× faster"


@dataclass(frozen=True)
class Row:
    """One workload.

    Attributes
    ----------
    title
        What the table says.
    input
        Name of a stored input (see `road_inputs`), and `key` in it.
    codec, chunks, shards
        Of the output, Zarr v3, that the references write into; made before the clock starts.
    ours
        Arguments of `bioimage_py.copy`, which makes its output itself, inside the clock. None is the default call.
    limits
        What is promised.
    blocks
        Block shapes tried for the peer (its default besides) and for the loops; each engine is measured with its best.
    edge
        Extent of the volume on each axis.
    beside
        Engines that are measured too, without a promise.
    mask
        Name of a stored mask.
    slow
        Engines that take so long that the best of the ways that are tried, once each, is taken.    peer_default
        Whether the peer's call without a block shape is tried; it refuses that for inputs without chunks and for pages into
        cubes, and writes each shard many times over where blocks are chunks of the input.
    """

    title: str
    input: str
    limits: tuple[Limit, ...]
    key: str | None = None
    codec: dict[str, Any] = field(default_factory=lambda: ZSTD)
    chunks: Shape = CUBE
    shards: Shape | None = None
    ours: dict[str, Any] = field(default_factory=dict)
    blocks: tuple[Shape, ...] = CUBES
    edge: int = 512
    beside: tuple[str, ...] = ()
    mask: str | None = None
    slow: tuple[str, ...] = ()
    peer_default: bool = True

    @property
    def engines(self) -> tuple[str, ...]:
        """Ours first, then every reference once."""
        named = [e for limit in self.limits for e in limit.engines]
        return tuple(dict.fromkeys(("ours", *named, *self.beside)))


def faster(times: float, *engines: str) -> Limit:
    return Limit(engines, 1 / times)


def within(times: float, *engines: str) -> Limit:
    return Limit(engines, times)


LOOPS = ("tensorstore", "zarrs")
TWO = {"num_workers": 2}
TO_CUBES = {"num_workers": 2, "chunks": CUBE, "codec": "zstd:1"}
LZ4 = {"name": "blosc", "cname": "lz4", "level": 5, "shuffle": "shuffle"}

ROWS: dict[str, Row] = {
    "v3-v3": Row("Zarr v3 → new Zarr v3, default call", "v3-zstd", (within(1.3, "cp"),)),
    "v2-v3-blosc": Row(
        "Zarr v2 blosc → v3, default call", "v2-blosc", (within(1.5, "cp"),), codec=BLOSC
    ),
    "v2-v3-zstd": Row("Zarr v2 zstd → v3, default call", "v2-zstd", (within(1.5, "cp"),)),
    "pack": Row(
        "64³ chunks → shards of 256³, same inner chunk",
        "v3-zstd",
        (within(1.5, "files"), faster(2, "tensorstore"), faster(4, "peer")),
        shards=(256, 256, 256),
        ours={**TWO, "shards": (256, 256, 256)},
        blocks=SHARDS,
    ),
    "n5": Row(
        "N5 gzip → Zarr v3, same blocks, 500³",
        "n5-gzip",
        (faster(4, "peer"),),
        key="raw",
        codec=gzip(5),
        ours=TWO,
        edge=500,
        beside=("tensorstore",),
    ),
    "hdf5": Row(
        "HDF5 gzip → Zarr v3, same chunks",
        "hdf5-gzip",
        (faster(5, "peer"),),
        key="raw",
        codec=gzip(4),
        ours=TWO,
    ),
    "recode": Row(
        "zstd → blosc-lz4, same grid",
        "v3-zstd",
        (within(1.12, "floor"), faster(2, "peer"), within(1.1, *LOOPS)),
        codec=BLOSC,
        ours={**TWO, "codec": LZ4},
    ),
    "slabs": Row(
        "(1,512,512) → 64³",
        "slabs",
        (within(1.12, "floor"), faster(2.5, "peer"), within(1.1, *LOOPS)),
        ours=TO_CUBES,
        blocks=(*SLABS, (64, 256, 512)),
        peer_default=False,
    ),
    "to-slabs": Row(
        "64³ → (1,512,512)",
        "v3-zstd",
        (within(1.12, "floor"), faster(2, "peer"), within(1.1, *LOOPS)),
        chunks=(1, 512, 512),
        ours={**TO_CUBES, "chunks": (1, 512, 512)},
        blocks=SLABS,
        peer_default=False,
    ),
    "to-shards": Row(
        "64³ → shards of 256³ of 32³",
        "v3-zstd",
        (within(1.1, "floor"), faster(4, "peer"), within(1.1, *LOOPS)),
        chunks=(32, 32, 32),
        shards=(256, 256, 256),
        ours={**TO_CUBES, "chunks": (32, 32, 32), "shards": (256, 256, 256)},
        blocks=SHARDS,
        peer_default=False,
    ),
    "tiled-tiff": Row(
        "tiled deflate TIFF → 64³", "tiled-tiff", (within(1.1, "floor"), faster(3, "peer")), ours=TO_CUBES, blocks=SLABS,
        peer_default=False,
    ),
    "slices": Row(
        "folder of deflate slices → 64³",
        "slices",
        (within(1.1, "floor"), faster(2.5, "peer")),
        key="*.tif",
        ours=TO_CUBES,
        blocks=SLABS,
        peer_default=False,
    ),
    "plain-tiff": Row(
        "uncompressed TIFF → 64³",
        "plain-tiff",
        (within(1.15, "floor"), faster(2, "peer")),
        ours=TO_CUBES,
        blocks=(*SLABS, (128, 128, 128)),
        peer_default=False,
    ),
    "tiny": Row(
        "32,768 chunks of 16³, default call",
        "tiny",
        (within(2, "cp"),),
        chunks=(16, 16, 16),
        beside=("naive",),
    ),
    "sparse": Row(
        "1 % of the chunks of 2,000³ present",
        "sparse",
        (faster(20, "peer"),),
        ours=TWO,
        edge=2000,
        slow=("peer",),
    ),
    "mask": Row(
        "mask of 1 % of 2,000³",
        "full",
        (),
        ours=TWO,
        edge=2000,
        mask="ball",
        beside=("peer",),
        slow=("peer",),
    ),
}  # fmt: skip
