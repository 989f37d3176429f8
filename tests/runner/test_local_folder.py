"""Local runs that keep a run folder: resumed after failures, Ctrl-C and kills, with nothing done twice."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bioimage_py as bp
from bioimage_py.errors import BioimagePyWarning, InvalidArgumentError, RunnerError
from bioimage_py.runner import LocalRunner, RunnerConfig
from bioimage_py.runner.run import read_block_logs
from tests.runner.contract import RunnerContract
from tests.runner.test_subprocess import chunk_files, stored
from tests.waiting import PATIENCE, eventually


@pytest.fixture
def config(tmp_path: Path) -> RunnerConfig:
    return RunnerConfig(tmp_root=tmp_path / "runs")


class TestLocalRunnerWithFolder(RunnerContract):
    @pytest.fixture(autouse=True)
    def _root(self, tmp_path: Path) -> None:
        self.root = tmp_path / "runs"

    def make(self) -> LocalRunner:
        return LocalRunner(RunnerConfig(tmp_root=self.root))


def test_the_folder_goes_with_success(tmp_path: Path, config: RunnerConfig) -> None:
    image = np.arange(4096, dtype="uint16").reshape(64, 64)
    source = stored(tmp_path, "in.zarr", image, chunks=(8, 8))
    out = bp.copy(source, tmp_path / "out.zarr", job_config=config)
    np.testing.assert_array_equal(out[...], image)
    assert not list((tmp_path / "runs").iterdir())
    kept = RunnerConfig(tmp_root=tmp_path / "runs", keep_run_folder=True, durable=True)
    bp.copy(source, tmp_path / "kept.zarr", job_config=kept, num_workers=2)
    assert len(list((tmp_path / "runs").iterdir())) == 1
    assert chunk_files(tmp_path / "out.zarr") == chunk_files(tmp_path / "kept.zarr")


@pytest.mark.parametrize("how", ["resume", "resume_from", "other backend"])
def test_only_what_is_missing_is_done_again(tmp_path: Path, config: RunnerConfig, how: str) -> None:
    image = np.arange(4096, dtype="uint16").reshape(64, 64)
    source = stored(tmp_path, "in.zarr", image, chunks=(8, 8))
    bad = tmp_path / "in.zarr" / "c" / "3" / "3"
    good = bad.read_bytes()
    bad.write_bytes(b"torn")
    run: dict[str, Any] = {"job_config": config, "num_workers": 2, "block_shape": (8, 8), "chunks": (8, 8)}
    with pytest.raises(RunnerError, match=r"bioimage_py\.resume") as caught:
        bp.copy(source, tmp_path / "out.zarr", **run)
    assert list(caught.value.failed_block_ids) == [27]
    folder = caught.value.tmp_folder
    assert folder is not None
    stamps = {p: p.stat().st_mtime_ns for p in (tmp_path / "out.zarr" / "c").rglob("*") if p.is_file()}
    bad.write_bytes(good)
    if how == "resume":
        bp.resume(folder, num_workers=2)
    else:
        job_type = "local" if how == "resume_from" else "subprocess"
        bp.copy(source, tmp_path / "out.zarr", **run, resume_from=folder, job_type=job_type)
    np.testing.assert_array_equal(bp.open_source(tmp_path / "out.zarr")[...], image)
    assert {p: p.stat().st_mtime_ns for p in stamps} == stamps
    assert not Path(folder).exists()


def test_values_are_kept_over_a_resume(tmp_path: Path, config: RunnerConfig) -> None:
    switch = tmp_path / "works"

    def unreliable(item: int) -> int:
        if item % 4 == 1 and not switch.exists():
            raise ValueError("not yet")
        return 10 * item

    with pytest.raises(RunnerError) as caught:
        LocalRunner(config).map(unreliable, 10, num_workers=2)
    assert list(caught.value.failed_block_ids) == [1, 5, 9]
    switch.touch()
    assert bp.resume(str(caught.value.tmp_folder)) == [10 * item for item in range(10)]


@pytest.mark.parametrize("how", ["resume", "resume_from"])
def test_values_are_in_the_order_of_the_ids_after_a_resume(
    tmp_path: Path, config: RunnerConfig, how: str
) -> None:
    switch = tmp_path / "works"

    def unreliable(item: int) -> int:
        if item == 4 and not switch.exists():
            raise ValueError("not yet")
        return 10 * item

    with pytest.raises(RunnerError) as caught:
        LocalRunner(config).map(unreliable, item_ids=[4, 1, 4, 0])
    switch.touch()
    folder = str(caught.value.tmp_folder)
    got = bp.resume(folder) if how == "resume" else LocalRunner(config).map(unreliable, 9, resume_from=folder)
    assert got == [40, 10, 40, 0]


def test_resume_from_does_only_what_the_run_was_asked_for(tmp_path: Path, config: RunnerConfig) -> None:
    image = np.arange(1, 65, dtype="uint16").reshape(8, 8)
    source = stored(tmp_path, "in.zarr", image, chunks=(4, 4))
    bad = tmp_path / "in.zarr" / "c" / "1" / "1"
    good = bad.read_bytes()
    bad.write_bytes(b"torn")
    run: dict[str, Any] = {"job_config": config, "block_shape": (4, 4), "chunks": (4, 4)}
    with pytest.raises(RunnerError) as caught:
        bp.copy(source, tmp_path / "out.zarr", block_ids=[1, 3], **run)
    bad.write_bytes(good)
    out = bp.copy(source, tmp_path / "out.zarr", resume_from=caught.value.tmp_folder, **run)
    image[:, :4] = 0
    np.testing.assert_array_equal(out[...], image)


def test_what_nobody_else_could_open_keeps_no_folder_and_says_so(
    tmp_path: Path, config: RunnerConfig
) -> None:
    image = np.arange(64, dtype="uint16").reshape(8, 8)
    with pytest.warns(BioimagePyWarning, match=r"no run folder is kept.*held in memory"):
        np.testing.assert_array_equal(bp.copy(image, job_config=config), image)
    stored(tmp_path, "in.zarr", image, chunks=(4, 4))
    with pytest.warns(BioimagePyWarning, match="no run folder is kept.*hdf5"):
        bp.copy(tmp_path / "in.zarr", tmp_path / "out.h5", job_config=config)
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").iterdir())


@pytest.mark.parametrize("output", ["out.h5:/raw", "out.npy", "out.zarr", None])
def test_a_resumable_run_that_cannot_be_is_refused_before_anything_is_made(
    tmp_path: Path, output: str | None
) -> None:
    image = np.arange(64, dtype="uint16").reshape(8, 8)
    stored(tmp_path, "in.zarr", image, chunks=(4, 4))
    config = RunnerConfig(tmp_root=tmp_path / "runs", resumable=True)
    source = image if output == "out.zarr" else tmp_path / "in.zarr"
    target = None if output is None else str(tmp_path / output)
    if target is not None:
        bp.copy(image + 1, target)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    with pytest.raises(InvalidArgumentError, match="resumable"):
        bp.copy(source, target, job_config=config, overwrite=target is not None)
    with pytest.raises(InvalidArgumentError, match="resumable"):
        bp.pyramid(image, tmp_path / "out.ome.zarr", job_config=config)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_a_resumable_run_keeps_a_folder_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def fail(item: int) -> None:
        raise ValueError(item)

    with pytest.raises(RunnerError) as caught:
        LocalRunner(RunnerConfig(resumable=True)).map(fail, 1)
    assert Path(str(caught.value.tmp_folder)).parent == tmp_path.resolve()


def test_resume_from_what_is_no_run_folder(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="distributed"):
        bp.copy(np.zeros((4, 4)), resume_from=tmp_path)
    with pytest.raises(InvalidArgumentError, match="distributed"):
        bp.copy(np.zeros((4, 4)), resume_from="nowhere", job_config=RunnerConfig(tmp_root=tmp_path))


SLOW_COPY = """
import os, sys, time
import bioimage_py as bp
from bioimage_py.runner import RunnerConfig
from bioimage_py.wrapper import SimpleTransformationSource
folder = sys.argv[1]
begun = []
def slow(block):
    time.sleep(0.02)
    begun.append(block.shape)
    while len(begun) > 60 and not os.path.exists(folder + "/gone"):
        time.sleep(0.02)
    return block + 1
