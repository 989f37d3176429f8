"""The subprocess backend: a pool of worker processes on this machine."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections import deque
from typing import Any

from bioimage_py.errors import InvalidArgumentError
from bioimage_py.runner.folder_runner import FolderRunner, Watch
from bioimage_py.runner.journal import Journal
from bioimage_py.runner.rounds import TaskEnd, killed_by
from bioimage_py.runner.run import RunFolder, end_of_log
from bioimage_py.runner.worker import PATIENCE_VARIABLE
from bioimage_py.system import PIPE_CLOSED, ask_to_stop, kill_group, own_group

_GRACE = 0.7
"""Seconds that a worker gets to finish its block when it is told to stop."""

_PATIENCE = 120
"""Seconds that another Python gets to import the package, which takes long from a busy network disk."""

_TOO_LONG = "it took longer than task_timeout"


class SubprocessRunner(FolderRunner):
    """Runs blocks in worker processes of this machine.

    A worker takes task after task, so that an interpreter is started once per worker. One that dies takes only its task
    with it: its missing blocks are tried again in another.

    Parameters
    ----------
    config
        Settings; `tasks_per_worker`, `task_timeout`, `retries`, `tmp_root`, `python_executable`, `memory_limit`.
    """

    job_type = "subprocess"

    def execute(self, work: Any, num_workers: int, **options: Any) -> Journal:
        """Process the work in worker processes; nothing is made if the Python that is asked for cannot be one."""
        if self.config.python_executable is not None:
            _check_python(self.config.python_executable)
        return super().execute(work, num_workers, **options)

    def run_round(
        self, folder: RunFolder, number: int, n_tasks: int, num_workers: int, watch: Watch
    ) -> list[TaskEnd]:
        python = self.config.python_executable or sys.executable
        pool = _Pool(folder, number, python, self.config.task_timeout, self.config.patience)
        at_once = min(num_workers, folder.read_round(number)["at_once"])
        try:
            return pool.run(deque(range(n_tasks)), at_once, watch)
        finally:
            pool.close()


def _check_python(python: str) -> None:
    """Raise InvalidArgumentError unless a program is a Python that can be a worker."""
    answer = "bioimage-py worker"
    code = f"import bioimage_py.runner.worker; print({answer!r})"
    try:
        done = subprocess.run(  # noqa: S603 - the user's own choice, and no shell
            [python, "-c", code],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PATIENCE,
            check=False,
            # As -P, which older ones do not know: the working directory is not a place to import from.
            env={**os.environ, "PYTHONSAFEPATH": "1"},
        )
    except subprocess.TimeoutExpired:
        why = f"did not answer within {_PATIENCE} s"
    except OSError as error:
        why = f"cannot be started: {error.strerror}"
    else:
        if done.returncode == 0 and done.stdout.decode(errors="replace").strip() == answer:
            return
        said = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {done.returncode}"]
        why = f"cannot import bioimage_py: {said[-1]}" if done.returncode else "is not a Python interpreter"
    raise InvalidArgumentError(
        f"the worker's Python {python!r} {why}. Give python_executable= the interpreter of an environment with the same packages "
        "as here"
    )


class _Worker:
    def __init__(
        self,
        folder: RunFolder,
        number: int,
        slot: int,
        python: str,
        patience: float,
        answers: queue.Queue[tuple[_Worker, str]],
    ) -> None:
        self.task: int | None = None
        self.deadline = float("inf")
        self.timed_out = False
        self.number = number
        self._log_file = folder.log(number, f"worker-{slot}")
        with self._log_file.open("ab") as log:
            try:
                self.process = subprocess.Popen(  # noqa: S603 - our own module, with a path as its argument
                    [python, "-P", "-m", "bioimage_py.runner.worker", "--serve", "--", str(folder.path)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                    env={**os.environ, PATIENCE_VARIABLE: str(patience)},
                    **own_group(),
                )
            except OSError as error:
                raise InvalidArgumentError(
                    f"the worker's Python {python!r} cannot be started: {error.strerror}. Give python_executable= another"
                ) from error
        self._reader = threading.Thread(target=self._read, args=(answers,), daemon=True)
        self._reader.start()

    def _read(self, answers: queue.Queue[tuple[_Worker, str]]) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            answers.put((self, line))
        answers.put((self, ""))  # it has ended

    def give(self, task: int, timeout: float | None) -> None:
        assert self.process.stdin is not None
        self.task = task
        self.deadline = float("inf") if timeout is None else time.monotonic() + timeout
        with contextlib.suppress(*PIPE_CLOSED):  # it has died: the end of its answers tells
            self.process.stdin.write(f"{self.number} {task}\n")
            self.process.stdin.flush()

    def stop(self) -> None:
        if self.process.poll() is None:
            ask_to_stop(self.process)

    def kill(self) -> None:
        if self.process.poll() is None:
            # With what the user's function has started: the worker leads a group of its own.
            kill_group(self.process)

    def close(self) -> None:
        self.process.wait()
        self._reader.join()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            with contextlib.suppress(*PIPE_CLOSED):  # a line that it did not live to read
                pipe.close()

    def describe_end(self) -> tuple[str, str]:
        code = self.process.wait()
        if self.timed_out:
            return "timeout", _TOO_LONG
        if code < 0:
            return "killed", killed_by(-code)
        said = end_of_log(self._log_file)
        return "lost", f"its worker ended with exit code {code}" + (f". Its log ends: {said}" if said else "")


class _Pool:
    def __init__(
        self, folder: RunFolder, number: int, python: str, timeout: float | None, patience: float
    ) -> None:
        self._folder, self._number, self._python, self._timeout = folder, number, python, timeout
        self._patience = patience
        self._answers: queue.Queue[tuple[_Worker, str]] = queue.Queue()
        self._workers: list[_Worker] = []

    def run(self, waiting: deque[int], num_workers: int, watch: Watch) -> list[TaskEnd]:
        ends: list[TaskEnd] = []
        for slot in range(num_workers):
            self._start(slot, waiting)
        while any(worker.task is not None for worker in self._workers):
            watch.look()
            self._enforce_deadlines()
            try:
                worker, line = self._answers.get(timeout=0.1)
            except queue.Empty:
                continue
            if worker.task is None:
                continue
            if line:
                answer = json.loads(line)
                late = worker.timed_out and answer["kind"] == "stopped"
                kind, text = ("timeout", _TOO_LONG) if late else (answer["kind"], answer["text"])
                ends.append(TaskEnd(answer["task"], kind, text))
                worker.task = None
                if answer["kind"] in ("finished", "error"):
                    continue  # nothing is left for it, or for any other that begins like it
            else:
                ends.append(TaskEnd(worker.task, *worker.describe_end()))
                worker.task = None
            # It has ended early, or is about to end: another one takes its place.
            if waiting and self._folder.round_goes_on(self._number):
                self._start(len(self._workers), waiting)
        return ends

    def _start(self, slot: int, waiting: deque[int]) -> None:
        worker = _Worker(self._folder, self._number, slot, self._python, self._patience, self._answers)
        self._workers.append(worker)
        worker.give(waiting.popleft(), self._timeout)

    def _enforce_deadlines(self) -> None:
        now = time.monotonic()
        for worker in self._workers:
            if worker.task is not None and now > worker.deadline:
                worker.timed_out = True
                worker.stop()
                if now > worker.deadline + _GRACE:
                    worker.kill()

    def close(self) -> None:
        busy = [worker for worker in self._workers if worker.task is not None]
        for worker in busy:
            worker.stop()
        end = time.monotonic() + _GRACE
        for worker in self._workers:
            assert worker.process.stdin is not None
            if worker.task is None:
                with contextlib.suppress(*PIPE_CLOSED):  # it has died already
                    worker.process.stdin.close()
        for worker in self._workers:
            try:
                worker.process.wait(max(0.0, end - time.monotonic()) if busy else None)
            except subprocess.TimeoutExpired:
                worker.kill()
            worker.close()
