"""The folder that holds a run: its plan, its journals, its errors and its logs.

Paths inside a run folder are built in this package and nowhere else. A folder on a disk is made with mode 0700; JSON files appear whole
or not at all; what is appended to carries checksums. Journals are per attempt of a task: two attempts that are alive at once,
because a node was only believed dead, never write into one file. What could make this user run another's code is read only if
it is this user's own and no other user can write into it. A folder may also be at s3:// (`ObjectPath`): then `run.json` is written last, a
claim is an object that only one can make, logs are stored at least once a second while they grow, and who may write into the bucket is trusted.

    run.json                         what was called, and its fingerprint
    function.pkl                     the user's function, where there is one
    function-<check>.pkl             one that the run was given when it was resumed
    finished.json                    that all is done, and what the outputs are known by then
    driver.json                      the process that waits for the run at present
    driver.lock                      what it holds a lock on, as two must not; in a bucket `driver.json` takes its place
    clock                            written to learn the time of a bucket
    ids/<check>.ids                  which blocks are wanted, where those are many runs
    rounds/00000.json                a round of submissions: how many tasks and portions, what each task may use
    rounds/00000.orders              its portions of groups of blocks (see `orders`)
    rounds/00000.handle.json         what the backend calls its tasks, such as Slurm job ids
    rounds/00000.over                there once a task has met what ends the whole run, and says what that was
    rounds/00000.done                there once all portions were worked through: tasks that wait are not needed
    claims/00000/                    which task works on which portion (see `claims`)
    attempts/00000-00007-<id>.blocks blocks that this attempt at a task finished (see `block_log`)
    attempts/00000-00007-<id>.values what the function returned for them (see `value_log`)
    attempts/00000-00007-<id>.errors one JSON line for failures that are alike
    attempts/00000-00007-<id>.state  what it did so far and, at its end, why it ended (see `state_file`)
    attempts/00000-00007-<id>.end    there once it has ended: who sees this sees all that it wrote
    logs/00000-00007.out             what its process printed; not in a bucket
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import time
import weakref
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, TypeVar

from bioimage_py.errors import (
    Hint,
    InvalidArgumentError,
    SourceNotFoundError,
    StorageError,
)
from bioimage_py.geometry import IdSet
from bioimage_py.runner.run.orders import Orders, Portion, write_orders
from bioimage_py.runner.run.own_files import (
    json_bytes,
    read_json,
    read_own,
    refuse_strangers,
    remove_in_the_end,
    remove_tree,
    write_json,
    write_whole,
)
from bioimage_py.runner.run.state_file import read_state
from bioimage_py.storage import SIDE_FOLDER, AnyPath, ObjectPath, any_path, is_alive, this_process
from bioimage_py.system import OPEN_OR_MAKE

_T = TypeVar("_T")
_R = TypeVar("_R")
FORMAT = 3
_AT_ONCE = 16
"""Files of a bucket that are read at the same time."""
PREFIX = "bioimage-run-"
_MOST_RUNS = 100
_PARTIAL = ".partial"
_HALF_MADE = rf"\.{PREFIX}[^.]+\.(?P<host>.*)\.(?P<pid>\d+)\.(?P<born>\d+|None)\{_PARTIAL}"
_WRITABLE = "name a folder that you can write, and that all workers see, with {}"
_SHARED = "if it is on another machine's disk, name a folder that all machines share with {}"


def default_root(tmp_root: str | os.PathLike[str] | None) -> AnyPath:
    """Return where run folders are made: `tmp_root`, else the folder that the process works in."""
    if tmp_root is not None:
        return any_path(tmp_root)
    try:
        return Path.cwd()
    except FileNotFoundError as error:
        raise InvalidArgumentError(
            "the working directory was removed, so no run folder can be made in it",
            hints=[Hint.of("name another folder with {}", tmp_root=...), Hint("or change to another folder")],
        ) from error


def is_beside_data(path: str | os.PathLike[str]) -> bool:
    """Whether a run folder is the one that a local copy keeps by itself in its output: the same call goes on with it."""
    return os.path.basename(os.path.dirname(os.fspath(path))) == SIDE_FOLDER  # noqa: PTH119, PTH120 - a text stays a text


def finish_hint(path: str | os.PathLike[str], when: str = "") -> Hint:
    """Return what finishes the run whose folder is there."""
    if is_beside_data(path):
        return Hint(", ".join([*([when] if when else []), "call again: what is done is not done again"]))
    return Hint.of(f"{when}, finish it: {{}}" if when else "to finish: {}", "resume", os.fspath(path))


class AttemptFiles:
    def __init__(self, folder: AnyPath, stem: str) -> None:
        self.stem = stem
        self.blocks = folder / f"{stem}.blocks"
        self.units = folder / f"{stem}.units"
        self.values = folder / f"{stem}.values"
        self.errors = folder / f"{stem}.errors"
        self.state = folder / f"{stem}.state"
        self.ended = folder / f"{stem}.end"

        self.round, self.task = map(int, stem.split("-")[:2])


class RunFolder:
    """A run folder that exists; `make` and `open` give one."""

    def __init__(self, path: AnyPath) -> None:
        self.path = path
        self._lock: IO[bytes] | None = None
        self._logs: Path | None = None
        self._driver: tuple[bytes, str | None] | None = None

    @classmethod
    def make(cls, root: AnyPath) -> RunFolder:
        """Make a run folder below `root` that is hidden until `appear`; remove those that killed processes had begun."""
        name = f"{PREFIX}{time.strftime('%Y%m%d-%H%M%S')}-{os.urandom(3).hex()}"
        if isinstance(root, ObjectPath):
            return cls._made_in_bucket(root / name)
        maker = this_process()
        path = root / f".{name}.{maker['host']}.{maker['pid']}.{maker['born']}{_PARTIAL}"
        try:
            root.mkdir(parents=True, exist_ok=True)
            _remove_partial(root)
            path.mkdir(mode=0o700)
            for inner in ("rounds", "claims", "attempts", "logs"):
                (path / inner).mkdir(mode=0o700)
        except OSError as error:
            import shutil  # not for workers, which make and remove nothing

            shutil.rmtree(path, ignore_errors=True)  # half made, if at all
            raise InvalidArgumentError(
                f"no run folder can be made in {str(root)!r}: {error.strerror}",
                hints=[Hint.of(_WRITABLE, tmp_root=...)],
            ) from error
        return cls(path.resolve())

    @classmethod
    def _made_in_bucket(cls, path: ObjectPath) -> RunFolder:
        clock = path / "clock"
        try:
            clock.write_bytes(b"")
            clock.write_new(b"again")
        except FileExistsError:
            return cls(path)
        except StorageError as error:
            raise InvalidArgumentError(
                f"no run folder can be made: {error.message}", hints=[Hint.of(_WRITABLE, tmp_root=...)]
            ) from error
        path.remove_below()
        raise InvalidArgumentError(
            f"no run folder can be made at {path}: the store does not know conditional writes (If-None-Match), so two workers could do the same",
            hints=[Hint.of(_WRITABLE, tmp_root=...)],
        )

    @property
    def in_bucket(self) -> bool:
        return isinstance(self.path, ObjectPath)

    @property
    def lasting_path(self) -> AnyPath:
        """Where the folder is once it has appeared."""
        name = self.path.name
        if isinstance(self.path, ObjectPath) or not name.endswith(_PARTIAL):
            return self.path
        return self.path.with_name(name[1:].partition(".")[0])

    def appear(self) -> None:
        """Take its lasting name: from now on the run can be found, and resumed."""
        if not isinstance(self.path, ObjectPath):
            self.path = self.path.rename(self.lasting_path)

    def discard(self) -> None:
        """Remove the folder of a run that did not begin."""
        if isinstance(self.path, ObjectPath):
            self.path.remove_below()
        else:
            import shutil  # not for workers

            shutil.rmtree(self.path)

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, whole: bool = True) -> RunFolder:
        """Open a run folder that is there, if it is safe to trust, and `whole`: folders that are busy on a network disk may be seen late.

        Raises SourceNotFoundError if there is none, and InvalidArgumentError if it belongs to another user, others can write
        into it, or it is not a run folder.
        """
        if not isinstance(path, (str, os.PathLike)):
            raise InvalidArgumentError(f"a run folder is named by its path, got {path!r}")
        given = any_path(path)
        if isinstance(given, ObjectPath):
            if not (given / "run.json").exists():
                raise SourceNotFoundError(
                    f"there is no run folder {str(given)!r}: no object run.json is in it"
                )
            return cls(given)
        try:
            # What a link leads to is what is looked at, and what is used: the link may lead elsewhere a moment later.
            place = given.resolve(strict=True)
            found = place.stat()
        except (OSError, RuntimeError, ValueError) as error:
            said = getattr(error, "strerror", None) or error
            raise SourceNotFoundError(
                f"there is no run folder {str(given)!r} ({said})", hints=[Hint.of(_SHARED, tmp_root=...)]
            ) from error
        if not stat.S_ISDIR(found.st_mode):
            raise InvalidArgumentError(f"{str(place)!r} is not a run folder: it is a file")
        # First of all: only its owner may look into a run folder.
        refuse_strangers(place, found)
        if not (place / "run.json").is_file():
            raise InvalidArgumentError(f"{str(place)!r} is not a run folder: it holds no run.json")
        for name in ("run.json", "rounds", "claims", "attempts", "logs", "function.pkl"):
            try:
                refuse_strangers(place / name, os.lstat(place / name))
            except FileNotFoundError as error:
                if name == "run.json" or (whole and name != "function.pkl"):
                    raise InvalidArgumentError(
                        f"the run folder {str(place)!r} is not whole: {name} is missing, so the run cannot be continued"
                    ) from error
        return cls(place)

    def remove(self) -> None:
        """Remove the folder after success; what cannot be removed is said in a warning, as the run has succeeded.

        What a crash leaves of it has no `run.json` any more, and says that the run has finished: see `remove_remains`.
        """

        def remove() -> None:
            if self.exists() and not (self.path / "finished.json").exists():
                self.write_finished([])
            (self.path / "run.json").unlink(missing_ok=True)
            # Whoever gets the lock finds that the run is gone. Windows removes no open file.
            if self._lock is not None:
                self._lock.close()
            remove_tree(self.path)

        remove_in_the_end(self.path, remove, "the run has succeeded, but its folder")

    def exists(self) -> bool:
        return (self.path / "run.json").exists()

    def is_gone(self) -> bool:
        """Whether nothing is left of it."""
        return not (self.exists() if isinstance(self.path, ObjectPath) else self.path.exists())

    def check_there(self) -> None:
        """Raise SourceNotFoundError if a run in a bucket was removed: it would come into being again with whatever is written."""
        if isinstance(self.path, ObjectPath) and not self.exists():
            raise SourceNotFoundError(f"the run folder {str(self.path)!r} was removed")

    # -- the plan

    def write_run(self, run: dict[str, Any]) -> None:
        """Write what was called; again only where a run is resumed with another function."""
        write_json(self.path / "run.json", {"format": FORMAT, **run})

    def read_run(self) -> dict[str, Any]:
        """Return what was called; raises InvalidArgumentError if another version of the package wrote it."""
        run = read_json(self.path / "run.json")
        if run.get("format") != FORMAT:
            raise InvalidArgumentError(
                f"{self.path} has format {run.get('format')!r}, this version of bioimage-py reads {FORMAT}: use the version that made it"
            )
        return run

    def write_finished(self, stamps: list[str | None]) -> None:
        """Write that all is done, and by what each output is recognised from then on."""
        write_json(self.path / "finished.json", {"stamps": stamps})

    def read_finished(self) -> list[str | None] | None:
        path = self.path / "finished.json"
        return read_json(path)["stamps"] if path.exists() else None

    # -- who waits for it

    def driver_tag(self) -> str | None:
        """Return what `take_driver` knows by that no other process has come before, None for nobody, and on a disk, which has a lock."""
        path = self.path / "driver.json"
        return path.tag() if isinstance(path, ObjectPath) else None

    def take_driver(self, driver: dict[str, Any], tag: str | None = None) -> bool:
        """Write which process waits for the run; return whether it was not another one's turn."""
        path = self.path / "driver.json"
        if not isinstance(path, ObjectPath):
            write_json(path, driver)
            return True
        data = json_bytes(driver)
        try:
            self._driver = data, path.write_new(data, tag)
        except FileExistsError:
            return False
        return True

    def open_lock(self) -> IO[bytes] | None:
        """Open the file that the process which waits for the run holds a lock on; None in a bucket, which has no locks."""
        if isinstance(self.path, ObjectPath):
            return None
        number = os.open(self.path / "driver.lock", OPEN_OR_MAKE, 0o600)
        self._lock = os.fdopen(number, "rb+")
        return self._lock

    def read_driver(self) -> dict[str, Any] | None:
        """Return which process waits for the run, or did when it died; None if none does, or that cannot be read."""
        try:
            driver = read_json(self.path / "driver.json")
            seen = (self.path / "driver.json").stat().st_mtime
        except (StorageError, FileNotFoundError):
            return None
        known = isinstance(driver.get("host"), str) and isinstance(driver.get("pid"), int)
        return {"born": None, "began": 0.0, **driver, "seen": seen} if known else None

    def show_driver(self) -> None:
        """Give a sign of life of the process that waits."""
        path = self.path / "driver.json"
        with contextlib.suppress(OSError):  # it has been removed, or cannot be reached now
            if not isinstance(path, ObjectPath):
                os.utime(path)
            elif self._driver is not None:
                data, tag = self._driver
                self._driver = data, path.write_new(data, tag)

    def joined(self, number: int) -> bool:
        """Whether tasks have joined a round that its backend did not begin."""
        place = self.claims(number) / "joined"
        return any(place.iterdir()) if isinstance(place, ObjectPath) else place.exists()

    def clear_driver(self) -> None:
        path = self.path / "driver.json"
        # In a bucket another one on another machine may have taken it over.
        if not isinstance(path, ObjectPath) or (self._driver is not None and path.tag() == self._driver[1]):
            path.unlink(missing_ok=True)

    # -- rounds of tasks

    def n_rounds(self) -> int:
        names = (path.name for path in (self.path / "rounds").iterdir())
        found = sum(
            name.endswith(".json") and not name.endswith(".handle.json") and name[0] != "." for name in names
        )
        if not found:
            self.check_there()
        return found

    def write_round(self, number: int, portions: Sequence[Portion], content: dict[str, Any]) -> None:
        """Write a round; `content` says what its tasks may use, and how they go about it."""
        place = self.claims(number)
        for folder in (place, place / "first", place / "open", place / "done"):
            folder.mkdir(mode=0o700, exist_ok=True)
        write_orders(self._round(number, ".orders"), portions)
        write_json(self._round(number), {**content, "portions": len(portions)})

    def read_round(self, number: int) -> dict[str, Any]:
        return read_json(self._round(number))

    def orders(self, number: int) -> Orders:
        """Open the portions of a round."""
        return Orders(self._round(number, ".orders"))

    def claims(self, number: int) -> AnyPath:
        return self.path / "claims" / f"{number:05d}"

    def holders(self, claim: AnyPath) -> tuple[AttemptFiles, ...] | None:
        """Return the attempts that had an open portion, the last one first: none if it died as it claimed it; None where it is not open."""
        try:
            stems = claim.read_text().split()
        except OSError:
            return None
        return tuple(AttemptFiles(self.path / "attempts", stem) for stem in stems)

    def all_seen(self, number: int, *, done: bool = False) -> bool:
        """Whether all that was done in a round is seen here: its portions were worked through or, unless `done`, left by ended attempts."""
        known = {path.name for path in (self.claims(number) / "done").iterdir()}
        for portion, holder in [] if done else self.open_portions(number):
            if self.read_state(holder)["reason"] is not None:
                known.add(f"{portion:05d}")
        return len(known) == int(self.read_round(number)["portions"])

    def open_portions(self, number: int) -> list[tuple[int, AttemptFiles]]:
        """Return the portions of a round that were claimed and not worked through, each with the attempt that had it last."""
        found = []
        claims: list[AnyPath] = [*(self.claims(number) / "open").iterdir()]
        for claim in sorted(claims, key=lambda path: path.name):
            holders = self.holders(claim)
            if holders:
                found.append((int(claim.stem), holders[0]))
        return found

    def write_handle(self, number: int, handle: dict[str, Any]) -> None:
        write_json(self._round(number, ".handle.json"), handle)

    def read_handle(self, number: int) -> dict[str, Any] | None:
        """Return what the backend calls a round's tasks, None if they were never submitted."""
        path = self._round(number, ".handle.json")
        return read_json(path) if path.exists() else None

    def end_round(self, number: int, why: str = "") -> None:
        """Tell all tasks of a round not to begin a further block."""
        write_whole(self._round(number, ".over"), why.encode())

    def round_is_over(self, number: int) -> bool:
        """Whether a task of the round has met what ends the whole run."""
        return self._round(number, ".over").exists()

    def why_over(self, number: int) -> str:
        """Return what ended a round, empty if nothing did, or its errors say it."""
        path = self._round(number, ".over")
        return read_own(path).decode() if path.exists() else ""

    def finish_round(self, number: int) -> None:
        """Say that all portions of a round were worked through."""
        write_whole(self._round(number, ".done"), b"")

    def round_is_done(self, number: int) -> bool:
        """Whether no task of the round has anything to do any more, so that those which wait need not begin."""
        return self._round(number, ".done").exists()

    def round_goes_on(self, number: int) -> bool:
        """Whether a task that begins now would find something to do."""
        return not self.round_is_done(number) and not self.round_is_over(number)

    def script(self, number: int) -> AnyPath:
        """Return where a batch script of a round is."""
        return self._round(number, ".sh")

    def _round(self, number: int, ending: str = ".json") -> AnyPath:
        return self.path / "rounds" / f"{number:05d}{ending}"

    def log(self, number: int, task: int | str) -> Path:
        """Return where a task's output is; `task` may be a scheduler's placeholder. Of a run in a bucket this process keeps it, to its end."""
        name = f"{task:05d}" if isinstance(task, int) else task
        if not isinstance(self.path, ObjectPath):
            return self.path / "logs" / f"{number:05d}-{name}.out"
        if self._logs is None:
            import shutil  # not for workers
            import tempfile

            self._logs = Path(tempfile.mkdtemp(prefix=f"{self.path.name}-logs-"))
            weakref.finalize(self, shutil.rmtree, self._logs, ignore_errors=True)
        return self._logs / f"{number:05d}-{name}.out"

    # -- attempts

    def new_attempt(self, round_number: int, task: int) -> AttemptFiles:
        """Return files for a new attempt at a task, which no other attempt has."""
        stem = f"{round_number:05d}-{task:05d}-{os.getpid()}{os.urandom(4).hex()}"
        if isinstance(self.path, Path):
            # A network disk shows a busy folder late, but not where one makes it oneself.
            with contextlib.suppress(FileExistsError):
                (self.path / "attempts").mkdir(mode=0o700)
        return AttemptFiles(self.path / "attempts", stem)

    def attempts(self, *, round_number: int | None = None) -> list[AttemptFiles]:
        """Return the attempts that have begun, of one round or of all."""
        folder = self.path / "attempts"
        stems = sorted(path.stem for path in folder.iterdir() if path.suffix == ".state")
        prefix = "" if round_number is None else f"{round_number:05d}-"
        return [AttemptFiles(folder, stem) for stem in stems if stem.startswith(prefix)]

    def anything_done(self) -> bool:
        """Whether any attempt has recorded a block."""
        return any(
            path.suffix == ".blocks" and path.stat().st_size for path in (self.path / "attempts").iterdir()
        )

    def read_state(self, attempt: AttemptFiles) -> dict[str, Any]:
        """Return what an attempt said of itself last; nothing is known of it where that cannot be read.

        `began` and `seen`, its last sign of life, are seconds of the clock of the folder's disk: those of other machines may be wrong.
        """
        state, seen = read_state(attempt.state)
        if state.get("reason") is not None and not attempt.ended.exists():
            # A network disk may not show yet what it wrote before.
            state |= {"ends": True, "reason": None}
        return {
            "host": None, "pid": None, "born": None, "bytes": 0, "reason": None,
            **state, "began": seen - float(state.get("seconds", 0.0)), "seen": seen,
        }  # fmt: skip

    def each(self, call: Callable[[_T], _R], items: Sequence[_T]) -> list[_R]:
        """Call a function for each of several files; at once in a bucket, where each takes a while."""
        if not self.in_bucket or len(items) < 2:
            return list(map(call, items))
        from concurrent.futures import ThreadPoolExecutor  # not for workers

        pool = ThreadPoolExecutor(min(_AT_ONCE, len(items)))
        try:
            return list(pool.map(call, items))
        finally:
            pool.shutdown(cancel_futures=True)

    def now(self) -> float:
        """Return the time by the clock of the folder's disk, or bucket."""
        path = self.path / "driver.lock"
        try:
            if isinstance(path, ObjectPath):
                path = self.path / "clock"
                path.write_bytes(b"")
            else:
                os.utime(path)
            return path.stat().st_mtime
        except OSError:
            return time.time()  # nothing was ever run for it, or it may not be written

    # -- sets of ids

    def store_ids(self, ids: IdSet) -> Any:
        """Return a set of ids as JSON; one of many runs goes into a file of its own."""
        runs = ids.to_json() if ids.n_runs <= _MOST_RUNS else None
        if runs is not None:
            return runs
        data = ids.to_bytes()
        name = f"{zlib.crc32(data):08x}-{len(data)}"
        (self.path / "ids").mkdir(mode=0o700, exist_ok=True)
        path = self.path / "ids" / f"{name}.ids"
        if not path.exists():
            write_whole(path, data)
        return {"file": name, "count": len(ids)}

    def stored_ids(self, stored: Any) -> IdSet:
        """Return what `store_ids` stored; raises StorageError if the file is damaged."""
        if isinstance(stored, list):
            return IdSet.from_json(stored)
        path = self.path / "ids" / f"{stored['file']}.ids"
        data = read_own(path)
        if f"{zlib.crc32(data):08x}-{len(data)}" != stored["file"]:
            raise StorageError(f"{path} cannot be read: it is damaged, as its checksum says")
        return IdSet.from_bytes(data)


