"""One attempt at a task, from inside the process that makes it: what it finished, and why it ended."""

from __future__ import annotations

import contextlib
import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from bioimage_py.errors import SourceNotFoundError, StorageError
from bioimage_py.geometry import IdSet, IdSetBuilder
from bioimage_py.runner.run.block_log import BlockLog, UnitLog, units_of_block
from bioimage_py.runner.run.own_files import AppendedFile
from bioimage_py.runner.run.run_folder import RunFolder
from bioimage_py.runner.run.state_file import Pace, StateFile
from bioimage_py.runner.run.value_log import ValueLog
from bioimage_py.runner.worker_threads import without_frames
from bioimage_py.storage import AnyPath, this_process
from bioimage_py.system import peak_memory

if TYPE_CHECKING:
    from bioimage_py.kernels import BlockUnits, Tally

_MOST_SHOWN = 20
"""Failures of a kind that are recorded each with its own text and traceback."""
_LONGEST = 20_000
"""Characters of a message, and of a traceback."""
_EVERY = 1.0
"""Seconds between two signs of life, unless there are many tasks; and between two times that records are forced to the disk."""
_ENOUGH = 1000
"""Blocks that fail alike, while none is done, after which a run stops: all others would fail too."""
_NUMBERS = re.compile(r"\d+")


def kind_of(error: BaseException) -> tuple[str, str]:
    """Return what is equal for failures that differ in numbers only, such as those of their blocks."""
    return type(error).__name__, _NUMBERS.sub("0", str(error)[:500])


class Failures:
    """Counts the failures of a process."""

    def __init__(self) -> None:
        self.n = 0
        self._first: tuple[str, str] | None = None
        self._alike = True

    def add(self, error: BaseException, n_blocks: int = 1) -> None:
        self.n += n_blocks
        if self._alike:
            kind = kind_of(error)
            self._first = self._first or kind
            self._alike = kind == self._first

    def hopeless(self, *, any_done: bool) -> str:
        """Return why no further block is worth trying, empty if one is."""
        hopeless = self.n >= _ENOUGH and self._alike and not any_done
        return f"stopped, as the first {self.n:,} blocks all failed alike" if hopeless else ""


