"""The Dask backend: a task of a run is a task of Dask, on whatever cluster the user has."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import queue
import threading
import time
import warnings
from collections import deque
from collections.abc import Iterator
from typing import Any

from bioimage_py.errors import BioimagePyWarning, Hint
from bioimage_py.runner.config import RunnerConfig
from bioimage_py.runner.dask.config import DaskConfig, distributed_library
from bioimage_py.runner.dask.connection import Connection
from bioimage_py.runner.dask.local import UnreachableError
from bioimage_py.runner.folder_runner import FolderRunner, Watch
from bioimage_py.runner.rounds import TaskEnd
from bioimage_py.runner.run import RunFolder, interrupt_driver
from bioimage_py.storage import is_alive

_GRACE = 0.8
"""Seconds that blocks in hand get to finish after Ctrl-C, so that the user has an answer within one."""

_PATIENCE = 60.0
"""Seconds within which a few words of a task that has ended must arrive."""

_CALL = (
    "__import__('bioimage_py.runner.dask.task', fromlist=['*']).run_dask_task(path, number, task, timeout)"
)
"""What a worker evaluates. A function of ours would be imported as the message arrives, where a failure (the package is
missing, or made for another Python) ends the worker's connection instead of the task."""

_ALONE = 60.0
"""Seconds without an answer after which a cluster without workers is worth a warning."""

_LOST = "the connection to the Dask scheduler was lost"


class DaskRunner(FolderRunner):
    """Runs blocks as tasks of a Dask cluster: the user's own, or one that is started on this machine for the run.

    Only the run folder's path and two numbers travel through the scheduler; voxels go from the workers to the store. All
    workers must see the run folder, the inputs and the output under the same paths. `num_workers` tasks are submitted
    at once and the next one when one of them ends, so that the number holds on any cluster, others' tasks get their
    turn, and a cluster that adapts its size sees the demand that was asked for.

    Parameters
    ----------
    config
        Settings; a plain `RunnerConfig` will do for workers on this machine.
    """

    job_type = "dask"
    config_type = DaskConfig
    config: DaskConfig

    def __init__(self, config: RunnerConfig | None = None) -> None:
        super().__init__(config)
        self._here = threading.local()

    def run_round(
        self, folder: RunFolder, number: int, n_tasks: int, num_workers: int, watch: Watch
    ) -> list[TaskEnd]:
        connection: Connection = self._here.connection
        at_once = min(num_workers, folder.read_round(number)["at_once"])
        try:
            client = connection.client(folder, number, at_once)
        except UnreachableError as error:
            return [TaskEnd(task, "error", "" if task else str(error)) for task in range(n_tasks)]
        folder.write_handle(number, {"address": connection.shareable_address(), "tasks": n_tasks})
        timeout = self.config.task_timeout
        if timeout is not None:
            timeout *= folder.read_round(number)["needs"]["time"]
        return _Round(client, folder, number, timeout).run(n_tasks, at_once, watch)

    def interrupt_hints(self, folder: RunFolder) -> list[Hint]:
        return [Hint("its tasks on the cluster are cancelled"), *super().interrupt_hints(folder)]

    def cancel(self, folder: RunFolder) -> str:
        """Stop the process that waits for the run, or from another machine its tasks at the scheduler."""
        driver = folder.read_driver()
        handle = folder.read_handle(folder.n_rounds() - 1) if folder.n_rounds() else None
        if driver is None or is_alive(driver) is not None or handle is None or handle["address"] is None:
            # What waits for the run cancels its tasks as it ends; the scheduler does so where it has died.
            return interrupt_driver(folder)
        connection = Connection(DaskConfig(address=handle["address"]))
        number = folder.n_rounds() - 1
        try:
            client = connection.client(folder, number, 0)
            make = distributed_library().Future
            keys = [_key(folder, number, task) for task in range(handle["tasks"])]
            client.cancel([make(key, client) for key in keys], force=True)
        finally:
            connection.close()
        return f"cancelled its tasks at {handle['address']}; what is done stays written"

    @contextlib.contextmanager
    def ready(self) -> Iterator[None]:
        """Hold one connection for all rounds of a run; nothing is made where there is none."""
        if getattr(self._here, "connection", None) is not None:
            yield
            return
        connection = self._here.connection = Connection(self.config)
        try:
            yield
        except BaseException:
            connection.close(at_once=True)
            raise
        else:
            connection.close()
        finally:
            self._here.connection = None


