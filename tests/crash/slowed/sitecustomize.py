"""Slows a process that gives files of chunks their names, and leaves a line for each in a file of its own.

Python imports this at its start where the folder is on its path. BIOIMAGE_PY_SLOWED has the folder of the chunks, that of the lines,
and seconds. Where there is a file `go` beside the lines, nothing is slow.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any


def _slow(chunks: str, marks: str, seconds: float) -> None:
    lines = os.open(f"{marks}/{os.getpid()}", os.O_CREAT | os.O_WRONLY | os.O_APPEND)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "os.rename" and str(arguments[1]).startswith(f"{chunks}/"):
            os.write(lines, f"{arguments[1].removeprefix(chunks)}\n".encode())
            if not os.path.exists(f"{marks}/go"):  # noqa: PTH110 - nothing more is imported
                time.sleep(seconds)

    sys.addaudithook(hook)


if "BIOIMAGE_PY_SLOWED" in os.environ:
    _slow(*json.loads(os.environ["BIOIMAGE_PY_SLOWED"]))
