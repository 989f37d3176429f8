"""How often Slurm is asked, and about what: a round on a cluster whose clock the test moves, with real run folders."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from bioimage_py.runner.folder_runner import Watch
from bioimage_py.runner.run import AttemptJournal, RunFolder
from bioimage_py.runner.slurm import (
    Pace,
    RoundJobs,
    Slurm,
    SlurmConfig,
    SlurmRefusalError,
    SlurmRound,
    array_indices,
)

POLICY = "AssocMaxSubmitJobLimit; Batch job submission failed: Job violates accounting/QOS policy (job submit limit)"


class Clock(Pace):
    """A clock that goes on when somebody sleeps, and the cluster with it."""

    time = 1000.0
    cluster: Cluster

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds
        self.cluster.goes_on()


class Cluster(Slurm):
    """What Slurm's commands answer on a cluster whose tasks begin in turn and pull seconds of work until none are left."""

    def __init__(self, folder: RunFolder, work: float, *, most: int = 10**6, array: int = 1000) -> None:
        clock = Clock(5.0)
        super().__init__(pace=clock)
        clock.cluster = self
        self.clock, self.folder, self.work, self.most, self.array = clock, folder, work, most, array
        self.calls: list[tuple[float, tuple[str, ...]]] = []
        self.arrays: list[list[int]] = []
        self.most_at_once = 0
        self.closes = False
        """Whether nothing is taken after the first array."""
        self.mute: dict[int, float] = {}
        """Tasks whose nodes fail so many seconds after they have begun: the run folder does not tell."""
        self._tasks: dict[int, dict[str, Any]] = {}
        self._at = clock.time

    def goes_on(self) -> None:
        now = self.clock.time
        running: Counter[str] = Counter()
        for number, task in self._tasks.items():
            if task["state"] == "RUNNING" and now > task["began"] + self.mute.get(number, 1e9):
                task["state"] = "NODE_FAIL"
            elif task["state"] == "RUNNING":
                running[task["job"]] += 1
                os.utime(task["journal"].files.state, (now, now))
        self.work -= (now - self._at) * running.total()
        self._at = now
        if self.work <= 0:
            for task in self._tasks.values():
                if task["state"] == "RUNNING":
                    task["state"] = "COMPLETED"
                    task["journal"].end("finished")
            self.folder.finish_round(0)
            return
        for number, task in self._tasks.items():
            if task["state"] == "PENDING" and running[task["job"]] < task["throttle"]:
                running[task["job"]] += 1
                task.update(
                    state="RUNNING", began=now, journal=AttemptJournal(self.folder, 0, number, beat=3600.0)
                )
        self.most_at_once = max(self.most_at_once, running.total())

    def called(self, command: str) -> list[tuple[str, ...]]:
        return [words for _, words in self.calls if words[0] == command]

    def _call(self, *words: str) -> subprocess.CompletedProcess[str]:
        self.pace.spend()
        self.calls.append((self.clock.time, words))
        match words:
            case ["sbatch", *_]:
                return self._sbatch(words)
            case ["squeue", *_, "--jobs", job]:
                lines = [
                    f"{job}_{task['index']}|{task['name']}|{task['state']}|0|node|None"
                    for task in self._tasks.values()
                    if task["job"] == job
                ]
                return _says("\n".join(lines))
            case ["squeue", *_]:
                return _says("\n".join(task["job"] for task in self._open()))
            case ["scontrol", "show", "config"]:
                return _says(f"MaxArraySize            = {self.array + 1}\n")
            case ["scancel", "--quiet", _]:
                return _says("")
            case ["sacct", *_]:
                return _says("", "Slurm accounting storage is disabled")
        raise AssertionError(words)

    def _open(self) -> list[dict[str, Any]]:
        return [task for task in self._tasks.values() if task["state"] in ("PENDING", "RUNNING")]

    def _sbatch(self, words: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
        given = {word.partition("=")[0]: word.partition("=")[2] for word in words}
        indices, throttle = array_indices(given["--array"]), int(given["--array"].partition("%")[2])
        if self.arrays and self.closes:
            return _says("", "sbatch: error: Batch job submission failed: Invalid account")
        if max(indices) >= self.array:
            return _says("", "sbatch: error: Batch job submission failed: Invalid job array specification")
        if len(self._open()) + len(indices) > self.most:
            return _says("", f"sbatch: error: {POLICY}")
        job, offset = str(len(self.arrays) + 70), int(words[-3])
        self.arrays.append([index + offset for index in indices])
        for index in indices:
            found = {"job": job, "index": index, "name": given["--job-name"], "throttle": throttle}
            self._tasks[index + offset] = {**found, "state": "PENDING"}
        return _says(job)


def _says(out: str, error: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.CompletedProcess((), 1 if error else 0, out, error)


@pytest.fixture(autouse=True)
def _without_syncs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Journals need not outlive a crash of this machine."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


def round_on(cluster: Cluster, n_tasks: int, at_once: int) -> SlurmRound:
    cluster.folder.write_round(0, [], {"tasks": n_tasks, "at_once": at_once, "beat": 5.0})
    jobs = RoundJobs(cluster.folder, 0, asked={"time": 5, "mebibytes": None, "lead": 0})
    return SlurmRound(cluster, jobs, at_once, SlurmConfig(), Watch(cluster.folder, 0, 0, None))


def most_in_a_minute(cluster: Cluster) -> int:
    times = [time for time, _ in cluster.calls]
    return max(sum(begin <= time < begin + 60 for time in times) for begin in times)


@pytest.mark.parametrize("most", [10**6, 40], ids=["no limit", "40 at once"])
def test_a_large_round_asks_twice_a_minute_in_the_long_run(tmp_path: Path, most: int) -> None:
    cluster = Cluster(RunFolder.make(tmp_path), 50 * 240.0, most=most, array=80)
    ends = round_on(cluster, 120, 50).run()
    assert [end.kind for end in ends] == ["finished"] * min(50, cluster.most_at_once)
    assert cluster.most_at_once >= min(50, most - 5)
    minutes = (cluster.clock.time - Clock.time) / 60
    assert most_in_a_minute(cluster) <= 6
    assert len(cluster.calls) <= 4 + 2 * minutes
    # Some are refused until it is known how many there may be, and then none.
    assert len(cluster.called("sbatch")) - len(cluster.arrays) <= (1 if most > 40 else 6)
    for words in cluster.called("squeue") + cluster.called("sacct"):
        assert words[-2] in ("--jobs", "-j")
        assert words[-1].isdecimal()
    # What has not begun is cancelled at the end, and nothing else.
    begun = {end.task for end in ends}
    waiting = [len(begun.intersection(tasks)) < len(tasks) for tasks in cluster.arrays]
    assert len(cluster.called("scancel")) == sum(waiting)


def test_only_arrays_with_silent_tasks_are_asked_about(tmp_path: Path) -> None:
    cluster = Cluster(RunFolder.make(tmp_path), 120 * 180.0, array=80)
    cluster.mute = {100: 90.0}
    ends = round_on(cluster, 120, 120).run()
    assert [end.kind for end in ends] == ["finished"] * 100 + ["node failure"] + ["finished"] * 19
    # In the first minute it was not known whether all had begun.
    assert [words[-1] for time, words in cluster.calls if time > Clock.time + 60] == ["71"]


@pytest.mark.parametrize("most", [0, 3, 100])
def test_tasks_are_submitted_in_arrays_that_slurm_takes(tmp_path: Path, most: int) -> None:
    cluster = Cluster(RunFolder.make(tmp_path), 50.0, most=most, array=10)
    round_ = round_on(cluster, 25, 2)
    if not most:
        with pytest.raises(SlurmRefusalError, match=r"Slurm refuses the run: .*accounting/QOS policy"):
            round_.run()
        return
    assert [end.kind for end in round_.run()] == ["finished"] * 2
    assert max(map(len, cluster.arrays)) <= min(10, most)
    assert cluster.most_at_once == 2


def test_a_refusal_while_tasks_run_does_not_end_them(tmp_path: Path) -> None:
    cluster = Cluster(RunFolder.make(tmp_path), 50.0, array=10)
    cluster.closes = True
    ends = round_on(cluster, 25, 20).run()
    assert [end.kind for end in ends] == ["finished"] * 10 + ["error"] * 15
    assert "Invalid account" in ends[-1].text
