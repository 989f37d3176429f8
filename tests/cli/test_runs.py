"""`bioimage-py runs`, `status`, `resume` and `cancel`: on runs that failed, and on what is no run."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bioimage_py as bp
from bioimage_py.cli import main
from bioimage_py.runner import RunnerConfig, SubprocessRunner
from bioimage_py.runner.run import RunFolder
from tests.cli.conftest import Call
from tests.cli.runs import BrokenRun, broken_run

VERBS = ("status", "resume", "cancel")


@pytest.fixture(autouse=True)
def _no_config(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIOIMAGE_PY_NO_CONFIG", "1")


@pytest.fixture(scope="module")
def shared_run(tmp_path_factory: pytest.TempPathFactory) -> BrokenRun:
    """A run with one block missing, for tests that only look."""
    return broken_run(tmp_path_factory.mktemp("shared"), "--job-type", "subprocess", "--retries", "1")


@pytest.fixture
def stopped(shared_run: BrokenRun, tmp_path: Path) -> Path:
    """A run folder of the test's own, in which it may break things."""
    return shutil.copytree(shared_run.folder, tmp_path / shared_run.folder.name)


def test_a_run_is_listed_with_what_became_of_it(call: Call, shared_run: BrokenRun) -> None:
    outcome = call("runs", shared_run.folder.parent)
    assert (outcome.code, outcome.err) == (0, "")
    title, line = outcome.out.splitlines()
    assert title.split() == ["run", "age", "backend", "blocks", "done", "state"]
    assert line.startswith(str(shared_run.folder))
    assert line.endswith("subprocess  7 of 8 (87 %)  stopped, 1 failed")
    document = call("runs", shared_run.folder.parent, "--json").document
    assert [run["blocks_done"] for run in document["runs"]] == [7]


