"""What a run says of itself at its end: chunks and bytes counted exactly, and where the time of its workers went."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bioimage_py as bp
from bioimage_py.errors import RunnerError
from bioimage_py.kernels import STAGES, Meter, Tally
from bioimage_py.runner import RunnerConfig
from bioimage_py.runner.run import RunAccount, account_of_attempts
from bioimage_py.runner.work import CompositeWork
from bioimage_py.wrapper import SimpleTransformationSource, ThresholdSource
from tests.runner.test_subprocess import stored

IMAGE = np.random.default_rng(0).integers(0, 99, (40, 48, 48)).astype("uint16")
CHUNKS = (16, 16, 16)
N_CHUNKS = 27
BACKENDS = ["local", "local with folder", "subprocess"]


class LastProgress:
    """Keeps what a run reported last, and that it told its account once only."""

    def __init__(self) -> None:
        self.accounts: list[RunAccount] = []

    def __call__(self, progress: bp.Progress) -> None:
        if progress.account is not None:
            self.accounts.append(progress.account)

    @property
    def account(self) -> RunAccount:
        (account,) = self.accounts
        return account


@pytest.fixture
def last() -> LastProgress:
    return LastProgress()


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    config = RunnerConfig(tmp_root=tmp_path / "runs", retries=0)
    return {
        "local": {"num_workers": 2},
        "local with folder": {"num_workers": 2, "job_config": config},
        "subprocess": {"num_workers": 2, "job_config": config, "job_type": "subprocess"},
    }[request.param]


@pytest.fixture
def source(tmp_path: Path) -> bp.Source:
    return stored(tmp_path, "in.zarr", IMAGE, chunks=CHUNKS)


def chunk_bytes(folder: Path) -> int:
    return sum(p.stat().st_size for p in (folder / "c").rglob("*") if p.is_file())


def all_bytes(folder: Path) -> int:
    """Those of an array and its metadata, without what is kept beside them."""
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file() and ".bioimage-py" not in p.parts)


def check_times(account: RunAccount) -> None:
    """No share is negative, they are all of the workers' time, and the stages are no more than that."""
    assert set(account.stages) == set(STAGES)
    assert all(seconds >= 0 for seconds in account.stages.values())
    assert 0 < account.seconds <= account.worker_seconds * (1 + 1e-9)
    # The clock of the states may have been set meanwhile, by a little.
    assert sum(account.stages.values()) <= account.worker_seconds * 1.05 + 0.05
    assert math.isclose(sum(account.shares.values()), 1)
    assert account.limit == max(account.shares, key=account.shares.__getitem__)


def test_moved_chunks(tmp_path: Path, source: bp.Source, backend: dict[str, Any], last: LastProgress) -> None:
    bp.copy(source, tmp_path / "out.zarr", block_shape=CHUNKS, progress=last, **backend)
    account = last.account
    assert (account.chunks_moved, account.chunks_recoded) == (N_CHUNKS, 0)
    assert account.bytes_in == account.bytes_out == IMAGE.nbytes
    assert account.encoded_in == account.encoded_out == chunk_bytes(tmp_path / "out.zarr")
    assert account.stages["reading"] == account.stages["writing"] == 0
    assert account.stages["moving_in"] > 0
    assert account.stages["moving_out"] > 0
    check_times(account)


def test_chunks_moved_into_shards(
    tmp_path: Path, source: bp.Source, backend: dict[str, Any], last: LastProgress
) -> None:
    bp.copy(source, tmp_path / "out.zarr", chunks=CHUNKS, shards=(32, 32, 32), progress=last, **backend)
    account = last.account
    assert (account.chunks_moved, account.chunks_recoded) == (N_CHUNKS, 0)
    assert account.bytes_in == account.bytes_out == IMAGE.nbytes
    assert account.encoded_in == chunk_bytes(tmp_path / "in.zarr")
    assert account.encoded_out == chunk_bytes(tmp_path / "out.zarr")
    check_times(account)


