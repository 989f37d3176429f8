"""The local backend: the contract, bounded memory, groups of write units, Ctrl-C."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
import tracemalloc
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bioimage_py as bp
from bioimage_py.errors import InvalidArgumentError, RunnerError
from bioimage_py.geometry import Blocking, IdSet, to_roi
from bioimage_py.runner import LocalRunner, RunnerConfig, get_runner
from bioimage_py.runner.work import BlockGroups, Work
from tests.runner.contract import RunnerContract
from tests.waiting import PATIENCE


class TestLocalRunner(RunnerContract):
    def make(self) -> LocalRunner:
        return get_runner("local", RunnerConfig())


@pytest.mark.parametrize("given", [range(4, -1, -2), np.array([3, 1], "u1")])
def test_ids_of_items_are_any_integers(given: Any) -> None:
    assert LocalRunner().map(lambda item: 10 * item, item_ids=given) == [10 * int(i) for i in given]


class _Meetings(Work):
    """Blocks that wait until two of them are under way."""

    outputs = ()
    calls_are_short = True
    block_ids = IdSet.from_range(2)

    def __init__(self) -> None:
        self.meeting = threading.Barrier(2, timeout=PATIENCE)

    def process(self, blocks: tuple[int, ...], journal: Any) -> None:
        self.meeting.wait()
        journal.done(blocks)


def test_a_run_of_short_calls_begins_with_one_thread_and_takes_more_where_they_wait() -> None:
    assert LocalRunner().execute(_Meetings(), 2).done_ids() == IdSet.from_range(2)


def test_never_more_blocks_in_hand_than_workers():
    now, most, lock = [0], [0], threading.Lock()

    def busy(item):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.003)
        with lock:
            now[0] -= 1

    get_runner("local").map(busy, 60, num_workers=3, has_return_val=False)
    assert most[0] == 3


def test_blocks_are_not_listed_ahead():
    image = np.broadcast_to(np.uint8(1), (10**4, 10**4, 10**4))
    got = get_runner("local").run(
        lambda block, *_: block.begin,
        [image],
        block_shape=(10, 10, 10),
        block_ids=range(5),
        has_return_val=True,
    )
    assert got == [(0, 0, 10 * n) for n in range(5)]


def test_one_worker_runs_in_the_calling_thread():
    got = get_runner("local").map(lambda _: threading.current_thread(), 2)
    assert got == [threading.main_thread()] * 2


def test_nested_pools_are_limited():
    threadpoolctl = pytest.importorskip("threadpoolctl")
    pools = get_runner("local").map(
        lambda _: [pool["num_threads"] for pool in threadpoolctl.threadpool_info()], 4, num_workers=2
    )
    assert all(n == 1 for found in pools for n in found)


@pytest.mark.parametrize("block_ids", [None, [0, 7, 28, 29], range(12, 26)])
def test_groups_hold_each_block_once_and_share_no_write_unit(block_ids):
    blocking = Blocking((12, 15), (2, 3))
    ids = IdSet.from_range(blocking.n_blocks) if block_ids is None else IdSet.from_ids(block_ids)
    grouping = BlockGroups(blocking, (4, 9))
    groups = [grouping.blocks_in(group_id, ids) for group_id in grouping.group_ids(ids)]
    assert all(groups)
    assert sorted(i for group in groups for i in group) == list(ids)
    writers: dict[tuple[int, int], int] = {}
    for number, group in enumerate(groups):
        for block_id in group:
            y, x = blocking[block_id].begin
            assert writers.setdefault((y // 4, x // 9), number) == number


def test_user_blocks_smaller_than_a_chunk_are_not_written_by_two_threads(tmp_path):
    from bioimage_py import create_output

    out = create_output(tmp_path / "out.zarr", shape=(40, 40), dtype="uint8", chunks=(20, 20))
    image = np.arange(1600, dtype="uint8").reshape(40, 40)

    def put(block, inputs, outputs, mask):
        outputs[0][to_roi(block)] = inputs[0][to_roi(block)]

    for _ in range(5):
        out[...] = 0
        get_runner("local").run(put, [image], [out], block_shape=(5, 5), num_workers=4)
        np.testing.assert_array_equal(out[...], image)


def test_unknown_backends_and_configs_are_refused():
    with pytest.raises(InvalidArgumentError, match="'local'"):
        get_runner("cloud")
    with pytest.raises(InvalidArgumentError, match="RunnerConfig"):
        get_runner("local", {"memory_limit": 5})
    for field, value in (
        ("poll_interval", 0),
        ("tasks_per_worker", 0),
        ("task_timeout", -1),
        ("memory_limit", "much"),
    ):
        with pytest.raises(InvalidArgumentError, match=field):
            RunnerConfig(**{field: value})


_INTERRUPTED = """
import os, sys, time
from bioimage_py import get_runner
from bioimage_py.errors import RunInterrupted
def slow(item):
    os.write(1, b"started\\n")
    time.sleep({sleep})
