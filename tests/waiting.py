"""Waiting for something that should happen soon, on a machine that may be busy with other work.

No test depends on how long something takes: what must end early is compared with something that would never end by itself.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import bioimage_py as bp

PATIENCE = 300.0
"""Seconds after which something that should happen soon is taken to never happen."""


def eventually(
    condition: Callable[[], object], what: object = "it never came true", pause: float = 0.02
) -> None:
    """Wait until a condition holds; fail with `what`, which may be a function that returns it, if it never does."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, what() if callable(what) else what
        time.sleep(pause)


def workers_of(folder: Path) -> list[str]:
    """Return the worker processes of a run on this machine."""
    listed = subprocess.check_output(["ps", "-eo", "args"], text=True).splitlines()
    return [line for line in listed if "bioimage_py.runner.worker" in line and str(folder) in line]


def slowed(chunks: Path, marks: Path, seconds: float) -> dict[str, str]:
    """Return an environment of processes that rest after each file of a chunk: see `crash/slowed/sitecustomize.py`."""
    path = [str(Path(__file__).parent / "crash" / "slowed"), str(Path(bp.__file__).parents[1])]
    told = json.dumps([str(chunks), str(marks), seconds])
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path), "BIOIMAGE_PY_SLOWED": told}
