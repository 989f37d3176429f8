"""Consolidated metadata around an output say what is there, for others who believe them and look no further."""

from __future__ import annotations

import json
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import bioimage_py as bp
from bioimage_py.errors import InvalidArgumentError
from bioimage_py.sources import family_of
from bioimage_py.storage import StoreFolder

FORMATS = pytest.mark.parametrize("zarr_format", [2, 3])


@pytest.fixture(autouse=True)
def _about_consolidated_metadata() -> Iterator[None]:
    """zarr-python warns that version 3 has no words for it yet."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Consolidated metadata")
        yield


def group_at(path: Path, zarr_format: int) -> Any:
    group = zarr.open_group(path, mode="w", zarr_format=zarr_format)
    group.create_array("a", shape=(8, 8), chunks=(8, 8), dtype="u1")[...] = 1
    group.create_group("inner").create_array("deep", shape=(4,), chunks=(4,), dtype="u1")[...] = 5
    return group


def listed(path: Path) -> list[str]:
    """Return what consolidated metadata of a group list, as another program sees it."""
    group = zarr.open_consolidated(path, mode="r")
    found = sorted(name for name, _ in group.members(max_depth=None))
    for name in found:
        # What they repeat is what is there.
        ours, theirs = group[name], zarr.open(path / name, mode="r", use_consolidated=False)
        assert dict(ours.attrs) == dict(theirs.attrs)
        if isinstance(ours, zarr.Array):
            assert ours.metadata == theirs.metadata
            assert np.array_equal(ours[...], theirs[...])
    return found


@FORMATS
def test_arrays_that_are_made_and_replaced(tmp_path: Path, zarr_format: int) -> None:
    path = tmp_path / "g.zarr"
    group_at(path, zarr_format)
    zarr.consolidate_metadata(path)
    bp.create_output(path / "a", shape=(16, 16), dtype="u2", attributes={"by": "us"}, overwrite=True)[...] = 7
    bp.copy(np.full((4, 4), 9, "u2"), path / "new").close()
    bp.copy(np.full((4, 4), 9, "u2"), path / "inner" / "more" / "new").close()
    assert listed(path) == ["a", "inner", "inner/deep", "inner/more", "inner/more/new", "new"]
    seen = zarr.open_consolidated(path, mode="r")
    assert (seen["a"].shape, dict(seen["a"].attrs)["by"]) == ((16, 16), "us")


@FORMATS
def test_groups_above_the_container_and_groups_between(tmp_path: Path, zarr_format: int) -> None:
    top = tmp_path / "study"
    group_at(top, zarr_format).create_group("sub.zarr").create_array("x", shape=(4,), chunks=(4,), dtype="u1")
    zarr.consolidate_metadata(top / "sub.zarr")
    zarr.consolidate_metadata(top)
    bp.copy(np.ones((4, 4), "u1"), top / "sub.zarr" / "y", zarr_format=zarr_format).close()
    bp.copy(np.ones((4, 4), "u1"), top / "beside.zarr", zarr_format=zarr_format).close()
    assert listed(top) == ["a", "beside.zarr", "inner", "inner/deep", "sub.zarr", "sub.zarr/x", "sub.zarr/y"]
    assert listed(top / "sub.zarr") == ["x", "y"]


@FORMATS
def test_pyramids_and_labels(tmp_path: Path, zarr_format: int) -> None:
    path = tmp_path / "study" / "i.ome.zarr"
    zarr.open_group(tmp_path / "study", mode="w", zarr_format=zarr_format)
    values = np.arange(64 * 64, dtype="u2").reshape(64, 64)
    bp.copy(values, path, chunks=(16, 16), zarr_format=zarr_format).close()
    zarr.consolidate_metadata(path)
    zarr.consolidate_metadata(tmp_path / "study")
    bp.pyramid(path, levels=3)
    assert listed(path) == ["0", "1", "2"]
    bp.pyramid(path, levels=2, overwrite=True)
    assert listed(path) == ["0", "1"]
    bp.pyramid(values, path / "labels" / "cells", levels=2, chunks=(16, 16))
    cells = ["labels", "labels/cells", "labels/cells/0", "labels/cells/1"]
    assert listed(path) == ["0", "1", *cells]
    names = zarr.open_consolidated(path, mode="r")["labels"].attrs.asdict()
    assert names.get("ome", names)["labels"] == ["cells"]
    bp.pyramid(values, path, levels=3, overwrite=True, chunks=(16, 16))
    assert listed(path) == ["0", "1", "2", *cells]
    assert listed(tmp_path / "study") == [
        "i.ome.zarr",
        *(f"i.ome.zarr/{key}" for key in ("0", "1", "2", *cells)),
    ]


@FORMATS
@pytest.mark.parametrize("wanted", [None, 2, 3])
def test_a_whole_copy_keeps_them(tmp_path: Path, zarr_format: int, wanted: int | None) -> None:
    path, out = tmp_path / "i.ome.zarr", tmp_path / "study" / "o.ome.zarr"
    values = np.arange(64 * 64, dtype="u2").reshape(64, 64)
    bp.pyramid(values, path, levels=2, chunks=(16, 16), zarr_format=zarr_format)
    bp.pyramid(values, path / "labels" / "cells", levels=2, chunks=(16, 16))
    zarr.open_group(tmp_path / "study", mode="w", zarr_format=wanted or zarr_format)
    zarr.consolidate_metadata(tmp_path / "study")
    every = ["0", "1", "labels", "labels/cells", "labels/cells/0", "labels/cells/1"]
    bp.copy(path, out, zarr_format=wanted, chunks=(32, 32))
    with pytest.raises((ValueError, KeyError)):
        zarr.open_consolidated(out, mode="r")
    assert listed(tmp_path / "study") == ["o.ome.zarr", *(f"o.ome.zarr/{key}" for key in every)]
    zarr.consolidate_metadata(path)
    zarr.consolidate_metadata(path / "labels")
    bp.copy(path, out, zarr_format=wanted, chunks=(32, 32), overwrite=True)
    assert listed(out) == every
    assert listed(out / "labels") == ["cells", "cells/0", "cells/1"]
    # They stay right where the next input has none, and other levels.
    bp.pyramid(values, tmp_path / "three.ome.zarr", levels=3, chunks=(16, 16), zarr_format=zarr_format)
    bp.copy(tmp_path / "three.ome.zarr", out, zarr_format=wanted, overwrite=True)
    assert listed(out) == ["0", "1", "2", *every[2:]]


@FORMATS
def test_relative_paths(tmp_path: Path, zarr_format: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    values = np.arange(64 * 64, dtype="u2").reshape(64, 64)
    bp.pyramid(values, "i.ome.zarr", levels=2, zarr_format=zarr_format)
    zarr.consolidate_metadata("i.ome.zarr")
    bp.pyramid(values, "i.ome.zarr/labels/cells", levels=2)
    every = ["0", "1", "labels", "labels/cells", "labels/cells/0", "labels/cells/1"]
    assert listed(Path("i.ome.zarr")) == every
    bp.copy("i.ome.zarr", "o.ome.zarr")
    bp.copy("i.ome.zarr", "./o.ome.zarr", overwrite=True)
    assert listed(Path("o.ome.zarr")) == every
    bp.pyramid("o.ome.zarr", levels=1, overwrite=True)
    assert listed(Path("o.ome.zarr")) == ["0", *every[2:]]


@FORMATS
def test_what_is_taken_back_is_not_listed(
    tmp_path: Path, zarr_format: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "g.zarr"
    group_at(path, zarr_format)
    zarr.consolidate_metadata(path)
    before = listed(path)

    def refuse(*_: Any, **__: Any) -> None:
        raise InvalidArgumentError("the backend refused the run")

    monkeypatch.setattr("bioimage_py.operations.Job.run", refuse)
    with pytest.raises(InvalidArgumentError, match="the backend refused"):
        bp.copy(np.ones((4, 4), "u1"), path / "new")
    assert listed(path) == before
    assert not (path / "new").exists()


@FORMATS
def test_temporary_stores_are_not_listed(tmp_path: Path, zarr_format: int) -> None:
    top = tmp_path / "study"
    group_at(top, zarr_format)
    zarr.consolidate_metadata(top)
    values = np.arange(64**3, dtype="u2").reshape(64, 64, 64)
    bp.copy(values, tmp_path / "in.zarr", chunks=(1, 64, 64))
    planned = bp.plan(tmp_path / "in.zarr", top / "o.zarr", chunks=(64, 8, 8), memory_limit="300KiB")
    assert planned.passes is not None
    bp.copy(
        tmp_path / "in.zarr",
        top / "o.zarr",
        chunks=(64, 8, 8),
        memory_limit="300KiB",
        zarr_format=zarr_format,
    )
    assert listed(top) == ["a", "inner", "inner/deep", "o.zarr"]


@FORMATS
def test_groups_without_them_get_none(tmp_path: Path, zarr_format: int) -> None:
    path = tmp_path / "g.zarr"
    group_at(path, zarr_format)
    bp.copy(np.ones((4, 4), "u1"), path / "new").close()
    assert not (path / ".zmetadata").exists()
    assert zarr_format == 2 or "consolidated_metadata" not in json.loads((path / "zarr.json").read_text())


@FORMATS
def test_what_a_group_says_besides_stays(tmp_path: Path, zarr_format: int) -> None:
    path = tmp_path / "g.zarr"
    group_at(path, zarr_format).attrs["mine"] = {"n": [1, None, 2**70]}
    zarr.consolidate_metadata(path)
    name = "zarr.json" if zarr_format == 3 else ".zmetadata"
    document = json.loads((path / name).read_text())
    (path / name).write_text(json.dumps({**document, "other": 1}))
    bp.copy(np.ones((4, 4), "u1"), path / "new").close()
    after = json.loads((path / name).read_text())
    assert after["other"] == 1
    attributes = after["attributes"] if zarr_format == 3 else after["metadata"][".zattrs"]
    assert attributes["mine"] == {"n": [1, None, 2**70]}


def test_who_reads_meanwhile_sees_a_whole_file(tmp_path: Path) -> None:
    folder = StoreFolder.at(str(tmp_path))
    contents = [{"n": n, "filler": "x" * 200_000} for n in (1, 2)]
    folder.write_json("zarr.json", contents[0])
    done = threading.Event()

    def write() -> None:
        for n in range(40):
            folder.write_json("zarr.json", contents[n % 2])
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not done.is_set():
        assert folder.read_json("zarr.json") in contents
    writer.join()
    assert [path.name for path in tmp_path.iterdir()] == ["zarr.json"]


@FORMATS
def test_in_a_bucket(bucket: str, tmp_path: Path, zarr_format: int) -> None:
    import boto3

    group_at(tmp_path / "g.zarr", zarr_format)
    zarr.consolidate_metadata(tmp_path / "g.zarr")
    client = boto3.client("s3", endpoint_url=bucket, region_name="us-east-1")
    place = f"v{zarr_format}.zarr"
    for file in (tmp_path / "g.zarr").rglob("*"):
        if file.is_file():
            client.put_object(
                Bucket="lab", Key=f"{place}/{file.relative_to(tmp_path / 'g.zarr')}", Body=file.read_bytes()
            )
    bp.copy(np.full((16, 16), 7, "u2"), f"s3://lab/{place}/a", overwrite=True, chunks=(8, 8)).close()
    bp.copy(np.full((4, 4), 9, "u2"), f"s3://lab/{place}/inner/new").close()
    with pytest.raises(bp.errors.AmbiguousSourceError, match="holds 3 arrays") as told:
        bp.open_source(f"s3://lab/{place}")
    assert "a  shape (16, 16), uint16" in str(told.value)
    assert "inner/new  shape (4, 4), uint16" in str(told.value)
    name = "zarr.json" if zarr_format == 3 else ".zmetadata"
    document = json.loads(client.get_object(Bucket="lab", Key=f"{place}/{name}")["Body"].read())
    entries = (document.get("consolidated_metadata") or document)["metadata"]
    assert entries["a" if zarr_format == 3 else "a/.zarray"]["shape"] == [16, 16]
    client.close()


@FORMATS
def test_a_whole_copy_in_a_bucket(bucket: str, tmp_path: Path, zarr_format: int) -> None:
    del bucket
    path = tmp_path / "i.ome.zarr"
    bp.pyramid(
        np.arange(64 * 64, dtype="u2").reshape(64, 64),
        path,
        levels=2,
        chunks=(16, 16),
        zarr_format=zarr_format,
    )
    zarr.consolidate_metadata(path)
    bp.copy(path, f"s3://lab/w{zarr_format}.ome.zarr")
    assert family_of("zarr").list_arrays(f"s3://lab/w{zarr_format}.ome.zarr") == ["0", "1"]
