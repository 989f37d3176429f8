"""Reading the logs of finished blocks that `block_records` describes: a million records in some tens of milliseconds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bioimage_py.geometry import IdSet
from bioimage_py.runner.run.block_records import MIX, RECORD

Ids = npt.NDArray[np.int64]

_DTYPE = np.dtype([("begin", "<u8"), ("count", "<u4"), ("check", "<u4")])


def _checks(records: npt.NDArray[Any], first: int = 0) -> npt.NDArray[np.uint64]:
    with np.errstate(over="ignore"):
        index = np.arange(first + 1, first + len(records) + 1, dtype=np.uint64)
        mixed = (
            records["begin"] * np.uint64(MIX[0])
            + records["count"].astype(np.uint64) * np.uint64(MIX[1])
            + index * np.uint64(MIX[2])
        )
        checks: npt.NDArray[np.uint64] = (
            (mixed ^ (mixed >> np.uint64(29))) * np.uint64(MIX[0])
        ) >> np.uint64(32)
    return checks


class BlockLogReader:
    """Reads one log again and again, each time only what was appended since."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read = 0

    def more(self) -> tuple[Ids, Ids]:
        """Return begins and ends of the runs recorded since the last call, up to the first record that does not check.

        A record that does not check may be half written: it is looked at again next time.
        """
        with self.path.open("rb") as file:
            file.seek(self._read * RECORD.size)
            data = file.read()
        records = np.frombuffer(data, _DTYPE, count=len(data) // RECORD.size)
        good = (_checks(records, self._read) == records["check"]) & (records["count"] > 0)
        if not good.all():
            records = records[: int(np.argmin(good))]
        self._read += len(records)
        begins = records["begin"].astype(np.int64)
        return begins, begins + records["count"]


def merged(begins: Ids, ends: Ids) -> tuple[Ids, Ids]:
    """Return the fewest half-open runs that cover the same ids, in order; the given ones may overlap in any order."""
    if not begins.size:
        return begins, ends
    # After the n-th smallest end nothing is open exactly if the n+1-th smallest begin lies beyond it.
    first, last = np.sort(begins), np.sort(ends)
    cuts = np.flatnonzero(first[1:] > last[:-1])
    return first[np.concatenate(([0], cuts + 1))], last[np.concatenate((cuts, [last.size - 1]))]


def as_ids(runs: Sequence[tuple[Ids, Ids]]) -> IdSet:
    """Return begins and ends of runs, such as several logs give, as one set."""
    if not runs:
        return IdSet()
    return IdSet.from_arrays(np.concatenate([b for b, _ in runs]), np.concatenate([e for _, e in runs]))


def read_block_logs(paths: Iterable[Path]) -> IdSet:
    """Return the blocks recorded in any of the logs; each is read up to its first record that does not check."""
    return as_ids([BlockLogReader(path).more() for path in paths])
