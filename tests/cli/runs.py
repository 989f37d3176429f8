"""Runs that stopped before their end, made with the command itself."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bioimage_py.cli import main
from bioimage_py.sources import create_output, open_source
from tests.waiting import eventually, slowed

COMMAND = [sys.executable, "-m", "bioimage_py"]
SHAPE = (32, 32, 32)


class BrokenRun(NamedTuple):
    """A copy of 8 blocks of which one, number 5, could not be read."""

    folder: Path
    input: Path
    output: Path
    broken: Path
    good: bytes

    def repair(self) -> None:
        """Make the block readable again."""
        self.broken.write_bytes(self.good)

    def is_done(self) -> bool:
        """Whether the output holds the voxels of the input."""
        with open_source(self.input) as a, open_source(self.output) as b:
            return bool(np.array_equal(a[...], b[...]))


def broken_run(root: Path, *options: str) -> BrokenRun:
    """Make a run that ends with one block missing; its folder is in `root / "runs"`."""
    image = np.arange(32**3, dtype="uint16").reshape(SHAPE)
    source, out = root / "in.zarr", root / "out.zarr"
    with create_output(source, shape=SHAPE, dtype="uint16", chunks=(16, 16, 16)) as stored:
        stored[...] = image
    chunk = source / "c" / "1" / "0" / "1"
    good = chunk.read_bytes()
    chunk.write_bytes(b"rubbish")
    words = ["copy", source, out, "--chunks", "16", "--block-shape", "16", "--workers", "1", "--quiet"]
    assert main([*map(str, words), "--run-folders", str(root / "runs"), *options]) == 3
    (folder,) = (root / "runs").iterdir()
    return BrokenRun(folder, source, out, chunk, good)


class LongCopy(NamedTuple):
    """A copy under way, its run folder, and the file that lets it go on without rests."""

    process: Any
    folder: Path
    go: Path


@contextmanager
def long_copy(root: Path, *options: str, background: bool = False) -> Iterator[LongCopy]:
    """Begin a copy of 1,024 blocks in a process of its own.

    It rests after each block, and so outlasts every test, until there is the file `go`; whoever resumes it does not rest. In the background of a
    script a process begins with Ctrl-C ignored.
    """
    source, runs, copied, marks = (root / name for name in ("many.zarr", "runs", "copied.zarr", "marks"))
    marks.mkdir()
    with create_output(source, shape=(128, 64, 64), dtype="uint8", chunks=(8, 8, 8)) as output:
        output[...] = np.random.default_rng(0).integers(1, 255, output.shape, np.uint8)
    words = ["copy", source, copied, "--chunks", "8", "--block-shape", "8", "--workers", "1"]
    words += ["--run-folders", runs, *options]
    how = ["sh", "-c", "trap '' INT; exec \"$@\"", "sh"] if background else []
    process = subprocess.Popen(
        [*how, *COMMAND, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=slowed(copied / "c", marks, 0.5),
    )
    try:
        eventually(lambda: process.poll() is not None or _has_recorded(runs))
        assert process.poll() is None, process.communicate()
        (folder,) = runs.iterdir()
        yield LongCopy(process, folder, marks / "go")
    finally:
        process.kill()
        process.communicate()


def _has_recorded(runs: Path) -> bool:
    return any(log.stat().st_size for log in runs.glob("[!.]*/attempts/*.blocks"))
