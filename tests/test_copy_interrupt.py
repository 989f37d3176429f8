"""Ctrl-C in the middle of a copy: the process ends without waiting for its blocks, and says what is done."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import bioimage_py as bp
from bioimage_py.errors import RunInterrupted
from tests.waiting import PATIENCE

PROGRAM = """
import os, sys, time
import numpy as np
import bioimage_py as bp
from bioimage_py.wrapper import SimpleTransformationSource

path, workers, hold = sys.argv[1], int(sys.argv[2]), sys.argv[3]
array = np.arange(64 * 16, dtype="uint16").reshape(64, 16) + 1

def slow(values):
    os.write(1, b"begun\\n")
    time.sleep(0.1)
    while hold and not os.path.exists(hold):
        time.sleep(0.02)
    return values

source = SimpleTransformationSource(array, slow, dtype="uint16")
out = bp.create_output(path, like=array, chunks=(1, 16))
print("ready", flush=True)
try:
    bp.copy(source, out, block_shape=(1, 16), num_workers=workers)
except KeyboardInterrupt as error:
    print(list(error.done_block_ids), list(error.failed_block_ids), flush=True)
    raise
"""


@pytest.mark.parametrize(("workers", "held"), [(1, False), (2, False), (3, True)])
def test_ctrl_c_ends_soon_and_tells_what_is_done(tmp_path: Path, workers: int, held: bool) -> None:
    """Blocks that are held would never end by themselves; the process waits for them only at its very end."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    out, go = tmp_path / "o.zarr", tmp_path / "go"
    process = subprocess.Popen(
        [sys.executable, str(program), str(out), str(workers), str(go) if held else ""],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    for _ in range(workers if held else 8):
        assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGINT)
    last = next(line for line in process.stdout if line.startswith("["))
    go.touch()
    _, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode not in (0, None)
    told = re.search(r"interrupted: (\d+) of 64 blocks are done", stderr)
    assert told is not None, stderr
    done, left = (
        [int(n) for n in part.split(",") if n.strip()] for part in re.findall(r"\[([^\]]*)\]", last)
    )
    assert sorted(done + left) == list(range(64))
    assert len(done) == int(told[1])
    assert bool(done) is not held
    stored = zarr.open_array(out, mode="r")[...]
    expected = np.arange(64 * 16, dtype="uint16").reshape(64, 16) + 1
    np.testing.assert_array_equal(stored[done], expected[done])
    # A block that was in hand may have been finished; no block is torn.
    for n in left:
        assert (stored[n] == 0).all() or (stored[n] == expected[n]).all()
    assert not list(out.rglob("*__lock"))


@pytest.mark.parametrize("how", [{}, {"block_shape": (8, 32)}, {"block_shape": (8, 32), "num_workers": 2}])
@pytest.mark.parametrize("folder", [False, True])
def test_ctrl_c_in_the_last_call_of_progress(tmp_path: Path, how: dict[str, Any], folder: bool) -> None:
    """A short run has no other call."""

    def pressed(progress: bp.Progress) -> None:
        if progress.blocks_done == progress.blocks_total:
            raise KeyboardInterrupt

    image = bp.copy(np.arange(1024).reshape(32, 32), tmp_path / "in.zarr", chunks=(8, 32))
    config = bp.RunnerConfig(tmp_root=tmp_path / "runs" if folder else None)
    with pytest.raises(RunInterrupted, match=r"(?P<n>[0-9]+) of (?P=n) blocks are done") as caught:
        bp.copy(image, tmp_path / "out.zarr", job_config=config, progress=pressed, **how)
    assert not caught.value.failed_block_ids
    np.testing.assert_array_equal(bp.open_source(tmp_path / "out.zarr", mode="r+")[...], image[...])
