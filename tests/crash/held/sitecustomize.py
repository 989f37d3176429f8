"""Stops a process of a kill campaign before its n-th change of a file, so that it can be killed right there.

Python imports this at its start where the folder is on its path. BIOIMAGE_PY_HELD says whom to stop, "submitter" or "worker", before which
change, the folder of the kill, in which changes count but for those in `tmp`, and the beginning of two files: `.held` names the process that is
held, and it goes on when `.go` is there. Each process leaves a byte per change in a file of `marks`.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
import time
from typing import Any

CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "os.link", "os.symlink")


def _count(folder: str, whom: str, step: int, hold: str) -> None:
    role = "worker" if "BIOIMAGE_PY_SUBMITTER" in os.environ else "submitter"
    os.environ["BIOIMAGE_PY_SUBMITTER"] = "known"
    marks = os.open(f"{folder}/marks/{role}-{os.getpid()}", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    steps = itertools.count(1)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            if not arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                return
        elif event not in CHANGES:
            return
        place = os.fsdecode(arguments[0]) if isinstance(arguments[0], (str, bytes, os.PathLike)) else ""
        if event in ("os.remove", "os.rmdir") and arguments[1] >= 0:  # rmtree has the folder open
            place = os.path.join(os.readlink(f"/proc/self/fd/{arguments[1]}"), place)  # noqa: PTH115, PTH118 - texts
        if not place.startswith(f"{folder}/") or place.startswith(f"{folder}/tmp/"):
            return
        os.write(marks, b"x")
        if next(steps) == step and role == whom:
            try:
                held = os.open(f"{hold}.held", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
            except FileExistsError:
                return  # another process is held already
            os.write(held, f"{os.getpid()} {event} {place.removeprefix(folder)}\n".encode())
            os.kill(os.getpid(), signal.SIGSTOP)  # all threads; this one may go on for a moment yet
            while not os.path.exists(f"{hold}.go"):  # noqa: PTH110 - nothing more is imported
                time.sleep(0.02)

    sys.addaudithook(hook)


if "BIOIMAGE_PY_HELD" in os.environ:
    _count(*json.loads(os.environ["BIOIMAGE_PY_HELD"]))
