"""What must work on every system: run by `make systems` as on Windows and as on macOS too."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile

import bioimage_py as bp
from bioimage_py.errors import BioimagePyWarning, MissingDependencyError, OutputExistsError, RunnerError
from bioimage_py.runner import get_runner
from bioimage_py.runner.run import RunFolder
from bioimage_py.storage import UnfinishedFile, is_alive
from tests.waiting import eventually

IMAGE = np.arange(40 * 50 * 60, dtype="u2").reshape(40, 50, 60)
AS_SYSTEM = os.environ.get("BIOIMAGE_PY_AS_SYSTEM", "")


def source(kind: str, folder: Path) -> str:
    path = str(folder / f"in.{kind}")
    if kind == "tif":
        tifffile.imwrite(path, IMAGE)
    elif kind == "slices":
        Path(path).mkdir()
        for z, plane in enumerate(IMAGE):
            tifffile.imwrite(f"{path}/z{z:03}.tif", plane)
    elif kind == "h5":
        with h5py.File(path, "w") as file:
            file.create_dataset("raw", data=IMAGE, chunks=(16, 16, 16), compression="gzip")
    elif kind == "npy":
        np.save(path, IMAGE)
    else:
        bp.copy(IMAGE, path)
    return path


@pytest.mark.parametrize("kind", ["tif", "slices", "h5", "npy", "zarr", "n5", "precomputed"])
@pytest.mark.parametrize("target", ["zarr", "npy", "h5"])
def test_a_copy_has_the_voxels_of_its_input(kind: str, target: str, tmp_path: Path) -> None:
    path = source(kind, tmp_path)
    with warnings.catch_warnings():
        # A .npy file has no place for what else some inputs say.
        warnings.simplefilter("ignore", BioimagePyWarning)
        made = bp.copy(path, tmp_path / f"out.{target}", num_workers=2)
    np.testing.assert_array_equal(made[:], IMAGE)
    made.close()
    assert bp.verify(IMAGE, tmp_path / f"out.{target}").equal
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"in.{kind}", f"out.{target}"]


@pytest.mark.parametrize("target", ["out.zarr", "out.n5", "out.h5", "out.npy"])
def test_an_output_is_replaced_and_written_on(target: str, tmp_path: Path) -> None:
    bp.copy(np.zeros_like(IMAGE), tmp_path / target).close()
    with pytest.raises(OutputExistsError):
        bp.copy(IMAGE, tmp_path / target)
    made = bp.copy(IMAGE, tmp_path / target, overwrite=True)
    made[:10] = 7
    made.close()
    expected = IMAGE.copy()
    expected[:10] = 7
    np.testing.assert_array_equal(bp.open_source(tmp_path / target)[:], expected)


def test_chunks_are_moved_packed_and_replaced(tmp_path: Path) -> None:
    bp.copy(IMAGE, tmp_path / "a.zarr", chunks=(20, 25, 30))
    bp.copy(tmp_path / "a.zarr", tmp_path / "b.zarr")
    bp.copy(tmp_path / "b.zarr", tmp_path / "c.zarr", chunks=(20, 25, 30), shards=(40, 50, 60))
    again = bp.open_source(tmp_path / "c.zarr", mode="r+")
    bp.copy(IMAGE[::-1].copy(), again)
    np.testing.assert_array_equal(bp.open_source(tmp_path / "c.zarr")[:], IMAGE[::-1])


def test_a_pyramid_is_made(tmp_path: Path) -> None:
    bp.copy(IMAGE, tmp_path / "a.zarr")
    levels = bp.pyramid(tmp_path / "a.zarr", tmp_path / "p.ome.zarr", levels=2, num_workers=2)
    assert len(levels) == 2
    np.testing.assert_array_equal(bp.open_source(tmp_path / "p.ome.zarr", "0")[:], IMAGE)


def test_subprocesses_copy_and_leave_no_run_folder(tmp_path: Path) -> None:
    config = bp.runner.RunnerConfig(tmp_root=tmp_path / "runs")
    path = source("tif", tmp_path)
    bp.copy(path, tmp_path / "o.zarr", job_type="subprocess", job_config=config, num_workers=2)
    assert bp.verify(path, tmp_path / "o.zarr").equal
    assert not list((tmp_path / "runs").iterdir())


def not_yet(block: Any, inputs: list[Any], outputs: list[Any], mask: Any) -> None:
    if block.begin[0]:
        raise ValueError("not yet")
    outputs[0][block.begin[0] : block.end[0]] = inputs[0][block.begin[0] : block.end[0]]


def now(block: Any, inputs: list[Any], outputs: list[Any], mask: Any) -> None:
    outputs[0][block.begin[0] : block.end[0]] = inputs[0][block.begin[0] : block.end[0]]


def test_a_run_that_failed_is_resumed(tmp_path: Path) -> None:
    stored = bp.copy(IMAGE, tmp_path / "i.zarr", chunks=(20, 50, 60))
    output = bp.create_output(tmp_path / "o.zarr", like=stored)
    runner = get_runner("subprocess", bp.runner.RunnerConfig(tmp_root=tmp_path / "runs", retries=0))
    with pytest.raises(RunnerError, match="not yet") as failure:
        runner.run(not_yet, [stored], [output], num_workers=2, block_shape=(20, 50, 60))
    assert list(failure.value.failed_block_ids) == [1]
    folder = failure.value.tmp_folder
    runner.run(now, [stored], [output], num_workers=2, block_shape=(20, 50, 60), resume_from=folder)
    np.testing.assert_array_equal(output[:], IMAGE)
    assert not list((tmp_path / "runs").iterdir())


SLOW = """
import sys, time
import numpy as np
import bioimage_py as bp
from bioimage_py.runner import RunnerConfig, get_runner

