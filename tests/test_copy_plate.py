"""Plates at scale: metadata are read once, equal layouts planned once, and a damaged field costs nothing but itself."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import bioimage_py as bp
from bioimage_py.errors import OutputExistsError, StorageError, UnsupportedFormatError
from bioimage_py.planning import ImagePlan
from bioimage_py.sources import open_source
from bioimage_py.sources.ome_zarr import list_ome_zarr
from tests.sources.ome_trees import plate

_opened: list[list[str]] = []


def _hear(event: str, args: tuple[Any, ...]) -> None:
    if event in ("open", "os.scandir") and isinstance(args[0], str):
        for paths in _opened:
            paths.append(args[0])


@pytest.fixture(scope="module")
def hook() -> None:
    sys.addaudithook(_hear)  # there is no way to take it away again


@pytest.fixture
def opened(hook: None) -> Iterator[list[str]]:
    """The files and folders that Python opens."""
    paths: list[str] = []
    _opened.append(paths)
    yield paths
    _opened.remove(paths)


@pytest.mark.parametrize(("version", "of_two_levels"), [("0.5", 4), ("0.4", 6)])
def test_a_plan_opens_few_files(tmp_path: Path, opened: list[str], version: str, of_two_levels: int) -> None:
    plate(tmp_path / "few.zarr", version, wells=1, fields=2)
    plate(tmp_path / "more.zarr", version, wells=1, fields=12)
    counts = []
    for name in ("few", "more"):
        opened.clear()
        planned = bp.plan(tmp_path / f"{name}.zarr", tmp_path / "out.zarr")
        counts.append(sum(path.startswith(str(tmp_path / name)) for path in opened))
    assert isinstance(planned, ImagePlan)
    assert (len(planned.arrays), planned.what) == (24, "plate with 12 images, 24 levels")
    assert planned.arrays[-1].plan.input.name == f"{tmp_path}/more.zarr:A/1/11/1"
    # A listing, and the metadata of the image and of its levels; in 0.4 the attributes of these are files of their own.
    assert counts[1] - counts[0] == 10 * of_two_levels


def test_damaged_fields_are_named_and_the_others_copied(tmp_path: Path) -> None:
    path, copied = tmp_path / "in.zarr", tmp_path / "out.zarr"
    plate(path, wells=4)
    (path / "A/1/1/zarr.json").write_text("{")
    (path / "A/2/0/1/zarr.json").unlink()
    metadata = path / "A/3/0/0/zarr.json"
    metadata.write_text(metadata.read_text().replace('"bytes"', '"cipher"'))
    (path / "A/4/zarr.json").write_text("[]")
    planned = bp.plan(path, copied)
    assert isinstance(planned, ImagePlan)
    assert [one.partition(":")[0] for one in planned.damaged] == ["A/1/1", "A/4", "A/2/0", "A/3/0"]
    assert "damaged: A/2/0: the metadata of" in str(planned)
    with pytest.raises(
        StorageError, match=r"4 images of .* cannot be read and are not copied, all others are\. A/1/1: "
    ) as failed:
        bp.copy(path, copied)
    assert "and 3 more: A/4, A/2/0, A/3/0" in failed.value.message
    assert [image.key for image in list_ome_zarr(copied)] == ["A/1/0", "A/2/1", "A/3/1"]
    assert open_source(copied, "A/3/1")[0, 0, 0] == 31
    found = dict(bp.verify(path, copied).differing)
    assert {key: text.partition(":")[0] for key, text in found.items()} == {
        "A/1/1": "cannot be read",
        "A/2/0/0": "is not in the second",
        "A/2/0/1": "is not in both",
        "A/3/0/0": "cannot be read",
        "A/3/0/1": "is not in the second",
        "A/4": "cannot be read",
    }


@pytest.mark.parametrize(
    ("name", "copied"),
    [("in.zarr", "copied"), ("in", "copied.zarr"), ("in", "copied"), ("in.ngff", "copied.ngff")],
)
def test_what_is_copied_does_not_depend_on_names(tmp_path: Path, name: str, copied: str) -> None:
    plate(tmp_path / name)
    made = bp.copy(tmp_path / name, tmp_path / copied)
    assert (made.path, made.key) == (str(tmp_path / copied), "A/1/0/0")
    assert bp.verify(tmp_path / name, tmp_path / copied).arrays == 8
    with pytest.raises(UnsupportedFormatError, match="has no ending that names a format"):
        bp.copy(tmp_path / name, tmp_path / "out.zar")
    with pytest.raises(OutputExistsError, match="is there already"):
        bp.copy(tmp_path / name, tmp_path / copied)
