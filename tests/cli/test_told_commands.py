"""The command, or the call, that a message tells does what it says, taken as it stands, whatever files are called."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import bioimage_py as bp
from tests.cli.conftest import Call, Image

FOLDER = 'Dr. Smith\'s 3. Versuch; à "µ" {} $HOME `x`'
KEY = "raw[1] 2. Größe"


@pytest.fixture
def damaged(tmp_path: Path, image: Image) -> tuple[Path, Path, bytes]:
    """A container in a folder with a difficult name, a chunk of its array that is damaged, and what was in it."""
    box = tmp_path / FOLDER / "in.n5"
    bp.copy(image, box / KEY, chunks=(16, 20, 20)).close()
    chunk = box / KEY / "1" / "1" / "1"
    good = chunk.read_bytes()
    chunk.write_bytes(b"rubbish")
    return box, chunk, good


def run_in_shell(command: str, folder: Path) -> None:
    """Run a command line as a user would who copies it from the screen."""
    program = folder / "bin" / "bioimage-py"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m bioimage_py "$@"\n')
    program.chmod(0o755)
    subprocess.run(["sh", "-c", f'PATH={shlex.quote(str(program.parent))}:"$PATH"\n{command}'], check=True)


@pytest.mark.parametrize("options", [[], ["--resumable", "--run-folders"], ["--job-type", "subprocess", "--retries", "0", "--run-folders"]])  # fmt: skip
def test_the_command_that_is_told_finishes_the_copy(
    call: Call, tmp_path: Path, image: Image, damaged: tuple[Path, Path, bytes], options: list[str]
) -> None:
    box, chunk, good = damaged
    out = tmp_path / FOLDER / "out.zarr"
    places = [tmp_path / FOLDER / "runs"] if options else []
    failed = call("copy", box, out, "--key", KEY, "--workers", "1", "--output-key", KEY, *options, *places)
    assert failed.code == 3, failed.err
    command = next(line for line in failed.err.splitlines() if " bioimage-py " in line).partition(": ")[2]
    assert command.startswith("bioimage-py resume" if options else "bioimage-py copy")
    chunk.write_bytes(good)
    run_in_shell(command, tmp_path)
    with bp.open_source(out, KEY) as copied:
        np.testing.assert_array_equal(copied[...], image)


def test_the_call_that_is_told_finishes_the_copy(
    tmp_path: Path, image: Image, damaged: tuple[Path, Path, bytes]
) -> None:
    box, chunk, good = damaged
    out = tmp_path / FOLDER / "out.zarr"
    config = bp.runner.RunnerConfig(tmp_root=tmp_path / FOLDER)
    with bp.open_source(box, KEY) as source, pytest.raises(bp.RunnerError) as caught:
        bp.copy(source, out, job_config=config)
    chunk.write_bytes(good)
    told = re.search(r"finish it: (bioimage_py\.resume\(.*\))$", str(caught.value))
    assert told is not None
    eval(told[1], {"bioimage_py": bp})
    np.testing.assert_array_equal(bp.open_source(out)[...], image)


def test_what_is_told_of_a_container_opens_one_of_its_arrays(
    call: Call, tmp_path: Path, image: Image
) -> None:
    box = tmp_path / FOLDER / "in.zarr"
    for key in (KEY, "z"):
        bp.copy(image[:4], box / key).close()
    with pytest.raises(bp.errors.AmbiguousSourceError) as caught:
        bp.open_source(box)
    opened = eval(str(caught.value.hints[0].call), {"bioimage_py": bp})
    np.testing.assert_array_equal(opened[...], image[:4])
    words = call("copy", box, tmp_path / "out.zarr").err.splitlines()[-1].partition(" with ")[2]
    assert call("copy", box, tmp_path / "out.zarr", *shlex.split(words)).code == 0
    words = call("info", box).out.splitlines()[-1].partition(" example ")[2]
    assert "shape: " in call("info", box, *shlex.split(words)).out
