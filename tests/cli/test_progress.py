"""The progress bar: what it says, where it is drawn, and that it is cleared."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import pty
import select
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

import numpy as np
import pytest

from bioimage_py import copy, verify
from bioimage_py.cli import Console, ProgressLine
from bioimage_py.errors import InvalidArgumentError
from bioimage_py.operations import CopyOptions
from bioimage_py.runner import ProgressBar, progress_text
from bioimage_py.system import available_cores


def progress(done: int, total: int = 4000, *, seconds: float = 10.0, failed: int = 0) -> Any:
    return SimpleNamespace(
        blocks_done=done,
        blocks_total=total,
        bytes_done=done * 10**6,
        bytes_total=total * 10**6,
        seconds=seconds,
        failed=failed,
    )


@pytest.fixture
def terminal() -> Iterator[tuple[IO[str], Any]]:
    """A real pseudo-terminal of 60 columns: the stream to draw on, and a function that reads what was drawn."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 60, 0, 0))
    with os.fdopen(slave, "w", encoding="utf-8") as stream:

        def drawn() -> str:
            data = b""
            while select.select([master], [], [], 0.2)[0]:
                data += os.read(master, 65536)
            return data.decode()

        yield stream, drawn
    os.close(master)


def test_the_text_says_share_speed_time_left_and_blocks() -> None:
    assert progress_text(progress(1000)) == "25 % · 100 MB/s · 30 s left · 1,000 of 4,000 blocks"


def test_no_time_left_is_guessed_before_the_first_block_or_after_the_last() -> None:
    assert "left" not in progress_text(progress(0))
    assert "left" not in progress_text(progress(4000))


def test_an_empty_run_is_complete() -> None:
    assert progress_text(progress(0, 0, seconds=0)) == "100 % · 0 of 0 blocks"


def test_what_was_done_before_makes_the_rest_no_faster() -> None:
    text = progress_text(progress(3000), before=(2000, 2000 * 10**6))
    assert text == "75 % · 100 MB/s · 10 s left · 3,000 of 4,000 blocks"


def test_failed_blocks_are_counted() -> None:
    assert "· 2 failed ·" in progress_text(progress(1000, failed=2))


def test_the_bar_is_redrawn_in_place_and_cleared(terminal: tuple[IO[str], Any]) -> None:
    stream, drawn = terminal
    with ProgressLine("copying", Console(), stream) as line:
        line(progress(1000))
        line(progress(4000))
        line(progress(0, 0))
    text = drawn()
    assert "\n" not in text
    assert "| 25 % · 100 MB/s · 30 s left" in text  # how many blocks it are has no room here
    assert text.endswith("\r")
    assert text.split("\r")[-2].strip() == ""
    assert "\x1b[3" not in text  # no colours, whatever NO_COLOR says


def test_the_bar_never_reaches_the_last_column(terminal: tuple[IO[str], Any]) -> None:
    stream, drawn = terminal
    with ProgressBar("copying", stream) as bar:
        bar(progress(1000))
        bar(progress(1_000_000, 4_000_000_000, failed=12345))
    lines = drawn().replace("\n", "").split("\r")
    assert max(map(len, lines)) <= 59
    assert lines[-1].startswith("copying |") or lines[-2].startswith("copying |")  # it stays


def test_a_bar_that_nobody_asked_for_appears_after_a_while(terminal: tuple[IO[str], Any]) -> None:
    stream, drawn = terminal
    with ProgressBar("copying", stream, delay=0.5) as bar:
        bar(progress(4000, seconds=0.4))
        assert drawn() == ""
        bar(progress(4000, seconds=0.6))
        assert "100 %" in drawn()


