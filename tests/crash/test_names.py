"""Files of one array have their name when they are whole, or when their run has ended, and not after a kill."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import bioimage_py as bp
from bioimage_py.errors import OutputExistsError, RunInterrupted

IMAGE = np.arange(16 * 8 * 8, dtype="u2").reshape(16, 8, 8)
OPTIONS: dict[str, Any] = {"block_shape": (2, 8, 8)}
CHUNKS: dict[str, Any] = {"o.h5": {"chunks": (2, 8, 8)}, "o.npy": {}}
NAMES = list(CHUNKS)

KILLED = """
import json, os, sys, numpy as np, bioimage_py as bp
path, options = json.loads(sys.argv[1])
class Dies:
    shape, dtype = (16, 8, 8), np.dtype("u2")
    def __getitem__(self, index):
        if index[0].start >= 8:
            os.kill(os.getpid(), 9)
        return np.load("image.npy")[index]
source = Dies()
bp.copy(source, path, **options)
"""


class Fails:
    """An array of which one half cannot be read."""

    shape, dtype = IMAGE.shape, IMAGE.dtype

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __getitem__(self, index: Any) -> np.ndarray:
        if index[0].start >= 8:
            raise self.error
        return IMAGE[index]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("image.npy", IMAGE)


def killed(path: str, **more: Any) -> None:
    said = json.dumps([path, {**OPTIONS, **CHUNKS[path], **more}])
    done = subprocess.run([sys.executable, "-c", KILLED, said], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_a_kill_leaves_nothing_under_the_name(tmp_path: Path, name: str) -> None:
    killed(name)
    assert sorted(p.name for p in tmp_path.iterdir()) == [f".{name}.partial", "image.npy"]
    killed(name)
    assert sorted(p.name for p in tmp_path.iterdir()) == [f".{name}.partial", "image.npy"]
    bp.copy(IMAGE, name, **OPTIONS, **CHUNKS[name]).close()
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([name, "image.npy"])
    np.testing.assert_array_equal(bp.open_source(name)[...], IMAGE)


def test_a_kill_leaves_the_npy_that_was_to_be_replaced() -> None:
    np.save("o.npy", IMAGE + 1)
    killed("o.npy", overwrite=True)
    np.testing.assert_array_equal(np.load("o.npy"), IMAGE + 1)
    bp.copy(IMAGE, "o.npy", overwrite=True)
    np.testing.assert_array_equal(np.load("o.npy"), IMAGE)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()], ids=["fails", "interrupted"])
def test_a_run_that_ends_early_gives_the_name_and_is_finished(
    tmp_path: Path, name: str, error: BaseException
) -> None:
    with pytest.raises((bp.RunnerError, RunInterrupted)) as caught:
        bp.copy(Fails(error), name, **OPTIONS, **CHUNKS[name])
    assert not list(tmp_path.glob(".*"))
    with bp.open_source(name, mode="r+") as rest:
        bp.copy(IMAGE, rest, block_ids=caught.value.failed_block_ids, **OPTIONS)
    np.testing.assert_array_equal(bp.open_source(name)[...], IMAGE)


@pytest.mark.parametrize("name", NAMES)
def test_a_run_that_is_refused_leaves_nothing(tmp_path: Path, name: str) -> None:
    with pytest.raises(bp.BioimagePyError):
        bp.copy(IMAGE, name, casting="safe", dtype="u1", **CHUNKS[name])
    with pytest.raises(bp.BioimagePyError):
        bp.copy(IMAGE, name, block_ids=[99], **OPTIONS, **CHUNKS[name])
    assert [p.name for p in tmp_path.iterdir()] == ["image.npy"]


@pytest.mark.parametrize("name", NAMES)
def test_two_runs_do_not_write_one_file(tmp_path: Path, name: str) -> None:
    refused: list[BaseException] = []

    class Meanwhile(Fails):
        def __getitem__(self, index: Any) -> np.ndarray:
            if not refused:
                try:
                    bp.copy(IMAGE, name, **OPTIONS, **CHUNKS[name])
                except OutputExistsError as error:
                    refused.append(error)
            return IMAGE[index]

    made = bp.copy(Meanwhile(ValueError()), name, **OPTIONS, **CHUNKS[name])
    assert "being written by another run" in str(refused[0])
    np.testing.assert_array_equal(made[...], IMAGE)


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_is_taken_meanwhile(tmp_path: Path, name: str) -> None:
    class Meanwhile(Fails):
        def __getitem__(self, index: Any) -> np.ndarray:
            Path(name).write_text("of somebody else")
            return IMAGE[index]

    with pytest.raises(OutputExistsError, match=r"meanwhile.*\.partial"):
        bp.copy(Meanwhile(ValueError()), name, **OPTIONS, **CHUNKS[name])
    assert Path(name).read_text() == "of somebody else"
    np.testing.assert_array_equal(bp.open_source(f".{name}.partial")[...], IMAGE)


@pytest.mark.parametrize("name", NAMES)
def test_a_kill_between_two_names_leaves_one_in_the_end(tmp_path: Path, name: str) -> None:
    bp.copy(IMAGE, name, **OPTIONS, **CHUNKS[name]).close()
    Path(f".{name}.partial").hardlink_to(name)
    with pytest.raises(OutputExistsError, match="already"):
        bp.copy(IMAGE, name, **OPTIONS, **CHUNKS[name])
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([name, "image.npy"])
    np.testing.assert_array_equal(bp.open_source(name)[...], IMAGE)


def test_the_longest_names_have_a_temporary_one_too(tmp_path: Path) -> None:
    name = "o" * 251 + ".npy"
    bp.copy(IMAGE, name)
    np.testing.assert_array_equal(np.load(name), IMAGE)


def test_a_file_that_holds_more_keeps_its_name() -> None:
    with h5py.File("o.h5", "w") as file:
        file["other"] = IMAGE
    killed("o.h5")
    with h5py.File("o.h5") as file:
        np.testing.assert_array_equal(file["other"][...], IMAGE)


def test_new_files_have_their_name_where_the_user_writes(tmp_path: Path) -> None:
    for name in NAMES:
        with bp.create_output(name, like=IMAGE) as made:
            assert Path(name).exists()
            made[...] = IMAGE
        np.testing.assert_array_equal(bp.open_source(name)[...], IMAGE)
