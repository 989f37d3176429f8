"""The folder that holds a run: its plan, its journals, its errors and its logs.

Every path inside a run folder is built here and nowhere else. A folder is made with mode 0700; JSON files appear whole or
not at all (written beside and renamed); what is appended to carries checksums. Journals are per attempt of a task: two
attempts that are alive at once, because a node was only believed dead, never write into one file.

    run.json                         what was called, and its fingerprint; written once
    function.pkl                     the user's function, where there is one
    driver.json                      the process that waits for the run at present
    rounds/00000.json                the tasks of a round of submissions: groups of blocks for each
    rounds/00000.handle.json         what the backend calls them, such as Slurm job ids
    attempts/00000-00007-<id>.blocks blocks that this attempt finished (see `block_log`)
    attempts/00000-00007-<id>.values what the function returned for them (see `value_log`)
    attempts/00000-00007-<id>.errors one JSON line per failure
    attempts/00000-00007-<id>.json   when it began and, at its end, why it ended
    logs/00000-00007.out             what its process printed
"""

from __future__ import annotations

import json
import os
import secrets
import stat
import tempfile
import time
from pathlib import Path
from typing import Any

from bioimage_py.errors import InvalidArgumentError, SourceNotFoundError, StorageError

__all__ = ["AttemptFiles", "RunFolder", "default_root"]

FORMAT = 1
_PREFIX = "bioimage-run-"


def default_root(tmp_root: str | os.PathLike[str] | None) -> Path:
    """Return where run folders are made: `tmp_root`, else the folder that the process works in."""
    return Path.cwd() if tmp_root is None else Path(tmp_root).expanduser()


class AttemptFiles:
    """The files of one attempt at one task."""

    def __init__(self, folder: Path, stem: str) -> None:
        self.stem = stem
        self.blocks = folder / f"{stem}.blocks"
        self.values = folder / f"{stem}.values"
        self.errors = folder / f"{stem}.errors"
        self.state = folder / f"{stem}.json"

    @property
    def round(self) -> int:
        """Number of the round."""
        return int(self.stem.split("-")[0])

    @property
    def task(self) -> int:
        """Number of the task in its round."""
        return int(self.stem.split("-")[1])


