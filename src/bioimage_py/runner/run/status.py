"""Which runs there are, and how far each is, from their folders alone: nothing is asked of a backend, nothing is changed."""

from __future__ import annotations

import os
import re
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from bioimage_py.errors import BioimagePyError, BioimagePyWarning, Call, SourceNotFoundError, StorageError
from bioimage_py.geometry import IdSet
from bioimage_py.planning import format_bytes
from bioimage_py.runner.run.recorded import AttemptReader, BlockError, Recorded
from bioimage_py.runner.run.run_folder import PREFIX, RunFolder, n_stored_ids
from bioimage_py.storage import AnyPath, ObjectPath, any_path, is_alive
from bioimage_py.text import Rows, duration, ids_text, rate, shortened

_WINDOW = 300.0
"""Seconds before the last sign of life that the rate is taken over."""

_MOST_ERRORS = 5
_MOST_RUNS = 5


@dataclass(frozen=True)
class RunStatus(Rows):
    """How far a run is.

    Blocks that two attempts finished count once; failed are those that raised and are not done. Bytes are decoded, the total is
    what will be written at most; rates are those of the last minutes of the last round. `tasks` has the number of the last
    round's tasks in each state: `"waiting"`, `"running"`, `"finished"`, `"stopped"`, `"error"` (it failed as a whole) or `"died"`
    (it ended without reporting). `driver` is the process that waits for the run, `handle` what the backend calls the last round.
    """

    path: AnyPath
    job_type: str
    what: str
    created: float
    num_workers: int
    working: bool
    """Whether its tasks may be running: a process waits for it, or its backend still has tasks."""
    blocks_total: int
    blocks_done: int = 0
    blocks_failed: int = 0
    bytes_total: int = 0
    bytes_done: int = 0
    blocks_per_second: float | None = None
    bytes_per_second: float | None = None
    seconds_left: float | None = None
    last_sign: float | None = None
    rounds: int = 0
    tasks: Mapping[str, int] = field(default_factory=dict)
    errors: Sequence[BlockError] = ()
    """The first failures of blocks that are missing, and of tasks as a whole."""
    driver: Mapping[str, Any] | None = None
    driver_alive: bool | None = None
    """None where it is on another machine."""
    handle: str = ""
    join: str = ""
    """The command that starts a worker, where the backend starts none."""

    @property
    def state(self) -> str:
        if self.working:
            return "running"
        return "finished" if self.blocks_done >= self.blocks_total else "unfinished"

    @property
    def state_text(self) -> str:
        if self.state != "unfinished":
            return self.state
        return "stopped" + (f", {self.blocks_failed:,} failed" if self.blocks_failed else "")

    @property
    def blocks_text(self) -> str:
        share = 100 * self.blocks_done // self.blocks_total if self.blocks_total else 100
        return f"{self.blocks_done:,} of {self.blocks_total:,} ({share} %)"

    def rows(self) -> Iterator[tuple[str, str]]:
        """Yield all that is known about the run, as labels and texts."""
        yield "run", str(self.path)
        yield "work", self.what
        yield "backend", self.job_type + (f" ({self.handle})" if self.handle else "")
        started = time.strftime("%Y-%m-%d %H:%M", time.localtime(self.created))
        yield "started", f"{started}, {duration(max(0.0, time.time() - self.created))} ago"
        yield "state", self.state_text + self._attendance()
        failed = f", {self.blocks_failed:,} failed" if self.blocks_failed else ""
        yield "blocks", f"{self.blocks_text} done{failed}"
        if self.bytes_total or self.bytes_done:
            whole = f" of {format_bytes(self.bytes_total)}" if self.bytes_total else ""
            yield "written", format_bytes(self.bytes_done) + whole
        if (blocks := self.blocks_per_second) is not None and self.working:
            speed = f"{blocks:,.0f} blocks/s" if blocks >= 10 else f"{blocks:.2g} blocks/s"
            yield "speed", f"{rate(self.bytes_per_second, 1)}, {speed}" if self.bytes_per_second else speed
        if self.working:
            left = self.seconds_left
            yield "time left", "not known yet" if left is None else f"about {duration(left)}"
        if self.rounds:
            words = {} if self.working else {"waiting": "not started"}
            counts = ", ".join(f"{count:,} {words.get(state, state)}" for state, count in self.tasks.items())
            yield "tasks", counts + (f" (round {self.rounds})" if self.rounds > 1 else "")
        if self.join and self.working and not self.tasks.get("running"):
            yield "workers", f"none is there; to start one: {self.join}"
        for n, error in enumerate(self.errors):
            yield "" if n else "errors", shortened(f"{_where(error)}: {error.type}: {error.text}", 400)
        if self.state == "unfinished":
            yield "to finish", str(Call("resume", (str(self.path),)))

    _rows = rows

    def _attendance(self) -> str:
        if not self.working:
            return ""
        if self.driver is None or self.driver_alive is False:
            return "; no process waits for it: 'resume' does"
        where = f"process {self.driver['pid']} on {self.driver['host']}"
        return f"; {where} waits for it" + ("" if self.driver_alive else ", if it still exists")