source = SimpleTransformationSource(bp.open_source(folder + "/in.zarr"), slow, dtype="uint16")
bp.copy(source, folder + "/out.zarr", chunks=(8, 8), block_shape=(8, 8), num_workers=2,
        job_config=RunnerConfig(tmp_root=folder + "/runs"))
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_the_process_dies_and_resume_finishes(tmp_path: Path, number: int) -> None:
    image = np.random.default_rng(0).integers(0, 9999, (128, 128)).astype("uint16")
    stored(tmp_path, "in.zarr", image, chunks=(8, 8))
    with subprocess.Popen(
        [sys.executable, "-c", SLOW_COPY, str(tmp_path)], stderr=subprocess.DEVNULL
    ) as process:
        logs = (tmp_path / "runs").glob
        eventually(lambda: len(read_block_logs(logs("*/attempts/*.blocks"))) > 10)
        folder = next((tmp_path / "runs").iterdir())
        with pytest.raises(InvalidArgumentError, match="is being run by process"):
            bp.resume(folder)
        process.send_signal(number)
        process.wait(PATIENCE)
    (tmp_path / "gone").touch()
    stamps = {p: p.stat().st_mtime_ns for p in (tmp_path / "out.zarr" / "c").rglob("*") if p.is_file()}
    assert 0 < len(stamps) < 256
    bp.resume(folder)
    np.testing.assert_array_equal(bp.open_source(tmp_path / "out.zarr")[...], image + 1)
    again = [p for p in stamps if p.suffix != ".__lock" and p.stat().st_mtime_ns != stamps[p]]
    assert len(again) <= 2, "no more than the blocks in hand are done twice"
    assert not list((tmp_path / "out.zarr").rglob("*lock*"))
