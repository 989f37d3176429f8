"""Worker processes: the contract of every backend, and what happens when they die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import bioimage_py as bp
from bioimage_py.errors import BioimagePyWarning, InvalidArgumentError, RunnerError, SourceNotFoundError
from bioimage_py.geometry import to_roi
from bioimage_py.runner import RunnerConfig, SubprocessRunner
from tests.runner.contract import RunnerContract
from tests.waiting import PATIENCE, eventually, workers_of


@pytest.fixture
def config(tmp_path: Path) -> RunnerConfig:
    return RunnerConfig(tmp_root=tmp_path / "runs", retries=0, tasks_per_worker=2, poll_interval=0.2)


def stored(folder: Path, name: str, array: np.ndarray, **options: object) -> bp.Source:
    source = bp.create_output(folder / name, shape=array.shape, dtype=array.dtype, **options)
    source[...] = array
    return source


def chunk_files(folder: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and "copied" not in p.name
    }


class TestSubprocessRunner(RunnerContract):
    @pytest.fixture(autouse=True)
    def _root(self, tmp_path: Path) -> None:
        self.root = tmp_path / "runs"

    def make(self) -> SubprocessRunner:
        return SubprocessRunner(RunnerConfig(tmp_root=self.root, retries=1, poll_interval=0.2))


def test_same_bytes_as_local(tmp_path: Path, config: RunnerConfig) -> None:
    image = np.random.default_rng(0).integers(0, 9999, (70, 50, 60)).astype("uint16")
    source = stored(tmp_path, "in.zarr", image, chunks=(16, 16, 16))
    mask = stored(tmp_path, "mask.zarr", (image % 5 > 0).astype("uint8"), chunks=(20, 20, 20))
    for options in ({}, {"mask": mask}, {"block_shape": (32, 16, 16)}):
        layout = {"chunks": (16, 16, 16), "shards": (32, 32, 32)}
        bp.copy(source, tmp_path / "local.zarr", overwrite=True, num_workers=2, **layout, **options)
        out = bp.copy(
            source,
            tmp_path / "sub.zarr",
            overwrite=True,
            job_type="subprocess",
            job_config=config,
            num_workers=2,
            **layout,
            **options,
        )
        assert out.shape == image.shape
        assert chunk_files(tmp_path / "local.zarr") == chunk_files(tmp_path / "sub.zarr")
    assert not list((tmp_path / "runs").iterdir())


def test_refuses_what_other_processes_cannot_see(tmp_path: Path, config: RunnerConfig) -> None:
    image = np.zeros((8, 8), "uint8")
    source = stored(tmp_path, "in.zarr", image)
    before = sorted(tmp_path.iterdir())
    run = {"job_type": "subprocess", "job_config": config}
    with pytest.raises(ValueError, match=r"(?s)subprocess.*output"):
        bp.copy(source, **run)
    with pytest.raises(ValueError, match="output"):
        bp.copy(source, np.zeros((8, 8), "uint8"), **run)
    with pytest.raises(ValueError, match="HDF5"):
        bp.copy(source, tmp_path / "out.h5", **run)
    with pytest.raises(ValueError, match="local runs"):
        bp.copy(image, tmp_path / "out.zarr", **run)
    assert sorted(tmp_path.iterdir()) == before


def test_failures_keep_the_folder_and_resume_finishes(tmp_path: Path, config: RunnerConfig) -> None:
    image = np.arange(64 * 64, dtype="uint16").reshape(64, 64)
    source = stored(tmp_path, "in.zarr", image, chunks=(8, 8))
    bad = tmp_path / "in.zarr" / "c" / "3" / "3"
    good = bad.read_bytes()
    bad.write_bytes(b"torn")
    run = {
        "job_type": "subprocess",
        "job_config": config,
        "num_workers": 2,
        "block_shape": (8, 8),
        "chunks": (8, 8),
    }
    with pytest.raises(RunnerError, match="3/3") as caught:
        bp.copy(source, tmp_path / "out.zarr", **run)
    error = caught.value
    assert list(error.failed_block_ids) == [3 * 8 + 3]
    assert error.tmp_folder is not None
    with pytest.warns(BioimagePyWarning, match="63 of 64 blocks; finish it with bioimage-py resume"):
        written = bp.open_source(tmp_path / "out.zarr")[...]
    image_without = image.copy()
    image_without[24:32, 24:32] = 0
    np.testing.assert_array_equal(written, image_without)
    # Still broken: it fails again, exactly there, and does nothing else.
    stamps = {p: p.stat().st_mtime_ns for p in (tmp_path / "out.zarr" / "c").rglob("*") if p.is_file()}
    with pytest.raises(RunnerError) as caught:
        bp.resume(error.tmp_folder)
    assert list(caught.value.failed_block_ids) == [27]
    bad.write_bytes(good)
    bp.copy(source, tmp_path / "out.zarr", **run, resume_from=error.tmp_folder)
    np.testing.assert_array_equal(bp.open_source(tmp_path / "out.zarr")[...], image)
    assert {p: p.stat().st_mtime_ns for p in stamps} == stamps
    assert not Path(error.tmp_folder).exists()


def test_resume_is_refused_for_another_call(tmp_path: Path, config: RunnerConfig) -> None:
    def fail(block, inputs, outputs, mask):
        raise ValueError("no")

    source = stored(tmp_path, "in.zarr", np.ones((8, 8), "uint8"), chunks=(4, 4))
    runner = SubprocessRunner(config)
    with pytest.raises(RunnerError) as caught:
        runner.run(fail, [source], block_shape=(4, 4))
    folder = caught.value.tmp_folder
    assert folder is not None
    with pytest.raises(InvalidArgumentError, match=r"block_shape was \[4, 4\] and is \[8, 8\]"):
        runner.run(fail, [source], block_shape=(8, 8), resume_from=folder)
    bp.create_output(tmp_path / "in.zarr", shape=(8, 8), dtype="float32", chunks=(4, 4), overwrite=True)
    with pytest.raises(InvalidArgumentError, match="dtype was"):
        bp.resume(folder)
    with pytest.raises(SourceNotFoundError, match="no run folder"):
        bp.resume(tmp_path / "nothing")
    Path(folder).chmod(0o777)
    with pytest.raises(InvalidArgumentError, match="written by others"):
        bp.resume(folder)


def test_a_block_that_kills_its_worker_takes_no_other_with_it(tmp_path: Path) -> None:
    def deadly(block, inputs, outputs, mask):
        if block.begin == (4, 4):
            os.kill(os.getpid(), signal.SIGKILL)
        return block.begin

    source = stored(tmp_path, "in.zarr", np.ones((16, 16), "uint8"), chunks=(4, 4))
    config = RunnerConfig(tmp_root=tmp_path / "runs", retries=1, tasks_per_worker=1, poll_interval=0.2)
    with pytest.raises(RunnerError, match="SIGKILL") as caught:
        SubprocessRunner(config).run(deadly, [source], block_shape=(4, 4), num_workers=2, has_return_val=True)
    assert list(caught.value.failed_block_ids) == [5]


def test_an_exception_is_tried_again_alone_and_values_are_not_doubled(tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()

    def once(block, inputs, outputs, mask):
        mark = marks / str(block.begin)
        if not mark.exists():
            mark.touch()
            if block.begin[0] == 4:
                raise ValueError("not at first")
        return block.begin

    source = stored(tmp_path, "in.zarr", np.ones((16, 8), "uint8"), chunks=(4, 4))
    runner = SubprocessRunner(RunnerConfig(tmp_root=tmp_path / "runs"))
    got = runner.run(once, [source], block_shape=(4, 4), num_workers=2, has_return_val=True)
    assert got == [(y, x) for y in (0, 4, 8, 12) for x in (0, 4)]


def test_timeouts_and_wrong_interpreters_are_named(tmp_path: Path) -> None:
    def slow(item):
        time.sleep(10 * PATIENCE if item == 1 else 0)
        return item

    config = RunnerConfig(tmp_root=tmp_path / "runs", retries=0, task_timeout=5, tasks_per_worker=4)
    with pytest.raises(RunnerError, match="task_timeout") as caught:
        SubprocessRunner(config).map(slow, 4, num_workers=1)
    assert list(caught.value.failed_block_ids) == [1]
    nowhere = RunnerConfig(tmp_root=tmp_path / "runs", python_executable=str(tmp_path / "nopython"))
    with pytest.raises(InvalidArgumentError, match="nopython"):
        SubprocessRunner(nowhere).map(slow, 1)


def test_sources_are_private_to_the_run_folder(tmp_path: Path, config: RunnerConfig) -> None:
    def fail(item):
        raise ValueError("no")

    with pytest.raises(RunnerError) as caught:
        SubprocessRunner(config).map(fail, 2)
    folder = Path(str(caught.value.tmp_folder))
    assert folder.stat().st_mode & 0o777 == 0o700
    assert all(not p.stat().st_mode & 0o022 for p in folder.rglob("*"))


@pytest.mark.slow
def test_the_submitter_dies_and_resume_finishes(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 9999, (128, 128)).astype("uint16")
    stored(tmp_path, "in.zarr", image, chunks=(8, 8))
    script = f"""
