"""The workloads, as plain data: what is read, into which grid, and what the project promises."""

from __future__ import annotations

from dataclasses import dataclass

Shape = tuple[int, int, int]
CUBES: tuple[Shape, ...] = ((64, 512, 512), (128, 128, 128), (256, 256, 256))
SLABS: tuple[Shape, ...] = ((64, 512, 512), (128, 512, 512))


@dataclass(frozen=True)
class Workload:
    """One copy, the same for every engine.

    Attributes
    ----------
    title
        What the table says.
    input
        Name of the stored input in `data.INPUTS`.
    key
        Array in the container, or a pattern for slices.
    chunks, shards
        Grid of the output, Zarr v3 with zstd level 1.
    peer_blocks
        Block shapes tried for the peer, and for the loop; the fastest is the one that is measured.
    promised
        The ratio of medians, peer over ours, that the project promises at the least.
    mask
        Name of the stored mask.
    loop
        Whether a plain TensorStore loop can do it.
    """

    title: str
    input: str
    chunks: Shape
    peer_blocks: tuple[Shape, ...]
    promised: float
    key: str | None = None
    shards: Shape | None = None
    mask: str | None = None
    loop: bool = True


WORKLOADS: dict[str, Workload] = {
    "same-grid": Workload("Zarr 64³ → Zarr 64³, other level", "cubes.zarr", (64, 64, 64), CUBES, 2),
    "slabs-to-cubes": Workload("Zarr (1,512,512) → 64³", "slabs.zarr", (64, 64, 64), SLABS, 2),
    "slabs-to-cubes-naive": Workload(
        "the same, peer with blocks of 64³", "slabs.zarr", (64, 64, 64), ((64, 64, 64),), 20, loop=False
    ),
    "cubes-to-slabs": Workload("Zarr 64³ → (1,512,512)", "cubes.zarr", (1, 512, 512), SLABS, 1.5),
    "plain-tiff": Workload(
        "uncompressed TIFF → Zarr 64³", "plain.tif", (64, 64, 64), (*SLABS, (128, 128, 128)), 1.5, loop=False
    ),
    "tiled-tiff": Workload("tiled deflate TIFF → Zarr 64³", "tiled.tif", (64, 64, 64), SLABS, 2, loop=False),
    "slices": Workload(
        "folder of deflate slices → Zarr 64³", "slices", (64, 64, 64), SLABS, 1.5, key="*.tif", loop=False
    ),
    "n5-gzip": Workload("N5 gzip → Zarr 64³", "gzip.n5", (64, 64, 64), CUBES, 1, key="raw"),
    "hdf5-gzip": Workload(
        "HDF5 gzip 64³ → Zarr 64³", "gzip.h5", (64, 64, 64), CUBES, 2, key="raw", loop=False
    ),
    "to-shards": Workload(
        "Zarr 64³ → shards 256³ of 32³",
        "cubes.zarr",
        (32, 32, 32),
        ((256, 256, 256), (256, 512, 512), (256, 256, 512)),
        4,
        shards=(256, 256, 256),
    ),
    "mask": Workload(
        "mask that touches 3 % of the blocks",
        "cubes.zarr",
        (64, 64, 64),
        CUBES,
        2,
        mask="mask.zarr",
        loop=False,
    ),
    "tiny-chunks": Workload(
        "32,768 chunks of 16³ → 16³",
        "tiny.zarr",
        (16, 16, 16),
        ((64, 512, 512), (128, 128, 128)),
        2.5,
    ),
}
