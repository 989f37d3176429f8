"""The append-only record of finished blocks that survives a crash of its writer.

A log is a file of 16-byte records: first block id (8 bytes), number of consecutive ids (4), and a checksum (4) that also
covers the record's place in the file. Appending one is a single small write; a record that is torn, or anything after
it, does not pass its checksum and is never trusted. A million records are read in some tens of milliseconds, with numpy, which a
worker that only writes does not import.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path

from bioimage_py.geometry import IdSet
from bioimage_py.runner.run.own_files import AppendedFile

_RECORD = struct.Struct("<QII")
_MASK = 2**64 - 1
_MIX = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9)
"""What first id, number of ids and place are multiplied with, modulo 2**64, before they are added up to the checksum."""
_MOST = 2**32 - 1


class BlockLog(AppendedFile):
    """Writes one log; with `durable` each record survives a crash of the machine."""

    def __init__(self, path: Path, *, durable: bool = False) -> None:
        super().__init__(path)
        self._durable = durable
        self._written = 0

    def add(self, ids: IdSet) -> None:
        pieces = [(at, min(_MOST, end - at)) for begin, end in ids.runs for at in range(begin, end, _MOST)]
        places = range(self._written + 1, self._written + len(pieces) + 1)
        records = [_RECORD.pack(*one, _check(*one, place)) for one, place in zip(pieces, places, strict=True)]
        self.append(b"".join(records), durable=self._durable)
        self._written += len(pieces)


def _check(begin: int, count: int, place: int) -> int:
    mixed = (begin * _MIX[0] + count * _MIX[1] + place * _MIX[2]) & _MASK
    return ((mixed ^ (mixed >> 29)) * _MIX[0] & _MASK) >> 32


class BlockLogReader:
    """Reads one log again and again, each time only what was appended since."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read = 0

    def more(self) -> IdSet:
        """Return the blocks recorded since the last call, up to the first record that does not check.

        A record that does not check may be half written: it is looked at again next time.
        """
        with self.path.open("rb") as file:
            file.seek(self._read * _RECORD.size)
            data = file.read()
        if len(data) < _RECORD.size:
            return IdSet()
        import numpy as np

        kind = np.dtype([("begin", "<u8"), ("count", "<u4"), ("check", "<u4")])
        records = np.frombuffer(data, kind, count=len(data) // _RECORD.size)
        places = np.arange(self._read + 1, self._read + len(records) + 1, dtype=np.uint64)
        mix = [np.uint64(factor) for factor in _MIX]
        with np.errstate(over="ignore"):
            # As in `_check`.
            mixed = records["begin"] * mix[0] + records["count"].astype(np.uint64) * mix[1] + places * mix[2]
            checks = ((mixed ^ (mixed >> np.uint64(29))) * mix[0]) >> np.uint64(32)
        good = (checks == records["check"]) & (records["count"] > 0)
        if not good.all():
            records = records[: int(np.argmin(good))]
        self._read += len(records)
        begins = records["begin"].astype(np.int64)
        return IdSet.from_arrays(begins, begins + records["count"])


def read_block_logs(paths: Iterable[Path]) -> IdSet:
    """Return the blocks recorded in any of the logs; each is read up to its first record that does not check."""
    return IdSet.union(BlockLogReader(path).more() for path in paths)
