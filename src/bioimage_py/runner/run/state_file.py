"""What an attempt says of itself, written in place: its time of change is the sign of life that others look at.

Two slots are written in turn, each with a number, a length and a checksum; the newest one that checks is read.
"""

from __future__ import annotations

import json
import struct
import zlib
from typing import Any

from bioimage_py.runner.run.own_files import WrittenFile, read_with_time
from bioimage_py.storage import AnyPath

_SLOT = 4096
_HEAD = struct.Struct("<QII")
_LONGEST_REASON = 500
_MOST_MOMENTS = 32


class Pace:
    """How far something was at moments that are spread evenly over its time, and few however long that is.

    `moments` are pairs of seconds and of an amount that grows; the last one is always the newest.
    """

    def __init__(self) -> None:
        self.moments: list[tuple[float, int]] = [(0.0, 0)]
        self._step = 0.0

    def add(self, seconds: float, amount: int) -> None:
        moments = self.moments
        if len(moments) > 1 and moments[-1][0] < moments[-2][0] + self._step:
            moments.pop()
        moments.append((round(seconds, 2), amount))
        if len(moments) > _MOST_MOMENTS:
            del moments[1:-1:2]
            self._step = seconds / len(moments)


class StateFile(WrittenFile):
    def __init__(self, path: AnyPath) -> None:
        super().__init__(path)
        self._number = 0

    def write(self, state: dict[str, Any]) -> None:
        """Replace the state; a few numbers and names, and why it ended. Raises OSError."""
        reason = state.get("reason")
        shown = state if reason is None else {**state, "reason": reason[:_LONGEST_REASON]}
        text = json.dumps(shown, separators=(",", ":"), ensure_ascii=False).encode(errors="replace")
        # The first one goes into both slots: a disk that is full later has room for what comes.
        for _ in range(1 if self._number else 2):
            self._number += 1
            head = _HEAD.pack(self._number, len(text), zlib.crc32(text, self._number))
            self.write_at((head + text).ljust(_SLOT, b"\0"), self._number % 2 * _SLOT)
        self.show()


def read_state(path: AnyPath) -> tuple[dict[str, Any], float]:
    """Return the newest state in a file, and when the file was last written; nothing and 0 where that cannot be read."""
    try:
        data, seen = read_with_time(path, 2 * _SLOT)
    except OSError:
        return {}, 0.0
    found: tuple[int, dict[str, Any]] = (0, {})
    for slot in (data[:_SLOT], data[_SLOT:]):
        if len(slot) < _HEAD.size:
            continue
        number, length, check = _HEAD.unpack_from(slot)
        text = slot[_HEAD.size : _HEAD.size + length]
        if number > found[0] and zlib.crc32(text, number & 0xFFFFFFFF) == check:
            found = number, json.loads(text)
    return found[1], seen
