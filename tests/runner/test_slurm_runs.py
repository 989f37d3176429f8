"""Runs whose submitter dies, leaves or cancels, and clusters with tight limits, without accounting, or down for a while."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import bioimage_py as bp
from bioimage_py.errors import InvalidArgumentError, RunnerError
from bioimage_py.runner.run import RunFolder
from bioimage_py.runner.slurm import SlurmConfig, SlurmRunner
from tests.runner.slurm_lab import SlurmLab
from tests.waiting import PATIENCE, eventually

Configure = Callable[..., SlurmConfig]


def marked(marks: Path, seconds: float) -> Callable[[int], tuple[int, float, float]]:
    """Return a function of an item that leaves a mark for each call and returns the item and when it ran."""
    marks.mkdir(exist_ok=True)
    folder = str(marks)

    def work(item: int) -> tuple[int, float, float]:
        began = time.time()
        Path(folder, f"{item}-{began}").touch()
        time.sleep(seconds)
        return item, began, time.time()

    return work


def calls(marks: Path) -> list[int]:
    return sorted(int(mark.name.partition("-")[0]) for mark in marks.iterdir())


def submitter(
    tmp_path: Path, prelude: str = "", n_items: int = 12, seconds: float = 0.5
) -> subprocess.Popen[str]:
    """Return a process that runs a map on Slurm."""
    script = f"""
from pathlib import Path
from bioimage_py.runner.slurm import (SlurmConfig, SlurmRunner)
from tests.runner.test_slurm_runs import marked
{prelude}
config = SlurmConfig(tmp_root={str(tmp_path / "runs")!r}, poll_interval=0.3, latency_wait=2, tasks_per_worker=2, mem="800M")
SlurmRunner(config).map(marked(Path({str(tmp_path / "marks")!r}), {seconds}), {n_items}, num_workers=2)
"""
    root = str(Path(__file__).resolve().parents[2])
    return subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=root,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def the_run(tmp_path: Path) -> RunFolder:
    (folder,) = (tmp_path / "runs").iterdir()
    return RunFolder(folder)


def items(results: list[object] | None) -> list[int]:
    assert results is not None
    return [result[0] for result in results]  # type: ignore[index]


def test_reattach_after_the_submitter_was_killed(
    tmp_path: Path, slurm: SlurmLab, slurm_config: Configure
) -> None:
    marks = tmp_path / "marks"
    with submitter(tmp_path) as process:
        eventually(lambda: marks.exists() and calls(marks))
        process.kill()
    folder = the_run(tmp_path)
    seen = []
    results = SlurmRunner(slurm_config()).reattach(folder.path, progress=seen.append)
    assert items(results) == list(range(12))
    assert calls(marks) == list(range(12))
    assert seen[-1].blocks_done == 12
    assert not folder.path.exists()


def test_a_job_whose_number_was_never_written_is_found_by_its_name(
    tmp_path: Path, slurm: SlurmLab, slurm_config: Configure
) -> None:
    prelude = """
import os
from bioimage_py.runner.slurm import RoundJobs
write = RoundJobs.write
def die_before_the_number(self):
    if self.numbers():
        os._exit(9)
    write(self)
