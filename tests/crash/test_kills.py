"""Processes that are killed, stopped or told to go, at random moments: nothing is lost, nothing is done twice.

The name of a test with its number is the seed of its round: `pytest 'tests/crash/test_kills.py::NAME[3]'` repeats it.
"""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from tests.crash.program import N_BLOCKS
from tests.crash.rounds import Round

Begin = Callable[..., Round]


@pytest.mark.parametrize("number", range(2))
def test_a_worker_is_killed_in_mid_block(begin: Begin, number: int) -> None:
    made = begin("subprocess", retries=number % 2, tasks_per_worker=1 + number)
    made.bad_moment()
    made.random.choice(made.workers()).kill()
    if made.end()["end"] == "RunnerError":
        assert number % 2 == 0
        made.resume()


def test_all_workers_are_killed_at_once(begin: Begin) -> None:
    made = begin("subprocess", retries=0, tasks_per_worker=1)
    made.bad_moment()
    for worker in made.workers():
        worker.kill()
    said = made.end()
    assert said["end"] == "RunnerError"
    assert "SIGKILL" in said["text"]
    made.resume()


@pytest.mark.parametrize(("number", "sent"), list(enumerate([signal.SIGTERM, signal.SIGUSR1])))
def test_a_worker_is_told_to_go(begin: Begin, number: int, sent: signal.Signals) -> None:
    made = begin("subprocess", retries=number % 2, tasks_per_worker=1 + number, num_workers=1 + number % 2)
    made.bad_moment(0.6)
    made.random.choice(made.workers()).send_signal(sent)
    if made.end()["end"] == "RunnerError":
        assert number % 2 == 0
        made.resume()


@pytest.mark.parametrize("number", [0, 7])
def test_the_submitter_of_a_local_run_is_killed(begin: Begin, number: int) -> None:
    # Blocks that are forced to the disk are recorded once a second.
    made = begin("local", durable=number > 5, seconds=0.025 if number > 5 else 0.006)
    made.bad_moment()
    made.kill_submitter()
    made.resume()


@pytest.mark.parametrize("number", range(2))
def test_the_submitter_of_worker_processes_is_killed(begin: Begin, number: int) -> None:
    made = begin("subprocess", tasks_per_worker=1 + number)
    made.bad_moment(0.5)
    made.kill_submitter()
    if number % 2:  # else the resume runs beside workers that have not yet noticed
        made.wait(lambda: not made.workers(), "the end of workers whose submitter is dead")
    made.resume(orphans=not number % 2)
    made.wait(lambda: not made.workers(), "the end of workers whose submitter is dead")
    made.check_nothing_torn(leftovers=False)


def test_everything_dies_at_once(begin: Begin) -> None:
    made = begin("subprocess")
    made.bad_moment()
    for process in [*made.workers(), made.process]:
        process.kill()
    made.process.communicate()
    made.resume()


@pytest.mark.parametrize("number", range(2))
def test_a_worker_that_was_believed_dead_goes_on_beside_the_resume(begin: Begin, number: int) -> None:
    made = begin("subprocess", tasks_per_worker=1)
    made.bad_moment(0.5)
    frozen = made.random.choice(made.workers())
    frozen.suspend()
    made.kill_submitter()
    if number % 2:
        made.resume(orphans=True)
        frozen.resume()
    else:
        frozen.resume()
        made.resume(orphans=True)
    made.wait(lambda: not made.workers(), "the end of a worker that nobody waits for")
    made.check_nothing_torn(leftovers=False)
    # It did not go through the rest of its task, which is half of the run.
    assert sum(made.times_done()) < N_BLOCKS + 30


@pytest.mark.parametrize("job_type", ["local", "subprocess"])
def test_a_resume_is_killed_and_resumed(begin: Begin, job_type: str) -> None:
    made = begin(job_type)
    made.bad_moment(0.3)
    made.kill_submitter()
    made.resume_elsewhere()
    made.bad_moment()
    made.kill_submitter()
    made.resume(orphans=job_type == "subprocess")