def _where(error: BlockError) -> str:
    runs = error.block_ids.runs
    if not runs:
        return f"task {error.task}"
    listed = ids_text(runs[:_MOST_RUNS]).replace(",", ", ") + (" …" if len(runs) > _MOST_RUNS else "")
    return f"{'blocks' if len(error.block_ids) > 1 else 'block'} {listed}"


class StatusReader:
    """Looks at a run again and again; a look costs what was appended since the one before."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.run = run = folder.read_run()
        try:
            self._job_type, self._created = str(run["job_type"]), float(run["created"])
            self._num_workers, self._bytes_total = int(run["num_workers"]), int(run["bytes"])
            self._blocks_total = n_stored_ids(run["work"]["block_ids"])
            self._what = what_is_run(run["work"])
        except (KeyError, TypeError, ValueError) as error:
            raise StorageError(f"{folder.path} does not hold the plan of a run: {error!r}") from error
        self.recorded = Recorded(folder)
        self._round = -1
        self._n_tasks = 0

    def look(self, *, is_active: bool = False) -> RunStatus:
        """Return how far the run is now.

        `is_active` says that the backend has tasks of it without a process that waits for them. Raises SourceNotFoundError if the folder
        no longer exists, as when its run has ended well.
        """
        try:
            return self._look(is_active)
        except (FileNotFoundError, StorageError) as error:
            if self.folder.exists():
                raise
            raise SourceNotFoundError(f"the run folder {str(self.folder.path)!r} was removed") from error

    def _look(self, is_active: bool) -> RunStatus:
        driver = self.folder.read_driver()
        alive = None if driver is None else is_alive(driver)
        working = is_active or (driver is not None and alive is not False)
        number = self.folder.n_rounds() - 1
        if number != self._round:
            self._round, self._n_tasks = number, int(self.folder.read_round(number)["at_once"])
        recorded = self.recorded
        recorded.look()
        done, attempts = len(recorded.done), recorded.attempts
        n_recorded = sum(len(attempt.done) for attempt in attempts)
        latest = [attempt for attempt in attempts if attempt.files.round == number]
        now = self.folder.now() if working else time.time()
        speed = _rates(latest, now if working else None)
        return RunStatus(
            self.folder.path,
            self._job_type,
            self._what,
            self._created,
            self._num_workers,
            working,
            self._blocks_total,
            done,
            len(recorded.raised),
            self._bytes_total,
            # What two attempts wrote both counts once here too, as nearly as can be told.
            recorded.n_bytes * done // max(1, n_recorded),
            *speed,
            (self._blocks_total - done) / speed[0] if working and speed[0] else None,
            max((attempt.last_sign for attempt in attempts), default=None),
            number + 1,
            _task_states(latest, 0 if self.folder.round_is_done(number) else self._n_tasks, working),
            tuple(islice(_first_errors(recorded, latest if done < self._blocks_total else ()), _MOST_ERRORS)),
            driver,
            alive,
            *handle_texts(self.folder, number),
        )


def _rates(attempts: Sequence[AttemptReader], now: float | None) -> tuple[float | None, float | None]:
    """Return blocks and bytes per second, as if each attempt had gone steadily; `now` is None where nothing runs any more."""
    active = [attempt for attempt in attempts if attempt.done]
    if not active:
        return None, None
    working = now is not None
    if now is None:
        now = max(attempt.last_sign for attempt in active)
    first = max(min(attempt.began for attempt in active), now - _WINDOW)
    blocks = n_bytes = 0.0
    for attempt in active:
        began, end = attempt.began, now if working and attempt.reason is None else attempt.last_sign
        share = max(0.0, min(end, now) - max(began, first)) / max(end - began, 1e-3)
        blocks += len(attempt.done) * min(share, 1.0)
        n_bytes += attempt.n_bytes * min(share, 1.0)
    seconds = max(now - first, 1e-3)
    return blocks / seconds, n_bytes / seconds


def _task_states(attempts: Sequence[AttemptReader], n_tasks: int, working: bool) -> dict[str, int]:
    """Return how many tasks of a round are in each state, from all attempts at them."""
    states: dict[int, str] = {}
    for attempt in attempts:
        state = attempt_state(attempt, working)
        if states.get(attempt.files.task) not in ("finished", "running") or state == "finished":
            states[attempt.files.task] = state
    counted = Counter(states.values())
    counted["waiting"] = max(0, n_tasks - len(states))
    order = ("waiting", "running", "finished", "stopped", "error", "died")
    return {state: counted[state] for state in order if counted[state]}


def attempt_state(attempt: AttemptReader, working: bool) -> str:
    if attempt.reason in ("finished", "stopped"):
        return str(attempt.reason)
    if attempt.reason is not None:
        return "error"
    # A worker that has lost whoever waited for it still ends its task.
    there = attempt.process_there()
    return "running" if there or (working and there is None) else "died"


def _first_errors(recorded: Recorded, latest: Sequence[AttemptReader]) -> Iterator[BlockError]:
    """Yield failures of blocks that are missing, and why tasks of the latest round failed as a whole; none twice."""
    shown: set[IdSet] = set()
    for attempt in recorded.attempts:
        if attempt in latest and attempt.reason not in (None, "finished", "stopped"):
            kind, _, text = str(attempt.reason).partition(": ")
            yield BlockError(IdSet(), kind, without_credentials(text), "", attempt.files.task)
        for error in attempt.open_errors(recorded.done):
            if error.block_ids not in shown:
                shown.add(error.block_ids)
                yield replace(
                    error,
                    text=without_credentials(error.text),
                    traceback=without_credentials(error.traceback),
                )


_USER_PART = re.compile(r"([a-z][a-z0-9+.-]*://)[^/\s'\"]*@", re.IGNORECASE)
_QUERY_PART = re.compile(r"([a-z][a-z0-9+.-]*://[^\s'\"?]*)\?[^\s'\"]*", re.IGNORECASE)


def what_is_run(work: Mapping[str, Any]) -> str:
    """Return what is done with what, such as `"copy a.zarr to b.zarr"`, from the plan in a run folder."""
    if work["kind"] == "map":
        return "a function over items"
    if work["kind"] == "copies":
        return f"copies of {work['parts']:,} arrays"
    if "parts" in work:
        first, *others = work["parts"]
        if work.get("temporary") is not None:
            return _in_two_passes(work["parts"], work["n_asked"])
        if first["kind"] == "pyramid":
            # The parts after the first make what is left of the same image.
            others = []
        return what_is_run(first) + (f", and {len(others)} more" if others else "")
    inputs = ", ".join(place_text(spec) for spec in work["inputs"])
    outputs = ", ".join(place_text(spec) for spec in work["outputs"])
    verb = {"copy": "copy", "pyramid": "pyramid of"}.get(work["kind"], "a function over")
    return f"{verb} {inputs}" + (f" to {outputs}" if outputs else "")


def _in_two_passes(parts: Sequence[Mapping[str, Any]], n_asked: int) -> str:
    first = parts[0]
    filling = [
        part for part in parts[n_asked:] if place_text(part["outputs"][0]) == place_text(first["inputs"][0])
    ]
    inputs = filling[0]["inputs"] if filling else first["inputs"]
    others = f", and {n_asked - 1} more" if n_asked > 1 else ""
    return f"{what_is_run({**first, 'inputs': inputs})}{others}, in two passes"


def place_text(spec: Mapping[str, Any]) -> str:
    """Return the path of a source with its key; of a wrapper, what it wraps."""
    if isinstance(spec.get("path"), str):
        key = spec.get("key")
        return without_credentials(f"{spec['path']} ({key})" if key else spec["path"])
    if "said" in spec:  # other metadata are no other voxels
        return place_text(spec["input"])
    inner = [place_text(value) for value in spec.values() if isinstance(value, Mapping) and "kind" in value]
    kind = str(spec.get("kind", "source"))
    return f"{kind} of {', '.join(inner)}" if inner else kind


def without_credentials(text: str) -> str:
    """Return a text with user names, passwords and signatures taken out of the URLs in it."""
    return _QUERY_PART.sub(r"\1", _USER_PART.sub(r"\1", text))


def handle_texts(folder: RunFolder, number: int) -> tuple[str, str]:
    """Return what the backend calls a round, such as `"job 17"`, and the command that starts a worker; empty where there is none."""
    try:
        handle = folder.read_handle(number) if number >= 0 else None
    except StorageError:
        return "", ""
    if handle is None:
        return "", ""
    jobs, address = handle.get("jobs"), handle.get("address")
    if isinstance(jobs, list) and jobs:
        return f"job{'s' if len(jobs) > 1 else ''} {', '.join(map(str, jobs))}", ""
    return without_credentials(f"at {address}") if isinstance(address, str) else "", str(
        handle.get("join", "")
    )


_DEPTH = 3
"""How many levels of folders are looked into for runs."""


def find_runs(roots: Iterable[str | os.PathLike[str]], depth: int = _DEPTH) -> list[AnyPath]:
    """Return the run folders in some folders and a few levels below, or those folders themselves, the oldest first.

    Those that cannot be trusted, because they are another user's or others can write into them, are left out with a
    warning that says so. In a bucket only the folder itself is looked into. Raises SourceNotFoundError if a root is not a folder, StorageError
    if it cannot be listed.
    """
    found: dict[AnyPath, None] = {}
    for root in roots:
        place = any_path(root)
        for path in _in_bucket(place) if isinstance(place, ObjectPath) else _candidates(place, depth):
            try:
                found[RunFolder.open(path).path] = None
            except SourceNotFoundError:
                continue  # it has been removed since it was listed, as it is when its run ends
            except BioimagePyError as error:
                warnings.warn(f"left out: {error}", BioimagePyWarning, stacklevel=2)
    return sorted(found, key=lambda path: (path.name, str(path)))


def _in_bucket(root: ObjectPath) -> Iterator[ObjectPath]:
    if (root / "run.json").exists():
        yield root
    else:
        yield from (path for path in root.iterdir() if path.name.startswith(PREFIX))


def _candidates(root: Path, depth: int = _DEPTH) -> Iterator[Path]:
    """Yield what looks like a run folder: a folder itself, or what is in it and in the folders below."""
    if _looks_like_one(root):
        yield root
        return
    try:
        with os.scandir(root) as entries:
            # Hidden ones are about to be made. A store can have millions of folders, and holds no runs.
            folders = [
                root / entry.name
                for entry in entries
                if entry.is_dir(follow_symlinks=depth == _DEPTH)
                and entry.name[0] != "."
                and not _is_store(entry.name)
            ]
    except (FileNotFoundError, NotADirectoryError) as error:
        if depth == _DEPTH:
            raise SourceNotFoundError(f"there is no folder {str(root)!r} ({error.strerror})") from error
        return
    except OSError as error:
        if depth == _DEPTH:
            raise StorageError(f"{str(root)!r} cannot be listed: {error.strerror}") from error
        return  # of somebody else, who does not want to be looked at
    for folder in folders:
        if depth:
            yield from _candidates(folder, depth - 1)
        elif _looks_like_one(folder):
            yield folder


def _is_store(name: str) -> bool:
    return name.lower().endswith((".zarr", ".n5", ".precomputed"))


def _looks_like_one(folder: Path) -> bool:
    try:
        return (folder / "run.json").is_file() and (folder / "attempts").is_dir()
    except PermissionError:
        return False  # closed to us: if it is a run's, it is another user's
