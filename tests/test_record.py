"""Records of copies: RO-Crates that others can read, without names that nobody asked for."""

from __future__ import annotations

import getpass
import json
import sys
from pathlib import Path

import numpy as np
import pytest

import bioimage_py as bp
from bioimage_py.cli import main
from bioimage_py.errors import InvalidArgumentError, MissingDependencyError, OutputExistsError

rocrate = pytest.importorskip("rocrate.rocrate")
IMAGE = np.arange(512, dtype="u2").reshape(8, 8, 8)
NAME = "ro-crate-metadata.json"


@pytest.mark.parametrize(
    ("output", "place"),
    [
        ("b.zarr", f"b.zarr/{NAME}"),
        ("b.ome.zarr", f"b.ome.zarr/{NAME}"),
        ("b.zarr/x/y", f"b.zarr/x/y/{NAME}"),
        ("b.npy", f"b.npy-{NAME}"),
        ("b.h5:/raw", f"b.h5-{NAME}"),
    ],
)
def test_a_copy_tells_what_it_did(
    tmp_path: Path, output: str, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    bp.copy(IMAGE, tmp_path / "private" / "a.zarr", chunks=(4, 4, 4))
    bp.copy(tmp_path / "private" / "a.zarr", f"{tmp_path}/{output}", record=True, num_workers=2).close()
    (record,) = tmp_path.rglob(f"*{NAME}")
    assert record == tmp_path / place
    text = record.read_text()
    assert "private" not in text
    folder = record.parent
    if record.name != NAME:
        (folder / NAME).write_text(text)  # as it is read where there is one file only
    crate = rocrate.ROCrate(folder)
    action = crate.dereference("#copy")
    assert action.type == "CreateAction"
    assert action["name"].startswith(f"copy a.zarr to {output.partition('/')[0]}")
    assert action["instrument"]["name"] == "bioimage_py"
    assert action["startTime"] <= action["endTime"]
    told = {one["name"]: one["value"] for one in action["additionalProperty"]}
    assert "num_workers=2" in told["call"]
    assert {"road", "blocks", "account"} <= told.keys()
    assert main(["info", f"{tmp_path}/{output}"]) == 0
    assert "record:     copy a.zarr to" in capsys.readouterr().out


def test_names_are_told_when_they_are_asked_for(tmp_path: Path) -> None:
    bp.copy(IMAGE, tmp_path / "b.zarr", record="full")
    graph = json.loads((tmp_path / "b.zarr" / NAME).read_text())["@graph"]
    found = {one["@id"]: one for one in graph}
    assert found["#user"]["name"] == getpass.getuser()
    assert found["./"]["name"] == str(tmp_path / "b.zarr")


def test_a_record_of_ours_goes_with_the_array_and_one_of_others_stays(tmp_path: Path) -> None:
    for output in ("b.zarr", "b.ome.zarr"):
        place = tmp_path / output / NAME
        bp.copy(IMAGE, tmp_path / output, record=True)
        bp.copy(IMAGE, tmp_path / output, overwrite=True, record=True)
        assert place.exists()
        bp.copy(IMAGE, tmp_path / output, overwrite=True)
        assert not place.exists()
    place = tmp_path / "b.zarr" / NAME
    place.write_text("{}")
    with pytest.raises(OutputExistsError, match=NAME):
        bp.copy(IMAGE, tmp_path / "b.zarr", overwrite=True)
    assert place.read_text() == "{}"


def test_what_cannot_be_recorded_is_refused_before_the_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InvalidArgumentError, match="record needs an output on a disk"):
        bp.copy(IMAGE, record=True)
    with pytest.raises(InvalidArgumentError, match="must be True, False or 'full', got 'all'"):
        bp.copy(IMAGE, tmp_path / "b.zarr", record="all")  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "rocrate", None)
    with pytest.raises(MissingDependencyError, match="pip install rocrate"):
        bp.copy(IMAGE, tmp_path / "b.zarr", record=True)
    assert not list(tmp_path.iterdir())