def test_runs_of_the_working_directory_are_listed_by_a_name_that_can_be_typed(
    call: Call, stopped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(stopped.parent)
    assert call("runs").out.splitlines()[1].startswith(f"{stopped.name}  ")
    assert call("status", stopped.name).out.splitlines()[0] == f"run:        {stopped.name}"


def test_a_run_is_found_by_its_name_in_the_folder_that_is_configured(
    call: Call, stopped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BIOIMAGE_PY_NO_CONFIG")
    config, elsewhere = tmp_path / "config.toml", tmp_path / "elsewhere"
    config.write_text(f"[slurm]\ntmp_root = '{stopped.parent}'\n")
    elsewhere.mkdir()
    monkeypatch.setenv("BIOIMAGE_PY_CONFIG", str(config))
    monkeypatch.chdir(elsewhere)
    assert str(stopped) in call("runs").out
    assert f"{stopped}\n" in call("status", stopped.name).out
    config.write_text("[slurm]\npartion = 'x'\n")
    outcome = call("runs")
    assert (outcome.code, outcome.out) == (0, f"no runs in {elsewhere}\n")
    assert "warning: cannot tell which folder is configured for runs" in outcome.err


def test_no_runs(call: Call, tmp_path: Path) -> None:
    assert call("runs", tmp_path) == (0, f"no runs in {tmp_path}\n", "")
    assert call("runs", tmp_path, "--json").document["runs"] == []
    outcome = call("runs", tmp_path / "nowhere")
    assert (outcome.code, outcome.out) == (2, "")
    assert "there is no folder" in outcome.err


def test_the_status_of_a_failed_run_says_what_is_missing_and_what_to_do(
    call: Call, shared_run: BrokenRun
) -> None:
    outcome = call("status", shared_run.folder)
    assert (outcome.code, outcome.err) == (0, "")
    lines = dict(line.split(":", 1) for line in outcome.out.splitlines())
    assert lines["work"].strip() == f"copy {shared_run.input} to {shared_run.output}"
    assert lines["state"].strip() == "stopped, 1 failed"
    assert lines["blocks"].strip() == "7 of 8 (87 %) done, 1 failed"
    assert lines["written"].strip() == "56 KiB of 64 KiB"
    assert lines["tasks"].strip() == "1 finished (round 2)"
    assert lines["errors"].strip().startswith("block 5: StorageError: ")
    assert lines["to finish"].strip() == f"bioimage-py resume {shared_run.folder}"
    assert "time left" not in lines


def test_the_status_as_json(call: Call, shared_run: BrokenRun) -> None:
    document = call("status", shared_run.folder, "--json").document
    assert document["command"] == "status"
    assert document["state"] == "unfinished"
    assert document["bytes_done"] == 7 * 16**3 * 2
    assert document["tasks"] == {"finished": 1}
    assert [error["block_ids"] for error in document["errors"]] == [[[5, 6]]]
    assert document["driver"] is None


def test_to_watch_a_run_that_has_ended_is_one_look(call: Call, shared_run: BrokenRun) -> None:
    outcome = call("status", shared_run.folder, "--watch")
    assert outcome.code == 3
    assert outcome.out.splitlines()[0] == "stopped, 1 failed · 7 of 8 (87 %) blocks"
    assert call("status", shared_run.folder, "--watch", "--json").document["blocks_done"] == 7


@pytest.mark.parametrize("options", [["--job-type", "subprocess", "--retries", "0"], ["--resumable"]])
def test_resume_does_what_is_missing_and_nothing_twice(
    options: list[str], call: Call, tmp_path: Path
) -> None:
    run = broken_run(tmp_path, *options)
    again = call("resume", run.folder)
    assert again.code == 3
    assert "1 of 8 blocks failed, all others are done" in again.err
    assert f"once the cause is gone, finish it: bioimage-py resume {run.folder}" in again.err
    error = call("resume", run.folder, "--json", "--workers", 2).document["error"]
    assert error["failed_block_ids"] == [[5, 6]]
    assert error["run_folder"] == str(run.folder)
    assert error["finish_command"] == ["bioimage-py", "resume", str(run.folder), "--workers", "2"]
    stamps = {p: p.stat().st_mtime_ns for p in (run.output / "c").rglob("*") if p.is_file()}
    run.repair()
    document = call("resume", run.folder, "--json").document
    assert (document["blocks"], document["blocks_done_before"], document["bytes"]) == (1, 7, 16**3 * 2)
    assert run.is_done()
    assert {p: p.stat().st_mtime_ns for p in stamps} == stamps
    assert not run.folder.exists()
    gone = call("status", run.folder)
    assert gone.code == 2
    assert "it is removed when all blocks are done" in gone.err


def test_a_failed_copy_tells_the_command_that_finishes_it(call: Call, tmp_path: Path) -> None:
    run = broken_run(tmp_path, "--resumable")
    out = tmp_path / "second.zarr"
    words = ["copy", run.input, out, "--chunks", 16, "--block-shape", 16, "--resumable"]
    failed = call(*words, "--run-folders", tmp_path / "more", "--json")
    error = failed.document["error"]
    assert failed.code == 3
    (folder,) = (tmp_path / "more").iterdir()
    assert error["finish_command"] == ["bioimage-py", "resume", str(folder)]
    run.repair()
    done = call(*error["finish_command"][1:])
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"finished: copy {run.input} to {out}; 1 of 8 blocks now (8 KiB in ")
    assert done.out.splitlines()[0].endswith(", 7 before")


def test_a_run_that_is_finished(call: Call, npy: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    words = ["--keep-run-folder", "--run-folders", runs, "--job-type", "subprocess", "--workers", 1]
    assert call("copy", npy, tmp_path / "out.zarr", *words).code == 0
    (folder,) = runs.iterdir()
    status = call("status", folder)
    assert "state:      finished\n" in status.out
    assert "to finish" not in status.out
    resumed = call("resume", folder)
    assert resumed.code == 0
    assert resumed.out.startswith("nothing was missing: 1 of 1 blocks were done")
    assert call("status", folder, "--watch").code == 0
    cancelled = call("cancel", folder)
    assert cancelled.code == 2
    assert "is finished: there is nothing to cancel" in cancelled.err


def test_nothing_to_cancel(call: Call, shared_run: BrokenRun) -> None:
    outcome = call("cancel", shared_run.folder)
    assert outcome.code == 2
    assert "there is nothing to cancel" in outcome.err
    assert f"bioimage-py resume {shared_run.folder}" in outcome.err


@pytest.mark.parametrize("verb", VERBS)
def test_what_is_no_run_is_said_in_one_line(
    verb: str, call: Call, zarr: Path, npy: Path, stopped: Path, tmp_path: Path
) -> None:
    def said(place: Path, code: int = 2) -> str:
        outcome = call(verb, place)
        assert (outcome.code, outcome.out) == (code, "")
        assert outcome.err.startswith("bioimage-py: error: ")
        return outcome.err

    assert "'bioimage-py runs' lists" in said(tmp_path / "nowhere")
    assert "is not a run folder: it holds no run.json" in said(zarr)
    assert "is not a run folder" in said(npy)
    assert "required: RUN" in call(verb).err
    stopped.chmod(0o777)
    assert "can be written by others (mode 0777)" in said(stopped)
    stopped.chmod(0o700)
    (stopped / "run.json").write_text('{"format": 1, "crea')
    assert "run.json cannot be read" in said(stopped, 4)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give a file away")
@pytest.mark.parametrize("verb", VERBS)
def test_another_users_run_is_refused(verb: str, call: Call, stopped: Path) -> None:
    os.chown(stopped, 12345, -1)
    outcome = call(verb, stopped)
    assert outcome.code == 2
    assert "belongs to user 12345, not to you" in outcome.err
    listed = call("runs", stopped.parent)
    assert (listed.code, listed.out) == (0, f"no runs in {stopped.parent}\n")
    assert "warning: left out: " in listed.err


def test_a_half_written_run_is_told_as_far_as_it_can_be_trusted(call: Call, stopped: Path) -> None:
    folder = RunFolder.open(stopped)
    for attempt in folder.attempts():
        with attempt.blocks.open("ab") as file:
            file.write(b"torn")
        with attempt.errors.open("a") as file:
            file.write('{"blocks":[[0,8]],"ty')
    (stopped / "attempts" / ".00009.json").write_text("{")
    outcome = call("status", stopped)
    assert (outcome.code, outcome.err) == (0, "")
    assert "7 of 8 (87 %) done, 1 failed" in outcome.out
    (stopped / "rounds" / "00001.json").unlink()
    assert "7 of 8 (87 %) done, 1 failed" in call("status", stopped).out
    (stopped / "run.json").write_text("")
    listed = call("runs", stopped.parent, "--json")
    assert listed.code == 0
    assert listed.document["runs"] == []
    assert "run.json cannot be read" in listed.document["warnings"][0]


def test_results_for_a_program_are_not_thrown_away(call: Call, zarr: Path, tmp_path: Path) -> None:
    def fail(block: Any, inputs: Any, outputs: Any, mask: Any) -> int:
        raise ValueError("no")

    runner = SubprocessRunner(RunnerConfig(tmp_root=tmp_path / "runs", retries=0))
    with pytest.raises(bp.RunnerError):
        runner.run(fail, [bp.open_source(zarr)], block_shape=(64, 64, 64), has_return_val=True)
    (folder,) = (tmp_path / "runs").iterdir()
    assert f"a function over {zarr}" in call("status", folder).out
    refused = call("resume", folder)
    assert refused.code == 2
    assert f"finish it there, with bioimage_py.resume('{folder}')" in refused.err
    assert folder.exists()


def test_nothing_of_the_environment_is_shown(
    call: Call, shared_run: BrokenRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "sesame")
    for words in (["runs", shared_run.folder.parent], ["status", shared_run.folder]):
        assert "sesame" not in call(*words).out + call(*words, "--json").out


def test_credentials_in_a_url_are_not_shown(call: Call, stopped: Path) -> None:
    run = json.loads((stopped / "run.json").read_text())
    run["work"]["inputs"][0]["path"] = "https://me:sesame@host/a.zarr?signature=sesame"
    (stopped / "run.json").write_text(json.dumps(run))
    for words in (["runs", stopped.parent], ["status", stopped]):
        assert "sesame" not in call(*words).out + call(*words, "--json").out
    assert "copy https://host/a.zarr to " in call("status", stopped).out


def test_the_command_for_scripts_that_finish_whatever_is_there(tmp_path: Path) -> None:
    run = broken_run(tmp_path, "--resumable")
    run.repair()
    assert main(["resume", str(run.folder), "--quiet"]) == 0
    with bp.open_source(run.output) as out:
        assert np.asarray(out[...]).max() == 32**3 - 1
