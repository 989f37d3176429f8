"""Two passes over a temporary store, for grids that lie so across each other that one pass would read the input again and again.

The first pass reads whole chunks of the input and writes the temporary store; the second reads that and writes whole
write units of the output. Both read once what they read where the chunks of the temporary store divide the blocks of both: per
axis the greatest common divisor of the two, or the smaller one where the other spans the axis.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bioimage_py.geometry import IdSet
from bioimage_py.planning.byte_size import Reported, counted, format_bytes, times

TEMPORARY_CODEC = {"name": "blosc", "cname": "lz4", "level": 1, "shuffle": "shuffle"}
"""Of the temporary store: faster than most disks on either way, and half of the bytes of most images."""


@dataclass(frozen=True)
class TwoPasses(Reported):
    """What goes through a temporary store, and how."""

    _told = ("place", "chunks", "shards", "dtype", "n_files", "block_shape")

    shape: tuple[int, ...]  # of the temporary store
    chunks: tuple[int, ...]
    shards: tuple[int, ...] | None
    dtype: np.dtype[Any]
    block_shape: tuple[int, ...]  # of the first pass
    n_blocks: int
    block_ids: IdSet
    in_flight: int  # blocks at a time, in either pass
    peak_memory: int  # of the pass that holds more
    held: tuple[tuple[int, int], ...]  # bytes per pass: whatever its blocks, and per block in flight
    n_bytes: int  # the most that the temporary store takes up, decoded
    n_files: int
    # How often a chunk is decoded on average: of the input, of the temporary store, of the input in one pass.
    first_reads: float
    second_reads: float
    one_pass_reads: float
    place: str = ""  # path or URL of the temporary store, with a place-holder for what makes it unique
    options: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {
            **super().to_json(),
            "bytes": self.n_bytes,
            "n_blocks": len(self.block_ids),
            "read_amplification": [self.first_reads, self.second_reads],
            "one_pass_read_amplification": self.one_pass_reads,
        }

    def texts(self) -> list[tuple[str, str]]:
        why = (
            f"2, because one would decode each chunk of the input {self.one_pass_reads:.3g} times on average: the first reads "
            f"{len(self.block_ids):,} blocks of {times(self.block_shape)} voxels into a temporary store, the second writes the "
            f"output, and reads each chunk of that store {_often(self.second_reads)}"
        )
        shards = f" in shards of {times(self.shards)}" if self.shards else ""
        store = (
            f"{self.place}: at most {format_bytes(self.n_bytes)} before compression, in at most {counted(self.n_files, 'file')}, chunks "
            f"{times(self.chunks)}{shards}; removed at the end"
        )
        return [("passes", why), ("temp", store)]


def _often(times: float) -> str:
    return "once" if times < 1.005 else f"{times:.3g} times"