RoundJobs.write = die_before_the_number
"""
    with submitter(tmp_path, prelude, n_items=4, seconds=0.1) as process:
        assert process.wait(PATIENCE) == 9
    folder = the_run(tmp_path)
    handle = folder.read_handle(0)
    assert handle is not None
    assert handle["jobs"] == []
    results = bp.resume(folder.path)
    assert items(results) == [0, 1, 2, 3]
    assert calls(tmp_path / "marks") == [0, 1, 2, 3]


def test_ctrl_c_leaves_the_jobs_running_and_cancel_ends_them(
    tmp_path: Path, slurm: SlurmLab, slurm_config: Configure
) -> None:
    marks = tmp_path / "marks"
    with submitter(tmp_path, n_items=40, seconds=0.5) as process:
        eventually(lambda: marks.exists() and calls(marks))
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=PATIENCE)[0]
    folder = the_run(tmp_path)
    (job,) = folder.read_handle(0)["jobs"]  # type: ignore[index]
    assert f"Slurm job {job} goes on without this process" in said
    assert f"bioimage_py.resume('{folder.path}')" in said
    assert f"bioimage-py cancel {folder.path}, or scancel {job}" in said
    before = len(calls(marks))
    eventually(lambda: len(calls(marks)) > before + 2)
    runner = SlurmRunner(slurm_config())
    assert runner.cancel(folder) == f"cancelled Slurm job {job}; what is done stays written"
    eventually(lambda: not slurm.command("squeue", "-h", "-j", job).strip())
    done = len(calls(marks))
    assert done < 40
    results = bp.resume(folder.path)
    assert items(results) == list(range(40))


def test_a_job_cancelled_by_hand_is_reported_exactly_and_resumed(
    tmp_path: Path, slurm: SlurmLab, slurm_config: Configure
) -> None:
    def cancel() -> None:
        eventually(lambda: len(list((tmp_path / "marks").iterdir())) > 2)
        (job,) = the_run(tmp_path).read_handle(0)["jobs"]  # type: ignore[index]
        slurm.command("scancel", job)

    work = marked(tmp_path / "marks", 1.0)
    thread = threading.Thread(target=cancel)
    thread.start()
    with pytest.raises(RunnerError, match="it was cancelled") as caught:
        SlurmRunner(slurm_config()).map(work, 16, num_workers=2)
    thread.join()
    folder = caught.value.tmp_folder
    assert folder is not None
    begun = set(calls(tmp_path / "marks"))
    assert {*range(16)} - begun <= set(caught.value.failed_block_ids)
    with pytest.raises(InvalidArgumentError, match="nothing runs"):
        SlurmRunner(slurm_config()).cancel(RunFolder(Path(folder)))
    assert items(bp.resume(folder)) == list(range(16))


def test_small_arrays_beside_each_other_without_accounting(
    tmp_path: Path, plain_slurm: SlurmLab, slurm_config: Configure
) -> None:
    assert "disabled" in plain_slurm.command("sacct")
    config = slurm_config(tasks_per_worker=5, mem="500M", keep_run_folder=True)
    results = SlurmRunner(config).map(marked(tmp_path / "marks", 0.3), 40, num_workers=4)
    assert items(results) == list(range(40))
    assert calls(tmp_path / "marks") == list(range(40))
    # At most four ran at once, whatever array they were in.
    moments = sorted([(began, 1) for _, began, _ in results] + [(ended, -1) for _, _, ended in results])  # type: ignore[union-attr]
    running = most = 0
    for _, change in moments:
        running += change
        most = max(most, running)
    assert most <= 4
    handle = the_run(tmp_path).read_handle(0)
    assert handle is not None
    assert len(handle["jobs"]) >= 2
    assert all(array["tasks"][0][1] - array["tasks"][0][0] <= 3 for array in handle["round"]["arrays"])


def test_failures_are_told_without_accounting_after_slurm_forgot_them(
    plain_slurm: SlurmLab, slurm_config: Configure
) -> None:
    def die(item: int) -> int:
        if item == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return item

    # Slurm is asked when a task is silent, which may be after it has forgotten how that ended.
    with pytest.raises(RunnerError, match=r"SIGKILL|Slurm does not know it any more") as caught:
        SlurmRunner(slurm_config(retries=1, mem="500M")).map(die, 4, num_workers=1)
    assert list(caught.value.failed_block_ids) == [3]


def test_a_submit_limit_is_waited_out(tmp_path: Path, slurm: SlurmLab, slurm_config: Configure) -> None:
    slurm.command("sacctmgr", "-i", "add", "qos", "tight", "MaxSubmitJobsPerUser=2", "Flags=DenyOnLimit")
    slurm.command("sacctmgr", "-i", "modify", "user", "root", "set", "qos+=tight")
    config = slurm_config(qos="tight", tasks_per_worker=3, keep_run_folder=True)
    assert SlurmRunner(config).map(abs, 6, num_workers=2) == [0, 1, 2, 3, 4, 5]
    arrays = the_run(tmp_path).read_handle(0)["round"]["arrays"]  # type: ignore[index]
    assert all(array["tasks"][0][1] - array["tasks"][0][0] <= 2 for array in arrays)


@pytest.mark.slow
def test_a_controller_that_is_down_for_a_while_is_waited_out(
    tmp_path: Path, plain_slurm: SlurmLab, slurm_config: Configure, caplog: pytest.LogCaptureFixture
) -> None:
    def outage() -> None:
        eventually(lambda: list((tmp_path / "runs").glob("*/attempts/*.blocks")))
        plain_slurm.stop_controller()
        time.sleep(6)
        plain_slurm.start()

    thread = threading.Thread(target=outage)
    thread.start()
    results = SlurmRunner(slurm_config(mem="500M")).map(marked(tmp_path / "marks", 1.0), 24, num_workers=2)
    thread.join()
    assert items(results) == list(range(24))
    assert calls(tmp_path / "marks") == list(range(24))
    assert sum("Slurm does not answer" in record.message for record in caplog.records) <= 2
