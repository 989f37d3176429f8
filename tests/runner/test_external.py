"""Workers that join a run by themselves: they share it, die, stop, stay for all its rounds; and who may not join."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import bioimage_py as bp
from bioimage_py.cli import main
from bioimage_py.errors import InvalidArgumentError, RunnerError, SourceNotFoundError
from bioimage_py.runner import RunnerConfig
from bioimage_py.runner.external import find_run, join_run
from bioimage_py.runner.run import RunFolder, find_runs, new_task
from bioimage_py.wrapper import SimpleTransformationSource
from tests.runner.test_pyramid_backends import check
from tests.runner.test_subprocess import chunk_files, stored
from tests.s3_lab import s3_lab
from tests.waiting import PATIENCE, eventually

# Each worker waits in its third block until it may go on.
COPY = """
import os, pathlib, time
import bioimage_py as bp
from bioimage_py.runner import RunnerConfig
from bioimage_py.wrapper import SimpleTransformationSource
folder = pathlib.Path({folder!r})
begun = []
def held(block):
    begun.append(block.shape)
    if len(begun) > 2:
        (folder / f"held-{{os.getpid()}}").touch()
        while not (folder / "go").exists():
            time.sleep(0.02)
    return block + 1
if __name__ == "__main__":
    source = SimpleTransformationSource(bp.open_source(folder / "in.zarr"), held, dtype="uint16")
    bp.copy(source, folder / "out.zarr", chunks=(8, 8), block_shape=(8, 8), job_type="external", num_workers=4,
            job_config=RunnerConfig(tmp_root={runs!r}, poll_interval=0.05))
"""


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start processes of Python that do not outlive the test."""
    with contextlib.ExitStack() as stack:

        def run(*words: object, **environment: str) -> subprocess.Popen[str]:
            process = subprocess.Popen(
                [sys.executable, *map(str, words)],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env={**os.environ, **environment},
            )
            stack.callback(process.communicate, timeout=PATIENCE)
            stack.callback(process.kill)
            return process

        yield run


def worker(place: str | Path) -> list[object]:
    return ["-m", "bioimage_py", "worker", place, "--join", "--wait", "5min"]


def goes_on(process: subprocess.Popen[str]) -> bool:
    """Fail where a process has ended that was to wait."""
    assert process.poll() is None, said(process)
    return True


def said(process: subprocess.Popen[str]) -> str:
    return process.communicate(timeout=PATIENCE)[0]


@pytest.fixture
def image(tmp_path: Path) -> np.ndarray:
    made = np.random.default_rng(0).integers(0, 9999, (96, 96)).astype("uint16")
    stored(tmp_path, "in.zarr", made, chunks=(8, 8))
    return made


@pytest.mark.parametrize("where", ["disk", pytest.param("bucket", marks=pytest.mark.slow)])
def test_workers_share_a_copy_and_may_die_and_stop(
    where: str, tmp_path: Path, image: np.ndarray, start: Callable[..., subprocess.Popen[str]]
) -> None:
    runs: str | Path = tmp_path / "runs"
    with contextlib.ExitStack() as stack:
        if where == "bucket":
            pytest.importorskip("obstore")
            stack.enter_context(s3_lab())
            runs = "s3://lab/runs"
        script = tmp_path / "begin.py"
        script.write_text(COPY.format(folder=str(tmp_path), runs=str(runs)))
        workers = [start(*worker(runs)) for _ in range(3)]  # before there is a run
        copying = start(script)
        killed, stopped, third = workers
        eventually(
            lambda: goes_on(copying) and all((tmp_path / f"held-{each.pid}").exists() for each in workers)
        )
        [folder] = find_runs([runs])
        assert bp.status(folder).tasks["running"] == 3
        killed.kill()
        stopped.terminate()
        (tmp_path / "go").touch()
        assert "task" in said(stopped)
        assert stopped.returncode == 143
        told = said(third)
        assert third.returncode == 0, told
        told = said(copying)
        assert copying.returncode == 0, told
        assert f"worker {folder} --join" in told
        assert find_runs([runs]) == []
    bp.copy(image + 1, tmp_path / "local.zarr", chunks=(8, 8))
    assert chunk_files(tmp_path / "out.zarr") == chunk_files(tmp_path / "local.zarr")


@pytest.mark.parametrize("job_type", ["subprocess", pytest.param("slurm", marks=pytest.mark.slow)])
def test_workers_join_a_run_of_another_backend(
    job_type: str,
    tmp_path: Path,
    image: np.ndarray,
    request: pytest.FixtureRequest,
    start: Callable[..., subprocess.Popen[str]],
) -> None:
    config = RunnerConfig(tmp_root=tmp_path / "runs", poll_interval=0.05)
    if job_type == "slurm":
        request.getfixturevalue("slurm")
        config = request.getfixturevalue("slurm_config")()

    def held(block: np.ndarray) -> np.ndarray:
        if "JOINED" not in os.environ:  # the backend's own workers
            (tmp_path / f"held-{os.getpid()}").touch()
            while not (tmp_path / "go").exists():
                time.sleep(0.02)
        return block + 1

    source = SimpleTransformationSource(bp.open_source(tmp_path / "in.zarr"), held, dtype="uint16")
    how = {"block_shape": (8, 8), "job_type": job_type, "job_config": config, "num_workers": 2}
    with ThreadPoolExecutor(1) as pool:
        try:
            copying = pool.submit(bp.copy, source, tmp_path / "out.zarr", chunks=(8, 8), **how)
            eventually(lambda: len(list(tmp_path.glob("held-*"))) == 2 or copying.done())
            assert not copying.done(), copying.result()
            helper = start(*worker(tmp_path / "runs"), JOINED="1")
            [folder] = map(RunFolder, (tmp_path / "runs").iterdir())

            def done_by_helper() -> bool:
                joined = [one for one in folder.attempts() if one.task >= folder.read_round(0)["tasks"]]
                return any(folder.read_state(one)["reason"] == "finished" for one in joined)

            eventually(lambda: goes_on(helper) and done_by_helper())
        finally:
            (tmp_path / "go").touch()
        np.testing.assert_array_equal(copying.result(PATIENCE)[...], image + 1)
    assert "finished" in said(helper)
    assert helper.returncode == 0