try:
    get_runner("local").map(slow, 1000, num_workers={workers}, has_return_val=False)
except RunInterrupted as error:
    print("done", len(error.done_block_ids), "left", len(error.failed_block_ids), error, flush=True)
    sys.exit(130)
"""


@pytest.mark.parametrize(("workers", "sleep"), [(1, 0.05), (2, 0.05), (2, 10 * PATIENCE)])
def test_ctrl_c_waits_for_no_block_and_says_what_is_done(workers, sleep):
    script = _INTERRUPTED.format(workers=workers, sleep=sleep)
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as process:
        assert process.stdout is not None
        for _ in range(8 if sleep < 1 else workers):
            assert process.stdout.readline() == "started\n"
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=PATIENCE)[0].splitlines()[-1].split()
        assert process.returncode == 130
    assert int(said[1]) + int(said[3]) == 1000
    assert (int(said[1]) > 0) is (sleep < 1)


def test_public_names(tmp_path: Path) -> None:
    import bioimage_py

    assert bioimage_py.get_runner is get_runner


def test_failed_blocks_hold_nothing_that_they_read() -> None:
    held: list[weakref.ref[Any]] = []

    class Voxels(np.ndarray):
        """An array that can be watched."""

    def read(block: Any, inputs: Any, outputs: Any, mask: Any) -> None:
        values = inputs[0][to_roi(block)].view(Voxels)
        held.append(weakref.ref(values))
        caught: Exception | None = None
        try:
            values.item("no")
        except (TypeError, ValueError) as error:
            caught = error  # a cycle through the frame, which reference counts alone do not free
        raise ExceptionGroup("all", [OSError("disk full"), caught]) from caught

    gc.disable()
    try:
        with pytest.raises(RunnerError) as failed:
            LocalRunner().run(read, [np.zeros((20, 4))], block_shape=(1, 4), num_workers=3)
        assert len(held) == 20
        assert not [ref for ref in held if ref() is not None]
    finally:
        gc.enable()
    shown = "".join(traceback.format_exception(failed.value))
    assert "in read" in shown
    assert "disk full" in shown


def test_a_hundred_thousand_failures_are_a_few_runs_of_ids() -> None:
    def fail(item: int) -> None:
        raise OSError(f"cannot read {item}")

    tracemalloc.start()
    try:
        with pytest.raises(RunnerError) as failed:
            LocalRunner().map(fail, 100_000, num_workers=2)
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()
    assert failed.value.failed_block_ids.runs == ((0, 100_000),)


def test_more_blocks_than_a_run_can_have(tmp_path: Path) -> None:
    class Endless:
        shape, dtype = (2**40, 2**40), np.dtype("u1")

        def __getitem__(self, key: Any) -> Any:
            raise AssertionError("read")

    with pytest.raises(InvalidArgumentError, match=r"2\*\*63.*block_shape"):
        LocalRunner().run(print, [Endless()], block_shape=(1, 1))
    with pytest.raises(InvalidArgumentError, match=r"2\*\*63"):
        bp.plan(Endless(), tmp_path / "a.zarr", chunks=(1, 1), block_shape=(1, 1))
    with pytest.raises(InvalidArgumentError, match=r"2\*\*63"):
        LocalRunner().map(print, 2**70)


def test_a_working_directory_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    values = np.arange(12).reshape(3, 4)
    assert (bp.copy(values, tmp_path / "a.zarr")[...] == values).all()
    for call in (
        lambda: bp.copy(values, "a.zarr"),
        lambda: bp.plan(values, "a.n5"),
        lambda: bp.copy(tmp_path / "a.zarr", tmp_path / "b.zarr", job_type="subprocess"),
    ):
        with pytest.raises(bp.BioimagePyError, match="working directory was removed"):
            call()


@pytest.mark.parametrize("halo", [1, np.int64(1), [1, 1], (1, np.uint8(1)), np.array([1, 1]), np.array(1)])
def test_a_halo_is_an_integer_or_one_per_axis(halo: Any) -> None:
    def outer(block: Any, inputs: Any, outputs: Any, mask: Any) -> Any:
        return block.outer_block.shape

    image = np.zeros((6, 9))
    assert LocalRunner().run(outer, [image], block_shape=(3, 3), halo=halo, has_return_val=True)[0] == (4, 4)


@pytest.mark.parametrize(
    "halo", [-1, 1.0, True, "1", (1, -1), (1, 1.5), (1, 2, 3), np.ones(2), [[1, 2], [3]], {}]
)
def test_refuses_what_is_not_a_halo(halo: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="halo must be a non-negative integer"):
        LocalRunner().run(print, [np.zeros((6, 9))], halo=halo)


@pytest.mark.parametrize("block_shape", [8, 1.5, "8", (3,), (3, 0), (3, "x"), {}])
def test_refuses_what_is_not_a_block_shape(block_shape: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="block_shape"):
        LocalRunner().run(print, [np.zeros((6, 9))], block_shape=block_shape)
