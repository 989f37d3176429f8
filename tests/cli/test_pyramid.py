"""`bioimage-py pyramid`, and `copy --pyramid`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from bioimage_py.sources import open_source
from bioimage_py.wrapper.resampling import ReducedSource
from tests.cli.conftest import Call, Image


def test_it_says_what_was_made(call: Call, zarr: Path, image: Image, tmp_path: Path) -> None:
    out = tmp_path / "out.ome.zarr"
    outcome = call("pyramid", zarr, out)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith(f"made 5 levels of 40 × 50 × 60 uint16 from {zarr} in {out} (zarr v3)")
    expected = ReducedSource(image, (1, 2, 2), "mean")[...]
    with open_source(out, "1") as level:
        np.testing.assert_array_equal(level[...], expected)
        assert level.metadata.voxel_size == (2, 1, 1)


def test_json_is_one_document(call: Call, npy: Path, tmp_path: Path) -> None:
    words = ["--chunks", 16, "--scale-factors", "1x2x2,2", "--method", "max", "--json", "--workers", 2]
    outcome = call("pyramid", npy, tmp_path / "out.ome.zarr", *words)
    document = outcome.document
    assert (outcome.code, outcome.err) == (0, "")
    assert document["command"] == "pyramid"
    assert [level["shape"] for level in document["levels"]] == [[40, 50, 60], [40, 25, 30], [20, 13, 15]]
    assert document["bytes"] == 2 * (40 * 50 * 60 + 40 * 25 * 30 + 20 * 13 * 15)


@pytest.mark.parametrize(
    "words", [["pyramid", "--dry-run"], ["copy", "--pyramid", "--dry-run"], ["plan", "--pyramid"]], ids=str
)
def test_a_dry_run_writes_nothing(call: Call, zarr: Path, tmp_path: Path, words: list[str]) -> None:
    outcome = call(*words, zarr, tmp_path / "out.ome.zarr", "--levels", 2)
    assert (outcome.code, outcome.err) == (0, "")
    assert "level 1: 40×25×30 voxels: mean of 1×2×2, 1×2×2 of full size\n" in outcome.out
    assert not (tmp_path / "out.ome.zarr").exists()


def test_copy_makes_one_too(call: Call, zarr: Path, tmp_path: Path) -> None:
    words = ["--pyramid", "--levels", 3, "--zarr-format", 2]
    assert call("copy", zarr, tmp_path / "out.ome.zarr", *words).code == 0
    with open_source(tmp_path / "out.ome.zarr", "2") as level:
        assert (level.shape, level.format) == ((40, 13, 15), "zarr v2")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["copy", "--levels", "2"], "--levels needs --pyramid"),
        (["copy", "--pyramid", "--mask", "m.zarr"], "leave out --mask"),
        (["copy", "--pyramid", "--verify"], "leave out --verify"),
        (["plan", "--pyramid", "--into-existing"], "leave out --into-existing"),
        (["pyramid", "--scale-factors", "2,a"], "give one factor per level, such as 2,2,2"),
        (["pyramid", "--levels", "0"], "--levels: give a number of 1 or more"),
        (["pyramid", "--levels", "30"], "levels=30 is too many"),
        (["pyramid", "--method", "average"], "--method: invalid choice"),
        (["pyramid", "--scale-factors", "0"], "must be 1 or more, got 0"),
    ],
    ids=str,
)
def test_wrong_usage(call: Call, zarr: Path, tmp_path: Path, words: list[str], message: str) -> None:
    outcome = call(words[0], zarr, tmp_path / "out.ome.zarr", *words[1:])
    assert (outcome.code, outcome.out) == (2, "")
    assert message in outcome.err
    assert not (tmp_path / "out.ome.zarr").exists()


def test_a_place_that_is_none(call: Call, zarr: Path, tmp_path: Path) -> None:
    outcome = call("pyramid", zarr, tmp_path / "out.zarr")
    assert outcome.code == 2
    assert "give a path that ends in .ome.zarr" in outcome.err


def test_contrast_limits_are_those_of_the_smallest_level(call: Call, tmp_path: Path) -> None:
    voxels = np.random.default_rng(0).integers(0, 60_000, (2, 8, 64, 64), "u2")
    said = {"axes": "CZYX", "Channel": {"Name": ["dna", "actin"]}}
    tifffile.imwrite(tmp_path / "in.ome.tif", voxels, metadata=said, photometric="minisblack")
    out = tmp_path / "out.ome.zarr"
    words = ["--pyramid", "--levels", 3, "--voxel-size", 1, "--units", "um"]
    assert call("copy", tmp_path / "in.ome.tif", out, *words).err == ""
    with open_source(out, "2") as smallest, open_source(out) as full:
        limits = [np.percentile(one, (0.1, 99.8), method="inverted_cdf").tolist() for one in smallest[...]]
        assert full.metadata.contrast_limits == tuple(map(tuple, limits))
        # The mean of noise is narrower than the noise.
        assert all(low > 10_000 and high < 50_000 for low, high in limits)
