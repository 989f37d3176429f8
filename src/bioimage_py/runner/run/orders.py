"""The orders of a round: a file of portions, each a list of groups of blocks. A worker reads only the portions that it claims."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Self

from bioimage_py.errors import StorageError
from bioimage_py.geometry import IdSet
from bioimage_py.runner.run.own_files import RangeReader, write_whole
from bioimage_py.storage import AnyPath

_END = struct.Struct("<8sQ")
_ENTRY = struct.Struct("<QQQQI")
_MAGIC = b"bporder1"


class Portion(NamedTuple):
    """Neighbouring groups, which one worker claims at a time."""

    groups: IdSet
    blocks: IdSet | None = None
    """Those of their blocks that are wanted; None for all."""
    units: IdSet = IdSet()
    """Write units of these blocks that are finished, as in logs of units."""


def write_orders(path: AnyPath, portions: Sequence[Portion]) -> None:
    """Write the portions of a round, and behind them where each is; the file appears whole or not at all."""

    def pieces() -> Iterator[bytes]:
        entries, at = [], 0
        for portion in portions:
            groups, units = portion.groups.to_bytes(), portion.units.to_bytes()
            body = groups + units + (b"" if portion.blocks is None else portion.blocks.to_bytes())
            entries.append(_ENTRY.pack(at, len(groups), len(units), len(body), zlib.crc32(body)))
            at += len(body)
            yield body
        yield b"".join(entries) + _END.pack(_MAGIC, len(entries))

    write_whole(path, pieces)


class Orders:
    """The portions of a round as they are in its run folder, each read when it is asked for."""

    def __init__(self, path: AnyPath) -> None:
        self._path = path
        try:
            self._file = RangeReader(path)
        except OSError as error:
            raise StorageError(f"{path} cannot be read: {error.strerror}") from error
        self._length = self._index = 0
        try:
            end = self._file.size - _END.size
            self._check(end >= 0, "it is cut off")
            magic, self._length = _END.unpack(self._read(end, _END.size))
            self._index = end - self._length * _ENTRY.size
            self._check(
                magic == _MAGIC and self._index >= 0, "it does not hold the orders of a round, or is cut off"
            )
        except BaseException:
            self.close()
            raise

    def __len__(self) -> int:
        return int(self._length)

    def __getitem__(self, number: int) -> Portion:
        if not 0 <= number < self._length:
            raise IndexError(number)
        entry = self._read(self._index + number * _ENTRY.size, _ENTRY.size)
        at, n_groups, n_units, n_bytes, check = _ENTRY.unpack(entry)
        body = self._read(at, n_bytes)
        if zlib.crc32(body) != check:
            raise StorageError(
                f"{self._path} cannot be read: portion {number} is damaged, as its checksum says"
            )
        groups, units, blocks = body[:n_groups], body[n_groups:][:n_units], body[n_groups + n_units :]
        wanted = IdSet.from_bytes(blocks) if blocks else None
        return Portion(IdSet.from_bytes(groups), wanted, IdSet.from_bytes(units))

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self, place: int, n_bytes: int) -> bytes:
        try:
            data = self._file.read(place, n_bytes)
        except OSError as error:
            raise StorageError(f"{self._path} cannot be read: {error.strerror}") from error
        self._check(len(data) == n_bytes, "it is cut off")
        return data

    def _check(self, good: bool, why: str) -> None:
        if not good:
            raise StorageError(f"{self._path} cannot be read: {why}")
