"""The append-only record of finished blocks that survives a crash of its writer.

A log is a file of 16-byte records: first block id (8 bytes), number of consecutive ids (4), and a checksum (4) that also
covers the record's place in the file. Appending one is a single small write; a record that is torn, or anything after
it, does not pass its checksum and is never trusted. A million records are read in some tens of milliseconds.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bioimage_py.geometry import IdSet

__all__ = ["BlockLog", "BlockLogReader", "Ids", "merged", "read_block_logs"]

Ids = npt.NDArray[np.int64]

_RECORD = struct.Struct("<QII")
_DTYPE = np.dtype([("begin", "<u8"), ("count", "<u4"), ("check", "<u4")])
_MASK = 2**64 - 1
_MIX = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9)
_MOST = 2**32 - 1


def _check(begin: int, count: int, index: int) -> int:
    mixed = (begin * _MIX[0] + count * _MIX[1] + (index + 1) * _MIX[2]) & _MASK
    return ((mixed ^ (mixed >> 29)) * _MIX[0] & _MASK) >> 32


def _checks(records: npt.NDArray[Any], first: int = 0) -> npt.NDArray[np.uint64]:
    with np.errstate(over="ignore"):
        index = np.arange(first + 1, first + len(records) + 1, dtype=np.uint64)
        mixed = (
            records["begin"] * np.uint64(_MIX[0])
            + records["count"].astype(np.uint64) * np.uint64(_MIX[1])
            + index * np.uint64(_MIX[2])
        )
        checks: npt.NDArray[np.uint64] = (
            (mixed ^ (mixed >> np.uint64(29))) * np.uint64(_MIX[0])
        ) >> np.uint64(32)
    return checks


class BlockLog:
    """Writes one log; one writer per file.

    Parameters
    ----------
    path
        The file, which must not exist yet.
    durable
        Whether each record is forced to the disk, so that it survives a crash of the machine.
    """

    def __init__(self, path: Path, *, durable: bool = False) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._durable = durable
        self._written = 0

    def add(self, ids: IdSet) -> None:
        """Append the ids; when this returns they are out of this process's hands.

        Raises
        ------
        OSError
            If the record cannot be written; the file then ends with the record before it.
        """
        pieces: list[bytes] = []
        for run_begin, end in ids.runs:
            begin = run_begin
            while begin < end:
                count = min(end - begin, _MOST)
                index = self._written + len(pieces)
                pieces.append(_RECORD.pack(begin, count, _check(begin, count, index)))
                begin += count
        data = b"".join(pieces)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(self._file, view) :]
            if self._durable:
                os.fdatasync(self._file)
        except OSError:
            os.ftruncate(self._file, self._written * _RECORD.size)
            raise
        self._written += len(pieces)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


class BlockLogReader:
    """Reads one log again and again, each time only what was appended since.

    Parameters
    ----------
    path
        The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read = 0

    def more(self) -> tuple[Ids, Ids]:
        """Return begins and ends of the runs recorded since the last call, up to the first record that does not check.

        A record that does not check may be half written: it is looked at again next time.
        """
        with self.path.open("rb") as file:
            file.seek(self._read * _RECORD.size)
            data = file.read()
        records = np.frombuffer(data, _DTYPE, count=len(data) // _RECORD.size)
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


def read_block_logs(paths: list[Path]) -> IdSet:
    """Return the blocks recorded in any of the logs; each is read up to its first record that does not check."""
    runs = [BlockLogReader(path).more() for path in paths]
    if not runs:
        return IdSet()
    begins, ends = merged(np.concatenate([b for b, _ in runs]), np.concatenate([e for _, e in runs]))
    return IdSet(zip(begins.tolist(), ends.tolist(), strict=True))
