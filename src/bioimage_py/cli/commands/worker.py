"""`bioimage-py worker`: a process that joins a run which others have begun."""

from __future__ import annotations

import argparse
import signal
import threading
from typing import Any

from bioimage_py.cli.console import Console
from bioimage_py.cli.failure import INTERRUPTED, OK, TERMINATED
from bioimage_py.runner import part_from_worker
from bioimage_py.runner.external import Joined, find_run, join_run
from bioimage_py.system import STOP_SIGNALS, after_fork


def run_worker(args: argparse.Namespace, console: Console) -> int:
    """Work until the run has ended, or one of the signals that schedulers send; returns the exit code."""
    stop, told = threading.Event(), list[int]()

    def tell(number: int, _: Any) -> None:
        told.append(number)
        stop.set()

    before = {number: signal.signal(number, tell) for number in STOP_SIGNALS}
    after_fork(part_from_worker)
    try:
        folder = find_run(args.folder, stop, args.wait, console.remark)
        if folder is not None:
            joined = join_run(folder, stop, stay=args.join, wait=args.wait, say=console.remark)
        elif stop.is_set():
            joined = Joined("stopped", "told to stop")
        else:
            joined = Joined("finished", "the run is finished")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)
    console.remark(joined.text)
    place = args.folder if folder is None else str(folder.path)
    console.document(
        {
            "command": "worker",
            "run_folder": place,
            "ended": joined.kind,
            "why": joined.text,
            "rounds": joined.n_rounds,
        }
    )
    if joined.kind != "stopped":
        return OK
    return INTERRUPTED if told[:1] == [signal.SIGINT] else TERMINATED
