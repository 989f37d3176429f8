"""What a resume does and does not do: no block twice, no reading of what is done, and folders that stay small."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bioimage_py as bp
from bioimage_py.errors import RunInterrupted, RunnerError
from bioimage_py.geometry import Blocking, IdSet
from bioimage_py.kernels import CopyKernel
from bioimage_py.runner import LocalRunner, RunnerConfig, SubprocessRunner, TaskEnd
from bioimage_py.runner.run import AttemptJournal, Portion, RunFolder, read_recorded
from bioimage_py.runner.work import CopyWork
from bioimage_py.sources import Source, open_source
from tests.counting import CountingSource


class StoredCounting(CountingSource):
    """Counts, and can be found again by other processes, which do not count."""

    def to_spec(self) -> Any:
        return self.wrapped.to_spec()

    def for_run(self, threads: int, cache_bytes: int) -> Source:
        return self


def counting_work(source: StoredCounting, sink: StoredCounting) -> CopyWork:
    blocking = Blocking(source.shape, (4, 4))
    kernel = CopyKernel(source, sink, None, "unsafe")
    return CopyWork(kernel, blocking, (8, 8), IdSet.from_range(blocking.n_blocks))


@pytest.mark.parametrize("missing_at_first", [{5}, {0, 63}, set(range(20, 50)), {7, 8, 9, 40}])
def test_a_resume_reads_and_writes_only_what_is_missing(tmp_path: Path, missing_at_first: set[int]) -> None:
    image = np.arange(1024, dtype="uint16").reshape(32, 32)
    bp.copy(image, tmp_path / "in.zarr", chunks=(4, 4))
    output = bp.create_output(
        tmp_path / "out.zarr", shape=(32, 32), dtype="uint16", chunks=(4, 4), shards=(8, 8)
    )
    blocking = Blocking((32, 32), (4, 4))
    bad = {blocking[n] for n in missing_at_first}

    def failing(box: Any) -> BaseException | None:
        return OSError("not yet") if box in bad else None

    source = StoredCounting(open_source(tmp_path / "in.zarr"), fails=failing)
    runner = LocalRunner(RunnerConfig(tmp_root=tmp_path / "runs"))
    journal = runner.execute(counting_work(source, StoredCounting(output)), 2)
    done = journal.done_ids()
    assert journal.has_failures
    assert not missing_at_first & set(done)
    source, sink = StoredCounting(open_source(tmp_path / "in.zarr")), StoredCounting(output)
    journal = runner.drive(RunFolder.open(str(journal.folder)), counting_work(source, sink), 2)
    assert not journal.has_failures
    missing = {blocking[n] for n in set(range(64)) - set(done)}
    assert sorted(source.reads, key=lambda box: box.begin) == sorted(missing, key=lambda box: box.begin)
    times = sink.written()
    for n in range(64):
        assert (times[(*blocking[n].slices,)] == (blocking[n] in missing)).all()
    np.testing.assert_array_equal(output[...], image)
    assert not list((tmp_path / "runs").iterdir())


def test_a_resume_with_nothing_missing_touches_nothing(tmp_path: Path) -> None:
    image = np.arange(1024, dtype="uint16").reshape(32, 32)
    bp.copy(image, tmp_path / "in.zarr", chunks=(4, 4))
    config = RunnerConfig(tmp_root=tmp_path / "runs", keep_run_folder=True)
    bp.copy(tmp_path / "in.zarr", tmp_path / "out.zarr", chunks=(4, 4), block_shape=(4, 4), job_config=config)
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out.zarr").rglob("*")}
    (folder,) = (tmp_path / "runs").iterdir()
    bp.resume(folder)
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "out.zarr").rglob("*")} == before
    assert len(list((folder / "attempts").glob("*.blocks"))) == 1


@pytest.mark.parametrize("backend", [LocalRunner, SubprocessRunner])
def test_the_error_that_is_said_is_the_one_of_the_resume(tmp_path: Path, backend: Any) -> None:
    reason = tmp_path / "reason"

    def fail(item: int) -> int:
        if item % 2:
            raise ValueError(reason.read_text())
        return item

    reason.write_text("the disk is full")
    with pytest.raises(RunnerError, match="the disk is full") as caught:
        backend(RunnerConfig(tmp_root=tmp_path / "runs", retries=0)).map(fail, 4)
    reason.write_text("the disk is gone")
    folder = str(caught.value.tmp_folder)
    with pytest.raises(RunnerError, match="the disk is gone") as again:
        bp.resume(folder)
    assert list(again.value.failed_block_ids) == [1, 3]


# -- sizes, of journals written as workers write them


def big_run(tmp_path: Path, n: int) -> RunFolder:
    """The folder of a copy in n blocks, of which none is done; the arrays are not there."""
    folder = RunFolder.make(tmp_path)
    folder.write_run({"work": {"kind": "copy", "block_ids": [[0, n]]}, "bytes": 0})
    return folder


def write_round(folder: RunFolder, number: int, parts: list[IdSet]) -> None:
    folder.write_round(number, [Portion(part) for part in parts], {"needs": {}})


def size_of(folder: RunFolder) -> int:
    return sum(p.stat().st_size for p in folder.path.rglob("*") if p.is_file())


def test_blocks_in_random_order_take_less_than_20_bytes_each(tmp_path: Path) -> None:
    n, n_tasks = 4 * 10**4, 8
    folder = big_run(tmp_path, n)
    everything = IdSet.from_range(n)
    parts = everything.split(n_tasks)
    write_round(folder, 0, parts)
    order = np.random.default_rng(0)
    for task, part in enumerate(parts):
        with AttemptJournal(folder, 0, task) as journal:
            for block in order.permutation(np.arange(*part.runs[0])).tolist():
                journal.done((block,))
    assert size_of(folder) < 20 * n  # 20 MB for a million
    assert read_recorded(folder).done == everything


def test_a_billion_neighbours_take_less_than_a_megabyte(tmp_path: Path) -> None:
    n, n_tasks = 10**9, 1000
    folder = big_run(tmp_path, n)
    everything = IdSet.from_range(n)
    parts = everything.split(n_tasks)
    write_round(folder, 0, parts)
    for task, part in enumerate(parts[:100]):
        with AttemptJournal(folder, 0, task) as journal:
            journal.done(range(*part.runs[0]))
    assert size_of(folder) < 1e6
    done = read_recorded(folder).done
    assert done == IdSet.from_range(parts[99].runs[-1][1])
    missing = everything - done
    write_round(folder, 1, missing.split(n_tasks))
    assert size_of(folder) < 1e6


@pytest.mark.parametrize("retries", [0, 2])
def test_a_round_that_died_before_the_resume_is_no_try_of_it(tmp_path: Path, retries: int) -> None:
    image = np.arange(1024, dtype="uint16").reshape(32, 32)
    bp.copy(image, tmp_path / "in.zarr", chunks=(8, 8))
    source = open_source(tmp_path / "in.zarr")
    sink = bp.create_output(tmp_path / "out.zarr", like=image, chunks=(8, 8))

    class Submitted(SubprocessRunner):
        """Stands for a backend whose tasks go on without their submitter; here they have been killed with it."""

        submitted = False

        def run_round(self, folder: RunFolder, number: int, n_tasks: int, *args: Any) -> list[TaskEnd]:
            if number > 0:
                return super().run_round(folder, number, n_tasks, *args)
            if not self.submitted:
                self.submitted = True
                raise KeyboardInterrupt
            return [TaskEnd(task, "killed", "its node is gone") for task in range(n_tasks)]

        def open_round(self, folder: RunFolder) -> int | None:
            return folder.n_rounds() - 1 if folder.n_rounds() else None

    runner = Submitted(RunnerConfig(tmp_root=tmp_path / "runs", retries=retries))
    blocking = Blocking(source.shape, (8, 8))
    kernel = CopyKernel(source, sink, None, "unsafe")
    work = CopyWork(kernel, blocking, (8, 8), IdSet.from_range(blocking.n_blocks))
    with pytest.raises(RunInterrupted):
        runner.execute(work, 1)
    (folder,) = (tmp_path / "runs").iterdir()
    journal = runner.drive(RunFolder.open(folder), work, 1)
    assert not journal.has_failures
    np.testing.assert_array_equal(sink[...], image)
