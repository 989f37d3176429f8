"""What `copy` and `pyramid` would refuse before they write, `plan` and `--dry-run` refuse with the same words and exit code."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import bioimage_py as bp
from bioimage_py.cli import main
from bioimage_py.errors import BioimagePyError, OutputExistsError, ReadOnlyError, StorageError
from bioimage_py.pyramid import pyramid_plan

IMAGE = np.arange(8 * 32 * 32, dtype="uint16").reshape(8, 32, 32)
OUTPUTS = [
    "a.zarr",
    "a.zarr/inner/raw",
    "a.n5",
    "a.n5/raw",
    "a.h5",
    "a.h5:/raw",
    "a.npy",
    "a.precomputed",
    "a.ome.zarr",
]


def refusal(call: Callable[[], Any]) -> tuple[type, str]:
    with pytest.raises(BioimagePyError) as caught:
        call()
    return type(caught.value), str(caught.value)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("output", OUTPUTS)
def test_an_output_that_is_there(here: Path, output: str) -> None:
    assert bp.plan(IMAGE, output).n_blocks
    assert list(here.iterdir()) == []
    bp.copy(IMAGE, output)
    planned = refusal(lambda: bp.plan(IMAGE, output))
    assert planned == refusal(lambda: bp.copy(IMAGE, output))
    assert planned[0] is OutputExistsError
    assert bp.plan(IMAGE, output, overwrite=True).n_blocks


def test_a_group_and_strange_files_are_never_replaced(here: Path) -> None:
    zarr.open_group("g.zarr", mode="w").create_array("x", shape=(2,), dtype="u1")
    bp.copy(IMAGE, "b.zarr")
    Path("b.zarr/notes.txt").write_text("mine")
    Path("c.npy").write_text("this is not an array")
    for output in ("g.zarr", "b.zarr", "c.npy", "none/d.npy", "none/d.h5"):
        planned = refusal(lambda output=output: bp.plan(IMAGE, output, overwrite=True))
        assert planned == refusal(lambda output=output: bp.copy(IMAGE, output, overwrite=True))


def test_a_whole_image_and_a_pyramid(here: Path) -> None:
    bp.pyramid(IMAGE, "in.ome.zarr", chunks=(8, 16, 16))
    assert bp.plan("in.ome.zarr", "out.ome.zarr").block_ids
    assert sorted(p.name for p in here.iterdir()) == ["in.ome.zarr"]
    bp.copy("in.ome.zarr", "out.ome.zarr")
    planned = refusal(lambda: bp.plan("in.ome.zarr", "out.ome.zarr"))
    assert planned == refusal(lambda: bp.copy("in.ome.zarr", "out.ome.zarr"))
    planned = refusal(lambda: pyramid_plan(IMAGE, "out.ome.zarr"))
    assert planned == refusal(lambda: bp.pyramid(IMAGE, "out.ome.zarr"))
    assert planned[0] is OutputExistsError
    assert pyramid_plan(IMAGE, "out.ome.zarr", overwrite=True).levels
    # Smaller levels of an image that has some.
    planned = refusal(lambda: pyramid_plan("out.ome.zarr"))
    assert planned == refusal(lambda: bp.pyramid("out.ome.zarr"))
    Path("in.ome.zarr/notes.txt").write_text("mine")
    planned = refusal(lambda: bp.plan("out.ome.zarr", "in.ome.zarr", overwrite=True))
    assert planned == refusal(lambda: bp.copy("out.ome.zarr", "in.ome.zarr", overwrite=True))


@pytest.mark.parametrize("output", OUTPUTS)
def test_a_folder_that_cannot_be_written(here: Path, output: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bioimage_py.sources.location.os.access", lambda *_: False)
    with pytest.raises(ReadOnlyError, match="cannot be written"):
        bp.plan(IMAGE, output)


def test_a_disk_that_is_too_small_for_a_file(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = shutil.disk_usage(here)._replace(free=100)
    monkeypatch.setattr("shutil.disk_usage", lambda _: small)
    with pytest.raises(StorageError, match="takes 16,384 bytes"):
        bp.plan(IMAGE, "a.npy")
    with pytest.raises(StorageError, match="no space left"):
        bp.copy(IMAGE, "a.npy")
    assert list(here.iterdir()) == []


@pytest.mark.parametrize("output", ["a.zarr", "a.h5", "a.npy", "a.ome.zarr"])
def test_the_command_has_the_exit_code_of_the_real_call(here: Path, output: str) -> None:
    np.save("in.npy", IMAGE)
    assert main(["copy", "in.npy", output, "--dry-run"]) == 0
    assert main(["copy", "in.npy", output, "--quiet"]) == 0
    assert main(["copy", "in.npy", output, "--dry-run"]) == 2
    assert main(["plan", "in.npy", output]) == 2
    assert main(["plan", "in.npy", output, "--overwrite"]) == 0
    assert main(["plan", "in.npy", output, "--into-existing"]) == 0
    if output.endswith(".ome.zarr"):
        assert main(["pyramid", "in.npy", output, "--dry-run"]) == 2
