"""OME-Zarr copied whole: levels, labels, containers and plates, undecoded where both sides agree, as one run."""

from __future__ import annotations

import json
import shutil
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import bioimage_py as bp
from bioimage_py.errors import (
    AmbiguousSourceError,
    BioimagePyWarning,
    InvalidArgumentError,
    OutputExistsError,
    RunnerError,
    SourceNotFoundError,
    StorageError,
    UnsupportedFormatError,
)
from bioimage_py.planning import CopyPlan, ImagePlan
from bioimage_py.runner import RunnerConfig
from bioimage_py.sources import open_source
from bioimage_py.sources.ome_zarr import list_ome_zarr
from tests.sources import ome_groups
from tests.sources.ome_trees import chunks_in, files_in, image_with_labels, plate, several_images
from tests.sources.test_ome_zarr_writing import attributes_of, check_models

VERSIONS = {2: "0.4", 3: "0.5"}
FORMATS = pytest.mark.parametrize("zarr_format", [2, 3])
KEYS = ["0", "1", "2", "labels/cells/0", "labels/cells/1", "labels/cells/2"]


def same_voxels(a: Path, b: Path, keys: list[str]) -> None:
    for key in keys:
        np.testing.assert_array_equal(open_source(b, key)[...], open_source(a, key)[...])


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The arrays that are read voxel by voxel in this process."""
    from bioimage_py.sources.stores import TensorStoreSource

    read, found = TensorStoreSource._read, list[str]()

    def counted(self: Any, box: Any) -> Any:
        found.append(self.name)
        return read(self, box)

    monkeypatch.setattr(TensorStoreSource, "_read", counted)
    return found


@FORMATS
def test_all_levels_and_labels_are_the_same_files(
    tmp_path: Path, zarr_format: int, decoded: list[str]
) -> None:
    path, copied = tmp_path / "in.ome.zarr", tmp_path / "out.ome.zarr"
    image_with_labels(path, VERSIONS[zarr_format])
    planned = bp.plan(path, copied)
    assert isinstance(planned, ImagePlan)
    assert (planned.road, [array.key for array in planned.arrays]) == ("verbatim", KEYS)
    assert not copied.exists()
    made = bp.copy(path, copied, num_workers=2)
    assert not decoded
    assert (made.key, made.writable, made.path) == ("0", True, str(copied))
    assert chunks_in(copied) == chunks_in(path)
    for key in ("", "labels", "labels/cells"):
        assert attributes_of(copied / key, zarr_format) == attributes_of(path / key, zarr_format)
    for key in KEYS:
        assert open_source(copied, key).metadata == open_source(path, key).metadata
    assert check_models(copied, zarr_format) == "Image"
    assert check_models(copied / "labels/cells", zarr_format) == "ImageLabel"


@pytest.mark.parametrize(("old", "new"), [(2, 3), (3, 2)])
def test_to_the_other_version_nothing_is_decoded_either(
    tmp_path: Path, old: int, new: int, decoded: list[str]
) -> None:
    path, copied, back = (tmp_path / f"{name}.ome.zarr" for name in ("in", "out", "back"))
    image_with_labels(path, VERSIONS[old])
    bp.copy(path, copied, zarr_format=new)
    bp.copy(copied, back, zarr_format=old)
    assert not decoded
    assert chunks_in(copied) == chunks_in(path) == chunks_in(back)
    assert attributes_of(copied, new)["sample"] == {"id": 3}
    for key in ("", "labels", "labels/cells"):
        assert attributes_of(back / key, old) == attributes_of(path / key, old)
    assert check_models(copied, new) == "Image"
    assert check_models(copied / "labels", new) == "Labels"
    assert check_models(copied / "labels/cells", new) == "ImageLabel"
    for key in KEYS:
        was, is_now = open_source(path, key).metadata, open_source(copied, key).metadata
        for what in (
            "axes",
            "voxel_size",
            "units",
            "origin",
            "channel_names",
            "channel_colors",
            "contrast_limits",
        ):
            assert getattr(is_now, what) == getattr(was, what)
        assert "_ARRAY_DIMENSIONS" not in zarr.open_array(copied / key, mode="r").attrs or new == 2


@FORMATS
def test_ome_zarr_py_opens_the_copy(tmp_path: Path, zarr_format: int) -> None:
    pytest.importorskip("ome_zarr", reason="ome-zarr is not installed")
    image_with_labels(tmp_path / "in.ome.zarr", VERSIONS[5 - zarr_format])
    bp.copy(tmp_path / "in.ome.zarr", tmp_path / "out.ome.zarr", zarr_format=zarr_format)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of that library, about itself
        from ome_zarr.io import parse_url
        from ome_zarr.reader import Reader

        nodes = list(Reader(parse_url(tmp_path / "out.ome.zarr"))())
        found = [[level.shape for level in node.data] for node in nodes if node.data]
    assert found == [[(*c, 6, 40, 48), (*c, 6, 20, 24), (*c, 6, 10, 12)] for c in ([2], [])]


def test_into_shards_and_out_of_them(tmp_path: Path, decoded: list[str]) -> None:
    path, packed, back = (tmp_path / f"{name}.ome.zarr" for name in ("in", "packed", "back"))
    image_with_labels(path)
    planned = bp.plan(path, packed, shards=(1, 6, 16, 32))
    assert planned.road == "repack"
    assert "in shards of 6×16×32" in str(planned)
    bp.copy(path, packed, shards=(1, 6, 16, 32))
    for key in KEYS:
        # Labels have no channels: they take the extents of the axes that they have.
        assert open_source(packed, key).shards == ((6, 16, 32) if "cells" in key else (1, 6, 16, 32))
    bp.copy(packed, back, chunks=(1, 3, 8, 16))
    assert not decoded
    assert chunks_in(back) == chunks_in(path)
    bp.copy(packed, tmp_path / "same.ome.zarr")
    assert chunks_in(tmp_path / "same.ome.zarr") == chunks_in(packed)


def test_what_is_asked_for_goes_for_every_level(tmp_path: Path) -> None:
    path, copied = tmp_path / "in.ome.zarr", tmp_path / "out.ome.zarr"
    image_with_labels(path)
    bp.copy(path, copied, codec="gzip:5", chunks=(2, 6, 10, 12), block_shape=(2, 6, 20, 24), casting="check")
    assert {open_source(copied, key).codec for key in KEYS} == {"gzip:5"}
    assert {open_source(copied, key).chunks for key in KEYS} == {(2, 6, 10, 12), (6, 10, 12)}
    same_voxels(path, copied, KEYS)
    assert bp.plan(path, tmp_path / "b.ome.zarr", codec="gzip:5").road == "recode"


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"dtype": "uint32"}, "dtype"),
        ({"mask": np.ones((2, 6, 40, 48), "u1"), "voxel_size": 2}, "mask, voxel_size"),
        ({"axes": "czyx"}, "axes"),
        ({"units": "nm"}, "units"),
    ],
)
def test_level_0_alone_where_the_others_would_not_fit(tmp_path: Path, options: Any, name: str) -> None:
    path = tmp_path / "in.ome.zarr"
    image_with_labels(path)
    with pytest.warns(
        BioimagePyWarning, match=rf"{name} can.*level\(s\) 1, 2 and labels cells.*pyramid"
    ) as told:
        made = bp.copy(path, tmp_path / "out.ome.zarr", **options)
    assert len(told) == 1
    assert told[0].filename == __file__
    assert list_ome_zarr(tmp_path / "out.ome.zarr")[0].levels == ("0",)
    np.testing.assert_array_equal(made[...], open_source(path)[...])


def test_one_array_is_meant_in_these_cases(tmp_path: Path) -> None:
    path = tmp_path / "in.ome.zarr"
    image_with_labels(path)
    np.testing.assert_array_equal(bp.copy(path), open_source(path)[...])
    for name in ("out.zarr/raw", "out.n5", "out.h5"):
        with pytest.warns(
            BioimagePyWarning, match=r"takes the full-size array only: level\(s\) 1, 2 and labels cells"
        ):
            made = bp.copy(path, tmp_path / name)
        np.testing.assert_array_equal(made[...], open_source(path)[...])
        with pytest.warns(BioimagePyWarning, match="takes the full-size array only"):
            assert isinstance(bp.plan(path, tmp_path / f"new-{name}"), CopyPlan)
    for given in (path / "1", open_source(path), f"{path}/labels/cells/1"):
        out = tmp_path / "one.ome.zarr"
        bp.copy(given, out, overwrite=True)
        assert list_ome_zarr(out)[0].levels == ("0",)
    # The dtype that it has is no change.
    assert isinstance(bp.plan(path, tmp_path / "out.ome.zarr", dtype="uint16"), ImagePlan)


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("name", ["in.zarr", "in", "in.ngff"])
def test_names_do_not_matter(tmp_path: Path, name: str, zarr_format: int) -> None:
    image_with_labels(tmp_path / "made.ome.zarr", "0.4" if zarr_format == 2 else "0.5")
    (tmp_path / "made.ome.zarr").rename(tmp_path / name)
    assert isinstance(bp.plan(tmp_path / name, tmp_path / "out.zarr"), ImagePlan)
    made = bp.copy(tmp_path / name, tmp_path / "out.zarr")
    assert made.key == "0"
    assert chunks_in(tmp_path / "out.zarr") == chunks_in(tmp_path / name)
    assert bp.verify(tmp_path / name, tmp_path / "out.zarr").arrays == 6
    # Labels go into the image and out of it, and are made there, whatever it is called.
    bp.copy(tmp_path / "out.zarr/labels/cells", tmp_path / "out.zarr/labels/again")
    bp.copy(tmp_path / "out.zarr/labels/cells", tmp_path / "cells.zarr")
    bp.pyramid(made[0] > 3, tmp_path / "out.zarr/labels/mask", zarr_format=zarr_format)
    (image,) = list_ome_zarr(tmp_path / "out.zarr")
    assert [label.key for label in image.labels] == [f"labels/{n}" for n in ("cells", "again", "mask")]
    assert len(list_ome_zarr(tmp_path / "cells.zarr")[0].levels) == 3


def test_groups_that_are_no_images_are_named(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path / "group.zarr", mode="w")
    for name in ("a", "b"):
        group.create_array(name, data=np.ones((4, 4), "u1"))
    with pytest.raises(AmbiguousSourceError, match=r"holds 2 arrays:(.|\n)*Name one, for example with"):
        bp.copy(tmp_path / "group.zarr", tmp_path / "out.zarr")
    assert bp.copy(tmp_path / "group.zarr/b", tmp_path / "out.zarr").key is None


def test_an_array_that_is_there_is_not_made_an_image(tmp_path: Path) -> None:
    image_with_labels(tmp_path / "in.zarr")
    bp.copy(np.ones((4, 4), "u1"), tmp_path / "out.zarr")
    for overwrite in (False, True):
        with pytest.raises(OutputExistsError, match="choose another path"):
            bp.copy(tmp_path / "in.zarr", tmp_path / "out.zarr", overwrite=overwrite)
    assert open_source(tmp_path / "out.zarr")[...].all()


class TestVerify:
    """Two OME-Zarrs are compared as far as they would be copied."""

    @pytest.fixture
    def pair(self, tmp_path: Path) -> tuple[Path, Path]:
        image_with_labels(tmp_path / "a.ome.zarr")
        bp.copy(tmp_path / "a.ome.zarr", tmp_path / "b.zarr")
        return tmp_path / "a.ome.zarr", tmp_path / "b.zarr"

    def test_equal(self, pair: tuple[Path, Path]) -> None:
        result = bp.verify(*pair, num_workers=2, memory_limit="1MiB")
        assert (result.equal, result.arrays, result.differing) == (True, 6, ())
        assert "of 6 arrays" in str(result)
        # A key is one array, and so is a source.
        assert bp.verify(pair[0] / "1", pair[1] / "1").arrays == 1
        assert bp.verify(open_source(pair[0]), pair[1]).arrays == 1

    @pytest.mark.parametrize("key", ["0", "2", "labels/cells/1"])
    def test_a_voxel(self, pair: tuple[Path, Path], key: str) -> None:
        level = zarr.open_array(pair[1] / key, mode="r+")
        at = (0,) * level.ndim
        level[at] = level[at] + 1
        result = bp.verify(*pair)
        assert (result.equal, result.different, result.first_difference) == (False, 1, at)
        assert [name for name, _ in result.differing] == [key]
        assert f"different: 1 of 6 arrays; {key}: different: 1 of" in str(result)
        assert result.to_json()["differing"][0][0] == key

    @pytest.mark.parametrize("first", [False, True])
    @pytest.mark.parametrize("key", ["2", "labels/cells"])
    def test_what_is_missing(self, pair: tuple[Path, Path], key: str, first: bool) -> None:
        shutil.rmtree(pair[1] / key)
        result = bp.verify(*(pair[::-1] if first else pair))
        assert not result
        keys = [key] if key == "2" else [f"labels/cells/{n}" for n in range(3)]
        assert result.differing == tuple(
            (key, f"is not in the {'first' if first else 'second'}") for key in keys
        )

    def test_what_is_not_listed(self, pair: tuple[Path, Path]) -> None:
        text = (pair[1] / "labels/zarr.json").read_text()
        (pair[1] / "labels/zarr.json").write_text(text.replace('"cells"', ""))
        assert [name for name, _ in bp.verify(*pair).differing] == [f"labels/cells/{n}" for n in range(3)]

    def test_plates_and_shapes(self, tmp_path: Path) -> None:
        plate(tmp_path / "a.ome.zarr")
        bp.copy(tmp_path / "a.ome.zarr", tmp_path / "b.zarr")
        assert bp.verify(tmp_path / "a.ome.zarr", tmp_path / "b.zarr")
        shutil.rmtree(tmp_path / "b.zarr/A/2/1")
        level = zarr.open_array(tmp_path / "b.zarr/A/1/0/0", mode="r+")
        level.resize((2, *level.shape[1:]))
        found = dict(bp.verify(tmp_path / "a.ome.zarr", tmp_path / "b.zarr").differing)
        assert "has shape" in found["A/1/0/0"]
        assert found["A/2/1/0"] == "is not in the second"


def test_the_plan_says_it_all(tmp_path: Path) -> None:
    path = tmp_path / "in.ome.zarr"
    image_with_labels(path)
    (path / "tables").mkdir()
    planned = bp.plan(path, tmp_path / "out.ome.zarr", block_shape=(1, 6, 16, 48))
    assert isinstance(planned, ImagePlan)
    text = str(planned)
    assert "1 image, 3 levels, 1 label image" in text
    assert "array:   1               2×6×20×24 uint16, chunks 1×3×8×16; blocks " in text
    assert "without: tables" in text
    assert [array.plan.n_blocks for array in planned.arrays] == [6, 4, 2, 3, 2, 1]
    sizes = [open_source(path, key).nbytes for key in KEYS]
    assert planned.bytes_in == planned.bytes_out == sum(sizes)
    assert planned.n_files == sum(array.plan.n_files for array in planned.arrays)
    document = json.loads(json.dumps(planned.to_json()))
    assert [entry["key"] for entry in document["arrays"]] == KEYS
    assert document["arrays"][1]["first_block"] == planned.arrays[0].plan.n_blocks


def test_labels_alone_and_images_as_labels(tmp_path: Path) -> None:
    path, cells, other = (tmp_path / f"{name}.ome.zarr" for name in ("in", "cells", "other"))
    image_with_labels(path)
    bp.copy(f"{path}/labels/cells", cells)
    assert list_ome_zarr(cells)[0].levels == ("0", "1", "2")
    assert "source" not in attributes_of(cells, 3)["ome"]["image-label"]
    bp.copy(path, other)
    bp.copy(cells, f"{other}/labels/again")
    (found,) = list_ome_zarr(other)
    assert [label.key for label in found.labels] == ["labels/cells", "labels/again"]
    assert attributes_of(other / "labels/again", 3)["ome"]["image-label"] == {"source": {"image": "../../"}}
    assert check_models(other / "labels/again", 3) == "ImageLabel"
    assert check_models(other, 3) == "Image"
    same_voxels(cells, other / "labels/again", ["0", "1"])
    with pytest.raises(InvalidArgumentError, match="is a group of labels: name one of them"):
        bp.copy(f"{path}/labels", tmp_path / "labels.ome.zarr")


@FORMATS
@pytest.mark.parametrize("old", [2, 3])
def test_a_plate(tmp_path: Path, old: int, zarr_format: int, decoded: list[str]) -> None:
    path, copied = tmp_path / "plate.ome.zarr", tmp_path / "out.ome.zarr"
    plate(path, VERSIONS[old])
    made = bp.copy(path, copied, zarr_format=zarr_format, num_workers=2)
    assert made.key == "A/1/0/0"
    assert not decoded
    assert chunks_in(copied) == chunks_in(path)
    assert check_models(copied, zarr_format) == "HCS"
    assert check_models(copied / "A/1", zarr_format) == "Well"
    assert [image.key for image in list_ome_zarr(copied)] == ["A/1/0", "A/1/1", "A/2/0", "A/2/1"]
    assert open_source(copied, "A/2/1")[0, 0, 0] == 21
    if old == zarr_format:
        assert attributes_of(copied, old) == attributes_of(path, old)
    # One field, and one well.
    bp.copy(f"{path}/A/2/1", tmp_path / "field.ome.zarr")
    assert list_ome_zarr(tmp_path / "field.ome.zarr")[0].levels == ("0", "1")
    bp.copy(f"{path}/A/2", tmp_path / "well.ome.zarr")
    assert [image.key for image in list_ome_zarr(tmp_path / "well.ome.zarr")] == ["0", "1"]
    assert open_source(tmp_path / "well.ome.zarr", "1")[0, 0, 0] == 21


@FORMATS
@pytest.mark.parametrize("old", [2, 3])
def test_several_images(tmp_path: Path, old: int, zarr_format: int) -> None:
    path, copied = tmp_path / "in.ome.zarr", tmp_path / "out.ome.zarr"
    several_images(path, VERSIONS[old])
    bp.copy(path, copied, zarr_format=zarr_format)
    assert [image.key for image in list_ome_zarr(copied)] == ["1", "0"]
    assert (copied / "OME/METADATA.ome.xml").read_text() == "<OME>by hand</OME>"
    assert open_source(copied, "1")[0, 0, 0] == 10
    assert check_models(copied / "1", zarr_format) == "Image"
    if zarr_format == 2:
        assert check_models(copied, zarr_format) == "BioFormats2Raw"
    else:
        models = pytest.importorskip("ome_zarr_models.v05.bioformats2raw")
        models.BioFormats2RawAttrs.model_validate(attributes_of(copied, 3)["ome"])
    assert chunks_in(copied) == chunks_in(path)


def test_a_container_has_no_level_0(tmp_path: Path) -> None:
    path = tmp_path / "plate.ome.zarr"
    plate(path)
    for output, options in (("out.n5", {}), ("out.zarr/raw", {}), ("out.ome.zarr", {"dtype": "uint16"})):
        with pytest.raises(AmbiguousSourceError, match=r"(?s)holds 4 images.*A/1/0  shape"):
            bp.copy(path, tmp_path / output, **options)  # type: ignore[arg-type]
    with pytest.raises(SourceNotFoundError, match=r"no 'A/9/0'.*there is A/1/0, A/1/1, A/2/0, A/2/1"):
        bp.copy(f"{path}/A/9/0", tmp_path / "out.ome.zarr")
    with pytest.raises(InvalidArgumentError, match="place for one label image"):
        bp.copy(path, tmp_path / "out.ome.zarr/labels/cells")


def test_what_is_no_image_is_named_once(tmp_path: Path) -> None:
    path = tmp_path / "plate.ome.zarr"
    plate(path)
    for name in ("tables", "A/1/0/transforms"):
        (path / name).mkdir()
    (path / "README.txt").write_text("?")
    attributes = json.loads((path / "zarr.json").read_text())
    attributes["attributes"]["ome"]["plate"]["wells"].append({"path": "A/3", "rowIndex": 0, "columnIndex": 2})
    (path / "zarr.json").write_text(json.dumps(attributes))
    with pytest.warns(BioimagePyWarning) as told:
        bp.copy(path, tmp_path / "out.ome.zarr")
    assert len(told) == 1
    assert told[0].filename == __file__
    assert "README.txt, tables, A/1/0/transforms in it are not images, and are left out" in str(
        told[0].message
    )
    assert "it lists A/3, and nothing is there" in str(told[0].message)


def test_nothing_is_touched_where_it_is_refused(tmp_path: Path) -> None:
    path, copied = tmp_path / "in.ome.zarr", tmp_path / "out.ome.zarr"
    image_with_labels(path)
    plate(copied)
    before = files_in(tmp_path)
    refused: list[tuple[Any, Any, dict[str, Any], str]] = [
        (path, copied, {}, "is there already. To replace it, give overwrite=True"),
        (path, copied, {"overwrite": True}, "also holds A, which"),
        (path, copied, {"overwrite": "yes"}, "overwrite must be True or False"),
        (path, path, {}, "are the same OME-Zarr"),
        (path, path / "labels/new", {}, "lies inside the input"),
        (f"{path}/labels/cells", path, {}, "lies inside the output"),
        (path, tmp_path / "new.ome.zarr", {"zarr_format": 4}, "zarr_format must be 2 or 3"),
        (path, tmp_path / "new.ome.zarr", {"chunks": (4, 4)}, "chunks"),
        (path, tmp_path / "new.ome.zarr", {"codec": "nonsense"}, "nonsense"),
        (path, tmp_path / "new.ome.zarr", {"zarr_format": 2, "shards": (1, 6, 16, 32)}, "no shards"),
        (path, tmp_path / "new.ome.zarr", {"block_ids": [0, 99999]}, r"99999 is not in 0 .*: 0 has 0 …"),
        (path, tmp_path / "new.ome.zarr", {"memory_limit": 10}, "memory_limit"),
        (path, tmp_path / "new.ome.zarr", {"job_type": "nowhere"}, "nowhere"),
        (
            path,
            tmp_path / "new.ome.zarr",
            {"resume_from": tmp_path / "gone"},
            "resume_from is for distributed",
        ),
        (path, tmp_path / "new.ome.zarr", {"casting": "magic"}, "magic"),
    ]
    for given, output, options, words in refused:
        with pytest.raises((InvalidArgumentError, OutputExistsError), match=words):
            bp.copy(given, output, **options)
        assert files_in(tmp_path) == before


@FORMATS
def test_what_is_replaced_comes_back_if_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zarr_format: int
) -> None:
    from bioimage_py.sources.ome_zarr import writing as ome_zarr_writing

    path, copied = tmp_path / "in.ome.zarr", tmp_path / "out.ome.zarr"
    image_with_labels(path, VERSIONS[zarr_format])
    ome_groups.image(copied, VERSIONS[zarr_format], levels=4, dtype="u2")
    before = files_in(tmp_path)
    group_files, times = ome_zarr_writing.group_files, []

    def fail(*args: Any, **options: Any) -> Any:
        times.append(1)
        if len(times) == 3:
            raise OSError(28, "the disk is full")
        return group_files(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(ome_zarr_writing, "group_files", fail)
        for output in (copied, tmp_path / "new.ome.zarr"):
            times.clear()
            with pytest.raises(OSError, match="the disk is full"):
                bp.copy(path, output, overwrite=True)
            assert files_in(tmp_path) == before
            assert (tmp_path / "new.ome.zarr").exists() is False
    bp.copy(path, copied, overwrite=True)
    assert not (copied / "3").exists()
    assert chunks_in(copied) == chunks_in(path)


def test_labels_of_the_old_image_stay(tmp_path: Path) -> None:
    path, copied = tmp_path / "in.ome.zarr", tmp_path / "out.ome.zarr"
    image_with_labels(path)
    ome_groups.image(copied)
    ome_groups.group(copied / "labels", "0.5", {"labels": ["old"]})
    ome_groups.image(copied / "labels/old")
    bp.copy(path, copied, overwrite=True)
    assert [label.key for label in list_ome_zarr(copied)[0].labels] == ["labels/cells", "labels/old"]


class TestMetadataThatDisagree:
    def write(self, path: Path, count: int = 2, **entry: Any) -> Any:
        said = {"axes": ome_groups.AXES, "datasets": ome_groups.datasets(count), **entry}
        made = ome_groups.group(path, "0.5", {"multiscales": [said]})
        made.create_array("0", data=np.zeros((4, 8, 8), "u1"))
        return made

    def refused(self, tmp_path: Path, words: str) -> None:
        with pytest.raises(StorageError, match=words):
            bp.copy(tmp_path / "in.ome.zarr", tmp_path / "out.ome.zarr")
        assert not (tmp_path / "out.ome.zarr").exists()

    def test_a_level_that_is_missing(self, tmp_path: Path) -> None:
        self.write(tmp_path / "in.ome.zarr", count=3)
        self.refused(tmp_path, "name the levels 0, 1, 2, but there is no array 1, 2; there is 0")

    @pytest.mark.parametrize(
        ("array", "words"),
        [
            (np.zeros((4, 4), "u1"), "different numbers of axes"),
            (np.zeros((4, 4, 4), "u2"), r"different dtypes: \{'0': 'uint8', '1': 'uint16'\}"),
            (np.zeros((4, 9, 4), "u1"), r"do not go from large to small: '0' has shape \(4, 8, 8\)"),
        ],
    )
    def test_levels_of_different_kinds(self, tmp_path: Path, array: np.ndarray, words: str) -> None:
        self.write(tmp_path / "in.ome.zarr").create_array("1", data=array)
        self.refused(tmp_path, words)

    def test_axes_and_scales_that_do_not_fit(self, tmp_path: Path) -> None:
        self.write(tmp_path / "in.ome.zarr", axes=ome_groups.AXES[:2], count=1)
        self.refused(tmp_path, r"name 2 axes \(z, y\), but its levels have 3")

    def test_a_scale_of_another_length(self, tmp_path: Path) -> None:
        steps = [{"type": "scale", "scale": [1.0, 1.0]}]
        self.write(tmp_path / "in.ome.zarr", datasets=[{"path": "0", "coordinateTransformations": steps}])
        self.refused(tmp_path, r"say the scale \[1.0, 1.0\] of level '0', which has 3 axes")

    def test_labels_that_are_listed_and_not_there(self, tmp_path: Path) -> None:
        self.write(tmp_path / "in.ome.zarr", count=1)
        ome_groups.group(tmp_path / "in.ome.zarr/labels", "0.5", {"labels": ["cells"]})
        self.refused(tmp_path, "labels/cells is listed as an image")


def test_older_versions_are_copied_as_they_are(tmp_path: Path) -> None:
    path, copied = tmp_path / "in.ome.zarr", tmp_path / "out.ome.zarr"
    entry = {"version": "0.2", "datasets": [{"path": "0"}]}
    made = ome_groups.group(path, "0.4", {"multiscales": [entry]})
    made.create_array("0", data=np.ones((1, 1, 2, 8, 8), "u1"))
    bp.copy(path, copied)
    assert attributes_of(copied, 2) == attributes_of(path, 2)
    with pytest.raises(InvalidArgumentError, match=r"version 0\.2, which is copied as it is only"):
        bp.copy(path, tmp_path / "new.ome.zarr", zarr_format=3)


def image_0_6(path: Path) -> None:
    """An image of two levels as ngff-zarr writes version 0.6, with orientations."""
    axes = [
        {"name": n, "type": "space", "unit": "micrometer", "orientation": {"type": "anatomical", "value": v}}
        for n, v in zip(
            "zyx", ("inferior-to-superior", "posterior-to-anterior", "left-to-right"), strict=True
        )
    ]
    datasets = []
    group = zarr.open_group(path, mode="w", zarr_format=3)
    for n in range(2):
        place = [
            {"type": "scale", "scale": [2.0, 0.5 * 2**n, 0.5 * 2**n]},
            {"type": "translation", "translation": [0, n / 4, n / 4]},
        ]
        ends = {"input": {"path": f"scale{n}/image"}, "output": {"name": "intrinsic"}}
        datasets.append(
            {
                "path": f"scale{n}/image",
                "coordinateTransformations": [{**ends, "type": "sequence", "transformations": place}],
            }
        )
        group.create_array(f"scale{n}/image", data=np.full((4, 8 >> n, 8 >> n), n, "u1"), chunks=(4, 4, 4))
    image = {
        "coordinateSystems": [{"name": "intrinsic", "axes": axes}],
        "datasets": datasets,
        "name": "image",
    }
    group.attrs["ome"] = {"version": "0.6", "multiscales": [image]}


def test_version_0_6(tmp_path: Path) -> None:
    path, copied = tmp_path / "in.ome.zarr", tmp_path / "out.ome.zarr"
    image_0_6(path)
    for n, (size, origin) in enumerate([((2.0, 0.5, 0.5), None), ((2.0, 1.0, 1.0), (0.0, 0.25, 0.25))]):
        found = open_source(path, f"scale{n}/image").metadata
        assert (found.axes, found.voxel_size, found.origin) == (tuple("zyx"), size, origin)
    bp.copy(path, copied)
    assert attributes_of(copied, 3) == attributes_of(path, 3)
    assert open_source(copied).metadata == open_source(path).metadata
    levels = bp.pyramid(path, tmp_path / "new.ome.zarr", levels=2)
    for level in (
        *levels,
        bp.copy(open_source(path), tmp_path / "one.ome.zarr"),
        bp.copy(open_source(path), tmp_path / "a.n5"),
    ):
        assert level.metadata.orientations == open_source(path).metadata.orientations, level
        assert level.metadata.voxel_size is not None
    assert levels[0].metadata.voxel_size == (2.0, 0.5, 0.5)


def test_levels_are_added_to_version_0_6(tmp_path: Path) -> None:
    path = tmp_path / "in.ome.zarr"
    image_0_6(path)
    bp.pyramid(path, overwrite=True, scale_factors=[(1, 2, 2), 2])
    sizes = [open_source(path, f"scale{n}/image").metadata.voxel_size for n in range(3)]
    assert sizes == [(2.0, 0.5, 0.5), (2.0, 1.0, 1.0), (4.0, 2.0, 2.0)]
    nz = pytest.importorskip("ngff_zarr")
    read = nz.from_ngff_zarr(str(path))
    assert [image.scale for image in read.images] == [dict(zip("zyx", size, strict=True)) for size in sizes]


def test_blocks_are_numbered_through_all_arrays(tmp_path: Path) -> None:
    path, copied = tmp_path / "in.ome.zarr", tmp_path / "out.ome.zarr"
    image_with_labels(path)
    planned = bp.plan(path, copied, block_shape=(1, 3, 8, 16))
    assert isinstance(planned, ImagePlan)
    first = planned.offsets
    assert planned.array_of(first[2]) == "2"
    bp.copy(path, copied, block_shape=(1, 3, 8, 16), block_ids=range(first[1], first[2]))
    assert {name.split("/")[0] for name in chunks_in(copied)} == {"1"}
    same_voxels(path, copied, ["1"])
    # The rest goes into what is there.
    rest = [*range(first[1]), *range(first[2], first[-1])]
    with pytest.raises(InvalidArgumentError, match="codec can be given for a new output only"):
        bp.copy(path, copied, block_shape=(1, 3, 8, 16), block_ids=rest, codec="gzip")
    bp.copy(path, copied, block_shape=(1, 3, 8, 16), block_ids=rest)
    assert chunks_in(copied) == chunks_in(path)
    ome_groups.image(tmp_path / "other.ome.zarr")
    with pytest.raises(InvalidArgumentError, match=r"has shape \(4, 8, 8\) and dtype uint8, and"):
        bp.copy(path, tmp_path / "other.ome.zarr", block_ids=[0])


def test_a_block_that_fails_is_named_with_its_array(tmp_path: Path) -> None:
    path, copied = tmp_path / "in.ome.zarr", tmp_path / "out.ome.zarr"
    image_with_labels(path)
    good = chunks_in(path)
    bad = path / "1/c/0/0/0/0"
    kept = bad.read_bytes()
    bad.write_bytes(kept[: len(kept) // 2])
    options: dict[str, Any] = {"block_shape": (1, 3, 8, 16), "num_workers": 2}
    with pytest.raises(RunnerError, match=r"the first failure is in 1\): 1 of \d+ blocks failed") as failed:
        bp.copy(path, copied, codec="gzip", **options)
    assert len(failed.value.failed_block_ids) == 1
    bad.write_bytes(kept)
    assert chunks_in(path) == good
    bp.copy(path, copied, block_ids=failed.value.failed_block_ids, **options)
    same_voxels(path, copied, KEYS)


def test_many_images_are_not_held_open_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bioimage_py.operations import array_copy
    from bioimage_py.runner.work import MOST_OPEN

    path, copied = tmp_path / "plate.ome.zarr", tmp_path / "out.ome.zarr"
    plate(path, wells=MOST_OPEN, fields=2)
    opened, kernels = [], array_copy.kernel_for_road

    def counted(*args: Any, **options: Any) -> Any:
        opened.append(args[0].output.name)
        return kernels(*args, **options)

    monkeypatch.setattr(array_copy, "kernel_for_road", counted)
    seen: list[Any] = []
    bp.copy(path, copied, num_workers=2, progress=seen.append)
    assert chunks_in(copied) == chunks_in(path)
    # Each once, though fewer are kept than there are.
    assert len(opened) == len(set(opened)) == 4 * MOST_OPEN
    # What those did that are closed again is not forgotten.
    assert seen[-1].account.chunks_moved == len(chunks_in(path))


class TestInOtherProcesses:
    @pytest.fixture
    def fragile_python(self, tmp_path: Path) -> Path:
        """An interpreter that kills itself when it has put 25 chunks in their places, until there is a file 'sound'."""
        site = tmp_path / "site"
        site.mkdir()
        (site / "sitecustomize.py").write_text(
            "import os, signal, sys\n"
            "seen = []\n"
            "def hook(event, args):\n"
            f"    if event == 'os.rename' and '/c/' in str(args[1]) and not os.path.exists('{tmp_path}/sound'):\n"
            "        seen.append(1)\n"
            "        if len(seen) == 25:\n"
            "            os.kill(os.getpid(), signal.SIGKILL)\n"
            "sys.addaudithook(hook)\n"
        )
        python = tmp_path / "python"
        python.write_text(f'#!/bin/sh\nPYTHONPATH={site} exec {sys.executable} "$@"\n')
        python.chmod(0o755)
        return python

    def test_a_worker_is_killed_and_the_run_is_finished(self, tmp_path: Path, fragile_python: Path) -> None:
        path, copied = tmp_path / "in.ome.zarr", tmp_path / "out.ome.zarr"
        image_with_labels(path)
        config = RunnerConfig(tmp_root=tmp_path / "runs", python_executable=str(fragile_python), retries=0)
        call: dict[str, Any] = {"block_shape": (1, 3, 8, 16), "job_type": "subprocess", "job_config": config}
        n_blocks = bp.plan(path, copied, **call).n_blocks
        with pytest.raises(RunnerError, match="killed") as failed:
            bp.copy(path, copied, **call)
        folder = failed.value.tmp_folder
        assert folder is not None
        assert 0 < len(failed.value.failed_block_ids) < n_blocks
        with pytest.raises(InvalidArgumentError, match="cannot be continued"):
            bp.copy(path, copied, **{**call, "block_shape": (1, 3, 16, 16)}, resume_from=folder)
        (tmp_path / "sound").touch()
        made = bp.copy(path, copied, **call, resume_from=folder)
        assert (made.key, Path(folder).exists()) == ("0", False)
        assert chunks_in(copied) == chunks_in(path)

    def test_a_refusal_of_the_backend_leaves_nothing(self, tmp_path: Path) -> None:
        image_with_labels(tmp_path / "in.ome.zarr")
        (tmp_path / "file").touch()
        config = RunnerConfig(tmp_root=tmp_path / "file/runs")
        before = files_in(tmp_path)
        with pytest.raises(InvalidArgumentError):
            bp.copy(
                tmp_path / "in.ome.zarr", tmp_path / "out.ome.zarr", job_type="subprocess", job_config=config
            )
        assert files_in(tmp_path) == before
        assert not (tmp_path / "out.ome.zarr").exists()

    def test_a_plate_and_its_run_folder(self, tmp_path: Path) -> None:
        path, copied = tmp_path / "plate.ome.zarr", tmp_path / "out.ome.zarr"
        plate(path, wells=10)  # more arrays than a worker opens at once
        seen: list[Any] = []
        config = RunnerConfig(tmp_root=tmp_path / "runs", keep_run_folder=True)
        bp.copy(path, copied, job_type="subprocess", job_config=config, num_workers=2, progress=seen.append)
        assert chunks_in(copied) == chunks_in(path)
        assert (seen[-1].blocks_done, seen[-1].blocks_total) == (40, 40)
        assert seen[-1].account.chunks_moved == len(chunks_in(path))
        assert len(list((tmp_path / "runs").iterdir())) == 1

    def test_a_local_run_is_finished_from_its_folder(self, tmp_path: Path) -> None:
        path, copied = tmp_path / "in.ome.zarr", tmp_path / "out.ome.zarr"
        image_with_labels(path)
        bad = path / "labels/cells/1/c/0/0/0"
        kept = bad.read_bytes()
        bad.write_bytes(b"")
        config = RunnerConfig(tmp_root=tmp_path / "runs")
        with pytest.raises(RunnerError, match="labels/cells/1") as failed:
            bp.copy(path, copied, job_config=config, verify_encoded=True)
        bad.write_bytes(kept)
        bp.resume(failed.value.tmp_folder)
        assert chunks_in(copied) == chunks_in(path)


@pytest.mark.slow
def test_on_dask(tmp_path: Path, scheduler: str) -> None:
    image_with_labels(tmp_path / "in.ome.zarr")
    config = bp.DaskConfig(address=scheduler, tmp_root=tmp_path / "runs")
    bp.copy(tmp_path / "in.ome.zarr", tmp_path / "out.ome.zarr", job_type="dask", job_config=config)
    assert chunks_in(tmp_path / "out.ome.zarr") == chunks_in(tmp_path / "in.ome.zarr")


def test_an_input_that_goes_away_is_not_taken_for_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bioimage_py.operations import array_copy

    path = tmp_path / "in.ome.zarr"
    image_with_labels(path)
    moved = array_copy.kernel_for_road

    def gone(kernel: Any, *args: Any, **options: Any) -> Any:
        found = moved(kernel, *args, **options)
        if kernel.input.key == "2":
            shutil.rmtree(path / "2")
        return found

    monkeypatch.setattr(array_copy, "kernel_for_road", gone)
    with pytest.raises(StorageError, match=r"in\.ome\.zarr:2 no longer exists"):
        bp.copy(path, tmp_path / "out.ome.zarr")


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_a_group_of_zarr_python_is_copied_whole(tmp_path: Path, version: str) -> None:
    image_with_labels(tmp_path / "set.zarr" / "in", version)
    shutil.copytree(tmp_path / "set.zarr" / "in", tmp_path / "in.zarr")
    outer = zarr.open_group(tmp_path / "set.zarr", mode="a", zarr_format=2 if version == "0.4" else 3)
    for n, group in enumerate((zarr.open_group(tmp_path / "in.zarr", mode="r"), outer["in"])):
        assert isinstance(bp.plan(group, tmp_path / f"{n}.zarr"), ImagePlan)
        bp.copy(group, tmp_path / f"{n}.zarr")
        (image,) = list_ome_zarr(tmp_path / f"{n}.zarr")
        assert image.levels == ("0", "1", "2")
        assert [label.key for label in image.labels] == ["labels/cells"]


@pytest.mark.parametrize("name", ["out.czi", "out.zar", "out.zarr.zip"])
def test_an_output_that_cannot_be_written_is_one_error_and_no_warning(tmp_path: Path, name: str) -> None:
    image_with_labels(tmp_path / "in.ome.zarr")
    for call in (bp.copy, bp.plan):
        with pytest.raises(UnsupportedFormatError):
            call(tmp_path / "in.ome.zarr", tmp_path / name)