@pytest.mark.parametrize("why", ["quiet", "json", "environment", "file"])
def test_nothing_is_drawn_when_quiet_for_machines_or_turned_off(
    why: str, terminal: tuple[IO[str], Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stream, drawn = terminal
    if why == "environment":
        monkeypatch.setenv("BIOIMAGE_PY_PROGRESS", "0")
    if why == "file":
        (tmp_path / "config.toml").write_text("progress = false\n")
        monkeypatch.setenv("BIOIMAGE_PY_CONFIG", str(tmp_path / "config.toml"))
        monkeypatch.delenv("BIOIMAGE_PY_NO_CONFIG", raising=False)
    line = ProgressLine("copying", Console(quiet=why == "quiet", as_json=why == "json"), stream)
    line(progress(1000))
    stream.write("end")
    stream.flush()
    assert drawn() == "end"
    assert line.last is not None


def test_a_line_each_minute_where_there_is_no_terminal() -> None:
    stream = io.StringIO()
    with ProgressLine("copying", Console(), stream) as line:
        line(progress(1000))
    assert stream.getvalue() == ""
    assert line.last.blocks_done == 1000  # type: ignore[union-attr]
    with ProgressBar("copying", stream, minute=0) as bar:
        bar(progress(1000))
        bar(progress(4000))
    assert stream.getvalue().splitlines() == [
        "copying 25 % · 100 MB/s · 30 s left · 1,000 of 4,000 blocks",
        "copying 100 % · 400 MB/s · 4,000 of 4,000 blocks",
    ]


_CALLS = {
    "copy": "bp.copy(a, progress={0})",
    "downsample": "bp.downsample(a, 2, progress={0})",
    "pyramid": "bp.pyramid(a, 'a.ome.zarr', axes='zyx', voxel_size=1, progress={0})",
    "verify": "bp.verify(a, a.copy(), progress={0})",
}


def _on_a_terminal(program: str, folder: Path) -> str:
    """Run a program whose stderr is a terminal, and return what it drew."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    child = subprocess.Popen([sys.executable, "-c", program], stderr=slave, cwd=folder)
    os.close(slave)
    data = b""
    try:
        while True:
            with contextlib.suppress(OSError):  # the terminal's end, once the child has gone
                if not (select.select([master], [], [], 120)[0] and (part := os.read(master, 65536))):
                    break
                data += part
                continue
            break
        assert child.wait(120) == 0, data.decode()
    finally:
        child.kill()
        child.wait(60)
        os.close(master)
    return data.decode()


def test_python_shows_a_bar_where_it_is_asked_for(tmp_path: Path) -> None:
    calls = "\n".join(call.format(True) for call in _CALLS.values())
    text = _on_a_terminal(
        f"import numpy as np, bioimage_py as bp; a = np.ones((64, 64, 64), 'uint8')\n{calls}", tmp_path
    )
    assert text.count("100 %") >= 4
    assert "copying |" in text
    assert "making levels |" in text
    assert "comparing |" in text


def test_python_shows_nothing_for_short_calls_or_where_it_is_not_wanted(tmp_path: Path) -> None:
    calls = "\n".join(call.format(shown) for shown in ("None", "False") for call in _CALLS.values())
    calls = calls.replace("'a.ome.zarr'", "'a.ome.zarr', overwrite=True")
    text = _on_a_terminal(
        f"import numpy as np, bioimage_py as bp; a = np.ones((64, 64, 64), 'uint8')\n{calls}", tmp_path
    )
    assert "%" not in text


def test_progress_is_a_function_or_a_bool() -> None:
    with pytest.raises(InvalidArgumentError, match="progress must be True, False or a function"):
        copy(np.zeros(3), progress="yes")  # type: ignore[arg-type]


def test_none_takes_all_cores() -> None:
    seen: list[Any] = []
    image = np.arange(27).reshape(3, 3, 3)
    assert (copy(image, num_workers=None, block_shape=(1, 3, 3), progress=seen.append) == image).all()
    assert verify(image, image.copy(), num_workers=None).equal
    assert seen[-1].blocks_done == 3
    assert CopyOptions(num_workers=None).num_workers == available_cores()  # type: ignore[arg-type]
