"""Portions of a round, claimed by whoever is free: each exactly once, taken over from those that died, and small on disk."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import bioimage_py as bp
from bioimage_py.errors import RunnerError, StorageError
from bioimage_py.geometry import IdSet
from bioimage_py.runner import RunnerConfig, SubprocessRunner, begin_round, portion_sizes
from bioimage_py.runner.run import (
    AttemptJournal,
    BlockLog,
    Claims,
    Portion,
    RunFolder,
    read_block_logs,
    read_recorded,
)
from bioimage_py.runner.work import ItemFunctionWork
from tests.waiting import PATIENCE, eventually


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    made = RunFolder.make(tmp_path)
    made.write_run({"work": {"kind": "map", "block_ids": [[0, 1000]]}, "bytes": 0})
    return made


def begun(folder: RunFolder, n: int, num_workers: int, **settings: Any) -> dict[str, Any]:
    work = ItemFunctionWork(abs, IdSet.from_range(n), keep_results=False)
    number = begin_round(folder, work, work.block_ids, IdSet(), RunnerConfig(**settings), num_workers, {})
    return folder.read_round(number)


def dead_process() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        child.wait()
    return child.pid


@given(n=st.integers(0, 10**7), workers=st.integers(1, 1000), tasks=st.integers(1, 8))
def test_portions_are_all_groups_and_shrink(n: int, workers: int, tasks: int) -> None:
    sizes = portion_sizes(n, workers, tasks)
    assert sum(sizes) == n
    assert all(size > 0 for size in sizes)
    assert sizes[:-1] == sorted(sizes[:-1], reverse=True)
    assert len(sizes) <= 2 * tasks * workers * 12
    if sizes:
        assert max(sizes) <= max(1, n // (2 * tasks * workers))


def test_each_portion_is_claimed_once_whoever_comes(folder: RunFolder) -> None:
    content = begun(folder, 1000, 5, poll_interval=0.05)
    claimed: list[int] = []

    def pull(task: int) -> None:
        with AttemptJournal(folder, 0, task) as journal:
            claims = Claims(folder, journal.files, content)
            while (claim := claims.take(threading.Event())) is not None:
                claimed.append(claim.portion)
                claims.release(claim)

    # One of the five never comes; others come later than planned.
    threads = [threading.Thread(target=pull, args=(task,)) for task in (0, 2, 3, 4, 7, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert Counter(claimed) == Counter(range(content["portions"]))


def test_what_a_dead_attempt_had_is_taken_over_twice_at_most(folder: RunFolder) -> None:
    content = begun(folder, 8, 1, tasks_per_worker=1)
    stop = threading.Event()

    def dying(task: int) -> tuple[Claims, AttemptJournal]:
        journal = AttemptJournal(folder, 0, task)
        journal._state["pid"] = dead_process()
        journal._show()
        return Claims(folder, journal.files, content), journal

    first, holder = dying(0)
    claim = first.take(stop)
    assert claim is not None
    assert (claim.portion, claim.tries) == (0, 0)
    second, _ = dying(5)
    for _ in range(1, content["portions"]):  # what nobody had comes first
        claim = second.take(stop)
        assert claim is not None
        assert claim.tries == 0
        second.release(claim)
    claim = second.take(stop)
    assert claim is not None
    assert (claim.portion, claim.tries, [held.stem for held in claim.before]) == (0, 1, [holder.files.stem])
    third, _ = dying(6)
    assert third.take(stop) is None
    assert not third.all_done()


@pytest.mark.parametrize("reason", ["stopped", "RuntimeError: no"])
def test_what_an_attempt_left_that_has_ended_is_taken_over_at_once(folder: RunFolder, reason: str) -> None:
    content = begun(folder, 1, 1)
    first = AttemptJournal(folder, 0, 0)
    assert Claims(folder, first.files, content).take(threading.Event()) is not None
    with AttemptJournal(folder, 0, 1) as other:
        claims = Claims(folder, other.files, content)
        assert claims.take(threading.Event()) is None  # its holder is there
        first.end(reason)
        claim = claims.take(threading.Event())
        assert claim is not None
        assert claim.before[0].stem == first.files.stem


def test_a_holder_that_is_silent_for_long_is_given_up(folder: RunFolder) -> None:
    content = begun(folder, 1, 1)
    holder, other = AttemptJournal(folder, 0, 0, beat=1e6), AttemptJournal(folder, 0, 1)
    holder._state["host"] = "elsewhere"
    holder._show()
    assert Claims(folder, holder.files, content).take(threading.Event()) is not None
    claims = Claims(folder, other.files, content)
    long_ago = folder.now() - content["lease"] - 1
    os.utime(holder.files.state, (long_ago, long_ago))
    assert claims.take(threading.Event()) is not None
    holder.end("finished")
    other.end("finished")


RUNS = st.lists(st.tuples(st.integers(0, 2**40), st.integers(1, 5)), max_size=30)


@given(portions=st.lists(st.tuples(RUNS, st.none() | RUNS, RUNS), max_size=5))
def test_orders_are_read_as_they_were_written(
    portions: list[tuple[Any, Any, Any]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    def ids(runs: list[tuple[int, int]]) -> IdSet:
        return IdSet((begin, begin + n) for begin, n in runs)

    written = [
        Portion(ids(groups), ids(blocks) if blocks else None, ids(units))
        for groups, blocks, units in portions
    ]
    folder = RunFolder.make(tmp_path_factory.mktemp("orders"))
    folder.write_round(0, written, {})
    with folder.orders(0) as orders:
        assert [orders[n] for n in range(len(orders))] == written


def test_damaged_orders_are_not_trusted(folder: RunFolder) -> None:
    folder.write_round(0, [Portion(IdSet.from_range(5)), Portion(IdSet.from_range(9, 7))], {})
    path = folder.path / "rounds" / "00000.orders"
    whole = path.read_bytes()
    path.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    with folder.orders(0) as orders:
        assert orders[1].groups == IdSet.from_range(9, 7)
        with pytest.raises(StorageError, match="portion 0 is damaged"):
            orders[0]
    for end in (0, 5, len(whole) - 1):
        path.write_bytes(whole[:end])
        with pytest.raises(StorageError, match="cut off"):
            folder.orders(0)


@given(
    order=st.permutations(range(40)),
    sizes=st.lists(st.integers(1, 9), max_size=12),
    gaps=st.sets(st.integers(0, 39)),
)
@settings(deadline=None)
def test_a_log_of_blocks_in_any_order(
    order: list[int], sizes: list[int], gaps: set[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("log") / "log"
    log, left, seen = BlockLog(path), [n for n in order if n not in gaps], IdSet()
    for size in [*sizes, len(left)]:
        now, left = left[:size], left[size:]
        log.add(IdSet.from_ids(now).runs)
        seen = seen | IdSet.from_ids(now)
        assert read_block_logs([path]) == seen
    log.close()


def test_a_log_of_blocks_that_threads_finish_nearly_in_order_stays_small(tmp_path: Path) -> None:
    log, chance = BlockLog(tmp_path / "log"), np.random.default_rng(0)
    for first in range(0, 100_000, 50):
        for block_id in chance.permutation(np.arange(first, first + 50)).tolist():
            log.add([(block_id, block_id + 1)])
    log.close()
    assert read_block_logs([tmp_path / "log"]) == IdSet.from_range(100_000)
    assert (tmp_path / "log").stat().st_size <= 50 * 16


@pytest.mark.parametrize("job_type", ["local", "subprocess"])
def test_a_run_whose_first_thousand_blocks_fail_alike_stops_and_says_so(
    tmp_path: Path, job_type: str
) -> None:
    def fails(item: int) -> None:
        raise ValueError(f"item {item} is not a number")

    config = RunnerConfig(tmp_root=tmp_path, tasks_per_worker=1)
    with pytest.raises(
        RunnerError, match=r"stopped, as the first 1,000 blocks all failed alike.*item \d+ is not"
    ) as caught:
        bp.get_runner(job_type, config).map(fails, 100_000, has_return_val=False)
    assert len(caught.value.failed_block_ids) == 100_000
    assert caught.value.tmp_folder is not None
    recorded = read_recorded(RunFolder.open(caught.value.tmp_folder))
    assert 1000 <= len(recorded.raised) <= 1100
    errors = list(Path(caught.value.tmp_folder).glob("attempts/*.errors"))
    assert sum(path.stat().st_size for path in errors) < 100_000


def test_many_failures_that_are_alike_are_recorded_once(tmp_path: Path) -> None:
    def fails(item: int) -> None:
        if item % 2:
            raise ValueError(f"item {item} is odd")

    config = RunnerConfig(tmp_root=tmp_path, retries=0)
    with pytest.raises(RunnerError) as caught:
        SubprocessRunner(config).map(fails, 4000, num_workers=2, has_return_val=False)
    assert caught.value.failed_block_ids == list(range(1, 4000, 2))
    assert caught.value.tmp_folder is not None
    files = list(Path(caught.value.tmp_folder).glob("attempts/*.errors"))
    assert sum(path.stat().st_size for path in files) < 200_000


CLAIMS_AND_DIES = """
    import os, sys
    from bioimage_py.runner import run_task
    from bioimage_py.runner.run import Claims
    at = sys.argv[2]
    claimed = Claims._claimed
    def dying(self, claim):
        if at == "after":
            claimed(self, claim)
        os._exit(9)  # at once, as if it was killed
    Claims._claimed = dying
    run_task(sys.argv[1], 0, 0)