def slow(item):
    time.sleep(0.2)
    return item

if __name__ == "__main__":
    get_runner("subprocess", RunnerConfig(tmp_root=sys.argv[1])).map(slow, 1000, num_workers=2)
"""


def test_a_run_is_cancelled_from_another_process_and_its_workers_end(tmp_path: Path) -> None:
    program = tmp_path / "slow.py"
    program.write_text(SLOW)
    child = subprocess.Popen([sys.executable, program, tmp_path / "runs"], stderr=subprocess.DEVNULL)
    try:
        runs = tmp_path / "runs"
        eventually(lambda: runs.exists() and list(runs.glob("b*/attempts/*")), "the run has begun")
        [folder] = [path for path in runs.iterdir() if path.name[0] != "."]
        eventually((folder / "driver.json").exists, "its driver is known")
        command = [sys.executable, "-m", "bioimage_py", "cancel", str(folder)]
        assert subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0
        assert child.wait(60) != 0

        def ended() -> bool:
            run = RunFolder.open(folder)
            states = [run.read_state(attempt) for attempt in run.attempts()]
            return bool(states) and not any(is_alive(state) for state in states)

        eventually(ended, "no worker is left")
    finally:
        child.kill()
        child.wait()


def test_a_file_that_another_run_writes_is_not_taken(tmp_path: Path) -> None:
    held = UnfinishedFile(str(tmp_path / "a.npy"), replaces=True)
    with Path(held.partial).open("wb") as file:
        held.lock(file.fileno())
        with pytest.raises(OutputExistsError, match="another run"):
            bp.copy(IMAGE, tmp_path / "a.npy")
    bp.copy(IMAGE, tmp_path / "a.npy").close()
    assert bp.verify(IMAGE, tmp_path / "a.npy").equal


def test_the_command_copies_compares_and_tells(tmp_path: Path) -> None:
    path = source("tif", tmp_path)

    def command(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "bioimage_py", *words],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    command("copy", path, str(tmp_path / "o.zarr"))
    assert "equal" in command("verify", path, str(tmp_path / "o.zarr"))
    assert "uint16" in command("info", str(tmp_path / "o.zarr"))


@pytest.mark.skipif(AS_SYSTEM != "windows", reason="other systems have Slurm's commands, or could")
def test_slurm_says_that_it_does_not_run_here(tmp_path: Path) -> None:
    stored = bp.copy(IMAGE, tmp_path / "i.zarr")
    with pytest.raises(MissingDependencyError, match="does not run on Windows"):
        bp.copy(stored, tmp_path / "o.zarr", job_type="slurm")
    assert not (tmp_path / "o.zarr").exists()


@pytest.mark.skipif(not AS_SYSTEM, reason="only in the sessions of `make systems`")
def test_the_session_is_what_it_says() -> None:
    import bioimage_py.system.files as ours

    assert not hasattr(os, "pread") or "tests" in __name__  # hidden from the package only
    probe = compile(
        "import os; there = hasattr(os, 'posix_fadvise'), hasattr(os, 'pread'), os.name", "probe", "exec"
    )
    names: dict[str, object] = {"__name__": "bioimage_py.probe", "__spec__": None}
    exec(probe, names)
    assert names["there"] == ((False, False, "nt") if AS_SYSTEM == "windows" else (False, True, os.name))
    assert (ours.pread is ours._pread_in_turn) == (AS_SYSTEM == "windows")
