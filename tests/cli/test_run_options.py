"""Where a copy runs: options of backends, and which go with which."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bioimage_py.cli import build_parser, seconds
from bioimage_py.cli.options import run_options
from bioimage_py.runner import TASKS_AT_ONCE
from bioimage_py.sources import open_source
from bioimage_py.system import available_cores
from tests.cli.conftest import Call, Image


@pytest.fixture(autouse=True)
def _no_config(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIOIMAGE_PY_NO_CONFIG", "1")


def options(*words: str) -> Any:
    return run_options(build_parser().parse(["copy", "a", "b", *words]))


def test_how_much_at_once_where_nothing_is_said() -> None:
    assert options()["num_workers"] == available_cores()
    assert options("--job-type", "subprocess")["num_workers"] == available_cores()
    assert options("--job-type", "slurm")["num_workers"] == TASKS_AT_ONCE
    assert options("--job-type", "slurm", "--workers", "3")["num_workers"] == 3


def test_a_plain_copy_keeps_no_run_folder_and_a_resumable_one_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert options()["job_config"].tmp_root is None
    assert options("--resumable")["job_config"].asks_for_folder
    assert options("--run-folders", "runs")["job_config"].tmp_root == "runs"


def test_settings_of_processes() -> None:
    words = [
        "--threads-per-worker",
        "3",
        "--tasks-per-worker",
        "2",
        "--retries",
        "0",
        "--task-timeout",
        "15min",
    ]
    config = options("--job-type", "subprocess", *words, "--durable", "--keep-run-folder")["job_config"]
    assert (config.threads_per_worker, config.tasks_per_worker, config.retries) == (3, 2, 0)
    assert (config.task_timeout, config.durable, config.keep_run_folder) == (900, True, True)


def test_settings_of_slurm_go_before_those_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BIOIMAGE_PY_NO_CONFIG")
    file = tmp_path / "config.toml"
    file.write_text('[slurm]\npartition = "long"\nmem = "2G"\n')
    monkeypatch.setenv("BIOIMAGE_PY_CONFIG", str(file))
    words = [
        "--partition",
        "short",
        "--time",
        "1:00:00",
        "--cpus-per-task",
        "4",
        "--gpus",
        "a100:1",
        "--account",
        "lab",
    ]
    config = options("--job-type", "slurm", *words, "--qos", "high", "--constraint", "avx2")["job_config"]
    assert (config.partition, config.mem, config.time, config.cpus_per_task) == ("short", "2G", "1:00:00", 4)
    assert (config.gpus, config.account, config.qos, config.constraint) == ("a100:1", "lab", "high", "avx2")


def test_the_address_of_a_dask_scheduler() -> None:
    pytest.importorskip("distributed", reason="runs on Dask need distributed")
    found = options("--job-type", "dask", "--dask-address", "tcp://host:8786")
    assert (found["job_config"].address, found["num_workers"]) == ("tcp://host:8786", TASKS_AT_ONCE)
    assert options("--job-type", "dask")["num_workers"] == available_cores()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--partition", "x"], "--partition needs --job-type slurm"),
        (
            ["--mem", "4G", "--time", "1", "--job-type", "subprocess"],
            "--time and --mem need --job-type slurm",
        ),
        (["--dask-address", "tcp://h:1"], "--dask-address needs --job-type dask"),
        (["--retries", "1", "--resumable"], "--retries needs --job-type subprocess, slurm, dask or external"),
        (["--keep-run-folder"], "--keep-run-folder needs --resumable or --job-type"),
        (["--job-type", "slrm"], "did you mean slurm?"),
        (["--partion", "x"], "did you mean --partition?"),
        (["--task-timeout", "soon"], "give a time such as 90s, 15min or 2h, not 'soon'"),
        (["--retries", "-1"], "give a number of 0 or more, not '-1'"),
        (["--job-type", "slurm", "--time", "soon"], "time must be minutes or a text such as"),
    ],
)
@pytest.mark.parametrize("verb", ["copy", "plan"])
def test_options_that_do_not_go_together_are_refused(
    verb: str, words: list[str], message: str, call: Call, npy: Path, tmp_path: Path
) -> None:
    outcome = call(verb, npy, tmp_path / "out.zarr", *words)
    assert (outcome.code, outcome.out) == (2, "")
    assert message in outcome.err
    assert not (tmp_path / "out.zarr").exists()


@pytest.mark.parametrize("text", ["90", "90s", "1.5min", "0.025 h"])
def test_times(text: str) -> None:
    assert seconds(text) == 90


@pytest.mark.parametrize("text", ["", "0", "-1", "1 week", "h"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="give a time"):
        seconds(text)


def test_a_copy_in_other_processes_is_the_same_copy(
    call: Call, zarr: Path, image: Image, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    words = ["--job-type", "subprocess", "--workers", 1, "--run-folders", runs, "--chunks", 16, "--verify"]
    outcome = call("copy", zarr, tmp_path / "out.zarr", *words)
    assert (outcome.code, outcome.err) == (0, "")
    assert "verified: equal" in outcome.out
    assert not list(runs.iterdir())


def test_a_copy_on_dask(call: Call, zarr: Path, image: Image, tmp_path: Path) -> None:
    pytest.importorskip("distributed", reason="runs on Dask need distributed")
    words = ["--job-type", "dask", "--workers", 1, "--run-folders", tmp_path / "runs", "--quiet"]
    assert call("copy", zarr, tmp_path / "out.zarr", *words) == (0, "", "")
    with open_source(tmp_path / "out.zarr") as out:
        assert np.array_equal(out[...], image)


def test_hdf5_is_written_by_one_process_only(call: Call, npy: Path, tmp_path: Path) -> None:
    outcome = call("copy", npy, tmp_path / "out.h5", "--job-type", "subprocess")
    assert outcome.code == 2
    assert "HDF5 takes one writing process" in outcome.err


def test_a_copy_that_cannot_be_resumable_is_refused(call: Call, zarr: Path, tmp_path: Path) -> None:
    refused = call("copy", zarr, tmp_path / "out.h5", "--resumable")
    assert refused.code == 2
    assert "a resumable run needs an output that several processes can write" in refused.err
    assert not (tmp_path / "out.h5").exists()
