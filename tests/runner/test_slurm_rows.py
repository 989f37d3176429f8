"""What Slurm prints, as recorded from Slurm 22.05, and what is made of it."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from bioimage_py.errors import InvalidArgumentError
from bioimage_py.geometry import IdSet
from bioimage_py.runner import Watch
from bioimage_py.runner.run import RunFolder
from bioimage_py.runner.slurm import (
    LOST,
    ArrayJob,
    Limits,
    RoundJobs,
    Row,
    Slurm,
    SlurmConfig,
    SlurmRound,
    array_indices,
    end_of,
    has_ended,
    hopeless,
    is_full,
    mebibytes,
    minutes,
    parse_submitted,
    rows,
)

NAME = "bioimage-run-20261123-021832-283ba3.0.0.8f6a8e8b"


def test_queue() -> None:
    wide = "{:20}_{:20}|{:120}|{:20}|{:20}|{:200}|{:100}".format
    text = "\n".join(
        [
            wide("14", "0", NAME, "RUNNING", "0", "bpnode1", "None"),
            wide("14", "1", NAME, "FAILED", "768", "bpnode2", "NonZeroExitCode"),
            wide("14", "2-4", NAME, "PENDING", "0", "", "JobArrayTaskLimit"),
            wide("15", "0-3,7%4", NAME, "CANCELLED", "0", "", "(null)"),
            wide("16", "N/A", "wrap", "PENDING", "0", "", "PartitionTimeLimit"),
            "slurm_load_jobs warning",
        ]
    )
    found = list(rows(text))
    assert found[0] == Row("14", 0, NAME, "RUNNING", (0, 0), "bpnode1")
    assert found[1] == Row("14", 1, NAME, "FAILED", (3, 0), "bpnode2", "NonZeroExitCode")
    assert [(r.index, r.state) for r in found[2:5]] == [(2, "PENDING"), (3, "PENDING"), (4, "PENDING")]
    assert [(r.index, r.reason) for r in found[5:]] == [(n, "") for n in (0, 1, 2, 3, 7)]


@pytest.mark.parametrize(
    ("text", "found"), [("0", (0, 0)), ("768", (3, 0)), ("9", (0, 9)), ("4021", (15, 53)), ("0:53", (0, 53))]
)
def test_exits(text: str, found: tuple[int, int]) -> None:
    (row,) = rows(f"23_0|{NAME}|FAILED|{text}|n1")
    assert row.exit == found


def test_history() -> None:
    text = f"""\
