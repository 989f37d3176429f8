"""Dask workers that are killed in mid-block, on a real scheduler with worker processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest

from tests.crash.rounds import Round
from tests.runner.dask_lab import DaskLab

pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskLab]:
    lab = DaskLab(tmp_path_factory.mktemp("dask"))
    lab.start_scheduler()
    lab.start_workers(2)
    yield lab
    lab.close()


def worker_processes(lab: DaskLab) -> list[psutil.Process]:
    """The processes that do the work; their nanny starts others when they die."""
    nanny = psutil.Process(lab.workers[0].pid)
    return [p for p in nanny.children(recursive=True) if "spawn_main" in " ".join(p.cmdline())]


@pytest.mark.parametrize("number", range(2))
def test_a_dask_worker_is_killed_in_mid_block(begin: Callable[..., Round], lab: DaskLab, number: int) -> None:
    made = begin("dask", address=lab.address, retries=2 * (number % 2), tasks_per_worker=1 + number)
    made.bad_moment(0.6)
    made.random.choice(worker_processes(lab)).kill()
    said: dict[str, Any] = made.end()
    assert number % 2 == 0 or said["end"] == "done"
    if said["end"] == "RunnerError":
        made.resume()


def test_the_submitter_of_dask_tasks_is_killed(begin: Callable[..., Round], lab: DaskLab) -> None:
    made = begin("dask", address=lab.address)
    made.bad_moment(0.5)
    made.kill_submitter()
    made.resume(orphans=True)
