"""A worker that joins a run by itself: it finds the folder, takes a task of each round, and leaves when the run has ended."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from bioimage_py.errors import (
    BioimagePyError,
    Hint,
    InvalidArgumentError,
    RunnerError,
    SourceNotFoundError,
)
from bioimage_py.runner.backends import find_backend
from bioimage_py.runner.config import LATENCY
from bioimage_py.runner.folder_runner import FolderRunner
from bioimage_py.runner.run import AttemptJournal, RunFolder, find_runs, new_task
from bioimage_py.runner.task import FINISHED, STOPPED, run_task
from bioimage_py.storage import AnyPath, any_path, is_alive

LEFT = "left"
_LOOK, _LONGEST = 0.5, 10.0
"""Seconds between two looks for a run that is not there yet: they become longer."""
_PER_SECOND = 20
"""Looks per second of all workers that wait for a round; each is about five operations of the disk that holds the run folder."""
_SILENT = 600.0
"""Seconds without a sign of life after which the process that waits on another machine is taken for dead."""


class Joined(NamedTuple):
    """How a worker has left a run: `"finished"` with it, `"stopped"` by a signal, or `"left"` what goes on, or may, without it."""

    kind: str
    text: str
    n_rounds: int = 0


def find_run(
    path: str | os.PathLike[str],
    stop: threading.Event,
    wait: float,
    say: Callable[[str], None] = lambda _: None,
) -> RunFolder | None:
    """Return a run folder, or the only one in a folder of an unfinished run, or of one that a process waits for, when it has appeared.

    None if it is finished, or `stop` was set.

    Raises SourceNotFoundError if none appears, InvalidArgumentError if there are several or it belongs to another user.
    """
    place, pause = any_path(path), _LOOK
    end = time.monotonic() + wait
    while True:
        found, finished = _open_runs(place)
        if len(found) > 1:
            found = [folder for folder in found if _attended(folder)] or found
        if len(found) > 1:
            listed = ", ".join(folder.path.name for folder in found[:3])
            raise InvalidArgumentError(
                f"{str(place)!r} holds {len(found)} unfinished runs ({listed}): name one"
            )
        if found:
            return found[0]
        if finished:
            return None
        if pause == _LOOK:
            say(f"waiting for a run in {place}")
        if time.monotonic() >= end or stop.wait(pause):
            break
        pause = min(1.2 * pause, _LONGEST)
    if stop.is_set():
        return None
    raise SourceNotFoundError(
        f"there is no run folder {str(place)!r}: it is removed when all blocks are done",
        hints=[
            Hint.of(
                "if it is on another machine's disk, name a folder that all machines share with {}",
                tmp_root=...,
            )
        ],
    )


def _open_runs(place: AnyPath) -> tuple[list[RunFolder], bool]:
    """Return the unfinished runs at a place, and whether there is a finished one."""
    found, finished = [], False
    for path in [place] if _is_run(place) else find_runs([place], depth=0):
        try:
            folder = RunFolder.open(path, whole=False)
            folder.read_run()
            done = folder.read_finished() is not None
        except BioimagePyError:
            if _is_run(path):
                raise
            finished = True  # it was removed just now
            continue
        finished |= done
        if not done:
            found.append(folder)
    return found, finished


def _is_run(path: AnyPath) -> bool:
    try:
        return RunFolder(path).exists()
    except PermissionError:
        return True  # another user's: to open it says so


def join_run(
    folder: RunFolder,
    stop: threading.Event,
    *,
    stay: bool = True,
    wait: float = 60.0,
    say: Callable[[str], None] = lambda _: None,
) -> Joined:
    """Work on a run until it has ended, or `stop`; not to `stay` is to leave when nothing of the present round is left.

    `wait` is how many seconds to stay where there is nothing to do and no process waits for the run. Raises InvalidArgumentError if
    other processes cannot join it or this Python does not fit, RunnerError if blocks fail here only; else as `run_task`.
    """
    runner = _checked_runner(folder)
    worked, n_rounds, at_once = -1, 0, 1
    alone_since = asked = seen = time.monotonic()
    while not stop.is_set():
        now, task = time.monotonic(), None
        try:
            number = folder.n_rounds() - 1
            if folder.read_finished() is not None:
                return Joined(FINISHED, "the run is finished", n_rounds)
            if number > worked and folder.round_goes_on(number):
                content = folder.read_round(number)
                at_once = content["at_once"]
                task = new_task(folder, number, content["tasks"] if runner.starts_tasks else 0)
            elif number >= 0 and folder.round_is_over(number):
                why = folder.why_over(number)
                return Joined(LEFT, f"the run {why or 'has met what ends it'}", n_rounds)
            elif not stay and number >= 0:
                return Joined(LEFT, "nothing of this round is left", n_rounds)
            elif now >= min(asked + _LONGEST, alone_since + wait):
                asked = now
                alone_since = now if _attended(folder) else alone_since
            seen = now
        except (BioimagePyError, OSError):
            if not folder.exists():
                return Joined(FINISHED, "the run is finished, and its folder removed", n_rounds)
            if now > seen + LATENCY:
                raise
            # What others have written is not seen yet.
        if task is not None:
            say(f"joined {folder.path} as task {task} of round {number + 1}")
            _work(folder, number, task, stop)
            worked, n_rounds = number, n_rounds + 1
            alone_since = asked = seen = time.monotonic()
            continue
        if now > alone_since + wait:
            return Joined(LEFT, "nothing is left to do, and no process waits for the run", n_rounds)
        stop.wait(max(_LOOK, at_once / _PER_SECOND))
    return Joined(STOPPED, "told to stop; what is done stays written", n_rounds)


def _checked_runner(folder: RunFolder) -> type[FolderRunner]:
    """Return the backend of a run, if other processes can join it."""
    job_type = folder.read_run()["job_type"]
    found = find_backend(job_type).runner_class
    if not issubclass(found, FolderRunner):
        raise InvalidArgumentError(
            f"{str(folder.path)!r} is a run of job_type {job_type!r}, whose blocks are worked by the process that began it: others cannot join",
            hints=[Hint.of("begin it with {}", job_type="external")],
        )
    return found


def _work(folder: RunFolder, number: int, task: int, stop: threading.Event) -> None:
    """Work on a round; what keeps this worker from it is told in the run folder too."""
    try:
        run_task(str(folder.path), number, task, stop, LATENCY)
    except Exception as error:
        if not folder.exists():
            return  # it was removed, as the run is finished
        if _state(folder, number, task) is None:
            with AttemptJournal(folder, number, task) as journal:
                journal.end(f"{type(error).__name__}: {error}")
        raise
    reason = str((_state(folder, number, task) or {}).get("reason"))
    if reason.startswith("Failing: ") and not folder.round_is_over(number):
        raise RunnerError(f"this worker leaves the run: {reason.removeprefix('Failing: ')}", (), folder.path)


def _state(folder: RunFolder, number: int, task: int) -> Mapping[str, Any] | None:
    own = [attempt for attempt in folder.attempts(round_number=number) if attempt.task == task]
    return folder.read_state(own[-1]) if own else None


def _attended(folder: RunFolder) -> bool:
    """Whether a process waits for a run."""
    driver = folder.read_driver()
    if driver is None:
        return False
    alive = is_alive(driver)
    return folder.now() - driver["seen"] < _SILENT if alive is None else alive
