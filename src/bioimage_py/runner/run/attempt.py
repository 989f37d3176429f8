"""One attempt at a task, from inside the process that makes it: what it finished, and why it ended."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from bioimage_py.errors import StorageError
from bioimage_py.geometry import IdSet
from bioimage_py.runner.run.block_log import BlockLog
from bioimage_py.runner.run.run_folder import RunFolder
from bioimage_py.runner.run.unit_log import UnitLog
from bioimage_py.runner.run.value_log import ValueLog
from bioimage_py.runner.worker_threads import without_frames
from bioimage_py.storage import this_process

if TYPE_CHECKING:
    from bioimage_py.kernels import BlockUnits, Tally

_MOST_SHOWN = 20
"""Failures of an attempt that are recorded with their traceback."""
_LONGEST = 20_000
"""Characters of a message, and of a traceback."""
_EVERY = 1.0
"""Seconds between two times that the state is written, and between two forced writes."""


class AttemptJournal:
    """Records blocks in the run folder, where they outlive this process; every method raises StorageError where it cannot.

    `settle` forces the outputs to the disk. With it, finished blocks are recorded about once a second, after their voxels
    are on the disk, and the records are forced there as well; without it, each is recorded at once. `tally` returns what was
    done so far, `threads` is how many work on it. `known` are the write units that earlier attempts finished of each block; when `stop`
    is set, no further unit is to be begun.
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
        known: Mapping[int, IdSet] | None = None,
        stop: threading.Event | None = None,
    ) -> None:
        self._folder = folder
        self._files = folder.new_attempt(round_number, task)
        self._settle = settle
        self._unsettled: list[int] = []
        self._known = known or {}
        self._stop = stop or threading.Event()
        self._units = UnitLog(self._files.units, durable=settle is not None)
        self._settled = time.monotonic()
        self._ended = False
        self._n_errors = 0
        self._lock = threading.Lock()
        self._state: dict[str, Any] = {**this_process(), "bytes": 0, "reason": None, "threads": threads}
        if "SLURMD_NODENAME" in os.environ:
            self._state["host"] = os.environ["SLURMD_NODENAME"]
        self._tally = tally
        self._settling = 0.0
        with self._writing(self._files.blocks):
            self._blocks = BlockLog(self._files.blocks, durable=settle is not None)
        self._values: ValueLog | None = None
        self._shown = 0.0
        self._show()

    def done(self, block_ids: Iterable[int], n_bytes: int = 0) -> None:
        with self._lock:
            if self._ended:
                return  # a thread that outlived an interrupted run: the block will be done again
            self._record(block_ids)
            self._state["bytes"] += n_bytes
            if time.monotonic() - self._shown > _EVERY:
                self._show()

    def done_with(self, block_id: int, result: Any) -> None:
        with self._lock:
            if self._ended:
                return
            with self._writing(self._files.values):
                if self._values is None:
                    self._values = ValueLog(self._files.values)
                self._values.add(block_id, result)
            self._record((block_id,))

    def failed(self, block_ids: Iterable[int], error: BaseException) -> None:
        """Record blocks that are not done, and why; with a traceback for the first ones only."""
        import traceback  # most workers never need it

        without_frames(error)
        self._n_errors += 1
        shown = "".join(traceback.format_exception(error)) if self._n_errors <= _MOST_SHOWN else ""
        entry = {
            "blocks": IdSet.from_ids(block_ids).to_json(),
            "type": type(error).__name__,
            "text": (str(error) or type(error).__name__)[:_LONGEST],
            "traceback": shown[-_LONGEST:],
        }
        line = json.dumps(entry, separators=(",", ":")) + "\n"
        with self._lock, self._writing(self._files.errors), self._files.errors.open("a") as file:
            file.write(line)

    def units(self, block_id: int) -> BlockUnits:
        from bioimage_py.kernels import BlockUnits  # only where blocks are copied

        known = self._known.get(block_id, IdSet())
        return BlockUnits(known, partial(self._units_done, block_id), self._stop.is_set)

    def _units_done(self, block_id: int, units: IdSet) -> None:
        with self._lock:
            if self._ended:
                return
            self._units.add(block_id, units)
            if self._settle is None:
                with self._writing(self._files.units):
                    self._units.write()
            elif time.monotonic() - self._settled > _EVERY:
                self._record_settled()

    def end(self, reason: str) -> None:
        """Say why the attempt ended; nothing is recorded after that."""
        with self._lock:
            self._ended = True
            try:
                self._record_settled()
                self._state.update(reason=reason, ended=time.time())
                self._show()
            finally:
                self._blocks.close()
                self._units.close()
                if self._values is not None:
                    self._values.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        if not self._ended:
            self.end("finished" if error is None else f"{type(error).__name__}: {error}")

    def _record(self, block_ids: Iterable[int]) -> None:
        if self._settle is None:
            with self._writing(self._files.blocks):
                self._blocks.add(IdSet.from_ids(block_ids))
            return
        self._unsettled.extend(block_ids)
        if time.monotonic() - self._settled > _EVERY:
            self._record_settled()

    def _record_settled(self) -> None:
        if self._settle is None or not (self._unsettled or self._units.waiting):
            return
        began = time.perf_counter()
        try:
            self._settle()
            with self._writing(self._files.blocks):
                if self._values is not None:
                    self._values.force_to_disk()
                self._units.write()
                self._blocks.add(IdSet.from_ids(self._unsettled))
        except OSError as error:
            raise StorageError(f"finished blocks cannot be forced to the disk: {error}") from error
        finally:
            self._settling += time.perf_counter() - began
        self._unsettled.clear()
        self._settled = time.monotonic()

    @staticmethod
    @contextlib.contextmanager
    def _writing(path: Path) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StorageError(f"{path} cannot be written: {error.strerror}") from error

    def _show(self) -> None:
        self._shown = time.monotonic()
        self._state["seen"] = time.time()
        tally = self._tally()
        if tally is not None:
            # To force voxels to the disk is the end of writing them.
            self._state["tally"] = {**tally.to_json(), "writing": tally.writing + self._settling}
        self._folder.write_state(self._files, self._state)
