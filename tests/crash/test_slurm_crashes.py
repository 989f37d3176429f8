"""Nodes that lose power, tasks that run out of memory or time, and a controller that is away: on a Slurm cluster of its own.

It is not the cluster of the other tests, whose runs would suffer. Rounds take turns, also those of several test processes.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.crash.rounds import Round
from tests.runner.slurm_lab import SlurmLab, shared

LAB = SlurmLab(
    Path("/tmp/bioimage-slurm-crash"),
    {"SLURMLAB_DB": "no", "SLURMLAB_NODES": "3", "SLURMLAB_NODE_PREFIX": "bpcrash", "SLURMLAB_PORT": "28017"},
)

Begin = Callable[..., Round]


@pytest.fixture(scope="session")
def cluster() -> Iterator[SlurmLab]:
    with shared(LAB) as lab:
        yield lab


@pytest.fixture
def lab(cluster: SlurmLab, monkeypatch: pytest.MonkeyPatch) -> Iterator[SlurmLab]:
    """The cluster, whole, for one round alone."""
    monkeypatch.setenv("SLURM_CONF", cluster.conf)
    monkeypatch.setenv("BIOIMAGE_PY_NO_CONFIG", "1")
    with Path(f"{cluster.folder}.turn").open("a") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        cluster.start()
        yield cluster
        cluster.command("scancel", "--quiet", "--full", "--user", "root")


@pytest.fixture
def submit(begin: Begin, lab: SlurmLab) -> Begin:
    """Begin a round on the cluster."""

    def start(**config: Any) -> Round:
        quick = {"poll_interval": 0.3, "latency_wait": 2, "tasks_per_worker": 2, "mem": "500M", "time": 10}
        return begin("slurm", **{"seconds": 0.03, **quick, **config})

    return start


def running(lab: SlurmLab, what: str) -> list[str]:
    return lab.command("squeue", "-h", "-r", "-t", "R", "-o", what).split()


def finish(made: Round, *, orphans: bool = False) -> dict[str, Any]:
    said = made.end(orphans=orphans)
    if said["end"] != "done":
        assert said["end"] == "RunnerError", said
        made.resume(orphans=orphans)
    return said


@pytest.mark.parametrize("retries", [0, 2])
def test_a_node_loses_power(submit: Begin, lab: SlurmLab, retries: int) -> None:
    made = submit(retries=retries, tasks_per_worker=1)
    made.bad_moment(0.5)
    node = made.random.choice(running(lab, "%N"))
    lab.kill_node(node)
    lab.command("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
    said = finish(made)
    # Those that go on take over, unless they are about to end themselves.
    assert said["end"] == "done" or not retries, said


def test_only_slurmd_dies_and_its_task_goes_on_beside_the_one_that_replaces_it(
    submit: Begin, lab: SlurmLab
) -> None:
    made = submit(retries=2, seconds=0.05)
    made.bad_moment(0.3)
    node = made.random.choice(running(lab, "%N"))
    lab.kill_node(node, keep_jobs=True)
    lab.command("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
    said = finish(made, orphans=True)
    assert said["end"] == "done", said


def test_a_task_is_cancelled_and_others_do_its_work(submit: Begin, lab: SlurmLab) -> None:
    made = submit()
    made.bad_moment(0.6)
    lab.command("scancel", made.random.choice(running(lab, "%i")))
    said = finish(made)
    assert said["end"] == "done", said


def test_a_task_runs_out_of_memory_and_others_do_its_work(submit: Begin, lab: SlurmLab) -> None:
    made = submit(mem="300M", hog=True, retries=1)
    said = finish(made)
    assert said["end"] == "done", said


def test_a_task_runs_out_of_time(submit: Begin, lab: SlurmLab) -> None:
    # Slurm looks every 30 s; both tasks last longer than that.
    made = submit(retries=0, seconds=0.3, tasks_per_worker=1)
    made.bad_moment(0.05)
    for job in running(lab, "%A"):
        lab.command("scontrol", "update", f"jobid={job}", "EndTime=now")
    said = finish(made)
    assert said["end"] == "RunnerError"
    assert "time limit" in said["text"]


def test_the_submitter_is_killed_and_the_jobs_go_on(submit: Begin, lab: SlurmLab) -> None:
    made = submit()
    made.bad_moment(0.5)
    made.kill_submitter()
    made.resume(orphans=True)


@pytest.mark.parametrize("away", [3, 12], ids=["a moment", "longer than a command waits"])
def test_the_controller_is_away(submit: Begin, lab: SlurmLab, away: float) -> None:
    made = submit()
    made.bad_moment(0.5)
    lab.stop_controller()
    time.sleep(away)
    lab.start()
    said = finish(made)
    assert said["end"] == "done", said
