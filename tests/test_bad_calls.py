"""Forty calls that cannot be carried out: each is one error of ours that says what is wrong, the value, and what to do, and makes nothing."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile

import bioimage_py as bp
from bioimage_py import wrapper
from bioimage_py.errors import BioimagePyError

VOXELS = np.zeros((4, 8, 8), "uint16")
Files = Path

CALLS: list[tuple[Callable[[Files], Any], type[Exception], str, str]] = [
    # What cannot be opened.
    (lambda f: bp.copy(f / "slice.tiff", f / "o.zarr"), FileNotFoundError, r"slice\.tiff", r"there is slice\.tif"),
    (lambda f: bp.copy(f / "no" / "a.tif", f / "o.zarr"), FileNotFoundError, r"no/a\.tif", "its folder .*/no' does not exist"),
    (lambda f: bp.open_source(f / "empty", "*.tif"), FileNotFoundError, r"matches .\*\.tif", "Give a pattern"),
    (lambda f: bp.open_source(f / "empty"), ValueError, "empty' holds neither", "name a file|give a pattern"),
    (lambda f: bp.open_source(f / "notes.txt"), ValueError, r"notes\.txt' is not in a format", r"Known: Zarr .*\.zarr"),
    (lambda f: bp.copy(f / "two.h5", f / "o.zarr"), ValueError, "holds 2 arrays", r"open_source\('.*two\.h5', 'x'\)"),
    (lambda f: bp.open_source(f / "two.h5", "z"), FileNotFoundError, "no 'z'", r"there is\n *x .*\n *y "),
    (lambda f: bp.open_source(f / "slice.tif", serie=3), ValueError, "no option serie", "it takes series"),
    (lambda f: bp.open_source(f / "a.zarr", mode="w"), ValueError, "got 'w'", "'r' or 'r\\+'.*create_output"),
    (lambda f: bp.open_source("s4://bucket/a.zarr"), ValueError, "got s4://", "can be .*s3://"),
    (lambda f: bp.open_source("https://example.org/a.tif"), ValueError, r"example\.org/a\.tif", "copy .* to a local file"),
    (lambda f: bp.copy([[1, 2], [3, 4]], f / "o.zarr"), ValueError, r"list '\[\[1, 2\]", "give an array"),
    (lambda f: bp.copy(None), ValueError, "None", "give an array"),
    # Where nothing can be written.
    (lambda f: bp.copy(VOXELS, f / "o.xyz"), ValueError, r"o\.xyz", r"can be written: Zarr .*\.zarr"),
    (lambda f: bp.copy(VOXELS, f / "o.czi"), ValueError, r"o\.czi' ends as microscope", "can be written: Zarr"),
    (lambda f: bp.copy(VOXELS, f / "a.zarr"), FileExistsError, r"a\.zarr is there already", "overwrite=True"),
    (lambda f: bp.copy(f / "a.zarr", f / "a.zarr", overwrite=True), ValueError, "the same array", "another path"),
    (lambda f: bp.open_source(f / "a.zarr").__setitem__(0, 1), PermissionError, r"a\.zarr is read-only", r"mode='r\+'"),
    (lambda f: bp.copy(VOXELS, np.zeros((4, 8, 9))), ValueError, r"\(4, 8, 8\).*\(4, 8, 9\)", "RoiSource"),
    (lambda f: bp.pyramid(VOXELS, f / "o.zarr"), ValueError, r"o\.zarr' is not a place", r"ends in \.ome\.zarr"),
    (lambda f: bp.copy(f / "a.zarr", job_type="subprocess"), ValueError, "'subprocess' needs an output", "such as Zarr"),
    (lambda f: bp.copy(VOXELS, f / "o.zarr", job_type="subprocess"), ValueError, "held in memory", "write it to a file first"),
    # How a new array cannot look.
    (lambda f: bp.copy(VOXELS, f / "o.zarr", chunks=(2, 2)), ValueError, r"chunks \(2, 2\) has 2 axes", "has 3"),
    (lambda f: bp.copy(VOXELS, f / "o.zarr", chunks="auto"), ValueError, "'auto'", "one integer of at least 1 per axis"),
    (lambda f: bp.copy(VOXELS, f / "o.zarr", chunks=(2, 4, 4), shards=(3, 4, 4)), ValueError, r"shards \(3, 4, 4\)", "multiple of the chunks"),
    (lambda f: bp.copy(VOXELS, f / "o.n5/a", shards=(4, 4, 4)), ValueError, "no shards .* N5", "use Zarr v3"),
    (lambda f: bp.copy(VOXELS, f / "o.zarr", codec="zip"), ValueError, "not have the codec 'zip'", "choose one of .*zstd"),
    (lambda f: bp.copy(VOXELS, f / "o.zarr", dtype="uint17"), ValueError, "'uint17'", "those for voxels are bool, uint8"),
    (lambda f: bp.copy(VOXELS, f / "o.zarr", fill_value=-1), ValueError, "fill_value=-1 .* uint16", "give a number that it has"),
    (lambda f: bp.copy(VOXELS, f / "o.zarr", axes="zy"), ValueError, "got 'zy'", "3 axes, such as 'zyx'"),
    (lambda f: bp.copy(VOXELS, f / "o.ome.zarr", axes="abc"), ValueError, "cannot describe the axes a, b, c", "such as axes='czyx'"),
    (lambda f: bp.copy(VOXELS, f / "o.zarr", voxel_size="2um"), ValueError, "got '2um'", "said by units"),
    (lambda f: bp.copy(VOXELS, f / "o.zarr", units="parsnip"), ValueError, "'parsnip' is not known", "there are .*micrometer"),
    # How nothing can be run.
    (lambda f: bp.copy(VOXELS, f / "o.zarr", chunks=(2, 4, 4), block_shape=(3, 4, 4)), ValueError, r"block_shape \(3, 4, 4\)", r"block_shape=\(4, 4, 4\)"),
    (lambda f: bp.copy(VOXELS, job_type="slrum"), ValueError, "'slrum'", "one of 'local', .*'slurm'"),
    (lambda f: bp.copy(VOXELS, num_workers=0), ValueError, "got 0", "positive integer, or None for all cores"),
    (lambda f: bp.copy(VOXELS, f / "o.zarr", memory_limit=10), ValueError, "10 B is too small", "larger memory_limit"),
    (lambda f: bp.copy(VOXELS, block_shape=(2, 4, 4), block_ids=[99]), ValueError, "99 is not in 0 … 7", "8 blocks"),
    (lambda f: bp.resume(f / "nowhere"), FileNotFoundError, "no run folder .*nowhere", "tmp_root"),
    (lambda f: bp.open_source(f / "a.zarr")[::2], IndexError, "step 2 for axis 0", "read the region and take"),
    (lambda f: wrapper.TransposeSource(VOXELS, "zyx"), ValueError, "no axis 'z'", "use a number"),
    (lambda f: bp.downsample(VOXELS, 1.5), ValueError, "got 1.5", "must be an integer"),
    (lambda f: bp.pyramid(VOXELS, f / "o.ome.zarr", method="avg"), ValueError, "got 'avg'", "one of mean, median"),
]  # fmt: skip


@pytest.fixture
def files(tmp_path: Path) -> Path:
    tifffile.imwrite(tmp_path / "slice.tif", VOXELS, photometric="minisblack")
    bp.copy(VOXELS, tmp_path / "a.zarr", chunks=(2, 4, 4)).close()
    with h5py.File(tmp_path / "two.h5", "w") as file:
        file["x"] = file["y"] = VOXELS
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "empty").mkdir()
    return tmp_path


def test_there_are_forty() -> None:
    assert len(CALLS) >= 40


@pytest.mark.parametrize(
    ("call", "builtin", "wrong", "advice"), CALLS, ids=[f"{n} {one[2]}" for n, one in enumerate(CALLS)]
)
def test_it_says_what_is_wrong_and_what_to_do(
    files: Path, call: Callable[[Files], Any], builtin: type[Exception], wrong: str, advice: str
) -> None:
    before = sorted(files.rglob("*"))
    with pytest.raises(BioimagePyError) as caught:
        call(files)
    said = str(caught.value)
    assert isinstance(caught.value, builtin)
    assert re.search(wrong, said), said
    assert re.search(advice, said, re.DOTALL), said
    assert len(said) < 600
    assert sorted(files.rglob("*")) == before


def test_an_option_that_there_is_not() -> None:
    with pytest.raises(
        TypeError, match=r"^plan\(\) got an unexpected keyword argument 'chunk'. Did you mean 'chunks'\?"
    ):
        bp.plan(VOXELS, chunk=(1, 1, 1))  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"^pyramid_plan\(\) got an unexpected keyword argument 'xyz'$"):
        bp.pyramid_plan(VOXELS, xyz=1)  # type: ignore[call-arg]
