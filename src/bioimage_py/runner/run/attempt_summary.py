"""What many attempts together say of a run: its speed, the states of its tasks, its first errors."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from bioimage_py.runner.run.attempt_reader import AttemptReader
from bioimage_py.runner.run.block_log import Ids
from bioimage_py.runner.run.description import without_credentials

_WINDOW = 300.0
"""Seconds before the last sign of life that the rate is taken over."""
_MOST_ERRORS = 5


@dataclass(frozen=True)
class FirstError:
    """A failure, for people.

    Attributes
    ----------
    runs
        Half-open runs of the blocks that failed with it and are still missing; none for a task that could not go on.
    task
        Number of the task in its round.
    type, text
        Name of the exception's class, and its message.
    """

    runs: tuple[tuple[int, int], ...]
    task: int
    type: str
    text: str


def rates(attempts: Sequence[AttemptReader], working: bool) -> tuple[float | None, float | None]:
    """Return blocks and bytes per second, as if each attempt had gone steadily."""
    active = [attempt for attempt in attempts if attempt.n_blocks]
    if not active:
        return None, None
    now = time.time() if working else max(attempt.last_sign for attempt in active)
    first = max(min(attempt.began for attempt in active), now - _WINDOW)
    blocks = n_bytes = 0.0
    for attempt in active:
        began, end = attempt.began, now if attempt.reason is None else attempt.last_sign
        share = max(0.0, min(end, now) - max(began, first)) / max(end - began, 1e-3)
        blocks += attempt.n_blocks * min(share, 1.0)
        n_bytes += attempt.n_bytes * min(share, 1.0)
    seconds = max(now - first, 1e-3)
    return blocks / seconds, n_bytes / seconds


def task_states(attempts: Sequence[AttemptReader], n_tasks: int, working: bool) -> dict[str, int]:
    """Return how many tasks of a round are in each state, from all attempts at them."""
    states: dict[int, str] = {}
    for attempt in attempts:
        state = _attempt_state(attempt, working)
        if states.get(attempt.files.task) not in ("finished", "running") or state == "finished":
            states[attempt.files.task] = state
    counted = Counter(states.values())
    counted["waiting"] = max(0, n_tasks - len(states))
    order = ("waiting", "running", "finished", "stopped", "error", "died")
    return {state: counted[state] for state in order if counted[state]}


def _attempt_state(attempt: AttemptReader, working: bool) -> str:
    if attempt.reason in ("finished", "stopped"):
        return str(attempt.reason)
    if attempt.reason is not None:
        return "error"
    # A worker that has lost whoever waited for it still ends its task.
    there = attempt.process_there()
    return "running" if there or (working and there is None) else "died"


def first_errors(
    attempts: Iterable[AttemptReader], done: tuple[Ids, Ids], latest: int
) -> Iterator[FirstError]:
    """Yield failures of blocks that are missing, and why tasks of the latest round could not go on; none twice."""
    found = 0
    shown: set[tuple[tuple[int, int], ...]] = set()
    for attempt in attempts:
        if (
            attempt.files.round == latest
            and attempt.reason not in (None, "finished", "stopped")
            and found < _MOST_ERRORS
        ):
            kind, _, text = str(attempt.reason).partition(": ")
            yield FirstError((), attempt.files.task, kind, without_credentials(text))
            found += 1
        for error in attempt.errors:
            if found == _MOST_ERRORS:
                return
            left = tuple(part for run in error.runs for part in _without(run, done))
            said = error.read() if left and left not in shown else None
            if said is not None:
                shown.add(left)
                yield FirstError(left, attempt.files.task, said[0], without_credentials(said[1]))
                found += 1


def _without(run: tuple[int, int], done: tuple[Ids, Ids]) -> Iterator[tuple[int, int]]:
    """Yield what is left of a run of blocks without those that are done."""
    begin, end = run
    first = int(np.searchsorted(done[1], begin, "right"))
    last = int(np.searchsorted(done[0], end, "left"))
    for n in range(first, last):
        if done[0][n] > begin:
            yield begin, int(done[0][n])
        begin = int(done[1][n])
    if begin < end:
        yield begin, end
