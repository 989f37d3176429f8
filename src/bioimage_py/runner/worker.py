"""The process that runs tasks: `python -m bioimage_py.runner.worker -- FOLDER ROUND TASK`.

With `--serve -- FOLDER` it reads lines `ROUND TASK` and answers each with a line of JSON, until its input ends: the subprocess
backend keeps its workers that way. SIGTERM, SIGUSR1 and the end of its input, which is the end of its submitter, let it finish
the block in hand.

Exit codes: 0 all blocks tried (failures are in the journal), 75 stopped before the end, 70 the task could not begin, 2 for
other arguments than these.

Many workers start at once, on few processors: this module and those below it import nothing that not every worker needs.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading

from bioimage_py.errors import BioimagePyError
from bioimage_py.runner.task import FINISHED, STOPPED, run_task
from bioimage_py.system import READ, STOP_SIGNALS, after_fork

EXIT_STOPPED, EXIT_REFUSED, EXIT_USAGE = 75, 70, 2
PATIENCE_VARIABLE = "BIOIMAGE_PY_LATENCY_WAIT"
_PATIENCE = 1.0
"""Seconds that threads and processes of the user's function, and what is called at exit, get to end."""


def main(arguments: list[str] | None = None) -> int:
    """Run one task, or serve tasks; return the exit code."""
    stop = threading.Event()
    for number in STOP_SIGNALS:
        signal.signal(number, lambda *_: stop.set())
    match sys.argv[1:] if arguments is None else arguments:
        case ["--serve", "--", folder]:
            return _serve(folder, stop)
        case ["--", folder, round_number, task] if round_number.isdecimal() and task.isdecimal():
            _close_input()
            kind, text = _attempt(folder, int(round_number), int(task), stop)
            if text:
                sys.stderr.write(f"bioimage-py worker: {text}\n")
            return {FINISHED: 0, STOPPED: EXIT_STOPPED}.get(kind, EXIT_REFUSED)
    sys.stderr.write(
        "usage: python -m bioimage_py.runner.worker -- FOLDER ROUND TASK, or --serve -- FOLDER\n"
    )
    return EXIT_USAGE


def _serve(folder: str, stop: threading.Event) -> int:
    # What libraries print must not get between the answers.
    answers = os.dup(1)
    os.dup2(2, 1)
    # Nor may a program that the user's function starts read the orders, or wait for them.
    orders = os.dup(0)
    _close_input()
    _own.extend((answers, orders))
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(orders, lines, stop), daemon=True).start()
    while line := lines.get():
        number, task = map(int, line.split())
        kind, text = _attempt(folder, number, task, stop)
        try:
            os.write(answers, json.dumps({"task": task, "kind": kind, "text": text}).encode() + b"\n")
        except OSError:
            break  # the submitter is gone: the journal says what is done
        if stop.is_set():
            break
    return EXIT_STOPPED if stop.is_set() else 0


def _listen(orders: int, lines: queue.SimpleQueue[bytes], stop: threading.Event) -> None:
    """Read what the submitter says. When it is gone, the rest of a task is not wanted, and a resume may have begun it."""
    # Unbuffered: a thread that waits in sys.stdin holds a lock that the end of the interpreter needs.
    with open(orders, "rb", buffering=0, closefd=False) as file:
        for line in file:
            lines.put(line)
    stop.set()
    lines.put(b"")


def _attempt(folder: str, number: int, task: int, stop: threading.Event) -> tuple[str, str]:
    try:
        patience = float(os.environ.get(PATIENCE_VARIABLE, "0"))
        return run_task(folder, number, task, stop, patience), ""
    except BioimagePyError as error:
        return "error", f"{type(error).__name__}: {error}"
    except Exception as error:  # noqa: BLE001 - told to the submitter, with its traceback in the log
        import traceback

        traceback.print_exc()
        return "error", f"{type(error).__name__}: {error}"


def _close_input() -> None:
    nothing = os.open(os.devnull, READ)
    os.dup2(nothing, 0)
    os.close(nothing)


_own: list[int] = []
"""Descriptors of the pipes to the submitter."""


def part_from_worker() -> None:
    """Make a process that is forked from this one a plain one.

    With the usual handlers it ends when it is told to, as a pool tells its workers. If it kept the pipes and outlived the
    worker, the submitter would wait for the end of the answers.
    """
    while _own:
        os.close(_own.pop())
    for number in STOP_SIGNALS:
        usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        signal.signal(number, usual)


def leave(code: int) -> None:
    """End the process soon, also where the user's function left a thread or a process that would keep it alive."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    late = threading.Timer(_PATIENCE, os._exit, (code,))
    late.daemon = True
    late.start()
    sys.exit(code)


if __name__ == "__main__":
    after_fork(part_from_worker)
    leave(main())
