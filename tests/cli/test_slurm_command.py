"""Copies on a real Slurm cluster from the command line: left alone, looked at, cancelled, finished."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest

from bioimage_py.runner.slurm import write_slurm_config
from bioimage_py.sources import open_source
from tests.cli.conftest import Call, Image
from tests.cli.runs import long_copy
from tests.runner.slurm_fixtures import _slurm_cluster, slurm
from tests.runner.slurm_lab import SlurmLab
from tests.waiting import PATIENCE, eventually

__all__ = ["_slurm_cluster", "slurm"]


@pytest.fixture(autouse=True)
def _quick(slurm: SlurmLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command looks every 0.3 s, and waits 2 s for what is not seen, as the user's file says."""
    monkeypatch.delenv("BIOIMAGE_PY_NO_CONFIG")
    monkeypatch.setenv("BIOIMAGE_PY_CONFIG", str(tmp_path / "config.toml"))
    (tmp_path / "config.toml").touch(0o600)
    write_slurm_config(poll_interval=0.3, latency_wait=2)


OPTIONS = ("--job-type", "slurm", "--mem", "800M", "--time", "10")


def test_a_copy_on_slurm(call: Call, slurm: SlurmLab, zarr: Path, image: Image, tmp_path: Path) -> None:
    outcome = call(
        "copy", zarr, tmp_path / "out.zarr", *OPTIONS, "--run-folders", tmp_path / "runs", "--quiet"
    )
    assert outcome == (0, "", "")
    with open_source(tmp_path / "out.zarr") as out:
        assert np.array_equal(out[...], image)


def test_a_partition_that_does_not_exist(call: Call, slurm: SlurmLab, zarr: Path, tmp_path: Path) -> None:
    outcome = call(
        "copy", zarr, tmp_path / "out.zarr", *OPTIONS, "--partition", "nope", "--run-folders", tmp_path
    )
    assert outcome.code == 2
    assert "Invalid partition name specified" in outcome.err


def test_jobs_go_on_after_ctrl_c_and_are_cancelled_and_finished(
    call: Call, slurm: SlurmLab, tmp_path: Path
) -> None:
    with long_copy(tmp_path, *OPTIONS, "--tasks-per-worker", "8") as (process, folder, _):
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=PATIENCE)
    assert (process.returncode, stdout) == (130, "")
    said, goes_on, wait, stop = stderr.splitlines()
    assert said.startswith("bioimage-py: interrupted: ")
    assert goes_on.startswith("  Slurm job ")
    assert wait == f"  to wait for the rest: bioimage-py resume {folder}"
    assert stop.startswith(f"  to stop it: bioimage-py cancel {folder}, or scancel ")
    status = call("status", folder, "--json").document
    assert status["state"] == "running"
    assert status["driver"] is None
    assert status["handle"].startswith("job ")
    assert "no process waits for it: 'resume' does" in call("status", folder).out
    cancelled = call("cancel", folder)
    assert cancelled.code == 0
    assert cancelled.out.startswith("cancelled Slurm job ")
    job = status["handle"].split()[1]
    eventually(lambda: not subprocess.check_output(["squeue", "-h", "-j", job], text=True).strip())
    assert call("status", folder, "--json").document["state"] == "unfinished"
    assert call("resume", folder, "--quiet") == (0, "", "")
    with open_source(tmp_path / "many.zarr") as a, open_source(tmp_path / "copied.zarr") as b:
        assert np.array_equal(a[...], b[...])
