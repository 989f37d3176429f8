"""Workers are killed, or told to stop, in the middle of large blocks: what is written again is a write unit per thread."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bioimage_py as bp
from bioimage_py.geometry import Blocking, IdSet
from bioimage_py.kernels import CopyKernel, moving_kernel
from bioimage_py.runner import RunnerConfig, SubprocessRunner, TaskEnd, run_task
from bioimage_py.runner.run import RunFolder
from bioimage_py.runner.work import CopyWork
from tests.crash.unit_kills import ROADS, UnitRun, killed


@pytest.mark.parametrize(("road", "job_type"), [("verbatim", "local"), ("repack", "subprocess")])
def test_a_kill_costs_a_write_unit_per_thread(
    tmp_path: Path, request: pytest.FixtureRequest, road: str, job_type: str
) -> None:
    run = UnitRun(tmp_path, road, job_type, request.node.name)
    try:
        assert killed(run, 2)
    finally:
        run.close()


class SoonUp(threading.Event):
    """The time of a task, which is up after so many looks at it."""

    looks = 12

    def is_set(self) -> bool:
        self.looks -= 1
        return self.looks < 0


class Limited(SubprocessRunner):
    """Runs tasks in this process, each for a tenth of the time that a block takes."""

    def run_round(self, folder: RunFolder, number: int, n_tasks: int, *args: Any) -> list[TaskEnd]:
        kinds = [run_task(str(folder.path), number, task, SoonUp()) for task in range(n_tasks)]
        return [
            TaskEnd(task, "timeout" if kind == "stopped" else kind, "its time was up")
            for task, kind in enumerate(kinds)
        ]


@pytest.mark.parametrize("durable", [False, True])
@pytest.mark.parametrize("road", ROADS)
def test_a_run_whose_tasks_have_less_time_than_a_block_takes_ends(
    tmp_path: Path, road: str, durable: bool
) -> None:
    image = np.random.default_rng(0).integers(1, 60_000, (160, 320)).astype("uint16")
    bp.copy(image, tmp_path / "in.zarr", chunks=(8, 16) if road == "verbatim" else (8, 8))
    shards = None if road == "verbatim" else (8, 16)
    sink = bp.create_output(
        tmp_path / "out.zarr", like=image, chunks=(8, 8) if shards else (8, 16), shards=shards
    )
    blocking = Blocking(image.shape, (80, 160))
    kernel = moving_kernel(CopyKernel(bp.open_source(tmp_path / "in.zarr"), sink))
    assert kernel.match.road == road
    work = CopyWork(kernel, blocking, (80, 160), IdSet.from_range(4))
    config = RunnerConfig(tmp_root=tmp_path / "runs", retries=1, tasks_per_worker=1, durable=durable)
    written: dict[Path, int] = {}

    class Watched(Limited):
        rounds = 0

        def run_round(self, *args: Any) -> list[TaskEnd]:
            ends = super().run_round(*args)
            now = {p: p.stat().st_mtime_ns for p in (tmp_path / "out.zarr" / "c").rglob("*") if p.is_file()}
            assert len(now) > len(written)
            assert all(now[p] == at for p, at in written.items()), "a unit was written again"
            written.update(now)
            self.rounds += 1
            return ends

    runner = Watched(config)
    journal = runner.execute(work, 2)
    assert not journal.has_failures
    assert runner.rounds > 5
    np.testing.assert_array_equal(sink[...], image)
