"""The progress line: what it says, where it is drawn, and that it is cleared."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import select
import struct
import termios
from collections.abc import Iterator
from types import SimpleNamespace
from typing import IO, Any

import pytest

from bioimage_py.cli import Console, ProgressLine, progress_text


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


def test_the_line_says_share_blocks_speed_and_time_left() -> None:
    assert progress_text("copying", progress(1000)) == (
        "copying  25 % · 1,000 of 4,000 blocks · 100 MB/s · 30 s left"
    )


def test_no_time_left_is_guessed_before_the_first_block_or_after_the_last() -> None:
    assert "left" not in progress_text("copying", progress(0))
    assert "left" not in progress_text("copying", progress(4000))


def test_an_empty_run_is_complete() -> None:
    assert progress_text("copying", progress(0, 0, seconds=0)) == "copying 100 % · 0 of 0 blocks · -- MB/s"


def test_what_was_done_before_makes_the_rest_no_faster() -> None:
    assert progress_text("copying", progress(3000), before=(2000, 2000 * 10**6)) == (
        "copying  75 % · 3,000 of 4,000 blocks · 100 MB/s · 10 s left"
    )


def test_failed_blocks_are_counted() -> None:
    assert progress_text("copying", progress(1000, failed=2)).endswith("2 failed")


def test_the_line_is_redrawn_in_place_and_cleared(terminal: tuple[IO[str], Any]) -> None:
    stream, drawn = terminal
    with ProgressLine("copying", Console(), stream) as line:
        line(progress(1000))
        line(progress(4000))
    text = drawn()
    assert text.count("\r") == 4
    assert "\n" not in text
    assert "1,000 of 4,000" in text
    assert text.endswith("\r")
    last_words = text.split("\r")[-2]
    assert last_words.strip() == ""
    assert len(last_words) >= len("copying 100 % · 4,000 of 4,000 blocks")


def test_the_line_never_reaches_the_last_column(terminal: tuple[IO[str], Any]) -> None:
    stream, drawn = terminal
    line = ProgressLine("copying", Console(), stream)
    line(progress(1_000_000, 4_000_000_000, failed=12345))
    assert max(map(len, drawn().split("\r"))) == 59


@pytest.mark.parametrize("console", [Console(quiet=True), Console(as_json=True)])
def test_nothing_is_drawn_when_quiet_or_for_machines(console: Console, terminal: tuple[IO[str], Any]) -> None:
    stream, drawn = terminal
    line = ProgressLine("copying", console, stream)
    line(progress(1000))
    stream.write("end")
    stream.flush()
    assert drawn() == "end"
    assert line.last is not None


def test_nothing_is_drawn_where_there_is_no_terminal() -> None:
    stream = io.StringIO()
    with ProgressLine("copying", Console(), stream) as line:
        line(progress(1000))
    assert stream.getvalue() == ""
    assert line.last.blocks_done == 1000  # type: ignore[union-attr]