import os, time
import bioimage_py as bp
from bioimage_py.runner import RunnerConfig
from bioimage_py.wrapper import SimpleTransformationSource
begun = []
def slow(block):
    time.sleep(0.02)
    begun.append(block.shape)
    while len(begun) > 60 and not os.path.exists({str(tmp_path / "gone")!r}):
        time.sleep(0.02)
    return block + 1
source = SimpleTransformationSource(bp.open_source({str(tmp_path / "in.zarr")!r}), slow, dtype="uint16")
bp.copy(source, {str(tmp_path / "out.zarr")!r}, chunks=(8, 8), block_shape=(8, 8), job_type="subprocess", num_workers=2,
        job_config=RunnerConfig(tmp_root={str(tmp_path / "runs")!r}))
"""
    rng = np.random.default_rng(1)
    with subprocess.Popen([sys.executable, "-c", script]) as process:
        eventually(lambda: list((tmp_path / "runs").glob("*/attempts/*.blocks")))
        time.sleep(rng.uniform(0.1, 0.5))
        process.kill()
    folder = next((tmp_path / "runs").iterdir())
    (tmp_path / "gone").touch()
    eventually(lambda: not workers_of(folder))  # they see the end of their input after the block in hand
    done = {p: p.stat().st_mtime_ns for p in (tmp_path / "out.zarr" / "c").rglob("*") if p.is_file()}
    assert 0 < len(done) < 256
    bp.resume(folder)
    np.testing.assert_array_equal(bp.open_source(tmp_path / "out.zarr")[...], image + 1)
    assert not list((tmp_path / "out.zarr").rglob("*lock*"))


def test_user_kernels_write_through_workers(tmp_path: Path, config: RunnerConfig) -> None:
    def double(block, inputs, outputs, mask):
        outputs[0][to_roi(block)] = 2 * inputs[0][to_roi(block)]

    image = np.arange(256, dtype="int32").reshape(16, 16)
    source = stored(tmp_path, "in.zarr", image, chunks=(4, 4))
    out = bp.create_output(tmp_path / "out.zarr", shape=(16, 16), dtype="int32", chunks=(4, 4))
    SubprocessRunner(config).run(double, [source], [out], num_workers=2)
    np.testing.assert_array_equal(out[...], 2 * image)


def test_a_worker_that_dies_at_its_start_says_why(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(
        f"""#!/bin/sh
