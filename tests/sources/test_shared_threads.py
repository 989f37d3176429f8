"""Threads that several callers share: all is done once, helpers come and go, and errors end it."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from bioimage_py.chunks import SharedThreads


class Work:
    """Counts calls, and how many are under way at once."""

    def __init__(self, seconds: float = 0.002) -> None:
        self.seconds, self.lock = seconds, threading.Lock()
        self.done: list[int] = []
        self.threads: set[int] = set()
        self.now = self.most = 0

    def __call__(self, thing: int) -> None:
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
            self.threads.add(threading.get_ident())
        time.sleep(self.seconds)
        with self.lock:
            self.now -= 1
            self.done.append(thing)


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("n", [0, 1, 2, 40])
def test_all_is_done_once(threads: int, n: int) -> None:
    shared, work = SharedThreads(threads), Work()
    shared.run(work, range(n))
    assert sorted(work.done) == list(range(n))
    assert work.most <= threads
    assert work.most == min(threads, n) or n < 40
    shared.close()


def test_with_one_thread_all_is_done_by_the_caller() -> None:
    work = Work()
    SharedThreads(1).run(work, range(5))
    assert work.threads == {threading.get_ident()}


def test_callers_do_not_get_in_each_others_way() -> None:
    shared, work = SharedThreads(2), Work()
    with ThreadPoolExecutor(4) as pool:
        for call in [pool.submit(shared.run, work, range(100 * n, 100 * n + 20)) for n in range(4)]:
            call.result()
    assert sorted(work.done) == [100 * n + m for n in range(4) for m in range(20)]
    # Four callers, and a helper that ends what it began when they came.
    assert work.most <= 5
    shared.close()


def test_the_last_caller_is_helped() -> None:
    shared, short, long = SharedThreads(2), Work(), Work()
    with ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(shared.run, short, range(4)), pool.submit(shared.run, long, range(100))]
        for call in calls:
            call.result()
    assert len(long.threads) == 2
    shared.close()


@pytest.mark.parametrize("threads", [1, 3])
def test_the_first_error_ends_it(threads: int) -> None:
    shared, done = SharedThreads(threads), []

    def fails(thing: int) -> None:
        time.sleep(0.002)
        if thing == 3:
            raise ValueError("this one")
        done.append(thing)

    with pytest.raises(ValueError, match="this one"):
        shared.run(fails, range(100))
    assert len(done) < 20
    n = len(done)
    time.sleep(0.02)
    assert len(done) == n
    # And it can go on.
    shared.run(done.append, range(100, 110))
    assert sorted(done)[-10:] == list(range(100, 110))
    shared.close()


def test_it_can_be_used_after_it_was_closed() -> None:
    shared, work = SharedThreads(3), Work()
    shared.run(work, range(9))
    shared.close()
    shared.run(work, range(9, 18))
    assert sorted(work.done) == list(range(18))
    shared.close()
