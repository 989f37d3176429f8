"""Several works as one run: numbers, waves that wait for each other, run folders and failures."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

import bioimage_py as bp
from bioimage_py.errors import InvalidArgumentError
from bioimage_py.geometry import Blocking, Box, IdSet
from bioimage_py.kernels import CopyKernel
from bioimage_py.runner import Journal, Runner, get_runner
from bioimage_py.runner.work import CompositeWork, CopyWork
from bioimage_py.sources import NumpySource, Source, as_source, create_output, open_source
from bioimage_py.wrapper import SimpleTransformationSource
from tests.runner.slurm_lab import SlurmLab


def part(source: Source, sink: Source, block_shape: tuple[int, ...]) -> CopyWork:
    blocking = Blocking(source.shape, block_shape)
    return CopyWork(CopyKernel(source, sink), blocking, block_shape, IdSet.from_range(blocking.n_blocks))


def chain(folder: Path, first: Any) -> CompositeWork:
    """Two copies one after the other; the blocks of the second come first."""
    spool = create_output(folder / "spool.zarr", shape=(24, 8), dtype="uint16", chunks=(4, 8))
    sink = create_output(folder / "out.zarr", shape=(24, 8), dtype="uint16", chunks=(8, 4))
    second = part(open_source(folder / "spool.zarr"), sink, (8, 4))
    return CompositeWork((second, part(as_source(first), spool, (4, 8))), ((1,), (0,)))


def image(folder: Path) -> np.ndarray:
    values = np.arange(1, 24 * 8 + 1).reshape(24, 8).astype("uint16")
    bp.copy(values, folder / "in.zarr", chunks=(4, 8))
    return values


@given(
    sizes=st.lists(st.integers(0, 6), min_size=1, max_size=5),
    chosen=st.sets(st.integers(0, 29)),
)
def test_every_block_belongs_to_one_part(sizes: list[int], chosen: set[int]) -> None:
    parts = tuple(
        part(as_source(np.zeros((n, 1), "uint8")), as_source(np.zeros((n, 1), "uint8")), (1, 1))
        for n in sizes
    )
    work = CompositeWork(parts, (tuple(range(len(parts))),))
    assert work.n_blocks == sum(sizes)
    assert work.block_ids == IdSet.from_range(sum(sizes)) == work.group_ids()
    asked = IdSet.from_ids(i for i in chosen if i < sum(sizes))
    narrowed = work.narrowed(asked)
    assert narrowed.block_ids == asked == narrowed.ready(asked)
    assert [block for group in narrowed.group_ids() for block in narrowed.blocks_in(group)] == list(asked)


def test_blocks_that_are_ready_are_those_of_the_first_open_wave(tmp_path: Path) -> None:
    image(tmp_path)
    work = chain(tmp_path, tmp_path / "in.zarr")
    assert work.offsets == (0, 6, 12)
    assert work.ready(work.block_ids) == range_of(6, 12)
    assert work.ready(IdSet.from_ids([0, 3, 7])) == [7]
    assert work.ready(IdSet.from_ids([0, 3])) == [0, 3]
    assert work.ready(IdSet()) == []


def range_of(begin: int, end: int) -> IdSet:
    return IdSet.from_range(end, begin)


class Slow(NumpySource):
    """Lets the others of its wave begin before it answers for its first row."""

    def _read(self, box: Box) -> np.ndarray:
        if box.begin[0] == 0:
            threading.Event().wait(0.1)
        return super()._read(box)


def test_a_wave_begins_when_the_one_before_is_done(tmp_path: Path) -> None:
    values = image(tmp_path)
    work = chain(tmp_path, Slow(values))
    journal = get_runner("local").execute(work, 4)
    assert not journal.has_failures
    assert journal.done_ids() == range_of(0, 12)
    np.testing.assert_array_equal(open_source(tmp_path / "out.zarr")[...], values)


class FailsOnce(NumpySource):
    """Cannot be read in its last rows until it is told to."""

    broken = True

    def _read(self, box: Box) -> np.ndarray:
        if self.broken and box.end[0] == 24:
            raise OSError("no last row")
        return super()._read(box)


def test_a_wave_with_a_failure_keeps_the_next_from_beginning(tmp_path: Path) -> None:
    values = image(tmp_path)
    source = FailsOnce(values)
    work = chain(tmp_path, source)
    journal = get_runner("local").execute(work, 2)
    assert work.block_ids - journal.done_ids() == [0, 1, 2, 3, 4, 5, 11]
    assert journal.first_error is not None
    assert journal.first_error[0] == 11
    assert not open_source(tmp_path / "out.zarr")[...].any()
    source.broken = False
    rest = work.narrowed(work.block_ids - journal.done_ids())
    assert not get_runner("local").execute(rest, 2).has_failures
    np.testing.assert_array_equal(open_source(tmp_path / "out.zarr")[...], values)


def guarded(values: np.ndarray) -> np.ndarray:
    """Fail on the last rows as long as there is no file that says otherwise."""
    if values.max() == 24 * 8 and not Path(os.environ["BIOIMAGE_PY_TEST_PERMIT"]).exists():
        raise OSError("no last row")
    return values


def check_failure_and_resume(folder: Path, runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    permit = folder / "permit"
    monkeypatch.setenv("BIOIMAGE_PY_TEST_PERMIT", str(permit))
    values = image(folder)
    work = chain(folder, SimpleTransformationSource(folder / "in.zarr", guarded))
    journal = runner.execute(work, 2)
    assert work.block_ids - journal.done_ids() == [0, 1, 2, 3, 4, 5, 11]
    assert journal.first_error is not None
    assert "no last row" in str(journal.first_error[1])
    assert journal.folder is not None
    assert not open_source(folder / "out.zarr")[...].any()
    permit.touch()
    bp.resume(journal.folder)
    assert not journal.folder.exists()
    np.testing.assert_array_equal(open_source(folder / "out.zarr")[...], values)


@pytest.mark.parametrize("job_type", ["local", "subprocess"])
def test_failure_and_resume(job_type: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = bp.RunnerConfig(tmp_root=tmp_path / "runs", retries=0, poll_interval=0.2)
    check_failure_and_resume(tmp_path, get_runner(job_type, config), monkeypatch)


def test_waves_follow_each_other_in_processes(tmp_path: Path) -> None:
    values = image(tmp_path)
    config = bp.RunnerConfig(tmp_root=tmp_path / "runs", retries=0)
    journal = get_runner("subprocess", config).execute(chain(tmp_path, tmp_path / "in.zarr"), 2)
    assert not journal.has_failures
    np.testing.assert_array_equal(open_source(tmp_path / "out.zarr")[...], values)


@pytest.mark.slow
def test_slurm(tmp_path: Path, slurm: SlurmLab, slurm_config: Callable[..., Any]) -> None:
    values = image(tmp_path)
    journal = get_runner("slurm", slurm_config()).execute(chain(tmp_path, tmp_path / "in.zarr"), 2)
    assert not journal.has_failures
    np.testing.assert_array_equal(open_source(tmp_path / "out.zarr")[...], values)


@pytest.mark.slow
def test_dask(tmp_path: Path, scheduler: str) -> None:
    values = image(tmp_path)
    config = bp.DaskConfig(address=scheduler, tmp_root=tmp_path / "runs")
    journal = get_runner("dask", config).execute(chain(tmp_path, tmp_path / "in.zarr"), 2)
    assert not journal.has_failures
    np.testing.assert_array_equal(open_source(tmp_path / "out.zarr")[...], values)


def test_a_run_of_other_parts_is_not_continued(tmp_path: Path) -> None:
    image(tmp_path)
    config = bp.RunnerConfig(tmp_root=tmp_path / "runs", keep_run_folder=True)
    runner = get_runner("local", config)
    work = chain(tmp_path, tmp_path / "in.zarr")
    folder = runner.execute(work, 1).folder
    assert folder is not None
    with pytest.raises(InvalidArgumentError, match="cannot be continued"):
        runner.execute(CompositeWork(work.parts[:1], ((0,),)), 1, resume_from=str(folder))


def test_what_is_recorded_has_the_numbers_of_the_whole() -> None:
    values = np.arange(4.0).reshape(4, 1)
    parts = tuple(part(as_source(values), as_source(np.zeros((4, 1))), (1, 1)) for _ in range(2))
    journal = Journal(8)
    work = CompositeWork(parts, ((0, 1),))
    work.process(work.blocks_in(6), journal)
    assert journal.done_ids() == [6]