case "$*" in *--serve*) echo "no licence for this node" >&2; exit 3;; esac
exec {sys.executable} "$@"
"""
    )
    python.chmod(0o755)
    config = RunnerConfig(tmp_root=tmp_path / "runs", retries=0, python_executable=str(python))
    with pytest.raises(RunnerError, match=r"exit code 3.*no licence for this node"):
        SubprocessRunner(config).map(abs, 3)


@pytest.mark.parametrize(
    "left", ["threading.Thread(target=wait)", "multiprocessing.get_context('fork').Process(target=wait)"]
)
def test_what_a_function_leaves_behind_keeps_no_worker(tmp_path: Path, left: str) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        f"""
import multiprocessing, os, threading, time
import bioimage_py as bp

def wait():
    while os.path.exists({str(tmp_path)!r} + "/script.py"):
        time.sleep(0.1)

def leave(item):
    {left}.start()
    return item

if __name__ == "__main__":
    config = bp.RunnerConfig(tmp_root={str(tmp_path)!r})
    assert bp.get_runner("subprocess", config).map(leave, 3, num_workers=2) == [0, 1, 2]
"""
    )
    try:
        subprocess.run([sys.executable, str(script)], check=True, timeout=100)
    finally:
        script.unlink()
    assert not list(tmp_path.glob("bioimage-run-*"))


def test_the_command_takes_no_file_of_the_working_directory_for_a_library(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(6))
    for name in ("queue", "copy", "numpy"):
        (tmp_path / f"{name}.py").write_text(
            "raise ImportError('a file of the user was taken for a library')"
        )
    command = [sys.executable, "-m", "bioimage_py", "info", "a.npy"]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=100, capture_output=True)