class RunFolder:
    """A run folder that exists; `make` and `open` give one."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def make(cls, root: Path) -> RunFolder:
        """Make a new run folder below `root`.

        Raises
        ------
        InvalidArgumentError
            If `root` is no folder that can be written.
        """
        name = f"{_PREFIX}{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
        path = root / name
        try:
            root.mkdir(parents=True, exist_ok=True)
            path.mkdir(mode=0o700)
            for inner in ("rounds", "attempts", "logs"):
                (path / inner).mkdir(mode=0o700)
        except OSError as error:
            raise InvalidArgumentError(
                f"no run folder can be made in {str(root)!r}: {error.strerror}. Give tmp_root= a folder that you can write, "
                "and that all workers see"
            ) from error
        return cls(path.resolve())

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> RunFolder:
        """Open a run folder that is there, if it is safe to trust.

        Raises
        ------
        SourceNotFoundError
            If there is none.
        InvalidArgumentError
            If it belongs to another user, others can write into it, or it is no run folder.
        """
        place = Path(path).expanduser()
        try:
            found = place.stat()
        except OSError as error:
            raise SourceNotFoundError(
                f"there is no run folder {str(place)!r} ({error.strerror}). If it is on another machine's disk, give "
                "tmp_root= a folder that all machines share"
            ) from error
        if not (stat.S_ISDIR(found.st_mode) and (place / "run.json").is_file()):
            raise InvalidArgumentError(f"{str(place)!r} is no run folder: it holds no run.json")
        for checked in (place, place / "run.json", place / "rounds", place / "attempts"):
            _refuse_strangers(checked)
        return cls(place.resolve())

    def __repr__(self) -> str:
        return f"RunFolder({str(self.path)!r})"

    # -- the plan

    def write_run(self, run: dict[str, Any]) -> None:
        """Write what was called; once."""
        self._write_json(self.path / "run.json", {"format": FORMAT, **run})

    def read_run(self) -> dict[str, Any]:
        """Return what was called.

        Raises
        ------
        StorageError
            If it cannot be read.
        InvalidArgumentError
            If a newer version of the package wrote it.
        """
        run = self._read_json(self.path / "run.json")
        if run.get("format") != FORMAT:
            raise InvalidArgumentError(
                f"{self.path} has format {run.get('format')!r}, this version of bioimage-py reads {FORMAT}: use the version that made it"
            )
        return run

    @property
    def function_file(self) -> Path:
        """Where the user's function is."""
        return self.path / "function.pkl"

    # -- who waits for it

    def write_driver(self, driver: dict[str, Any]) -> None:
        """Write which process waits for the run at present."""
        self._write_json(self.path / "driver.json", driver)

    def read_driver(self) -> dict[str, Any] | None:
        """Return which process waits for the run, or did when it died; None if none does."""
        path = self.path / "driver.json"
        return self._read_json(path) if path.exists() else None

    def clear_driver(self) -> None:
        """Say that nobody waits any more."""
        (self.path / "driver.json").unlink(missing_ok=True)

    # -- rounds of tasks

    def n_rounds(self) -> int:
        """Return how many rounds were written."""
        return sum(1 for path in (self.path / "rounds").iterdir() if _is_round(path.name))

    def write_round(self, number: int, content: dict[str, Any]) -> None:
        """Write the tasks of a round."""
        self._write_json(self.path / "rounds" / f"{number:05d}.json", content)

    def read_round(self, number: int) -> dict[str, Any]:
        """Return the tasks of a round."""
        return self._read_json(self.path / "rounds" / f"{number:05d}.json")

    def write_handle(self, number: int, handle: dict[str, Any]) -> None:
        """Write what the backend calls a round's tasks."""
        self._write_json(self.path / "rounds" / f"{number:05d}.handle.json", handle)

    def read_handle(self, number: int) -> dict[str, Any] | None:
        """Return what the backend calls a round's tasks, None if they were never submitted."""
        path = self.path / "rounds" / f"{number:05d}.handle.json"
        return self._read_json(path) if path.exists() else None

    def script(self, number: int) -> Path:
        """Where a batch script of a round is."""
        return self.path / "rounds" / f"{number:05d}.sh"

    def log(self, number: int, task: int | str) -> Path:
        """Where a task's output is; `task` may be a scheduler's placeholder."""
        name = f"{task:05d}" if isinstance(task, int) else task
        return self.path / "logs" / f"{number:05d}-{name}.out"

    # -- attempts

    def new_attempt(self, round_number: int, task: int) -> AttemptFiles:
        """Return files for a new attempt at a task, which no other attempt has."""
        stem = f"{round_number:05d}-{task:05d}-{os.getpid()}{secrets.token_hex(4)}"
        return AttemptFiles(self.path / "attempts", stem)

    def attempts(self, *, round_number: int | None = None) -> list[AttemptFiles]:
        """Return the attempts that have begun, of one round or of all."""
        folder = self.path / "attempts"
        stems = sorted(
            path.stem for path in folder.iterdir() if path.suffix == ".json" and path.name[0] != "."
        )
        found = [AttemptFiles(folder, stem) for stem in stems]
        return found if round_number is None else [a for a in found if a.round == round_number]

    def write_state(self, attempt: AttemptFiles, state: dict[str, Any]) -> None:
        """Write when an attempt began, how far it is, and why it ended."""
        self._write_json(attempt.state, state)

    def read_state(self, attempt: AttemptFiles) -> dict[str, Any]:
        """Return what `write_state` wrote last."""
        return self._read_json(attempt.state)

    # -- whole files or none

    @staticmethod
    def _write_json(path: Path, content: dict[str, Any]) -> None:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "w") as file:
                json.dump(content, file, separators=(",", ":"))
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, path)  # noqa: PTH105 - both are texts already
        except BaseException as error:
            Path(name).unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise StorageError(f"{path} cannot be written: {error.strerror}") from error
            raise

    @staticmethod
    def _read_json(path: Path) -> dict[str, Any]:
        try:
            content = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise StorageError(f"{path} cannot be read: {error}") from error
        if not isinstance(content, dict):
            raise StorageError(f"{path} cannot be read: it holds no JSON object")
        return content


def _is_round(name: str) -> bool:
    return name.endswith(".json") and not name.endswith(".handle.json") and not name.startswith(".")


def _refuse_strangers(path: Path) -> None:
    found = path.stat()
    if found.st_uid != os.geteuid():
        raise InvalidArgumentError(
            f"{str(path)!r} belongs to user {found.st_uid}, not to you ({os.geteuid()}): what is in it could make you run another's code"
        )
    if found.st_mode & 0o022:
        raise InvalidArgumentError(
            f"{str(path)!r} can be written by others (mode {stat.S_IMODE(found.st_mode):04o}): what is in it could make you run "
            f"another's code. If you trust it: chmod go-w {str(path)!r}"
        )