def test_recoded_chunks(
    tmp_path: Path, source: bp.Source, backend: dict[str, Any], last: LastProgress
) -> None:
    bp.copy(
        source,
        tmp_path / "out.zarr",
        block_shape=(16, 48, 48),
        chunks=CHUNKS,
        codec="gzip:1",
        progress=last,
        **backend,
    )
    account = last.account
    assert (account.chunks_moved, account.chunks_recoded) == (0, N_CHUNKS)
    assert account.bytes_in == account.bytes_out == IMAGE.nbytes
    assert account.encoded_in == all_bytes(tmp_path / "in.zarr")
    assert account.encoded_out == all_bytes(tmp_path / "out.zarr")
    assert account.stages["moving_in"] == account.stages["moving_out"] == 0
    assert account.stages["reading"] > 0
    assert account.stages["writing"] > 0
    check_times(account)


def test_a_mask_reads_and_writes_less(
    tmp_path: Path, source: bp.Source, backend: dict[str, Any], last: LastProgress
) -> None:
    inside = np.zeros(IMAGE.shape, "uint8")
    inside[:16] = 1
    inside[20, 20, 20] = 1
    mask = stored(tmp_path, "mask.zarr", inside, chunks=CHUNKS)
    bp.copy(source, tmp_path / "out.zarr", block_shape=CHUNKS, mask=mask, progress=last, **backend)
    account = last.account
    # Nine blocks are all inside and moved; of one more a voxel is copied.
    assert (account.chunks_moved, account.chunks_recoded) == (9, 1)
    assert account.bytes_in == account.bytes_out == 10 * 16**3 * 2
    assert (account.encoded_in, account.encoded_out) == (None, None)
    check_times(account)


def test_a_resumed_run_is_the_sum_of_its_attempts(
    tmp_path: Path, backend: dict[str, Any], last: LastProgress, source: bp.Source
) -> None:
    if "job_config" not in backend:
        pytest.skip("keeps no run folder")
    bad = tmp_path / "in.zarr" / "c" / "1" / "1" / "1"
    good = bad.read_bytes()
    bad.write_bytes(b"torn")
    with pytest.raises(RunnerError) as caught:
        bp.copy(source, tmp_path / "out.zarr", block_shape=CHUNKS, progress=last, **backend)
    before = last.account
    assert before.chunks_moved == N_CHUNKS - 1
    assert before.bytes_out == IMAGE.nbytes - 16**3 * 2
    bad.write_bytes(good)
    after = LastProgress()
    bp.resume(str(caught.value.tmp_folder), progress=after)
    account = after.account
    assert account.chunks_moved == N_CHUNKS
    assert account.bytes_in == account.bytes_out == IMAGE.nbytes
    assert account.encoded_out == chunk_bytes(tmp_path / "out.zarr")
    assert account.worker_seconds > before.worker_seconds
    check_times(account)


def test_a_wrapper_computes_what_a_store_reads(tmp_path: Path, source: bp.Source, last: LastProgress) -> None:
    bp.copy(ThresholdSource(source, 50), tmp_path / "out.zarr", chunks=CHUNKS, progress=last)
    account = last.account
    assert account.bytes_in == IMAGE.nbytes
    assert account.bytes_out == IMAGE.size
    assert account.stages["computing"] > 0
    assert account.stages["reading"] > 0
    check_times(account)


def test_slow_computing_is_named(last: LastProgress, source: bp.Source) -> None:
    import time

    def slow(block: Any) -> Any:
        time.sleep(0.2)
        return block

    bp.copy(SimpleTransformationSource(source, slow), progress=last)
    assert last.account.limit == "computing"
    assert last.account.stages["computing"] >= 0.2


def test_downsampling_reads_more_than_it_writes(
    tmp_path: Path, source: bp.Source, last: LastProgress
) -> None:
    bp.downsample(source, 2, tmp_path / "out.zarr", method="mean", chunks=(8, 8, 8), progress=last)
    assert last.account.bytes_in == IMAGE.nbytes
    assert last.account.bytes_out == IMAGE.nbytes // 8
    assert last.account.chunks_recoded == 3 * 3 * 3


def test_the_whole_array_at_once(last: LastProgress, source: bp.Source, tmp_path: Path) -> None:
    bp.copy(source, tmp_path / "out.zarr", progress=last)
    assert last.account.chunks_moved == N_CHUNKS
    into_memory = LastProgress()
    bp.copy(source, progress=into_memory)
    account = into_memory.account
    assert (account.chunks_moved, account.chunks_recoded) == (0, 0)
    assert account.bytes_in == account.bytes_out == IMAGE.nbytes
    assert account.encoded_in == all_bytes(tmp_path / "in.zarr")
    assert account.encoded_out is None
    check_times(account)


