"""Runs that stopped before their end, made with the command itself."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bioimage_py.cli import main
from bioimage_py.sources import create_output, open_source
from tests.waiting import eventually

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


@contextmanager
def long_copy(
    root: Path, *options: str, depth: int = 128, background: bool = False
) -> Iterator[tuple[Any, Path]]:
    """Begin a copy of `64 * depth` blocks, in a process of its own; gives it and its run folder.

    With the usual depth it takes some seconds, and is begun again with more blocks where it was done before this process
    had its turn. With one of 2048 it outlasts every test. In the background of a script a process begins with Ctrl-C ignored.
    """
    source, runs, copied = root / "many.zarr", root / "runs", root / "copied.zarr"
    words = ["copy", source, copied, "--chunks", "8", "--block-shape", "8", "--workers", "1"]
    words += ["--run-folders", runs, *options]
    how = ["sh", "-c", "trap '' INT; exec \"$@\"", "sh"] if background else []
    while True:
        with create_output(source, shape=(depth, 128, 256), dtype="uint8", chunks=(64, 64, 64)) as output:
            output[:128] = np.random.default_rng(0).integers(1, 255, (128, 128, 256), np.uint8)
        process = subprocess.Popen(
            [*how, *COMMAND, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        try:
            eventually(lambda process=process: process.poll() is not None or _has_recorded(runs))
            folders = list(runs.iterdir())
            if process.poll() is None and folders:
                yield process, folders[0]
                return
            assert process.wait() == 0, process.communicate()
        finally:
            process.kill()
            process.communicate()
        shutil.rmtree(source)
        shutil.rmtree(copied)
        depth *= 4


def _has_recorded(runs: Path) -> bool:
    return any(log.stat().st_size for log in runs.glob("[!.]*/attempts/*.blocks"))
