"""The append-only record of what a function returned, block by block.

Each record is the block id, the length of the pickled value and a CRC-32 of both and of the value, then the value. A torn
record is never trusted.
"""

from __future__ import annotations

import os
import pickle
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bioimage_py.errors import NotPortableError
from bioimage_py.geometry import IdSet
from bioimage_py.runner.run.own_files import read_own

_HEAD = struct.Struct("<QQI")


class ValueLog:
    """Writes one log; one writer per file."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._end = 0

    def add(self, block_id: int, value: Any) -> None:
        """Append a value; it is out of this process's hands when this returns.

        Raises NotPortableError if it cannot be pickled, OSError if it cannot be written; the file then ends with the record
        before it.
        """
        payload = _pickled(value)
        numbers = struct.pack("<QQ", block_id, len(payload))
        data = numbers + struct.pack("<I", zlib.crc32(payload, zlib.crc32(numbers))) + payload
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._file, view) :]
        except OSError:
            os.ftruncate(self._file, self._end)
            raise
        self._end += len(data)

    def force_to_disk(self) -> None:
        """Return when what was added survives a crash of the machine."""
        os.fdatasync(self._file)

    def close(self) -> None:
        os.close(self._file)


def read_value_log(path: Path) -> dict[int, Any]:
    """Return the values by block id, up to the first record that does not check; raises as `read_own`, and NotPortableError."""
    return {block_id: _restored(block_id, payload) for block_id, payload in _payloads(path)}


def valued_blocks(path: Path) -> IdSet:
    """Return the blocks whose values are in a log; raises as `read_value_log` does."""
    return IdSet.from_ids([block_id for block_id, _ in _payloads(path)])


def _payloads(path: Path) -> Iterator[tuple[int, bytes]]:
    data = read_own(path)
    at = 0
    while at + _HEAD.size <= len(data):
        block_id, length, check = _HEAD.unpack_from(data, at)
        payload = data[at + _HEAD.size : at + _HEAD.size + length]
        if len(payload) != length or zlib.crc32(payload, zlib.crc32(data[at : at + 16])) != check:
            return
        yield block_id, payload
        at += _HEAD.size + length


def _pickled(value: Any) -> bytes:
    """Return a value as functions travel: what the user's script defines goes along."""
    try:
        plain = pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
        if b"__main__" not in plain:
            return plain
    except Exception:  # noqa: BLE001 - what the other way says is told
        plain = b""
    try:
        import cloudpickle  # few results need it

        return bytes(cloudpickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL))
    except Exception as error:
        if plain:
            return plain
        raise NotPortableError(
            f"what the function returned, a {type(value).__name__}, cannot be sent to other processes: {type(error).__name__}: "
            f"{error}. Return plain values or arrays, or write it into a file and return its path"
        ) from error


def _restored(block_id: int, payload: bytes) -> Any:
    try:
        return pickle.loads(payload)  # noqa: S301 - read as our own
    except Exception as error:
        raise NotPortableError(
            f"what the function returned for {block_id} cannot be restored here: {type(error).__name__}: {error}"
        ) from error