def test_what_failed_at_once_is_not_counted(tmp_path: Path, source: bp.Source, last: LastProgress) -> None:
    (tmp_path / "in.zarr" / "c" / "2" / "2" / "2").write_bytes(b"torn")
    with pytest.raises(RunnerError):
        bp.copy(source, tmp_path / "out.zarr", progress=last)
    assert last.account.chunks_moved <= N_CHUNKS - 1


def test_blocks_that_cut_chunks_do_not_tell_what_was_read(source: bp.Source, last: LastProgress) -> None:
    bp.copy(source, np.zeros_like(IMAGE), block_shape=(40, 48, 24), progress=last)
    assert last.account.bytes_in == IMAGE.nbytes
    assert last.account.encoded_in is None


def test_nothing_to_do(last: LastProgress) -> None:
    bp.copy(np.zeros((0, 3)), progress=last)
    assert last.account.limit is None
    assert last.account.shares == {}
    assert str(last.account) == "0 chunks moved, 0 recoded, 0 B in, 0 B out"
    assert last.account.to_json()["gb_per_second"] is None


def test_a_function_of_the_user_does_not_count(source: bp.Source, last: LastProgress) -> None:
    runner = bp.get_runner("local")
    assert runner.map(lambda item: item, 3) == [0, 1, 2]
    assert account_of_attempts(CompositeWork((), ()), [{"began": 1.0, "seen": 2.0, "threads": 1}]) is None


def test_the_log_has_it_on_one_line(source: bp.Source, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "bioimage_py"):
        bp.copy(source)
    (line,) = [r.getMessage() for r in caplog.records if r.name == "bioimage_py.runner.run.run_account"]
    assert "\n" not in line
    assert line.startswith("0 chunks moved, 0 recoded, 180 KiB (")


def state(began: float, seen: float, threads: int, **counts: float) -> dict[str, Any]:
    return {"began": began, "seen": seen, "threads": threads, "tally": {**Tally().to_json(), **counts}}


def test_attempts_are_summed_and_the_clock_is_not() -> None:
    account = account_of_attempts(
        CompositeWork((), ()),
        [
            state(100, 110, 2, reading=12.0, bytes_out=600, bytes_in=500, chunks_recoded=3),
            state(105, 115, 1, reading=1.0, writing=5.0, bytes_out=400, bytes_in=300, chunks_recoded=2),
            # The next day.
            state(90_000, 90_005, 1, computing=2.0, bytes_out=1000, bytes_in=200, chunks_recoded=5),
            {"began": 90_100, "seen": 90_200, "reason": None},
            {"tally": "torn", "began": 0, "seen": 9, "threads": 1},
        ],
    )
    assert account is not None
    assert account.seconds == 15 + 5
    assert account.worker_seconds == 20 + 10 + 5
    assert (account.bytes_in, account.bytes_out, account.chunks_recoded) == (1000, 2000, 10)
    assert account.bytes_per_second == 100
    assert account.shares["idle"] == pytest.approx(15 / 35)
    assert account.limit == "idle"
    assert "most of it without work" in str(account)


def test_text_of_an_account() -> None:
    stages = {**dict.fromkeys(STAGES, 0.0), "reading": 6.0, "writing": 3.0}
    account = RunAccount(5.0, 10.0, 2**30, 2**29, 2**28, None, 1, 2000, stages)
    assert str(account) == (
        "1 chunk moved, 2,000 recoded, 1 GiB (256 MiB encoded) in, 512 MiB out, 107 MB/s\n"
        "time of workers: reading 60 %, writing 30 %, idle 10 %; the limit was reading"
    )


