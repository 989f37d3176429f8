"""Names of slices that carry axes, as a pattern with fields says."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import tifffile

import bioimage_py as bp
from bioimage_py.cli import main
from bioimage_py.errors import BioimagePyError, BioimagePyWarning, SourceNotFoundError
from bioimage_py.sources import from_spec, open_source

VOXELS = np.random.default_rng(0).integers(0, 500, (2, 3, 4, 8, 9)).astype("uint16")


def write(folder: Path, names: Iterable[str]) -> None:
    """Write a slice for each name that holds its number everywhere."""
    for n, name in enumerate(names):
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        tifffile.imwrite(folder / name, np.full((4, 5), n, "uint8"))


def test_what_was_written_is_read_by_the_same_text(tmp_path: Path) -> None:
    pattern = tmp_path / "img_z{z}_{c:03}{t:02d}.tif"
    made = bp.copy(VOXELS, pattern, axes="tczyx")
    for found in (open_source(pattern), from_spec(made.to_spec()), open_source(tmp_path, pattern.name)):
        assert found.metadata.axes == ("t", "c", "z", "y", "x")
        np.testing.assert_array_equal(found[...], VOXELS)
        np.testing.assert_array_equal(from_spec(found.to_spec())[...], VOXELS)


@pytest.mark.parametrize(
    ("pattern", "names", "axes"),
    [
        ("pos{c}/img_{z}.tif", ["pos9/img_2.tif", "pos9/img_10.tif", "pos10/img_2.tif", "pos10/img_10.tif"], "cz"),
        ("{t}/Z{channel:03}/a.tif", ["-2/z001/a.tif", "-2/z002/a.tif", "1/z001/a.tif", "1/z002/a.tif"], "tc"),
        ("z{z}um.tif", ["z-1.5um.tif", "z-1um.tif", "z-0,5um.tif", "z0um.tif"], "z"),
        ("*_{slice}_w[12]*.TIF", ["A1_2_w1.tif", "B22_10_w2x.tif"], "z"),
        ("{t}.{z}.tif", ["1.9.tif", "1.10.tif", "2.9.tif", "2.10.tif"], "tz"),
        ("{angle}_{z}.tif", ["0_1.tif", "0_2.tif", "90_1.tif", "90_2.tif"], ("angle", "z")),
        ("c{c}_z{z}.tif", ["c1_z5.tif"], "cz"),
    ],
)  # fmt: skip
def test_order_and_axes(pattern: str, names: list[str], axes: str, tmp_path: Path) -> None:
    write(tmp_path, names)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.tif").write_bytes(b"no image")
    with open_source(tmp_path / pattern) as found:
        assert found.metadata.axes == (*axes, "y", "x")
        assert found[..., 0, 0].ravel().tolist() == list(range(len(names)))


def test_missing_combinations_are_listed_or_filled(tmp_path: Path) -> None:
    folder, key = str(tmp_path / "run"), "t{t}/c{c}_z{z}.tif"
    write(tmp_path / "run", ["t0/c1_z3.tif", "t0/c2_z3.tif", "t1/c2_z3.tif", "t0/c1_z4.tif"])
    with pytest.raises(SourceNotFoundError, match="t=0 c=2 z=4; t=1 c=1 z=3; t=1 c=1 z=4; t=1 c=2 z=4"):
        bp.copy(f"{folder}/{key}", tmp_path / "out.zarr")
    assert not (tmp_path / "out.zarr").exists()
    command = ["copy", folder, str(tmp_path / "out.zarr"), "--pattern", key, "--missing-planes", "fill", "-q"]
    assert main(command) == 0
    filled = open_source(tmp_path / "out.zarr")
    assert filled[..., 0, 0].tolist() == [[[0, 3], [1, 0]], [[0, 0], [2, 0]]]


def test_a_number_that_is_left_out(tmp_path: Path) -> None:
    write(tmp_path, ["1.tif", "2.tif", "4.tif"])
    with pytest.warns(BioimagePyWarning, match="number 3 is missing"):
        assert open_source(tmp_path / "{z}.tif").shape == (3, 4, 5)
    assert open_source(tmp_path / "{z}.tif", missing_planes="fill").shape == (4, 4, 5)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("no{z}.tif", "no file in folder.*matches 'no{z}.tif'; there are: 5 x .tif"),
        ("none/{z}.tif", "no folder"),
        ("{z:x}.tif", "at most a width"),
        ("{z}_{z}.tif", "each field once"),
        ("a{z}_*.tif", "'a1_1.tif' and 'a1_2.tif' have the same place along z"),
        ("a{z}{t}_1.tif", "where z ends and t begins"),
        ("a{x}_*.tif", "not an axis along which slices"),
        ("a{c}_{channel}.tif", "state the same axis"),
        ("v{z}.tif", r"1.9 and 1.10.*\{t\}.\{z\}"),
    ],
)
def test_what_cannot_be_read(pattern: str, message: str, tmp_path: Path) -> None:
    write(tmp_path, ["a1_1.tif", "a1_2.tif", "v1.9.tif", "v1.10.tif", "b.tif"])
    with pytest.raises(BioimagePyError, match=message):
        open_source(tmp_path / pattern)


@pytest.mark.parametrize("name", ["{t}{z}.tif", "[1]{z}.tif", "{z}*.tif"])
def test_names_that_would_not_be_read_back_are_not_written(name: str, tmp_path: Path) -> None:
    with pytest.raises(BioimagePyError, match="have a number for each axis"):
        bp.copy(np.zeros((2, 12, 4, 5), "uint8"), tmp_path / name, axes="tzyx")
    assert not list(tmp_path.iterdir())


def test_slices_in_subfolders_are_not_replaced_while_they_are_read(tmp_path: Path) -> None:
    write(tmp_path, ["a1/1.tif", "a1/2.tif", "a2/1.tif", "a2/2.tif"])
    with pytest.raises(BioimagePyError, match="lies inside"):
        bp.copy(open_source(tmp_path / "a{c}" / "{z}.tif"), tmp_path / "a1" / "c{c}_{z}.tif", overwrite=True)