"""


@pytest.mark.slow
@pytest.mark.parametrize("at", ["before", "after"])
def test_a_holder_that_is_killed_between_claim_and_record_loses_and_repeats_nothing(
    tmp_path: Path, at: str
) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()

    def once(item: int) -> int:
        (marks / f"{item}-{os.urandom(4).hex()}").touch()
        return item

    class Interrupted(SubprocessRunner):
        def run_round(self, folder: RunFolder, *args: Any) -> Any:
            code = textwrap.dedent(CLAIMS_AND_DIES)
            child = subprocess.run(
                [sys.executable, "-c", code, str(folder.path), at], check=False, timeout=PATIENCE
            )
            assert child.returncode == 9
            return super().run_round(folder, *args)

    runner = Interrupted(RunnerConfig(tmp_root=tmp_path / "runs"))
    assert runner.map(once, 30, num_workers=2) == list(range(30))
    assert Counter(int(path.name.partition("-")[0]) for path in marks.iterdir()) == Counter(range(30))


@pytest.mark.slow
def test_the_others_do_what_a_stopped_process_does_not(tmp_path: Path) -> None:
    """Two of three workers are stopped for good: what they hold is taken over, and the run ends without them."""
    marks = tmp_path / "marks"
    marks.mkdir()
    script = """
        import os, sys, time
        import bioimage_py as bp
        from bioimage_py.runner import RunnerConfig
        def work(item, root=sys.argv[1]):
            open(f"{root}/marks/{item}-{os.getpid()}", "w").close()
            while not os.path.exists(f"{root}/go"):
                time.sleep(0.02)
            return item
        config = RunnerConfig(tmp_root=sys.argv[1] + "/runs", poll_interval=0.05, keep_run_folder=True)
        print(bp.get_runner("subprocess", config).map(work, 60, num_workers=3) == list(range(60)), flush=True)
    """
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    stopped: list[int] = []
    try:
        eventually(lambda: len(list(marks.iterdir())) == 3, "no three workers")
        pids = [int(path.name.partition("-")[2]) for path in marks.iterdir()]
        for pid in pids[:2]:
            os.kill(pid, signal.SIGSTOP)
            stopped.append(pid)
        (tmp_path / "go").touch()
        eventually(
            lambda: list(tmp_path.glob("runs/*/rounds/00000.done")), "the round does not end without them"
        )
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
        out, _ = child.communicate(timeout=PATIENCE)
    finally:
        for pid in stopped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        child.kill()
        child.communicate()
    assert out == "True\n"
    done = Counter(int(path.name.partition("-")[0]) for path in marks.iterdir())
    assert set(done) == set(range(60))
    assert sum(done.values()) <= 60 + 2, "more than the blocks in hand were done twice"