def test_a_worker_stays_for_all_waves_of_a_pyramid(
    tmp_path: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    helper = start(*worker(tmp_path / "runs"))
    config = RunnerConfig(tmp_root=tmp_path / "runs", poll_interval=0.05)
    check(tmp_path, "mean", job_type="external", job_config=config)
    told = said(helper)
    assert helper.returncode == 0, told
    assert "of round 2" in told


def test_cancel_and_resume(
    tmp_path: Path, image: np.ndarray, start: Callable[..., subprocess.Popen[str]]
) -> None:
    script = tmp_path / "begin.py"
    script.write_text(COPY.format(folder=str(tmp_path), runs=str(tmp_path / "runs")))
    (tmp_path / "go").touch()
    copying = start(script)
    eventually(lambda: goes_on(copying) and list((tmp_path / "runs").glob("bio*/rounds/*.handle.json")))
    [folder] = (tmp_path / "runs").iterdir()
    found = bp.status(folder)
    assert found.state == "running"
    assert "none is there" in dict(found.rows())["workers"]
    assert main(["cancel", str(folder)]) == 0
    assert "was cancelled" in said(copying)
    assert main(["worker", str(folder), "--join"]) == 0  # there is nothing to do, and nothing to wait for
    helper = threading.Timer(1.0, lambda: start(*worker(folder)))
    helper.start()
    bp.resume(folder)
    np.testing.assert_array_equal(bp.open_source(tmp_path / "out.zarr")[...], image + 1)


def kept_run(folder: Path, job_type: str) -> Path:
    """Return the folder of a run that has failed."""
    config = RunnerConfig(tmp_root=folder / "runs", retries=0, poll_interval=0.05)
    with pytest.raises(RunnerError) as caught:
        bp.get_runner(job_type, config).map(lambda _: 1 // 0, 3)
    assert caught.value.tmp_folder is not None
    return Path(caught.value.tmp_folder)


def test_who_cannot_join_is_told_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stop = threading.Event()
    with pytest.raises(SourceNotFoundError, match="there is no run folder"):
        find_run(tmp_path / "none", stop, 0)
    local = kept_run(tmp_path, "local")
    with pytest.raises(InvalidArgumentError, match=r"job_type 'local'.*others cannot join"):
        join_run(RunFolder(local), stop)
    other = kept_run(tmp_path, "subprocess")
    with pytest.raises(InvalidArgumentError, match="holds 2 unfinished runs"):
        find_run(tmp_path / "runs", stop, 0)
    assert main(["worker", str(other), "--wait", "0.1"]) == 0  # it has failed, and nobody waits for it
    assert "nothing of this round is left" in capsys.readouterr().out

    folder, run = RunFolder(other), json.loads((other / "run.json").read_text())
    (other / "run.json").write_text(json.dumps({**run, "check": "", "environment": {"python": "2.7.18"}}))
    round_0 = folder.read_round(0)
    folder.write_round(1, [], {**round_0, "at_once": 1})
    with pytest.raises(
        InvalidArgumentError, match=r"python 3.*submitted with 2\.7\.18.*start the worker with it"
    ):
        join_run(folder, stop)
    told = " ".join(error.text for error in bp.status(other).errors)  # whoever waits sees it too
    assert "submitted with 2.7.18" in told
    (other / "run.json").write_text(json.dumps({**run, "check": "", "format": 1}))
    with pytest.raises(InvalidArgumentError, match="has format 1"):
        find_run(other, stop, 0)
    folder.write_finished([])
    (other / "run.json").write_text(json.dumps({**run, "check": ""}))
    assert main(["worker", str(other), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ended"] == "finished"
    if hasattr(os, "chmod") and os.name != "nt":
        other.chmod(0o777)
        with pytest.raises(InvalidArgumentError, match="can be written"):
            find_run(other, stop, 0)


def test_tasks_that_join_have_numbers_of_their_own(tmp_path: Path) -> None:
    folder = RunFolder.make(tmp_path)
    folder.write_round(0, [], {})
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda _: new_task(folder, 0, 7), range(64)))
    assert len(set(found)) == 64
    assert min(found) == 7


@pytest.mark.skipif(not hasattr(signal, "SIGUSR2"), reason="this system has no such signal")
def test_the_signal_at_the_end_of_a_jobs_time_stops_a_worker(
    tmp_path: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    waiting = start(*worker(tmp_path))
    assert waiting.stdout is not None
    assert "waiting for a run" in waiting.stdout.readline()
    waiting.send_signal(signal.SIGUSR2)
    assert "told to stop" in said(waiting)
    assert waiting.returncode == 143
