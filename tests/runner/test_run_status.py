"""How far a run is, read from its folder: exact counts, torn files, what two attempts did, and nothing secret."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from bioimage_py.errors import BioimagePyWarning, SourceNotFoundError, StorageError
from bioimage_py.geometry import IdSet
from bioimage_py.runner.run import (
    AttemptJournal,
    BlockLog,
    BlockLogReader,
    Portion,
    RunFolder,
    StatusReader,
    find_runs,
    read_block_logs,
    read_recorded,
    without_credentials,
)

WORK = {
    "kind": "copy",
    "inputs": [
        {"kind": "zarr", "path": "s3://key:secret@bucket/in.zarr?X-Amz-Signature=secret", "key": "raw"}
    ],
    "outputs": [{"kind": "zarr", "path": "/data/out.zarr"}],
    "mask": None,
    "block_ids": [[0, 100]],
}


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A run of 100 blocks in 4 tasks, of which none has begun."""
    made = RunFolder.make(tmp_path)
    run = {
        "created": time.time() - 100,
        "job_type": "subprocess",
        "num_workers": 2,
        "bytes": 1000,
        "config": {},
    }
    made.write_run({**run, "work": WORK})
    portions = [Portion(part) for part in IdSet.from_range(100).split(8)]
    made.write_round(0, portions, {"at_once": 4, "needs": {}})
    made.appear()
    return made


def driven(folder: RunFolder, pid: int | None = None) -> None:
    me = os.getpid() if pid is None else pid
    folder.take_driver({"host": platform.node(), "pid": me, "born": None, "began": time.time()})


def dead_pid() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def test_a_run_that_has_not_begun(folder: RunFolder) -> None:
    status = StatusReader(folder).look()
    assert (status.state, status.blocks_done, status.blocks_total, status.rounds) == ("unfinished", 0, 100, 1)
    assert status.tasks == {"waiting": 4}
    assert status.blocks_per_second is status.seconds_left is status.last_sign is None


def test_blocks_that_two_attempts_did_count_once(folder: RunFolder) -> None:
    for first in (0, 10):
        with AttemptJournal(folder, 0, 0) as journal:
            journal.done(range(first, first + 30), n_bytes=300)
    status = StatusReader(folder).look()
    assert status.blocks_done == 40
    assert status.bytes_done == 400
    assert status.tasks == {"waiting": 3, "finished": 1}


def test_a_further_look_sees_what_was_appended_and_agrees_with_the_account(folder: RunFolder) -> None:
    reader = StatusReader(folder)
    rng = np.random.default_rng(0)
    ids = rng.permutation(100).tolist()
    with AttemptJournal(folder, 0, 1) as a, AttemptJournal(folder, 0, 2) as b:
        for n in range(0, 100, 10):
            a.done(ids[n : n + 7])
            b.done(ids[n + 3 : n + 9])
            b.failed(ids[n + 8 : n + 10], ValueError("no"))
            assert reader.look().blocks_done == len(read_recorded(folder).done)
    status = reader.look()
    account = read_recorded(folder)
    assert status.blocks_done == 90
    assert status.blocks_failed == sum(len(error.block_ids) for error in account.errors) == 10
    assert [error.block_ids for error in status.errors] == [error.block_ids for error in account.errors[:5]]


def test_torn_and_half_written_files_are_not_trusted(folder: RunFolder) -> None:
    with AttemptJournal(folder, 0, 0) as journal:
        journal.done([1, 2])
        journal.failed([7], ValueError("no"))
        journal.done([3])
    attempt = folder.attempts()[0]
    with attempt.blocks.open("ab") as file:
        file.write(b"\1" * 21)
    with attempt.errors.open("a") as file:
        file.write('{"blocks":[[50,60]],"type":"Va')
    (folder.path / "attempts" / ".half.json").write_text("{")
    (folder.path / "driver.json").write_text('{"host": "a"')
    attempt.state.write_text('{"beg')
    status = StatusReader(folder).look()
    assert (status.blocks_done, status.blocks_failed) == (3, 1)
    assert [(e.block_ids, e.type, e.text) for e in status.errors] == [(IdSet([(7, 8)]), "ValueError", "no")]
    assert (status.state, status.tasks) == ("unfinished", {"waiting": 3, "died": 1})


