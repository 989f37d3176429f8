"""How often Slurm is asked: all users of a cluster share one controller."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

_SMALL = 100
"""Tasks up to which a round is a small one, whose end is wanted soon."""
_AT_ONCE, _AT_ONCE_SMALL = 4, 20
"""Calls that may follow each other at once after a time without any."""
_INTERVAL = 30.0
_SELDOM = 10
"""How many times the interval the time between two questions about an array may become."""


class Pace:
    """Allows a few calls at once, and in the long run one per `interval` seconds, but two a minute where there are many tasks."""

    def __init__(self, interval: float) -> None:
        self._given = self.interval = interval
        self._most = self._left = float(_AT_ONCE_SMALL)
        self._counted = self.now()

    def now(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def set_size(self, n_tasks: int) -> None:
        """Take the pace of rounds of so many tasks."""
        self._count()
        small = n_tasks <= _SMALL
        self.interval = self._given if small else max(_INTERVAL, self._given)
        self._most = _AT_ONCE_SMALL if small else _AT_ONCE
        self._left = min(self._left, self._most)

    @property
    def longest(self) -> float:
        """Most seconds between two questions about the same."""
        return _SELDOM * self.interval

    def spend(self) -> None:
        """Count a call."""
        self._count()
        self._left -= 1

    def allows(self) -> bool:
        self._count()
        return self._left >= 1

    def _count(self) -> None:
        now = self.now()
        self._left = min(self._most, self._left + (now - self._counted) / self.interval)
        self._counted = now


@dataclass
class Attention:
    """When to ask about one array: soon after something has happened to it, and then more and more seldom."""

    stirred: float
    due: float
    quiet: frozenset[int] = frozenset()
    """Tasks that were without a sign of life at the last look."""

    SOON = 0.2

    @classmethod
    def at(cls, now: float) -> Attention:
        return cls(now, now + cls.SOON)

    def stir(self, now: float) -> None:
        self.stirred = now
        self.due = min(self.due, now + self.SOON)

    def asked(self, now: float, longest: float) -> None:
        self.due = now + min(longest, max(self.SOON, (now - self.stirred) / 2))


@dataclass
class Room:
    """How many tasks Slurm takes from this user at once, as far as its answers have told."""

    taken: int = 0
    """The most that it had at once."""
    refused: int | None = None
    """The fewest that it refused to have at once; None if it never refused any."""
    refused_at: float = 0.0

    def portion(self, wanted: int, there: int) -> int:
        """Return how many more tasks to submit where `there` are some; none until it is worth a call."""
        if self.refused is None:
            return wanted
        if not self.taken:
            return 0 if there else min(wanted, max(1, self.refused // 8))
        known = self.refused - self.taken <= max(1, self.taken // 8)
        room = (self.taken if known else math.isqrt(self.taken * self.refused)) - there
        return min(wanted, room) if room >= 1 and (not known or 2 * there <= self.taken) else 0

    def accepted(self, total: int) -> None:
        self.taken = max(self.taken, total)
        if self.refused is not None and self.refused <= self.taken:
            self.refused = self.taken + 1

    def was_refused(self, there: int, more: int, now: float) -> None:
        """Take note of a refusal; other jobs of the user may have come, or tasks that have ended may still be counted."""
        self.refused = there + more if self.refused is None else min(self.refused, there + more)
        self.taken = min(max(self.taken, there), self.refused - 1)
        self.refused_at = now

    def forget(self) -> None:
        """Let more be tried: other jobs, which took some of the room, may be gone."""
        if self.refused is not None:
            self.refused = max(self.refused, 2 * self.taken + 1)
