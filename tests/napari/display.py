"""A screen that nobody sees, on which napari has OpenGL, and napari sessions on it.

Set `BIOIMAGE_PY_REQUIRE_NAPARI=1` to have its Debian packages installed with apt-get where they are missing, and tests fail, not
skip, where it cannot be had.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.debian import install, is_required

REQUIRE = "BIOIMAGE_PY_REQUIRE_NAPARI"
PACKAGES = (
    "xvfb", "libgl1", "libgl1-mesa-dri", "libegl1", "libdbus-1-3", "libfontconfig1", "libxkbcommon-x11-0", "libxcb-cursor0", "libxcb-icccm4",
    "libxcb-image0", "libxcb-keysyms1", "libxcb-randr0", "libxcb-render-util0", "libxcb-shape0", "libxcb-xinerama0", "libxcb-xkb1",
)  # fmt: skip
LONGEST = 500
ROOT = Path(__file__).resolve().parents[2]


def find_napari() -> None:
    """Skip the test where napari, Qt or a screen is missing, or fail where they are required."""
    missing = [name for name in ("napari", "PyQt6") if importlib.util.find_spec(name) is None]
    if not missing and is_required(REQUIRE):
        install(*PACKAGES)
    if not missing and shutil.which("Xvfb") is None:
        missing = [f"Xvfb (with {REQUIRE}=1 the tests install it with apt-get)"]
    if missing:
        text = f"{' and '.join(missing)} not installed"
        pytest.fail(text) if is_required(REQUIRE) else pytest.skip(text)


@contextmanager
def screen() -> Iterator[str]:
    """Start an X server and give the name of its display."""
    reads, writes = os.pipe()
    command = ["Xvfb", "-displayfd", str(writes), "-screen", "0", "1500x1000x24", "-nolisten", "tcp"]
    server = subprocess.Popen(
        command, pass_fds=[writes], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    os.close(writes)
    try:
        with os.fdopen(reads) as answer:
            number = answer.readline().strip()  # empty if the server ends
        assert number, f"Xvfb ended with {server.wait(30)}"
        yield f":{number}"
    finally:
        server.kill()
        server.wait()


def run_session(folder: Path) -> dict[str, Any]:
    """Run `session.py` in a folder and return what it reports."""
    home = folder / "home"
    home.mkdir()
    with screen() as display, (folder / "session.log").open("w+") as log:
        env = {
            **os.environ, "DISPLAY": display, "QT_QPA_PLATFORM": "xcb", "QT_API": "pyqt6", "HOME": str(home), "XDG_CONFIG_HOME": str(home),
            "NAPARI_CONFIG": str(home / "napari.yaml"), "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
        }  # fmt: skip
        command = [sys.executable, "-m", "tests.napari.session", str(folder)]
        session = subprocess.Popen(command, env=env, cwd=folder, stdout=log, stderr=log)
        try:
            session.wait(LONGEST)
        except subprocess.TimeoutExpired:
            log.write(f"killed after {LONGEST} seconds")
        finally:
            session.kill()
            session.wait()
        log.seek(0)
        assert session.returncode == 0, log.read()[-4000:]
    found: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return found
