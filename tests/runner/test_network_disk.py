"""Runs on disks that answer late, or fail for a moment, as network disks do."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import bioimage_py as bp
from bioimage_py.errors import RunnerError
from bioimage_py.runner import get_runner
from bioimage_py.runner.run import RunFolder, read_recorded
from tests.lag_disk import LagDisk

ROOT = Path(__file__).resolve().parents[2]
COPY = """
import sys, numpy as np, bioimage_py as bp
bp.copy(sys.argv[1], sys.argv[2], chunks=(16, 32, 32), block_shape=(32, 64, 64), job_config=bp.RunnerConfig(tmp_root=sys.argv[3]))
"""


@pytest.mark.parametrize(
    ("number", "ends_well"), [(errno.EIO, True), (errno.ESTALE, True), (errno.EINVAL, False)]
)
def test_a_block_that_a_network_disk_failed_for_a_moment_is_tried_again(number: int, ends_well: bool) -> None:
    tries = Counter[int]()

    def read(item: int) -> int:
        tries[item] += 1
        if item == 3 and tries[item] < 3:
            raise OSError(number, os.strerror(number))
        return item * item

    runner = get_runner("local")
    if ends_well:
        assert runner.map(read, 5) == [0, 1, 4, 9, 16]
        assert tries == {0: 1, 1: 1, 2: 1, 3: 3, 4: 1}
    else:
        with pytest.raises(RunnerError, match="1 of 5"):
            runner.map(read, 5)


def test_a_copy_over_a_disk_that_fails_now_and_then(tmp_path: Path) -> None:
    voxels = np.random.default_rng(0).integers(1, 4000, (64, 128, 128)).astype("uint16")
    with LagDisk(tmp_path, 1, lag=0, latency=0, eio=0.02) as disk:
        bp.copy(voxels, disk.backing / "in.zarr", chunks=(32, 64, 64))
        done = subprocess.run(
            [*disk.enter(), sys.executable, "-c", COPY, *(disk.path / name for name in ("in.zarr", "out.zarr", "runs"))],
            env={**os.environ, "PYTHONPATH": str(ROOT / "src")}, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert bp.verify(voxels, disk.backing / "out.zarr").equal


LAGGING = """
import sys, numpy as np, bioimage_py as bp
source, output, runs, python = sys.argv[1:]
config = bp.RunnerConfig(tmp_root=runs, python_executable=python, latency_wait=60, poll_interval=0.3, keep_run_folder=True)
bp.pyramid(
    source, output, levels=3, axes="zyx", voxel_size=(1, 1, 1), units="micrometer", method="stride", chunks=(16, 32, 32), block_shape=(32, 64, 64),
    job_type="subprocess", job_config=config, num_workers=2,
)
voxels = np.asarray(bp.open_source(source)[...])
for level in range(3):
    step = 2**level
    assert np.array_equal(np.asarray(bp.open_source(output, str(level))[...]), voxels[::step, ::step, ::step]), level
"""


def test_machines_that_see_late_what_others_wrote_repeat_nothing_and_miss_nothing(tmp_path: Path) -> None:
    voxels = np.random.default_rng(0).integers(1, 4000, (64, 128, 128)).astype("uint16")
    with LagDisk(tmp_path, 3, lag=1, latency=0) as disk:
        bp.copy(voxels, disk.backing / "in.zarr", chunks=(32, 64, 64))
        time.sleep(2)  # until the machine that submits sees it
        places = [str(disk.path / name) for name in ("in.zarr", "out.ome.zarr", "runs")]
        done = subprocess.run(
            [*disk.enter(), sys.executable, "-c", LAGGING, *places, str(disk.worker_python())],
            env={**os.environ, "PYTHONPATH": str(ROOT / "src")}, capture_output=True, text=True, timeout=240, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        (run,) = (disk.backing / "runs").iterdir()
        recorded = read_recorded(RunFolder(run))
        assert [attempt.reason for attempt in recorded.attempts] == ["finished"] * len(recorded.attempts)
        assert sum(len(attempt.done) for attempt in recorded.attempts) == len(recorded.done)
