"""The plugin in a real napari: a session on a screen that nobody sees, in a process of its own."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bioimage_py as bp
from tests.napari.display import find_napari, run_session
from tests.napari.images import SHAPE, cells, write_czi, write_labels, write_ome_zarr, write_tiff

pytestmark = pytest.mark.slow
HAS_CZI = all(importlib.util.find_spec(name) for name in ("bioio_czi", "pylibCZIrw"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    find_napari()
    return tmp_path_factory.mktemp("napari")


@pytest.fixture(scope="module")
def session(folder: Path) -> dict[str, Any]:
    labels = str(write_labels(folder / "labels.ome.tif"))
    images = {
        "OME-Zarr": [str(write_ome_zarr(folder / "cells.ome.zarr"))],
        "TIFF": [str(write_tiff(folder / "cells.ome.tif")), labels],
    }
    if HAS_CZI:
        images["CZI"] = [str(write_czi(folder / "cells.czi")), labels]
    (folder / "images.json").write_text(json.dumps(images))
    return run_session(folder)


@pytest.mark.parametrize("name", ["OME-Zarr", "TIFF", "CZI"])
def test_layers_of_each_format(name: str, session: dict[str, Any]) -> None:
    if name == "CZI" and not HAS_CZI:
        pytest.skip("bioio-czi or pylibCZIrw is not installed (extra 'vendor')")
    seen = session[name]
    dna, actin, _ = seen["layers"]
    assert [layer["kind"] for layer in seen["layers"]] == ["Image", "Image", "Labels"]
    assert dna["name"].endswith(" dna")
    assert actin["name"].endswith(" actin")
    assert actin["color"] != dna["color"]
    for layer in seen["layers"]:
        assert layer["lazy"]
        assert tuple(layer["shapes"][0][-3:]) == SHAPE
        assert len(layer["shapes"]) > 1
        assert layer["scale"][-3:] == pytest.approx([2.0, 0.5, 0.5])
        assert layer["units"][-3:] == ["micrometer"] * 3
        assert "".join(layer["axes"]).endswith("zyx")
    assert 0 <= dna["limits"][0] < 300 < 1000 < dna["limits"][1] <= 3200
    # Cells are bright, the rest is dark; labels lie where they should.
    assert 0.02 < seen["lit"] < 0.6
    assert 0.01 < seen["changed_by_labels"] < 0.5


def test_place_and_looks_are_those_of_the_file(session: dict[str, Any]) -> None:
    dna, actin, labels = session["OME-Zarr"]["layers"]
    assert [dna["limits"], actin["limits"]] == [[100, 3000], [150, 2000]]
    assert actin["color"][:3] == pytest.approx([1.0, 128 / 255, 0.0], abs=0.01)
    assert dna["translate"] == labels["translate"] == [10, 20, 30]


def test_the_widget_copies_what_is_looked_at(session: dict[str, Any], folder: Path) -> None:
    assert session["no output"].startswith("give the path of the output")
    assert "levels" in session["plan"]
    assert not session["written by the plan"]
    assert session["copied"].endswith("is written, and opened.")
    assert "replace what exists" in session["exists"]
    assert [layer["scale"] for layer in session["opened"]] == [[2.0, 0.5, 0.5]] * 4
    with bp.open_source(folder / "copied.ome.zarr") as copied:
        np.testing.assert_array_equal(copied[...], cells()[0])


def test_the_widget_copies_a_whole_ome_zarr(session: dict[str, Any], folder: Path) -> None:
    assert session["whole"].endswith("is written, and opened.")
    with bp.open_source(folder / "whole.ome.zarr" / "labels" / "nuclei" / "0") as labels:
        np.testing.assert_array_equal(labels[...], cells()[1])


def test_the_widget_copies_layers_of_others(session: dict[str, Any], folder: Path) -> None:
    assert session["made"].endswith("is written, and opened.")
    with bp.open_source(folder / "made.zarr") as made:
        assert made.metadata.voxel_size == (3.0, 1.0, 1.0)


def test_a_copy_is_cancelled_and_another_finished(session: dict[str, Any], folder: Path) -> None:
    can_copy, can_cancel, progress = session["while copying"]
    assert (can_copy, can_cancel) == (False, True)
    assert "blocks" in progress
    assert "interrupted" in session["cancelled"]
    can_copy, written = session["after cancelling"]
    assert can_copy
    assert 0 < written < 1024
    assert session["finished"].endswith("is written, and opened.")
    with bp.open_source(folder / "slow.zarr") as finished:
        np.testing.assert_array_equal(finished[...], cells()[0])
