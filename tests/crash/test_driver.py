"""One process waits for a run, whoever dies; and run folders that are removed under it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import bioimage_py as bp
from bioimage_py.errors import BioimagePyError, InvalidArgumentError, RunnerError, SourceNotFoundError
from bioimage_py.runner import LocalRunner, RunnerConfig, SubprocessRunner
from bioimage_py.runner.run import RunFolder, driving

HOLD = """
import sys
from bioimage_py.runner.run import driving
from bioimage_py.runner.run import RunFolder
folder = RunFolder.open(sys.argv[1])
with driving(folder):
    if sys.argv[2] == "silent":
        folder.clear_driver()
    print("held", flush=True)
    sys.stdin.read()
"""


def failed_run(tmp_path: Path) -> Path:
    """The folder of a run of two items, of which the second works as soon as there is a file `works`."""
    works = tmp_path / "works"

    def second(item: int) -> int:
        if item and not works.exists():
            raise ValueError("not yet")
        return item

    with pytest.raises(RunnerError) as caught:
        LocalRunner(RunnerConfig(tmp_root=tmp_path / "runs")).map(second, 2)
    works.touch()
    return Path(str(caught.value.tmp_folder))


@pytest.mark.parametrize("how", ["named", "silent"])
def test_a_run_is_waited_for_by_one_process_until_it_dies(tmp_path: Path, how: str) -> None:
    folder = failed_run(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder), how], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(InvalidArgumentError, match=f"process {holder.pid}|another process"):
            bp.resume(folder)
        holder.kill()
    assert bp.resume(folder) == [0, 1]


def test_a_run_is_waited_for_by_one_thread(tmp_path: Path) -> None:
    folder = failed_run(tmp_path)
    with (
        driving(RunFolder.open(folder)),
        pytest.raises(InvalidArgumentError, match=f"process {os.getpid()} on"),
    ):
        bp.resume(folder)
    # The lock of the first is not lost with the refusal of the second.
    assert bp.resume(folder) == [0, 1]


def test_of_many_resumes_at_once_one_runs(tmp_path: Path) -> None:
    folder = failed_run(tmp_path)
    begun, ends = threading.Barrier(6), list[Any]()

    def resume() -> None:
        begun.wait()
        try:
            ends.append(bp.resume(folder))
        except BioimagePyError as error:
            ends.append(error)

    threads = [threading.Thread(target=resume) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [end for end in ends if isinstance(end, list)] == [[0, 1]], ends


@pytest.mark.parametrize("make", [LocalRunner, SubprocessRunner])
def test_a_run_folder_that_is_removed_is_one_clear_error(
    tmp_path: Path, make: Callable[[RunnerConfig], Any]
) -> None:
    root = str(tmp_path / "runs")

    def vanish(item: int) -> int:
        import shutil

        shutil.rmtree(root, ignore_errors=True)
        return item

    with pytest.raises(RunnerError, match="was removed while") as caught:
        make(RunnerConfig(tmp_root=root)).map(vanish, 4)
    assert list(caught.value.failed_block_ids) == [0, 1, 2, 3]
    assert caught.value.tmp_folder is None


def test_a_run_folder_that_is_gone_is_one_clear_error(tmp_path: Path) -> None:
    folder = failed_run(tmp_path)
    opened = RunFolder.open(folder)
    shutil.rmtree(folder)
    with pytest.raises(SourceNotFoundError, match="no run folder"):
        bp.resume(folder)
    with pytest.raises(FileNotFoundError), driving(opened):
        pass