class _Round:
    def __init__(self, client: Any, folder: RunFolder, number: int, timeout: float | None) -> None:
        self._client = client
        self._folder, self._number, self._timeout = folder, number, timeout
        self._running: dict[int, Any] = {}
        self._answers: queue.Queue[int] = queue.Queue()
        self._silent_since = time.monotonic()

    def run(self, n_tasks: int, at_once: int, watch: Watch) -> list[TaskEnd]:
        waiting = deque(range(n_tasks))
        ends: list[TaskEnd] = []
        try:
            while True:
                # Others take the place of tasks that end early; one that has finished found nothing left to do.
                wanted = at_once - sum(end.kind in ("finished", "error") for end in ends)
                if len(self._running) < wanted and self._folder.round_goes_on(self._number):
                    while waiting and len(self._running) < wanted and self._client.status == "running":
                        self._submit(waiting.popleft())
                if not self._running and self._client.status == "running":
                    return ends
                watch.look()
                try:
                    task = self._answers.get(timeout=0.1)
                except queue.Empty:
                    if self._client.status == "running":
                        self._look_for_workers()
                        continue
                    return ends + self._all(waiting, "lost", _LOST)
                self._silent_since = time.monotonic()
                end = self._end_of(task, self._running.pop(task))
                ends.append(end)
                if end.kind == "cancelled":
                    # The user does not want this run: nothing more is submitted.
                    return ends + self._all(waiting, "cancelled", end.text)
        finally:
            self._abandon()

    def _look_for_workers(self) -> None:
        if time.monotonic() < self._silent_since + _ALONE:
            return
        self._silent_since = float("inf")  # said once
        if not self._client.nthreads():
            warnings.warn(
                f"the Dask cluster at {self._client.scheduler.address} has no workers so far: the run waits for some. Ctrl-C "
                "stops it",
                BioimagePyWarning,
                stacklevel=2,
            )

    def _submit(self, task: int) -> None:
        path = str(self._folder.path)
        what = {"path": path, "number": self._number, "task": task, "timeout": self._timeout}
        key = _key(self._folder, self._number, task)
        future = self._client.submit(eval, _CALL, what, key=key, pure=False, retries=0)
        self._running[task] = future
        future.add_done_callback(lambda _: self._answers.put(task))

    def _end_of(self, task: int, future: Any) -> TaskEnd:
        status = future.status
        if status == "finished":
            try:
                kind, text = future.result(timeout=_PATIENCE)
            except Exception as error:  # noqa: BLE001 - the next round takes the task up
                return TaskEnd(task, "lost", f"its answer did not arrive: {type(error).__name__}: {error}")
            return TaskEnd(task, kind, text)
        if status == "error":
            raised = future.exception()
            kind = "killed" if type(raised).__name__ == "KilledWorker" else "error"
            hint = ". The workers need bioimage-py in their own Python" * isinstance(raised, ImportError)
            return TaskEnd(task, kind, f"{type(raised).__name__}: {raised}{hint}")
        return self._end_without_answer(task, future)

    def _end_without_answer(self, task: int, future: Any) -> TaskEnd:
        reason = None
        try:
            future.result(timeout=_PATIENCE)
        except (concurrent.futures.CancelledError, asyncio.CancelledError) as error:
            reason = getattr(error, "reason", None)
        except TimeoutError:
            reason = "lost"
        # The library gives reasons of its own; without one it was a person.
        if self._client.status != "running" or reason not in (None, "unknown"):
            return TaskEnd(task, "lost", _LOST)
        return TaskEnd(task, "cancelled", "it was cancelled at the scheduler")

    def _all(self, waiting: deque[int], kind: str, text: str) -> list[TaskEnd]:
        return [TaskEnd(task, kind, text) for task in (*self._running, *waiting)]

    def _abandon(self) -> None:
        """Cancel the tasks that have not ended, and wait a moment for the blocks in hand."""
        if not self._running or self._client.status != "running":
            return
        self._client.cancel(list(self._running.values()), force=True)
        end = time.monotonic() + _GRACE
        while time.monotonic() < end and self._busy():
            time.sleep(0.02)
        self._running.clear()

    def _busy(self) -> bool:
        attempts = self._folder.attempts(round_number=self._number)
        return any(self._folder.read_state(attempt)["reason"] is None for attempt in attempts)


def _key(folder: RunFolder, number: int, task: int) -> str:
    """Return what Dask calls a task; a round's number is never used again, so no two have one name."""
    return f"{folder.path.name}-{number}-{task}"
