"""Runs whose folders are in an object store: claims, logs, one waiting process, and what is left after kills."""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

import bioimage_py as bp
from bioimage_py.cli import main
from bioimage_py.errors import InvalidArgumentError, RunnerError, SourceNotFoundError, StorageError
from bioimage_py.runner import LocalRunner, Runner, RunnerConfig, SlurmConfig
from bioimage_py.runner.external import find_run, join_run
from bioimage_py.runner.run import (
    AttemptJournal,
    RunFolder,
    driving,
    find_runs,
    read_block_logs,
    read_recorded,
    write_json,
)
from bioimage_py.storage import ObjectLog, ObjectPath
from tests.runner.contract import RunnerContract
from tests.s3_lab import SECRET, S3Lab, s3_lab
from tests.waiting import PATIENCE, eventually

ROOT = "s3://lab/runs"


@pytest.fixture(scope="module")
def lab() -> Iterator[S3Lab]:
    pytest.importorskip("obstore")
    with s3_lab() as lab:
        yield lab


@pytest.fixture(autouse=True)
def _empty(lab: S3Lab) -> None:
    lab.refused = lambda asked: False
    ObjectPath.at(ROOT).remove_below()


class TestRunsInABucket(RunnerContract):
    @pytest.fixture(autouse=True)
    def _lab(self, lab: S3Lab) -> None:
        pass

    def make(self) -> Runner:
        return LocalRunner(RunnerConfig(tmp_root=ROOT))


def names(path: ObjectPath) -> list[str]:
    return sorted(found.name for found in path.iterdir())


@pytest.mark.parametrize("where", ["disk", "bucket"])
def test_both_kinds_of_paths_do_the_same(tmp_path: Path, where: str) -> None:
    top: Any = tmp_path if where == "disk" else ObjectPath.at(f"{ROOT}/paths")
    path = top / "some.one.json"
    assert (path.name, path.stem, path.suffix) == ("some.one.json", "some.one", ".json")
    assert not path.exists()
    for call in (
        (path.read_bytes, path.stat, path.unlink) if where == "disk" else (path.read_bytes, path.stat)
    ):
        with pytest.raises(FileNotFoundError):
            call()
    path.unlink(missing_ok=True)
    path.write_bytes(b"12345")
    assert path.is_file()
    assert (path.read_text(), path.stat().st_size) == ("12345", 5)
    (top / "claim").mkdir()
    with pytest.raises(FileExistsError):
        (top / "claim").mkdir()
    (top / "claim").mkdir(exist_ok=True)
    assert names(top) == ["claim", "some.one.json"]
    path.unlink()
    assert names(top) == ["claim"]


def test_of_those_who_make_a_name_at_once_one_wins() -> None:
    def make(number: int) -> list[bool]:
        made = []
        for n in range(10):
            barrier.wait(PATIENCE)
            try:
                (ObjectPath.at(ROOT) / f"claim-{n}").mkdir()
                made.append(True)
            except FileExistsError:
                made.append(False)
        return made

    barrier = threading.Barrier(8)
    with ThreadPoolExecutor(8) as pool:
        assert np.sum(list(pool.map(make, range(8))), axis=0).tolist() == [1] * 10


