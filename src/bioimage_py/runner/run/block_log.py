"""The record of finished blocks that survives a crash of its writer.

A log is a file of 16-byte records: first block id (8 bytes), number of consecutive ids (4), and a checksum (4) that also
covers the record's place in the file; one that does not check is never trusted. Neighbours extend one of the last records
in place, so a log of blocks that are done nearly in order stays small. A million records are read in some tens of
milliseconds, with numpy, which a worker that only writes does not import.

Write units that are finished of blocks which are not are recorded likewise, so that a block that was left in the middle goes on there:
the id of a unit is its block's times 2**20 plus its number in the block. Units beyond that many are not recorded.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from bioimage_py.geometry import IdSet
from bioimage_py.runner.run.own_files import WrittenFile, read_slices
from bioimage_py.runner.run.run_folder import AttemptFiles
from bioimage_py.storage import AnyPath, tried_again

_RECORD = struct.Struct("<QII")
_MASK = 2**64 - 1
_MIX = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9)
"""What first id, number of ids and place are multiplied with, modulo 2**64, before they are added up to the checksum."""
_MOST = 2**32 - 1
_OPEN = 256
"""Records at the end of a log that may still be extended: more than threads have blocks in hand."""
_SLICE = 2**18
"""Records that are read at once."""


class BlockLog(WrittenFile):
    """Writes one log; with `durable` each record survives a crash of the machine."""

    def __init__(self, path: AnyPath, *, durable: bool = False) -> None:
        super().__init__(path)
        self._durable = durable
        self._length = 0
        # Of the open records: what is at each place, and where a run begins and ends.
        self._runs: dict[int, tuple[int, int]] = {}
        self._begins: dict[int, int] = {}
        self._ends: dict[int, int] = {}
        self._free: set[int] = set()  # places whose record another one has taken in
        self._unwritten: dict[int, tuple[int, int]] = {}

    def add(self, runs: Iterable[tuple[int, int]]) -> None:
        """Record half-open runs of ids. Raises OSError; what could not be written then is tried again with what comes next."""
        for begin, end in runs:
            for at in range(begin, end, _MOST):
                self._put(at, min(end, at + _MOST))
        # In the order of their changes: what took another record in comes before that one's place is used again.
        for place, (begin, end) in self._unwritten.items():
            fields = begin, end - begin
            self.write_at(_RECORD.pack(*fields, _check(*fields, place + 1)), place * _RECORD.size)
        self._unwritten.clear()
        if self._durable:
            self.force_to_disk()

    def _put(self, begin: int, end: int) -> None:
        before, after = self._ends.get(begin), self._begins.get(end)
        if before is not None and end - self._runs[before][0] <= _MOST:
            begin = self._take(before)[0]
        else:
            before = None
        if after is not None and self._runs[after][1] - begin <= _MOST:
            end = self._take(after)[1]
        else:
            after = None
        place = before if before is not None else after
        if before is not None and after is not None:
            self._free.add(after)
        if place is None:
            place = self._free.pop() if self._free else self._new_place()
        self._runs[place] = begin, end
        self._begins[begin] = self._ends[end] = place
        self._unwritten.pop(place, None)
        self._unwritten[place] = begin, end

    def _take(self, place: int) -> tuple[int, int]:
        begin, end = self._runs.pop(place)
        del self._begins[begin], self._ends[end]
        return begin, end

    def _new_place(self) -> int:
        old = self._length - _OPEN
        if old in self._runs:
            self._take(old)
        self._free.discard(old)
        self._length += 1
        return self._length - 1


def _check(begin: int, count: int, place: int) -> int:
    mixed = (begin * _MIX[0] + count * _MIX[1] + place * _MIX[2]) & _MASK
    return ((mixed ^ (mixed >> 29)) * _MIX[0] & _MASK) >> 32


class BlockLogReader:
    """Reads one log again and again, each time only what can have changed since."""

    def __init__(self, path: AnyPath) -> None:
        self.path = path
        self._read = 0

    def more(self) -> IdSet:
        """Return the blocks in records that were written or extended since the last call, others perhaps among them.

        A record that does not check may be half written: it is looked at again next time.
        """
        first = max(0, self._read - _OPEN)

        def read() -> IdSet:
            self._read = first
            return IdSet.union(
                map(self._checked, read_slices(self.path, first * _RECORD.size, _SLICE * _RECORD.size))
            )

        try:
            return tried_again(read)
        except FileNotFoundError:
            return IdSet()  # it is made with the first record

    def _checked(self, data: bytes) -> IdSet:
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
        self._read += len(records)
        records = records[(checks == records["check"]) & (records["count"] > 0)]
        begins = records["begin"].astype(np.int64)
        return IdSet.from_arrays(begins, begins + records["count"])


def read_block_logs(paths: Iterable[AnyPath]) -> IdSet:
    """Return the blocks recorded in any of the logs, of each those in records that check."""
    return IdSet.union(BlockLogReader(path).more() for path in paths)


_BITS = 20
_MOST_UNITS = 1 << _BITS


class UnitLog:
    """Writes one log, which is made with its first record; with `durable` each record survives a crash of the machine."""

    def __init__(self, path: AnyPath, *, durable: bool = False) -> None:
        self._path, self._durable = path, durable
        self._log: BlockLog | None = None
        self.waiting: list[tuple[int, int]] = []  # what was added and is not written yet

    def add(self, block_id: int, units: IdSet) -> None:
        first = block_id << _BITS
        self.waiting += [
            (first + begin, first + min(end, _MOST_UNITS)) for begin, end in units.runs if begin < _MOST_UNITS
        ]

    def write(self) -> None:
        """Write what was added; raises OSError if it cannot be written."""
        if self.waiting:
            if self._log is None:
                self._log = BlockLog(self._path, durable=self._durable)
            self._log.add(self.waiting)
            self.waiting.clear()

    @property
    def waits(self) -> bool:
        return self._log is not None and self._log.waits

    def store(self) -> None:
        if self._log is not None:
            self._log.store()

    def show(self) -> None:
        if self._log is not None:
            self._log.show()

    def close(self) -> None:
        if self._log is not None:
            self._log.close()


def read_units(attempts: Iterable[AttemptFiles]) -> IdSet:
    """Return the units that attempts have recorded, by the ids of the log."""
    return read_block_logs(files.units for files in attempts)


def blocks_of_units(units: IdSet) -> IdSet:
    """Return the blocks that units are in."""
    return IdSet.from_ids([begin >> _BITS for begin, _ in units.runs])


def units_of_blocks(units: IdSet, block_ids: IdSet) -> IdSet:
    """Return those of many units that are of some blocks, by the ids of the log."""
    return IdSet(run for run in units.runs if run[0] >> _BITS in block_ids)


def units_of_block(units: IdSet, block_id: int) -> IdSet:
    """Return the numbers of those units that are in a block."""
    first = block_id << _BITS
    return (units & IdSet.from_range(first + _MOST_UNITS, first)).shifted(-first) if units else units
