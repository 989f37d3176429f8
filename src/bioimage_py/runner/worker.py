"""The process that runs tasks: `python -m bioimage_py.runner.worker FOLDER ROUND TASK`.

With `--serve` instead of round and task it reads lines `ROUND TASK` and answers each with a line of JSON, until its input
ends: the subprocess backend keeps its workers that way. SIGTERM and SIGUSR1 let it finish the block in hand.

Exit codes: 0 all blocks tried (failures are in the journal), 75 stopped before the end, 70 the task could not begin.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
import traceback
from typing import IO

from bioimage_py.errors import BioimagePyError
from bioimage_py.runner.task import FINISHED, STOPPED, run_task

__all__ = ["EXIT_REFUSED", "EXIT_STOPPED", "main"]

EXIT_STOPPED, EXIT_REFUSED = 75, 70


def main(arguments: list[str] | None = None) -> int:
    """Run one task, or serve tasks; return the exit code."""
    parser = argparse.ArgumentParser(prog="bioimage-py-worker")
    parser.add_argument("--serve", action="store_true")
    parser.add_argument("folder")
    parser.add_argument("round", type=int, nargs="?")
    parser.add_argument("task", type=int, nargs="?")
    given = parser.parse_args(arguments)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, lambda *_: stop.set())
    if given.serve:
        return _serve(given.folder, stop)
    if given.round is None or given.task is None:
        parser.error("give ROUND and TASK, or --serve")
    kind, text = _attempt(given.folder, given.round, given.task, stop)
    if text:
        sys.stderr.write(f"bioimage-py worker: {text}\n")
    return {FINISHED: 0, STOPPED: EXIT_STOPPED}.get(kind, EXIT_REFUSED)


def _serve(folder: str, stop: threading.Event) -> int:
    # What libraries print must not get between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    with answers:
        while not stop.is_set():
            line = sys.stdin.readline()
            if not line:
                return 0
            number, task = map(int, line.split())
            kind, text = _attempt(folder, number, task, stop)
            _answer(answers, task, kind, text)
    return EXIT_STOPPED


def _attempt(folder: str, number: int, task: int, stop: threading.Event) -> tuple[str, str]:
    try:
        return run_task(folder, number, task, stop), ""
    except BioimagePyError as error:
        return "error", f"{type(error).__name__}: {error}"
    except Exception as error:  # noqa: BLE001 - told to the submitter, with its traceback in the log
        traceback.print_exc()
        return "error", f"{type(error).__name__}: {error}"


def _answer(answers: IO[str], task: int, kind: str, text: str) -> None:
    answers.write(json.dumps({"task": task, "kind": kind, "text": text}) + "\n")
    answers.flush()


if __name__ == "__main__":
    sys.exit(main())
