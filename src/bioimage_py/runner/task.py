"""Running one task of a run folder in this process: what every distributed backend's worker does.

A worker imports what its task needs and no more, and reads of its run folder only what is its own.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from bioimage_py.geometry import IdSet
from bioimage_py.runner.environment import check_environment, extend_import_path
from bioimage_py.runner.run import (
    AttemptJournal,
    Claim,
    Claims,
    Orders,
    RunFolder,
    read_block_logs,
    read_units,
)
from bioimage_py.runner.work import load_work
from bioimage_py.runner.worker_threads import WorkerThreads
from bioimage_py.storage import any_path, seen_in_time

if TYPE_CHECKING:
    from bioimage_py.runner.work import Work

FINISHED, STOPPED = "finished", "stopped"

_opening = threading.Lock()
_LOOK = 0.2
"""Seconds between two looks at whether another task has ended the run, unless there are many tasks."""


def run_task(
    path: str, round_number: int, task: int, stop: threading.Event | None = None, patience: float = 0.0
) -> str:
    """Claim portion after portion of a round, process their groups and record each block; return why it ended.

    It ends when nothing is left to be claimed, or when told by `stop`. For the seconds of `patience`, what the submitter wrote may not
    be seen yet. Raises BioimagePyError if the run folder cannot be trusted, a source cannot be opened, or this Python does not fit.
    """
    folder = seen_in_time(lambda: RunFolder.open(path, whole=False), patience)
    # Whoever sees the round sees what was written before it began.
    content = seen_in_time(lambda: folder.read_round(round_number), patience)
    with _opening:
        run, work = _open_work(str(folder.path), round_number, patience)
    # Its sources are shared by all tasks of this process; what is counted is not.
    counted = work.with_new_counts()
    stopping = stop or threading.Event()
    with (
        folder.orders(round_number) as orders,
        AttemptJournal(
            folder,
            round_number,
            task,
            settle=work.settling() if run["durable"] else None,
            tally=counted.tally,
            threads=run["threads"],
            stop=stopping,
            beat=content["beat"],
        ) as journal,
    ):
        claims = Claims(folder, journal.files, content)
        puller = _Puller(counted, orders, claims, journal, stopping)
        threads = WorkerThreads(puller.groups(), journal, stopping, puller.tried)
        follow = _following(folder, round_number, threads.over, journal, max(_LOOK, content["beat"] / 5))
        journal.worked_by(threads.run(run["threads"], follow, gradually=counted.calls_are_short))
        follow()
        reason = STOPPED if stopping.is_set() else FINISHED
        why = journal.hopeless()
        journal.end(f"Failing: {why}" if why else reason)
        if reason == FINISHED and claims.all_done():
            folder.finish_round(round_number)
    return reason


class _Puller:
    """Gives out the groups of one portion after the other, and knows when each of them was worked through."""

    def __init__(
        self, work: Work, orders: Orders, claims: Claims, journal: AttemptJournal, stop: threading.Event
    ) -> None:
        self._work, self._orders, self._claims, self._stop = work, orders, claims, stop
        self._journal = journal
        self._open: list[tuple[Claim, IdSet]] = []
        self._left: Counter[Claim] = Counter()
        self._lock = threading.Lock()

    def groups(self) -> Iterator[tuple[Work, int] | None]:
        """Yield all groups that can be claimed, each with the work on those of its blocks that are wanted; None behind each portion."""
        while (claim := self._claims.take(self._stop)) is not None:
            work, groups, last = self._portion(claim)
            if not groups:
                self._claims.release(claim)
                continue
            with self._lock:
                self._open.append((claim, groups))
                self._left[claim] = len(groups)
            for group in itertools.chain(
                (group for group in groups if group != last), () if last is None else (last,)
            ):
                if not self._claims.holds(claim):
                    break
                yield work, group
            yield None  # a portion is not claimed before there is a thread for it

    def _portion(self, claim: Claim) -> tuple[Work, IdSet, int | None]:
        """Return the work on a portion, what is left of its groups, and which one of them may have killed an attempt before."""
        portion = self._orders[claim.portion]
        wanted = portion.blocks
        if wanted is None:
            wanted = portion.groups if self._work.groups_are_blocks else IdSet.from_range(self._work.n_blocks)
        self._journal.know(portion.units)
        if not claim.before:
            return self._work.narrowed(wanted), portion.groups, None
        self._journal.know(read_units(claim.before))
        done = read_block_logs([attempt.blocks for attempt in claim.before])
        work = self._work.narrowed(wanted - done)
        groups = portion.groups & work.group_ids()
        return work, groups, next(iter(groups), None)

    def tried(self, group: int) -> None:
        with self._lock:
            place = next(n for n, (_, groups) in enumerate(self._open) if group in groups)
            claim, _ = self._open[place]
            self._left[claim] -= 1
            if not self._left[claim]:
                del self._open[place], self._left[claim]
                self._claims.release(claim)


def _following(
    folder: RunFolder, round_number: int, over: threading.Event, journal: AttemptJournal, every: float
) -> Callable[[], None]:
    """Return what a task calls between its blocks: what ends the run here ends it in its other tasks, and the reverse."""
    told = folder.round_is_over(round_number)
    looked = time.monotonic()
    if told:
        over.set()

    def look() -> None:
        nonlocal told, looked
        why = journal.hopeless()
        if why:
            over.set()
        if told or (not over.is_set() and time.monotonic() < looked + every):
            return
        looked = time.monotonic()
        if not over.is_set():
            told = folder.round_is_over(round_number)
            if told:
                over.set()
        elif not why or not folder.anything_done():
            # Where others get blocks done, it is this machine that fails: the run goes on without it.
            folder.end_round(round_number, why)
            told = True

    return look


def close_sources() -> None:
    """Let go of the sources that tasks of this process have opened."""
    _open_work.cache_clear()


@lru_cache(maxsize=2)
def _open_work(path: str, round_number: int, patience: float) -> tuple[dict[str, Any], Work]:
    """Open the sources of a run once per process and round; its tasks share them.

    A worker may outlive a run that failed. What it opened for an earlier round may have been replaced since.
    """
    del round_number
    folder = RunFolder(any_path(path))  # it was looked at when it was opened
    run = folder.read_run()
    check_environment(run["environment"])
    extend_import_path(run.get("import_path", ()))
    stored = _without_ids(run["work"])
    work = seen_in_time(lambda: load_work(stored, folder, run["threads"], run["cache_bytes"]), patience)
    return run, work


def _without_ids(work: Mapping[str, Any]) -> dict[str, Any]:
    """Return stored work without the blocks that the whole run wants, which can be very many: a task has its orders."""
    parts = {"parts": [_without_ids(part) for part in work["parts"]]} if "parts" in work else {}
    return {**work, **parts, "block_ids": []}