def test_a_claim_whose_answer_was_lost_is_known_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The store made it, and who asked heard nothing, asks again and is told that it is there."""
    path, put = ObjectPath.at(f"{ROOT}/claim"), ObjectPath._put
    answers = [StorageError("nobody heard")]

    def lossy(self: ObjectPath, *args: Any, **options: Any) -> None:
        put(self, *args, **options)
        if answers:
            raise answers.pop()

    monkeypatch.setattr(ObjectPath, "_put", lossy)
    path.mkdir()
    with pytest.raises(FileExistsError):
        path.mkdir()


def test_logs_are_stored_in_pieces_of_which_only_the_last_is_stored_again(lab: S3Lab) -> None:
    path = ObjectPath.at(f"{ROOT}/a.values")
    log, data = ObjectLog(path), np.random.default_rng(0).bytes(5_000_000)
    for at in range(0, len(data), 500_000):
        log.write_at(data[at : at + 500_000], at)
        assert log.waits
        log.store()
    for at in (0, 2**20 - 1, 2**20, 3_999_999, len(data)):
        assert path.read_from(at) == data[at:]
    assert Counter(lab.of("PUT", "runs/a.values")).most_common(1)[0][1] <= 3


def test_what_is_recorded_is_in_the_bucket_soon_and_with_the_end(tmp_path: Path) -> None:
    folder = RunFolder(ObjectPath.at(f"{ROOT}/run"))
    (folder.path / "run.json").write_bytes(b"{}")
    with AttemptJournal(folder, 0, 0, beat=1000) as journal:
        journal.done([1, 2, 3])
        eventually(folder.anything_done)
        journal.done_with(7, "seven")
    assert list(read_block_logs([journal.files.blocks])) == [1, 2, 3, 7]
    found = read_recorded(folder, with_values=True)
    assert (list(found.done), found.values(found.done)) == ([7], {7: "seven"})
    assert folder.read_state(journal.files)["reason"] == "finished"


def test_a_worker_does_not_bring_a_removed_run_back() -> None:
    folder = RunFolder(ObjectPath.at(f"{ROOT}/run"))
    (folder.path / "run.json").write_bytes(b"{}")
    stop = threading.Event()
    journal = AttemptJournal(folder, 0, 0, stop=stop, beat=0.01)
    folder.remove()
    assert stop.wait(PATIENCE)
    with pytest.raises(SourceNotFoundError, match="was removed"):
        folder.n_rounds()
    journal.done([1])
    with pytest.raises(SourceNotFoundError, match="was removed"):
        journal.end("finished")
    assert not names(folder.path)


def test_one_process_waits_for_a_run() -> None:
    folder = RunFolder(ObjectPath.at(f"{ROOT}/run"))
    (folder.path / "run.json").write_bytes(b"{}")
    with driving(folder):
        with (
            pytest.raises(InvalidArgumentError, match=f"is being run by process {os.getpid()}"),
            driving(folder),
        ):
            pass
        folder.show_driver()
        tag, other = folder.driver_tag(), RunFolder(folder.path)
        assert other.take_driver({"host": "a", "pid": 1}, tag)
        assert not RunFolder(folder.path).take_driver({"host": "b", "pid": 1}, tag)
        assert not RunFolder(folder.path).take_driver({"host": "b", "pid": 1})
        folder.show_driver()
    assert (folder.read_driver() or {})["host"] == "a"
    other.clear_driver()
    with driving(folder):
        pass


def test_bad_places_are_refused(lab: S3Lab, tmp_path: Path) -> None:
    image = bp.copy(np.zeros((4, 4), "uint8"), tmp_path / "in.zarr")
    for place, said in {
        "s3://user:pass@lab/runs": "must not hold credentials",
        "http://user:pass@host/runs": "on a disk, at s3:// or at az://",
        "s3://lab/a//b": "empty name",
        "s3://nobody-has-it/runs": "no run folder can be made",
    }.items():
        config = RunnerConfig(tmp_root=place, resumable=True)
        with pytest.raises(InvalidArgumentError, match=said) as caught:
            bp.copy(image, tmp_path / "out.zarr", job_config=config, overwrite=True)
        assert "pass@" not in str(caught.value)
    with pytest.raises(InvalidArgumentError, match="scripts and logs"):
        SlurmConfig(tmp_root=ROOT)
    with pytest.raises(SourceNotFoundError, match=r"no object run\.json"):
        bp.status(f"{ROOT}/nothing")
    lab.knows_conditions = False
    try:
        config = RunnerConfig(tmp_root=ROOT, resumable=True)
        with pytest.raises(InvalidArgumentError, match="does not know conditional writes"):
            bp.copy(image, tmp_path / "out.zarr", job_config=config, overwrite=True)
    finally:
        lab.knows_conditions = True
    assert not names(ObjectPath.at(ROOT))
    lab.refused = lambda asked: asked.method == "PUT"
    with pytest.raises(StorageError, match=r"a\.json cannot be written: .*403"):
        write_json(ObjectPath.at(f"{ROOT}/a.json"), {})
    with pytest.raises(InvalidArgumentError, match="no run folder can be made"):
        bp.copy(image, tmp_path / "out.zarr", job_config=config, overwrite=True)


PROGRAM = """
import os, sys, time
import numpy as np
import bioimage_py as bp
from bioimage_py import to_roi

folder, root = sys.argv[1:]

def write(block, inputs, outputs, mask):
    outputs[0][to_roi(block)] = 2 * inputs[0][to_roi(block)]
    with open(f"{folder}/marks/{os.getpid()}", "a") as file:
        file.write(f"{block.begin[0] // 4}\\n")
    time.sleep(0.02)
    while block.begin[0] > 3 * inputs[0].shape[0] // 4 and os.path.exists(f"{folder}/held"):
        time.sleep(0.02)
    return block.begin[0]

