"""The write units that attempts finished of blocks, so that a block that was left in the middle goes on there.

A log like that of blocks, whose ids are the block's times 2**20 plus the unit's number in the block. Units beyond that many are not recorded.
"""

from __future__ import annotations

from pathlib import Path

from bioimage_py.geometry import IdSet
from bioimage_py.runner.run.block_log import BlockLog, read_block_logs
from bioimage_py.runner.run.run_folder import AttemptFiles, RunFolder

_BITS = 20
_MOST = 1 << _BITS


class UnitLog:
    """Writes one log, which is made with its first record; with `durable` each record survives a crash of the machine."""

    def __init__(self, path: Path, *, durable: bool = False) -> None:
        self._path, self._durable = path, durable
        self._log: BlockLog | None = None
        self.waiting: list[tuple[int, int]] = []  # what was added and is not written yet

    def add(self, block_id: int, units: IdSet) -> None:
        first = block_id << _BITS
        self.waiting += [
            (first + begin, first + min(end, _MOST)) for begin, end in units.runs if begin < _MOST
        ]

    def write(self) -> None:
        """Write what was added; raises OSError if it cannot be written."""
        if self.waiting:
            if self._log is None:
                self._log = BlockLog(self._path, durable=self._durable)
            self._log.add(IdSet(self.waiting))
            self.waiting.clear()

    def close(self) -> None:
        if self._log is not None:
            self._log.close()


def read_units(
    folder: RunFolder, block_ids: IdSet, attempts: list[AttemptFiles] | None = None
) -> dict[int, IdSet]:
    """Return the units that attempts, by default all, have recorded of each of these blocks that has any."""
    begun = folder.attempts() if attempts is None else attempts
    logs = [files.units for files in begun if files.units.exists()]
    found: dict[int, list[tuple[int, int]]] = {}
    for begin, end in read_block_logs(logs).runs:
        at = begin
        while at < end:
            block_id, next_block = at >> _BITS, ((at >> _BITS) + 1) << _BITS
            if block_id in block_ids:
                first = block_id << _BITS
                found.setdefault(block_id, []).append((at - first, min(end, next_block) - first))
            at = next_block
    return {block_id: IdSet(runs) for block_id, runs in found.items()}
