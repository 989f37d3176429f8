"""The append-only record of what a function returned, block by block.

Each record is the block id, the length of the pickled value and a CRC-32 of both and of the value, then the value. A torn
record is never trusted.
"""

from __future__ import annotations

import pickle
import struct
import zlib
from collections.abc import Iterator
from typing import Any

from bioimage_py.errors import NotPortableError
from bioimage_py.geometry import IdSet
from bioimage_py.runner.run.own_files import AppendedFile, read_own
from bioimage_py.storage import AnyPath

_HEAD = struct.Struct("<QQI")


class ValueLog(AppendedFile):
    def add(self, block_id: int, value: Any) -> None:
        """Append a value, or raise NotPortableError if it cannot be pickled."""
        payload = _pickled(value)
        numbers = struct.pack("<QQ", block_id, len(payload))
        self.append(numbers + struct.pack("<I", zlib.crc32(payload, zlib.crc32(numbers))) + payload)


def read_value_log(path: AnyPath) -> dict[int, Any]:
    """Return the values by block id, up to the first record that does not check; raises as `read_own`, and NotPortableError."""
    return {block_id: _restored(block_id, payload) for block_id, payload in _payloads(path)}


def valued_blocks(path: AnyPath) -> IdSet:
    """Return the blocks whose values are in a log; raises as `read_value_log` does."""
    return IdSet.from_ids([block_id for block_id, _ in _payloads(path)])


def _payloads(path: AnyPath) -> Iterator[tuple[int, bytes]]:
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