def test_threads_count_for_themselves_and_spans_nest(monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    meter = Meter()

    def count() -> None:
        for _ in range(1000):
            meter.mine.chunks_moved += 1

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert meter.total().chunks_moved == 4000
    now = [0.0]
    monkeypatch.setattr("bioimage_py.kernels.stage_timer.perf_counter", lambda: now[0])
    mine = meter.mine
    with mine.rest("computing"):
        now[0] = 1
        with mine.rest("writing"):
            now[0] = 4
        mine.reading += 2
        now[0] = 8
    assert (mine.computing, mine.writing, mine.reading, mine.busy) == (3, 3, 2, 8)
    assert Tally.from_json(mine.to_json()) == mine


@pytest.mark.parametrize("how", [lambda s: s, lambda s: bp.with_metadata(s, axes="zyx")])
def test_only_the_store_below_counts_as_reading(
    how: Callable[[bp.Source], bp.Source], source: bp.Source, last: LastProgress
) -> None:
    bp.copy(how(source), np.zeros(IMAGE.shape, "float64"), progress=last)
    assert last.account.bytes_in == IMAGE.nbytes
    assert last.account.bytes_out == 4 * IMAGE.nbytes


@pytest.mark.parametrize("codec", [None, "gzip:1"])
def test_a_pyramid_is_the_sum_of_its_parts(
    codec: str | None, tmp_path: Path, source: bp.Source, backend: dict[str, Any], last: LastProgress
) -> None:
    made = bp.pyramid(
        source, tmp_path / "out.ome.zarr", levels=3, chunks=CHUNKS, codec=codec, progress=last, **backend
    )
    account = last.account
    grids = [math.prod(-(-n // c) for n, c in zip(level.shape, level.chunks, strict=True)) for level in made]
    assert account.chunks_moved + account.chunks_recoded == sum(grids)
    assert account.chunks_moved == (N_CHUNKS if codec is None else 0)
    assert account.bytes_out == sum(level.nbytes for level in made)
    # A level that others are made from is read again where a block holds too little of it.
    assert account.bytes_in >= IMAGE.nbytes
    assert account.stages["computing"] > 0
    assert account.stages["writing"] > 0
    check_times(account)


def test_parts_that_do_not_count() -> None:
    nothing = CompositeWork((), ())
    assert nothing.with_new_counts().tally() is None


def test_a_whole_ome_zarr_is_the_sum_of_its_arrays(
    tmp_path: Path, source: bp.Source, backend: dict[str, Any], last: LastProgress
) -> None:
    levels = bp.pyramid(source, tmp_path / "in.ome.zarr", levels=3, chunks=CHUNKS)
    n_chunks = sum(
        math.prod(-(-n // c) for n, c in zip(level.shape, level.chunks, strict=True)) for level in levels
    )
    bp.copy(tmp_path / "in.ome.zarr", tmp_path / "out.ome.zarr", progress=last, **backend)
    account = last.account
    assert (account.chunks_moved, account.chunks_recoded) == (n_chunks, 0)
    assert account.bytes_in == account.bytes_out == sum(level.nbytes for level in levels)
    stored_bytes = sum(chunk_bytes(tmp_path / "out.ome.zarr" / str(n)) for n in range(3))
    assert account.encoded_in == account.encoded_out == stored_bytes
    check_times(account)


def test_arrays_that_are_opened_again_go_on_counting(tmp_path: Path, source: bp.Source) -> None:
    from bioimage_py.geometry import Blocking, IdSet
    from bioimage_py.kernels import CopyKernel
    from bioimage_py.runner import Journal
    from bioimage_py.runner.work import CopyWork, DeferredWork, WorkShelf

    output = bp.create_output(tmp_path / "out.zarr", like=source, chunks=CHUNKS)
    blocking, opened = Blocking(IMAGE.shape, CHUNKS), []

    def open_work() -> CopyWork:
        opened.append(1)
        return CopyWork(CopyKernel(source, output), blocking, CHUNKS, IdSet.from_range(N_CHUNKS))

    def other() -> CopyWork:
        return open_work()

    shelf = WorkShelf(most=1)
    works = [
        DeferredWork(blocking, CHUNKS, IdSet.from_range(N_CHUNKS), how, shelf) for how in (open_work, other)
    ]
    for block_id in range(3):
        for work in works:
            work.process((block_id,), Journal(N_CHUNKS))
    assert len(opened) == 6
    assert [work.tally().chunks_recoded for work in works] == [3, 3]
    anew = works[0].with_new_counts()
    anew.process((3,), Journal(N_CHUNKS))
    assert (anew.tally().chunks_recoded, works[0].tally().chunks_recoded) == (1, 3)