def test_a_record_that_was_half_written_at_one_look_counts_at_the_next(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    log = BlockLog(whole)
    log.add([(5, 9)])
    log.add([(1, 3)])
    log.close()
    growing = tmp_path / "growing"
    growing.write_bytes(whole.read_bytes()[:20])
    reader = BlockLogReader(growing)
    assert reader.more() == IdSet([(5, 9)])
    growing.write_bytes(whole.read_bytes())
    assert reader.more() == IdSet([(1, 3), (5, 9)])
    assert read_block_logs([whole, growing]) == IdSet([(1, 3), (5, 9)])


def test_who_waits_and_what_runs(folder: RunFolder) -> None:
    running, finished = AttemptJournal(folder, 0, 0), AttemptJournal(folder, 0, 1)
    finished.done(range(50, 60), n_bytes=100)
    finished.end("finished")
    running.done(range(10), n_bytes=100)
    driven(folder)
    status = StatusReader(folder).look()
    assert (status.state, status.driver_alive) == ("running", True)
    assert status.tasks == {"waiting": 2, "running": 1, "finished": 1}
    assert status.blocks_per_second is not None
    assert status.seconds_left == pytest.approx(80 / status.blocks_per_second)
    driven(folder, dead_pid())
    orphaned = StatusReader(folder).look()
    assert (orphaned.state, orphaned.driver_alive, orphaned.seconds_left) == ("unfinished", False, None)
    assert orphaned.tasks == {"waiting": 2, "running": 1, "finished": 1}
    running._state["pid"] = dead_pid()
    running.done([], n_bytes=1)
    running._show()
    assert StatusReader(folder).look().tasks == {"waiting": 2, "finished": 1, "died": 1}
    assert StatusReader(folder).look(is_active=True).state == "running"
    running.end("stopped")


def test_the_rate_is_that_of_the_last_minutes(folder: RunFolder) -> None:
    with AttemptJournal(folder, 0, 0) as journal:
        journal.done(range(80), n_bytes=800)
        journal._began -= 1000
    status = StatusReader(folder).look()
    assert status.blocks_per_second == pytest.approx(80 / 1000, rel=0.01)
    assert status.bytes_per_second == pytest.approx(800 / 1000, rel=0.01)


def test_an_error_that_a_later_attempt_overcame_is_none(folder: RunFolder) -> None:
    with AttemptJournal(folder, 0, 0) as journal:
        journal.failed([3, 4, 5], ValueError("no"))
    with AttemptJournal(folder, 0, 0) as journal:
        journal.done([4])
        journal.failed([3, 5], ValueError("no"))
    with AttemptJournal(folder, 0, 1) as journal:
        journal.done([10])
    with pytest.raises(OSError, match="gone"), AttemptJournal(folder, 0, 2):
        raise OSError("gone")
    status = StatusReader(folder).look()
    assert status.blocks_failed == 2
    assert [error.block_ids for error in status.errors if error.block_ids] == [IdSet([(3, 4), (5, 6)])]
    assert [(e.task, e.type, e.text) for e in status.errors if not e.block_ids] == [(2, "OSError", "gone")]


def test_no_credentials_are_shown(folder: RunFolder) -> None:
    with AttemptJournal(folder, 0, 0) as journal:
        journal.failed([1], OSError("no answer from https://me:sec:ret@host/a?token=secret, gave up"))
    status = StatusReader(folder).look()
    assert status.what == "copy s3://bucket/in.zarr (raw) to /data/out.zarr"
    assert "ret@" not in repr(status)
    assert "secret" not in status.errors[0].text
    assert without_credentials("s3://bucket/a.zarr and /data/a@b?c") == "s3://bucket/a.zarr and /data/a@b?c"


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"format": 3}', '{"format": 3, "created": "x", "work": 3}']
)
def test_a_plan_that_cannot_be_read_is_said(content: str, folder: RunFolder) -> None:
    (folder.path / "run.json").write_text(content)
    with pytest.raises(StorageError, match=r"run\.json|plan of a run"):
        StatusReader(folder).look()


def test_a_folder_that_is_removed_while_it_is_watched(folder: RunFolder) -> None:
    reader = StatusReader(folder)
    reader.look()
    for path in sorted(folder.path.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    folder.path.rmdir()
    with pytest.raises(SourceNotFoundError, match="was removed"):
        reader.look()


def make_folder(path: Path) -> Path:
    path.mkdir(parents=True)
    return path


def test_runs_are_found_and_those_of_others_left_out_with_a_word(folder: RunFolder, tmp_path: Path) -> None:
    second = RunFolder.make(tmp_path)
    second.write_run({"work": WORK})
    second.appear()
    (tmp_path / "image.zarr").mkdir()
    (tmp_path / "notes").write_text("")
    assert find_runs([tmp_path, folder.path]) == sorted([folder.path, second.path])
    below = RunFolder.make(make_folder(tmp_path / "a" / "b"))
    below.write_run({"work": WORK})
    below.appear()
    hidden = RunFolder.make(make_folder(tmp_path / "image.zarr" / "0"))
    hidden.write_run({"work": WORK})
    hidden.appear()
    assert below.path in find_runs([tmp_path])
    assert hidden.path not in find_runs([tmp_path])
    shutil.rmtree(tmp_path / "a")
    second.path.chmod(0o777)
    with pytest.warns(BioimagePyWarning, match="can be written by others"):
        assert find_runs([tmp_path]) == [folder.path]
    with pytest.raises(SourceNotFoundError, match="there is no folder"):
        find_runs([tmp_path / "nowhere"])