def n_stored_ids(stored: Any) -> int:
    """Return how many ids `RunFolder.store_ids` has stored."""
    return sum(end - begin for begin, end in stored) if isinstance(stored, list) else int(stored["count"])


def _remove_partial(root: Path) -> None:
    """Remove run folders that processes of this machine had begun when they died, and what is left of finished ones."""
    import shutil  # not for workers

    for path in root.glob(f".{PREFIX}*{_PARTIAL}"):
        made = re.fullmatch(_HALF_MADE, path.name)
        if made is None:
            continue
        born = None if made["born"] == "None" else int(made["born"])
        if is_alive({"host": made["host"], "pid": int(made["pid"]), "born": born}) is False:
            shutil.rmtree(path, ignore_errors=True)
    for path in root.glob(f"{PREFIX}*"):
        # Another user's, or just being removed by another process.
        with contextlib.suppress(InvalidArgumentError, OSError):
            remove_remains(path)


def remove_remains(path: str | os.PathLike[str]) -> bool:
    """Remove what is left of the folder of a run that has finished and died while it removed it; return whether that was it."""
    try:
        folder = any_path(path)
        found = None if isinstance(folder, ObjectPath) else folder.lstat()
        names = {entry.name for entry in folder.iterdir()}
    except (OSError, RuntimeError, TypeError, ValueError):
        return False  # `open` says what is wrong
    finished = "finished.json" in names or not (names or isinstance(folder, ObjectPath))
    if not folder.name.startswith(PREFIX) or "run.json" in names or not finished:
        return False
    if found is not None and not isinstance(folder, ObjectPath):
        refuse_strangers(folder, found)
    remove_tree(folder)
    return True
