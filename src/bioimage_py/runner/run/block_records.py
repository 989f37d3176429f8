"""The append-only record of finished blocks that survives a crash of its writer; `block_log` reads it.

A log is a file of 16-byte records: first block id (8 bytes), number of consecutive ids (4), and a checksum (4) that also
covers the record's place in the file. Appending one is a single small write; a record that is torn, or anything after
it, does not pass its checksum and is never trusted.
"""

from __future__ import annotations

import struct
from pathlib import Path

from bioimage_py.geometry import IdSet
from bioimage_py.runner.run.own_files import AppendedFile

RECORD = struct.Struct("<QII")
_MASK = 2**64 - 1
MIX = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9)
"""What first id, number of ids and place are multiplied with, modulo 2**64, before they are added up to the checksum."""
_MOST = 2**32 - 1


def _check(begin: int, count: int, index: int) -> int:
    mixed = (begin * MIX[0] + count * MIX[1] + (index + 1) * MIX[2]) & _MASK
    return ((mixed ^ (mixed >> 29)) * MIX[0] & _MASK) >> 32


class BlockLog(AppendedFile):
    """Writes one log; with `durable` each record survives a crash of the machine."""

    def __init__(self, path: Path, *, durable: bool = False) -> None:
        super().__init__(path)
        self._durable = durable
        self._written = 0

    def add(self, ids: IdSet) -> None:
        """Append the ids."""
        pieces: list[bytes] = []
        for run_begin, end in ids.runs:
            begin = run_begin
            while begin < end:
                count = min(end - begin, _MOST)
                index = self._written + len(pieces)
                pieces.append(RECORD.pack(begin, count, _check(begin, count, index)))
                begin += count
        self.append(b"".join(pieces), durable=self._durable)
        self._written += len(pieces)