14_0|{NAME}|COMPLETED|0:0|bpnode1
14_1|{NAME}|CANCELLED by 1000|0:15|bpnode2
14_[2-3%4]|{NAME}|CANCELLED by 0|0:0|None assigned
14|{NAME}|PENDING|0:0|None assigned
14_0.batch|batch|COMPLETED|0:0|bpnode1
"""
    found = list(rows(text))
    assert found[0] == Row("14", 0, NAME, "COMPLETED", (0, 0), "bpnode1")
    assert found[1] == Row("14", 1, NAME, "CANCELLED", (0, 15), "bpnode2", "by 1000")
    assert [(r.index, r.nodes) for r in found[2:]] == [(2, ""), (3, "")]


def test_limits_and_numbers() -> None:
    text = "PartitionName=short Default=NO DefaultTime=00:01:00 MaxTime=1-00:00:00 State=UP"
    assert Limits.parse(text) == Limits(1440, 1)
    assert Limits.parse("PartitionName=main DefaultTime=NONE MaxTime=UNLIMITED") == Limits()
    assert parse_submitted("hello from the wrapper\n12;cluster\n") == "12"
    with pytest.raises(RuntimeError, match="no job number"):
        parse_submitted("")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("0:30", 1),
        ("90:00", 90),
        ("1:30:00", 90),
        ("1:30:01", 91),
        ("2-12", 3600),
        ("2-12:30", 3630),
        ("1-0:0:1", 1441),
        ("UNLIMITED", None),
        ("infinite", None),
        (dt.timedelta(minutes=2, seconds=1), 3),
        (7, 7),
    ],
)
def test_minutes(text: str | int, value: int | None) -> None:
    assert minutes(text) == value


def test_indices_of_an_array() -> None:
    assert array_indices("[0-3,7,10-14:2%4]") == [0, 1, 2, 3, 7, 10, 12, 14]


@pytest.mark.parametrize("text", ["", "1:2:3:4", "1-", "-5", "1.5", "0", "1-2:3:4:5", "5 minutes"])
def test_minutes_that_are_none(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match="time must be minutes"):
        minutes(text)


@pytest.mark.parametrize(
    ("text", "value"), [("1025K", 2), ("500", 500), ("1.5G", 1536), ("2tib", 2097152), ("0", 0)]
)
def test_mebibytes(text: str, value: int) -> None:
    assert mebibytes(text) == value


def test_an_array_as_sbatch_takes_it() -> None:
    job = ArrayJob("x", IdSet.from_ids([1000, 1002, 1003]), 1000, 2, 0.0)
    assert job.array == "0,2-3%2"
    assert ArrayJob.from_json(job.to_json()) == job


BEGAN, NOTHING = (True, ""), (False, "")
POLICY = (
    "Batch job submission failed: Job violates accounting/QOS policy "
    "(job submit limit, user's size and/or time limits)"
)


@pytest.mark.parametrize(
    ("state", "code", "evidence", "kind", "text"),
    [
        ("COMPLETED", (0, 0), BEGAN, "lost", "its journal does not"),
        ("COMPLETED", (0, 0), NOTHING, "lost", "is that on a disk that all nodes share"),
        ("FAILED", (75, 0), BEGAN, "timeout", "stopped between two blocks"),
        (
            "FAILED",
            (70, 0),
            (False, "worker: no run folder"),
            "error",
            "Its log ends: worker: no run folder",
        ),
        ("FAILED", (127, 0), NOTHING, "error", "could not start Python"),
        ("FAILED", (126, 0), NOTHING, "error", "could not start Python"),
        ("FAILED", (0, 53), NOTHING, "error", "could not write the log"),
        ("FAILED", (15, 53), NOTHING, "error", "on a disk that all nodes share"),
        ("FAILED", (0, 9), BEGAN, "killed", "SIGKILL, perhaps for lack of memory"),
        ("FAILED", (137, 0), BEGAN, "killed", "SIGKILL"),
        (
            "FAILED",
            (0, 9),
            (False, "slurmstepd: error: Exceeded job memory limit"),
            "out of memory",
            "memory",
        ),
        ("FAILED", (137, 0), (False, "Detected 1 oom-kill event(s)"), "out of memory", "memory"),
        ("FAILED", (0, 11), BEGAN, "killed", "SIGSEGV"),
        ("FAILED", (3, 0), BEGAN, "lost", "exit code 3"),
        ("FAILED", (1, 0), NOTHING, "error", "exit code 1 before it could begin"),
        ("OUT_OF_MEMORY", (0, 125), BEGAN, "out of memory", "more memory than it had"),
        ("TIMEOUT", (0, 0), BEGAN, "timeout", "time limit"),
        ("NODE_FAIL", (0, 0), BEGAN, "node failure", "on n1: its node failed"),
        ("PREEMPTED", (0, 0), BEGAN, "node failure", "higher priority"),
        ("CANCELLED", (0, 15), BEGAN, "cancelled", "it was cancelled"),
        (LOST, None, BEGAN, "lost", "does not know it any more"),
    ],
)
def test_every_state_is_judged(
    state: str, code: tuple[int, int] | None, evidence: tuple[bool, str], kind: str, text: str
) -> None:
    row = Row("12", 3, NAME, state, code, "n1")
    end = end_of(1003, row, began=evidence[0], log=evidence[1])
    assert (end.task, end.kind) == (1003, kind)
    assert end.text.startswith("Slurm job 12_3 on n1: ")
    assert text in end.text
    assert state == LOST or has_ended(row)


@pytest.mark.parametrize(
    "state", ["PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED", "REQUEUED", "NEWSTATE"]
)
def test_what_is_not_known_to_be_over_is_not(state: str) -> None:
    assert not has_ended(Row("1", 0, NAME, state))


def test_tasks_that_wait_for_ever_are_known() -> None:
    assert "time limit is below time=" in hopeless(Row("1", 0, NAME, "PENDING", reason="PartitionTimeLimit"))
    assert not hopeless(Row("1", 0, NAME, "PENDING", reason="Resources"))
    assert not hopeless(Row("1", 0, NAME, "RUNNING", reason="PartitionTimeLimit"))


@pytest.mark.parametrize(
    ("said", "full"),
    [
        (f"AssocMaxSubmitJobLimit; {POLICY}", True),
        (f"QOSMaxSubmitJobPerUserLimit; {POLICY}", True),
        (f"QOSMaxWallDurationPerJobLimit; {POLICY}", False),
        ("Batch job submission failed: Invalid job array specification", True),
        ("Batch job submission failed: Invalid qos specification", False),
    ],
)
def test_a_full_queue_is_told_from_a_refusal(said: str, full: bool) -> None:
    assert is_full(said) is full


class _Queue(Slurm):
    """What a controller says when it is asked again and again; the last answer stays."""

    def __init__(self, *answers: list[Row]) -> None:
        super().__init__()
        self._answers = list(answers)

    def queue(self, job: str) -> list[Row]:
        del job
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]

    def history(self, job: str) -> list[Row]:
        del job
        return []


@pytest.mark.parametrize(("first", "kind"), [("COMPLETING", "stopped"), ("RUNNING", "cancelled")])
def test_what_was_cancelled_before_somebody_waits_for_it_is_run_again(
    tmp_path: Path, first: str, kind: str
) -> None:
    folder = RunFolder.make(tmp_path)
    folder.write_round(0, [], {"tasks": 2, "at_once": 2, "beat": 1.0})
    jobs = RoundJobs(folder, 0, [ArrayJob("a", IdSet.from_range(2), 0, 2, 0.0, "7")])

    def listed(state: str) -> list[Row]:
        return [Row("7", index, "a", state) for index in range(2)]

    slurm = _Queue(listed(first), listed("CANCELLED"))
    config = SlurmConfig(poll_interval=0.05, latency_wait=0.05)
    ends = SlurmRound(slurm, jobs, 2, config, Watch(folder, 0, 0, None)).run()
    assert [end.kind for end in ends] == [kind, kind]
