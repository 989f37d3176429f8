"""Which portion of a round a task works on next: agreed on by folders that only one process can make.

    claims/00000/first/00003.0  the portion that is kept for task 3, so that tasks which begin together do not meet
    claims/00000/00012.0        any other; they are claimed in order, so the next one is found with few looks
    claims/00000/00012.1        taken over from an attempt that has ended, died, or gives no sign of life
    claims/00000/open/00012.0   a file, there until the portion was worked through: the attempts that had it, the last one first
    claims/00000/done/00012     the portion was worked through
    claims/00000/joined/00040   a task that a backend did not begin: one process has its number

To make a folder is one operation, which fails where there is one, on every disk; in a bucket it is an object. Names that
others have made may be seen late: what is not seen is taken neither for free nor for done.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from bioimage_py.errors import BioimagePyError, SourceNotFoundError
from bioimage_py.storage import AnyPath, ObjectPath, is_alive, tried_again

if TYPE_CHECKING:
    from bioimage_py.runner.run.run_folder import AttemptFiles, RunFolder

_MOST_TRIES = 2
"""Attempts at one portion in a round, if the first one died in it: what kills its workers is for the next round, alone."""
_MOST_STOPS = 100
_FEW = 2000
"""Claims in a bucket that are listed, a thousand by one request; of more, some are looked at."""
_SHORT = 0.05


class Claim(NamedTuple):
    portion: int
    tries: int = 0
    """How many attempts had it before."""
    before: tuple[AttemptFiles, ...] = ()
    """The attempts that had it, the last one first."""

    @property
    def name(self) -> str:
        return f"{self.portion:05d}.{self.tries}"


class Claims:
    """The claims of one attempt at a task of a round; `content` is what the round was written with."""

    def __init__(self, folder: RunFolder, attempt: AttemptFiles, content: dict[str, Any]) -> None:
        self._folder, self._attempt = folder, attempt
        self._place = folder.claims(attempt.round)
        self._length, self._kept = int(content["portions"]), int(content["kept"])
        self._alone = int(content["alone"])
        self._beat, self._lease = float(content["beat"]), float(content["lease"])
        self._latency = float(content["latency"])
        self._next = self._kept
        self._first: int | None = attempt.task if attempt.task < self._kept else None
        self._asked = time.monotonic()
        self._tried: set[str] = set()  # that are ours, or were another's already
        self._met: dict[
            str, tuple[float, float]
        ] = {}  # last sign of holders, and the time, when they were met first
        self._releasing: list[threading.Thread] = []
        for name in ("", "first", "open", "done") if self._latency and not folder.in_bucket else ():
            # To make it is to see it: a network disk shows a busy folder late.
            make_folder(self._place / name)

    def take(self, stop: threading.Event) -> Claim | None:
        """Claim a portion that nobody works on, and wait for one that may be given up; None where nothing is left, or told to stop."""
        while not stop.is_set():
            claim = self._fresh()
            if claim is None:
                claim, may_come = self._abandoned()
                if claim is None and may_come and not stop.wait(max(_SHORT, self._beat / 10)):
                    continue
            if claim is None or self._claimed(claim):
                return claim
        return None

    def holds(self, claim: Claim) -> bool:
        """Whether a portion is still ours: a process that stood still for long may find that another one has taken it over."""
        now, before = time.monotonic(), self._asked
        self._asked = now
        return now - before < self._lease / 2 or (self._place / "open" / claim.name).exists()

    def release(self, claim: Claim) -> None:
        """Say that a portion was worked through; in a bucket, where that takes a while, the next one may be claimed meanwhile."""
        if not self._folder.in_bucket:
            self._say_done(claim)
            return
        thread = threading.Thread(
            target=self._say_done_soon, args=(claim,), name="bioimage-release", daemon=True
        )
        self._releasing = [*(one for one in self._releasing if one.is_alive()), thread]
        thread.start()

    def _say_done_soon(self, claim: Claim) -> None:
        # It is done all the same, and another one that takes the portion over finds nothing to do.
        with contextlib.suppress(BioimagePyError, OSError):
            self._folder.check_there()
            self._say_done(claim)

    def _say_done(self, claim: Claim) -> None:
        make_folder(self._place / "done" / f"{claim.portion:05d}")
        (self._place / "open" / claim.name).unlink(missing_ok=True)

    def all_done(self) -> bool:
        """Whether every portion was worked through."""
        for thread in self._releasing:
            thread.join()
        return not self._listed("open") and len(self._listed("done")) == self._length

    # -- portions that nobody had

    def _fresh(self) -> Claim | None:
        if self._first is not None:
            own, self._first = self._first, None
            return Claim(own)
        number = self._frontier()
        if number is not None:
            self._next = number + 1
            return Claim(number)
        left = self._left_of_first()
        return Claim(left[os.getpid() % len(left)]) if left else None

    def _frontier(self) -> int | None:
        """Return the first portion that was not claimed, behind those that are kept for tasks."""
        low, step, end = self._next, 1, self._length
        if low >= end or not self._taken(low):
            return low if low < end else None
        if self._folder.in_bucket and end <= _FEW:
            taken = {path.name for path in self._place.iterdir()}
            self._next = next((n for n in range(low, end) if Claim(n).name not in taken), end)
            return self._next if self._next < end else None
        while low + step < end and self._taken(low + step):
            low, step = low + step, 2 * step
        high = min(low + step, end)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._taken(middle) else (low, middle)
        self._next = high
        return high if high < end else None

    def _left_of_first(self) -> list[int]:
        taken = {*self._listed("first"), *self._tried}
        return [number for number in range(self._kept) if Claim(number).name not in taken]

    # -- portions that another attempt had

    def _abandoned(self) -> tuple[Claim | None, bool]:
        """Return a portion whose holder is gone, and whether one of the others may turn out to be."""
        names = [name for name in self._listed("open") if name not in self._tried]
        # Those who look at the same time begin at different places.
        at = os.getpid() % max(1, len(names))
        may_come, now = False, self._folder.now() if names else 0.0
        for name in names[at:] + names[:at]:
            number, tries = map(int, name.split("."))
            next_one = Claim(number, tries + 1)
            holders = self._folder.holders(self._place / "open" / name)
            if holders is None or next_one.name in self._tried:
                continue  # it has just been released, or is another one's by now
            state: dict[str, Any] = self._folder.read_state(holders[0]) if holders else {"reason": None}
            most = _MOST_STOPS if state["reason"] == "stopped" else _MOST_TRIES
            if tries + 1 >= most or number < self._alone:
                continue
            # A state that cannot be seen yet says nothing: then its silence began when the claim was met.
            seen = state.get("seen", 0.0)
            then, met = self._met.setdefault(name, (seen, now))
            silent = now - (seen or met)
            same_task = bool(holders) and holders[0].task == self._attempt.task and silent >= self._latency
            gone = state["reason"] is not None or same_task or is_alive(state) is False
            if gone or silent > self._lease:
                return next_one._replace(before=holders), True
            # A holder that has given a sign of life since then works on its last portion, and nobody need wait for it.
            may_come |= seen <= then
        return None, may_come

    # -- files

    def _claimed(self, claim: Claim) -> bool:
        kept = claim.portion < self._kept and not claim.tries
        self._tried.add(claim.name)
        made = (self._place / "first" if kept else self._place) / claim.name
        if not make_folder(made):
            return False
        stems = [attempt.stem for attempt in (self._attempt, *claim.before)]
        opened = self._place / "open" / claim.name
        calls: list[Callable[[], object]] = [
            self._folder.check_there,
            lambda: tried_again(lambda: opened.write_text("\n".join(stems))),
        ]
        try:
            self._folder.each(lambda call: call(), calls)
        except SourceNotFoundError:
            # Of a run that was removed all portions look free.
            made.unlink(missing_ok=True)
            opened.unlink(missing_ok=True)
            raise
        if claim.tries:
            (self._place / "open" / f"{claim.portion:05d}.{claim.tries - 1}").unlink(missing_ok=True)
        return True

    def _taken(self, number: int) -> bool:
        return (self._place / Claim(number).name).exists()

    def _listed(self, name: str) -> list[str]:
        place = self._place / name
        # The texts of a disk, as they are many.
        return [path.name for path in place.iterdir()] if isinstance(place, ObjectPath) else os.listdir(place)  # noqa: PTH208


def new_task(folder: RunFolder, number: int, first: int) -> int:
    """Return a number for a task that joins a round: not below `first`, and given to nobody else."""
    place = folder.claims(number) / "joined"
    for made in (folder.claims(number), place):
        make_folder(made)  # to make it is to see it, as above
    task = first + sum(1 for _ in place.iterdir())
    step = 1
    while not make_folder(place / f"{task:05d}"):
        # Many that join at the same time soon meet no more.
        task += 1 + int.from_bytes(os.urandom(4), "big") % step
        step *= 2
    return task


def has_left(state: dict[str, Any], now: float, lease: float) -> bool:
    """Whether an attempt has ended, has died, or gives no sign of life."""
    return state["reason"] is not None or is_alive(state) is False or now - state["seen"] > lease


def make_folder(path: AnyPath) -> bool:
    """Make a folder, and return whether this process has made it."""
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        return False
    return True