class AttemptJournal:
    """Records blocks in the run folder, where they outlive this process; every method raises StorageError where it cannot.

    `settle` forces the outputs to the disk. With it, finished blocks are recorded about once a second, after their voxels
    are on the disk, and the records are forced there as well; without it, each is recorded at once. `tally` returns what was
    done so far, `threads` is how many work on it, `beat` the seconds between two signs of life. When `stop` is set, no further write
    unit is to be begun.
    """

    def __init__(
        self,
        folder: RunFolder,
        round_number: int,
        task: int,
        *,
        settle: Callable[[], None] | None = None,
        tally: Callable[[], Tally | None] = lambda: None,
        threads: int = 1,
        stop: threading.Event | None = None,
        beat: float = _EVERY,
    ) -> None:
        self.files = folder.new_attempt(round_number, task)
        self._failures = Failures()
        self._any_done = False
        self._settle = settle
        self._unsettled: list[int] = []
        self._known = IdSet()
        self._stop = stop or threading.Event()
        self._units = UnitLog(self.files.units, durable=settle is not None)
        self._began = self._settled = time.monotonic()
        self._ended = False
        self._errors: dict[tuple[str, str], _Alike] = {}
        self._n_lines = 0
        self._lock = threading.Lock()
        self._state: dict[str, Any] = {**this_process(), "bytes": 0, "reason": None, "threads": threads}
        self._state |= {"round": round_number, "task": task, "blocks": 0}
        self._pace = Pace()
        if "SLURMD_NODENAME" in os.environ:
            self._state["host"] = os.environ["SLURMD_NODENAME"]
        self._tally = tally
        self._settling = 0.0
        with self._writing(self.files.blocks):
            self._blocks = BlockLog(self.files.blocks, durable=settle is not None)
        with self._writing(self.files.state):
            self._shown = StateFile(self.files.state)
        self._values: ValueLog | None = None
        self._told: AppendedFile | None = None
        self._folder = folder
        self._show()
        self._over = threading.Event()
        threading.Thread(target=self._live, args=(beat,), name="bioimage-heartbeat", daemon=True).start()

    def worked_by(self, threads: int) -> None:
        """Take note how many threads there were in the end."""
        self._state["threads"] = threads

    def done(self, block_ids: Iterable[int], n_bytes: int = 0) -> None:
        with self._lock:
            if self._ended:
                return  # a thread that outlived an interrupted run: the block will be done again
            self._record(block_ids)
            self._state["bytes"] += n_bytes

    def done_with(self, block_id: int, result: Any, n_bytes: int = 0) -> None:
        with self._lock:
            if self._ended:
                return
            with self._writing(self.files.values):
                if self._values is None:
                    self._values = ValueLog(self.files.values)
                self._values.add(block_id, result)
            self._record((block_id,))
            self._state["bytes"] += n_bytes

    def failed(self, block_ids: Iterable[int], error: BaseException) -> None:
        """Record blocks that are not done, and why: each of the first failures of a kind with its traceback, of others the blocks."""
        without_frames(error)
        ids = tuple(block_ids)
        with self._lock:
            self._failures.add(error, len(ids))
            alike = self._errors.setdefault(kind_of(error), _Alike())
            alike.n_told += 1
            if alike.n_told > _MOST_SHOWN:
                for block_id in ids:
                    alike.others.add(block_id)
                return
            import traceback  # most workers never need it

            alike.line = self._n_lines
            self._write_error(
                {
                    "blocks": [[block_id, block_id + 1] for block_id in ids],
                    "type": type(error).__name__,
                    "text": (str(error) or type(error).__name__)[:_LONGEST],
                    "traceback": "".join(traceback.format_exception(error))[-_LONGEST:],
                }
            )

    def hopeless(self) -> str:
        return self._failures.hopeless(any_done=self._any_done)

    def know(self, units: IdSet) -> None:
        """Take in which units earlier attempts have finished, as `read_units` returns them."""
        self._known = self._known | units

    def units(self, block_id: int) -> BlockUnits:
        from bioimage_py.kernels import BlockUnits  # only where blocks are copied

        known = units_of_block(self._known, block_id)
        return BlockUnits(known, partial(self._units_done, block_id), self._stop.is_set)

    def _units_done(self, block_id: int, units: IdSet) -> None:
        with self._lock:
            if self._ended:
                return
            self._units.add(block_id, units)
            if self._settle is None:
                with self._writing(self.files.units):
                    self._units.write()
            elif time.monotonic() - self._settled > _EVERY:
                self._record_settled()

    def end(self, reason: str) -> None:
        """Say why the attempt ended; nothing is recorded after that."""
        self._over.set()
        with self._lock:
            self._ended = True
            try:
                self._check_wanted()
                self._record_settled()
                self._write_others()
                self._state["reason"] = reason
                self._show()
                with self._writing(self.files.ended):
                    self.files.ended.touch(0o600)
            finally:
                for log in (self._blocks, self._units, self._shown, self._values, self._told):
                    if log is not None:
                        log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        if not self._ended:
            self.end("finished" if error is None else f"{type(error).__name__}: {error}")

    def _live(self, beat: float) -> None:
        """Give a sign of life again and again, also while a block takes long."""
        shown, every = time.monotonic(), min(beat, _EVERY) if self._folder.in_bucket else beat
        while not self._over.wait(every):
            with self._lock:
                if self._ended:
                    return
                # A disk that is full or away for a while: what is recorded of blocks tells.
                with contextlib.suppress(StorageError, SourceNotFoundError):
                    if time.monotonic() >= shown + beat - every / 2:
                        self._check_wanted()
                        self._write_others()
                        self._show()
                        shown = time.monotonic()
                    elif self._blocks.waits or self._units.waits:
                        self._check_wanted()
                        self._store()

    def _check_wanted(self) -> None:
        """End, with a SourceNotFoundError, where the run was removed."""
        try:
            self._folder.check_there()
        except SourceNotFoundError:
            self._ended = True
            self._stop.set()
            raise

    def _store(self) -> None:
        """Store what was recorded, values before the blocks that they are of."""
        for log in (self._values, self._told, self._units, self._blocks):
            if log is not None:
                log.store()

    def _record(self, block_ids: Iterable[int]) -> None:
        self._any_done = True
        ids = IdSet.from_ids(block_ids)
        self._state["blocks"] += len(ids)
        if self._settle is None:
            with self._writing(self.files.blocks):
                self._blocks.add(ids.runs)
            return
        self._unsettled.extend(ids)
        if time.monotonic() - self._settled > _EVERY:
            self._record_settled()

    def _record_settled(self) -> None:
        if self._settle is None or not (self._unsettled or self._units.waiting):
            return
        began = time.perf_counter()
        try:
            self._settle()
            with self._writing(self.files.blocks):
                if self._values is not None:
                    self._values.force_to_disk()
                self._units.write()
                self._blocks.add(IdSet.from_ids(self._unsettled).runs)
        except OSError as error:
            raise StorageError(f"finished blocks cannot be forced to the disk: {error}") from error
        finally:
            self._settling += time.perf_counter() - began
        self._unsettled.clear()
        self._settled = time.monotonic()

    def _write_others(self) -> None:
        """Write the blocks of failures whose kind was told often enough."""
        for alike in self._errors.values():
            if len(alike.others):
                self._write_error({"blocks": alike.others.build().to_json(), "as": alike.line})
                alike.others = IdSetBuilder()

    def _write_error(self, entry: dict[str, Any]) -> None:
        line = json.dumps(entry, separators=(",", ":")) + "\n"
        with self._writing(self.files.errors):
            if self._told is None:
                self._told = AppendedFile(self.files.errors)
            self._told.append(line.encode())
        self._n_lines += 1

    @staticmethod
    @contextlib.contextmanager
    def _writing(path: AnyPath) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StorageError(f"{path} cannot be written: {error.strerror}") from error

    def _show(self) -> None:
        self._state["seconds"] = time.monotonic() - self._began
        tally = self._tally()
        if tally is not None:
            # To force voxels to the disk is the end of writing them.
            self._state["tally"] = {**tally.to_json(), "writing": tally.writing + self._settling}
        # Bytes, those of blocks in hand too; of functions, which are not counted, blocks.
        amount = self._state["blocks"] if tally is None else max(self._state["bytes"], tally.bytes_out)
        self._pace.add(self._state["seconds"], amount)
        self._state |= {"pace": self._pace.moments, "memory": peak_memory()}
        with self._writing(self.files.state):
            for log in (self._values, self._told, self._units, self._blocks):
                if log is not None:
                    log.show()
            self._shown.write(self._state)


class _Alike:
    """Failures of one kind: the number of the line that tells of the last one, and the blocks of those that are not told."""

    def __init__(self) -> None:
        self.n_told = self.line = 0
        self.others = IdSetBuilder()
