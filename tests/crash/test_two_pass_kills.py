"""A copy in two passes is killed in either of them: one resume finishes it, and does nothing twice."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest

import bioimage_py as bp
from bioimage_py.geometry import IdSet
from bioimage_py.runner.run import RunFolder, read_block_logs, read_recorded
from tests.crash.rounds import files_in
from tests.waiting import eventually

SHAPE, PAGE, CUBE, LIMIT = (32, 64, 64), (1, 64, 64), (8, 16, 16), 80 * 2**10

PROGRAM = """
import sys, time, bioimage_py as bp
from bioimage_py.wrapper import SimpleTransformationSource
def slow(voxels):
    time.sleep(0.02)
    return voxels
stored, mask, out, job_type, runs = sys.argv[1:]
bp.copy(
    bp.open_source(stored), out, mask=SimpleTransformationSource(bp.open_source(mask), slow), chunks=(8, 16, 16),
    memory_limit=81920, job_type=job_type, num_workers=2 if job_type == "subprocess" else 1,
    job_config=bp.RunnerConfig(tmp_root=runs, keep_run_folder=True, poll_interval=0.05, retries=0),
)
"""


def done_in(runs: Path) -> IdSet:
    folders = list(runs.glob("[!.]*/run.json"))
    return read_recorded(RunFolder.open(folders[0].parent)).done if folders else IdSet()


@pytest.mark.parametrize(("in_pass", "job_type"), [(1, "subprocess"), (2, "local")])
def test_everything_is_killed_and_resumed_once(tmp_path: Path, job_type: str, in_pass: int) -> None:
    image = np.random.default_rng(0).integers(1, 60_000, SHAPE).astype("uint16")
    bp.copy(image, tmp_path / "in.zarr", chunks=PAGE)
    bp.copy(np.ones(SHAPE, bool), tmp_path / "mask.zarr", chunks=PAGE)
    out, runs = tmp_path / "out.zarr", tmp_path / "runs"
    plan = bp.plan(tmp_path / "in.zarr", out, mask=tmp_path / "mask.zarr", chunks=CUBE, memory_limit=LIMIT)
    assert plan.passes is not None
    n, m = plan.n_blocks, plan.passes.n_blocks
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *map(str, (tmp_path / "in.zarr", tmp_path / "mask.zarr", out)), job_type, str(runs)]
    )  # fmt: skip
    enough = 3 if in_pass == 1 else m + 3
    eventually(lambda: process.poll() is not None or len(done_in(runs)) >= enough, pause=0.005)
    assert process.poll() is None
    for one in [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]:
        one.kill()
    process.wait()
    (folder,) = runs.iterdir()
    done = done_in(runs)
    first, second = IdSet.from_range(n + m, n), IdSet.from_range(n)
    if in_pass == 1:
        assert not done & second
        assert len(done & first) < m
    else:
        assert done & first == first
        assert 0 < len(done & second) < n
    (kept,) = tmp_path.glob("out.zarr.rechunk-*")

    bp.resume(folder)
    np.testing.assert_array_equal(bp.open_source(out)[...], image)
    assert not kept.exists()
    logs = [read_block_logs([a.blocks]) for a in RunFolder.open(folder).attempts() if a.blocks.exists()]
    assert sum(map(len, logs)) == n + m, "a block that was recorded was done again"
    # The run died between the removal of the temporary store and that of its folder: there is nothing left to do.
    bp.resume(folder)
    assert not folder.exists()
    bp.copy(tmp_path / "in.zarr", tmp_path / "once.zarr", chunks=CUBE)
    assert files_in(out) == files_in(tmp_path / "once.zarr")