config = bp.RunnerConfig(tmp_root=root, poll_interval=0.1)
source, output = bp.open_source(f"{folder}/in.zarr"), bp.open_source(f"{folder}/out.zarr", mode="r+")
runner = bp.get_runner("subprocess", config)
runner.run(write, [source], [output], block_shape=(4, 8), num_workers=4, has_return_val=True)
"""
N = 240


class KilledRun:
    """A run of four workers in processes of its own, of which blocks leave marks; the last quarter is held."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "marks").mkdir()
        (folder / "held").touch()
        self.image = np.random.default_rng(0).integers(0, 99, (4 * N, 8)).astype("uint16")
        bp.copy(self.image, folder / "in.zarr", chunks=(400, 8))
        bp.create_output(folder / "out.zarr", like=self.image, chunks=(4, 8))
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(folder), ROOT],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def written(self) -> Counter[int]:
        """Return how often each block was written."""
        texts = [path.read_text() for path in (self.folder / "marks").iterdir()]
        return Counter(int(line) for text in texts for line in text.splitlines())

    def workers(self) -> list[psutil.Process]:
        found = []
        for file in (self.folder / "marks").iterdir():
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(int(file.name))
                if "bioimage_py.runner.worker" in process.cmdline():
                    found.append(process)
        return found

    def await_blocks(self, n: int) -> None:
        eventually(lambda: self.process.poll() is not None or len(self.written()) >= n)

    def close(self) -> None:
        for process in [*self.workers(), self.process]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait()


@pytest.mark.slow
def test_four_workers_are_killed_and_nothing_recorded_is_done_again(tmp_path: Path) -> None:
    chance, run = random.Random(0), KilledRun(tmp_path)
    try:
        for n in range(3):
            run.await_blocks((n + 1) * N // 8)
            with contextlib.suppress(psutil.NoSuchProcess, IndexError):
                chance.choice(run.workers()).kill()
        run.await_blocks(N // 2)
        assert run.process.poll() is None, "it ended early"
        for process in [psutil.Process(run.process.pid), *run.workers()]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        run.process.wait()
        eventually(lambda: not run.workers())
    finally:
        run.close()
        (tmp_path / "held").unlink()
    [path] = find_runs([ROOT])
    assert not RunFolder.open(path).is_gone()
    done, before = read_recorded(RunFolder.open(path), with_values=True).done, run.written()
    assert len(done)
    status = bp.status(str(path))
    assert (status.state, status.blocks_done) == ("unfinished", len(done))
    secrets = [found for found in everything(path) if SECRET.encode() in found.read_bytes()]
    assert not secrets
    assert bp.resume(str(path), num_workers=2) == list(range(0, 4 * N, 4))
    np.testing.assert_array_equal(bp.open_source(tmp_path / "out.zarr")[...], 2 * run.image)
    after = run.written()
    assert set(after) == set(range(N))
    assert not [block for block in done if after[block] != before[block]]
    assert not names(ObjectPath.at(ROOT))


def everything(path: Any) -> Iterator[ObjectPath]:
    for found in path.iterdir():
        if found.is_file():
            yield found
        else:
            yield from everything(found)


def test_a_worker_joins_a_run_in_a_bucket(tmp_path: Path) -> None:
    image = bp.copy(np.arange(64, dtype="uint8").reshape(8, 8), tmp_path / "in.zarr", chunks=(2, 2))
    stop, config = threading.Event(), RunnerConfig(tmp_root=ROOT, poll_interval=0.05)

    def work() -> str:
        folder = find_run(ROOT, stop, PATIENCE)
        return "" if folder is None else join_run(folder, stop).kind

    with ThreadPoolExecutor(1) as pool:
        try:
            joined = pool.submit(work)
            out = bp.copy(image, tmp_path / "out.zarr", chunks=(4, 4), job_type="external", job_config=config)
            assert joined.result(PATIENCE) == "finished"
        finally:
            stop.set()
    np.testing.assert_array_equal(out[...], image[...])
    assert not names(ObjectPath.at(ROOT))


def test_the_command_finds_and_finishes_a_run_in_a_bucket(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bp.copy(np.arange(64, dtype="uint8").reshape(8, 8), tmp_path / "in.zarr", chunks=(4, 4))
    bad = tmp_path / "in.zarr" / "c" / "1" / "1"
    good = bad.read_bytes()
    bad.write_bytes(b"torn")
    with pytest.raises(RunnerError) as caught:
        bp.copy(
            tmp_path / "in.zarr", tmp_path / "out.zarr", chunks=(2, 2), job_config=RunnerConfig(tmp_root=ROOT)
        )
    folder = str(caught.value.tmp_folder)
    assert folder.startswith(f"{ROOT}/bioimage-run-")
    assert f"'{folder}'" in str(caught.value)
    bad.write_bytes(good)

    def said(*arguments: str) -> Any:
        assert main([*arguments, "--json"]) in (0, 3)
        return json.loads(capsys.readouterr().out)

    assert [found["run_folder"] for found in said("runs", ROOT)["runs"]] == [folder]
    assert said("status", folder)["state"] == "unfinished"
    assert said("resume", folder)["run_folder"] == folder
    np.testing.assert_array_equal(
        bp.open_source(tmp_path / "out.zarr")[...], bp.open_source(tmp_path / "in.zarr")[...]
    )
    assert not names(ObjectPath.at(ROOT))
