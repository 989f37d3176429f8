"""OME-Zarr that is written: valid by the models and the schemas of the specification, and never over what is not its own."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib import metadata as installed
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import bioimage_py as bp
from bioimage_py.errors import (
    BioimagePyWarning,
    InvalidArgumentError,
    MissingDependencyError,
    OutputExistsError,
    StorageError,
    UnsupportedFormatError,
)
from bioimage_py.metadata import ImageMetadata, Level
from bioimage_py.sources import NumpySource, Source, create_output, open_source, wanted_order, with_metadata
from bioimage_py.sources.ome_zarr import check_ome_zarr, create_ome_zarr, list_ome_zarr
from bioimage_py.wrapper.shape import TransposeSource
from tests.sources.contract import textured

FORMATS = pytest.mark.parametrize("zarr_format", [2, 3])
VERSIONS = {2: "0.4", 3: "0.5"}


def channels() -> Source:
    """A source that says all there is to say."""
    return NumpySource(
        textured((2, 6, 20, 24), "uint16"),
        ImageMetadata(
            axes=("c", "z", "y", "x"),
            voxel_size=(1.0, 2.0, 0.5, 0.25),
            units=(None, "micrometer", "micrometer", "micrometer"),
            origin=(0.0, 10.0, -1.0, 0.0),
            channel_names=("dna", "actin"),
            channel_colors=("0000FF", "00FF00"),
            contrast_limits=((10, 4000), (0, 65535)),
            attributes={"sample": {"id": 3}},
        ),
    )


def attributes_of(group: Path, zarr_format: int) -> dict[str, Any]:
    """The attributes of a group as they stand in its file."""
    if zarr_format == 2:
        return dict(json.loads((group / ".zattrs").read_text()))
    return dict(json.loads((group / "zarr.json").read_text())["attributes"])


def check_models(group: Path, zarr_format: int) -> str:
    """Let ome-zarr-models validate a group; return what it takes it for."""
    models = pytest.importorskip("ome_zarr_models", reason="ome-zarr-models is not installed (extra 'ome')")
    found = models.open_ome_zarr(zarr.open_group(group, mode="r"), version=VERSIONS[zarr_format])
    return str(type(found).__name__)


def check_schema(group: Path, zarr_format: int, name: str, version: str = "") -> None:
    """Hold the attributes of a group against a JSON schema of the specification, of which ngff-zarr carries copies."""
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    referencing = pytest.importorskip("referencing", reason="referencing is not installed")
    try:
        files = installed.files("ngff-zarr") or []
    except installed.PackageNotFoundError:
        pytest.skip("ngff-zarr, whose wheel has copies of the specification's schemas, is not installed")
    below = f"/spec/{version or VERSIONS[zarr_format]}/schemas/"
    schemas = {
        Path(str(f)).stem: json.loads(f.read_text())
        for f in files
        if below in str(f) and f.suffix == ".schema"
    }
    resources = [
        (schema["$id"], referencing.Resource.from_contents(schema, referencing.jsonschema.DRAFT202012))
        for schema in schemas.values()
    ]
    registry = referencing.Registry().with_resources(resources)
    jsonschema.Draft202012Validator(schemas[name], registry=registry).validate(
        attributes_of(group, zarr_format)
    )


@FORMATS
def test_a_copy_is_a_valid_image_of_one_level(tmp_path: Path, zarr_format: int) -> None:
    source, path = channels(), tmp_path / "out.ome.zarr"
    made = bp.copy(source, path, zarr_format=zarr_format, chunks=(1, 6, 10, 12))
    assert (made.key, made.chunks) == ("0", (1, 6, 10, 12))
    np.testing.assert_array_equal(open_source(path)[...], source[...])
    found = open_source(path).metadata
    assert found.attributes["sample"] == {"id": 3}
    assert found.origin == source.metadata.origin
    for name in ("axes", "voxel_size", "units", "channel_names", "channel_colors", "contrast_limits"):
        assert getattr(found, name) == getattr(source.metadata, name)
    assert check_models(path, zarr_format) == "Image"
    check_schema(path, zarr_format, "image")
    array = zarr.open_group(path, mode="r")["0"]
    assert dict(array.attrs) == ({"_ARRAY_DIMENSIONS": ["c", "z", "y", "x"]} if zarr_format == 2 else {})
    assert zarr_format == 2 or array.metadata.dimension_names == ("c", "z", "y", "x")


@FORMATS
@pytest.mark.parametrize("shape", [(9, 8), (5, 9, 8), (2, 5, 9, 8), (3, 2, 5, 9, 8)])
def test_arrays_that_say_nothing_are_valid(tmp_path: Path, zarr_format: int, shape: tuple[int, ...]) -> None:
    path = tmp_path / "out.ome.zarr"
    made = bp.copy(textured(shape, "float32"), path, zarr_format=zarr_format)
    assert made.metadata.axes == tuple("tczyx"[-len(shape) :])
    assert check_models(path, zarr_format) == "Image"
    check_schema(path, zarr_format, "image")


def test_the_order_that_an_output_wants(tmp_path: Path) -> None:
    stack = with_metadata(np.zeros((3, 2, 4, 5), "u1"), axes="zcyx")
    assert wanted_order(tmp_path / "a.zarr", stack) is None
    assert wanted_order(tmp_path / "a.ome.zarr/tables/x", stack) is None
    assert wanted_order(tmp_path / "a.ome.zarr", turned := TransposeSource(stack, (1, 0, 2, 3))) is None
    assert wanted_order(tmp_path / "a.ome.zarr", stack) == (1, 0, 2, 3)
    assert bp.copy(turned, tmp_path / "a.ome.zarr").metadata.axes == tuple("czyx")


@pytest.mark.parametrize("name", ["a.ome.zarr", "a.precomputed"])
def test_space_is_written_as_z_y_x(tmp_path: Path, name: str) -> None:
    voxels = np.arange(8 * 8 * 8, dtype="u2").reshape(8, 8, 8)
    cube = with_metadata(voxels, axes="xyz", voxel_size=(1, 2, 3), units="nm")
    mask = np.zeros(voxels.shape, "bool")
    mask[:4] = True
    made = bp.copy(cube, tmp_path / name, chunks=(4, 4, 8), mask=mask)
    assert (made.metadata.axes, made.metadata.voxel_size) == (tuple("zyx"), (3.0, 2.0, 1.0))
    np.testing.assert_array_equal(made[...], np.where(mask, voxels, 0).T)
    # The rest goes into what is there, whose axes say that it is turned although its shape does not.
    rest = bp.plan(cube, open_source(tmp_path / name, mode="r+")).n_blocks
    bp.copy(cube, open_source(tmp_path / name, mode="r+"), block_ids=range(rest))
    np.testing.assert_array_equal(open_source(tmp_path / name)[...], voxels.T)
    # Where no program minds, axes stay as they are.
    assert bp.copy(cube, tmp_path / "plain.zarr").metadata.axes == tuple("xyz")
    assert bp.create_output(tmp_path / "b.ome.zarr", like=cube).metadata.axes == tuple("xyz")


@FORMATS
def test_levels(tmp_path: Path, zarr_format: int) -> None:
    path = tmp_path / "out.ome.zarr"
    levels = create_ome_zarr(
        path,
        like=channels(),
        levels=[(1, 1, 2, 2), Level("2", (1, 2, 4, 4), (0, 0, 0, 0))],
        zarr_format=zarr_format,
    )
    assert [level.key for level in levels] == ["0", "1", "2"]
    assert [level.shape for level in levels] == [(2, 6, 20, 24), (2, 6, 10, 12), (2, 3, 5, 6)]
    assert all(level.writable for level in levels)
    assert levels[1].metadata.voxel_size == (1.0, 2.0, 1.0, 0.5)
    assert levels[1].metadata.origin == (0.0, 10.0, -0.75, 0.125)
    assert levels[2].metadata.origin == (0.0, 10.0, -1.0, 0.0)
    assert check_models(path, zarr_format) == "Image"
    check_schema(path, zarr_format, "image")


@FORMATS
def test_labels_go_into_their_image(tmp_path: Path, zarr_format: int) -> None:
    path = tmp_path / "out.ome.zarr"
    cells = textured((6, 20, 24), "uint32")
    bp.copy(channels(), path, zarr_format=zarr_format)
    for name in ("cells", "nuclei"):
        made = bp.copy(cells, f"{path}/labels/{name}", zarr_format=zarr_format)
        assert made.key == f"labels/{name}/0"
    labels = open_source(path, "labels/cells")
    np.testing.assert_array_equal(labels[...], cells)
    # It lies where the image lies, as it has as many voxels.
    assert labels.metadata.voxel_size == (2.0, 0.5, 0.25)
    assert labels.metadata.origin == (10.0, -1.0, 0.0)
    assert check_models(path / "labels", zarr_format) == "Labels"
    assert check_models(path / "labels/cells", zarr_format) == "ImageLabel"
    assert check_models(path, zarr_format) == "Image"
    check_schema(path / "labels/cells", zarr_format, "label")
    check_schema(path / "labels/cells", zarr_format, "image")
    (image,) = list_ome_zarr(path)
    assert [label.key for label in image.labels] == ["labels/cells", "labels/nuclei"]
    # The image can be replaced, and its labels stay.
    bp.copy(channels(), path, zarr_format=zarr_format, overwrite=True)
    assert [label.key for label in list_ome_zarr(path)[0].labels] == ["labels/cells", "labels/nuclei"]


def test_labels_are_integers_and_have_as_many_levels(tmp_path: Path) -> None:
    path = tmp_path / "out.ome.zarr"
    with pytest.raises(InvalidArgumentError, match=r"labels are integers.*float32"):
        bp.copy(np.zeros((4, 5), "f4"), f"{path}/labels/cells")
    assert not path.exists()
    bp.copy(np.zeros((4, 5), "u4"), f"{path}/labels/before")  # the image may come later
    create_ome_zarr(path, shape=(4, 5), dtype="u1", levels=[(2, 2)])
    assert list_ome_zarr(path)[0].labels[0].key == "labels/before"
    with pytest.warns(BioimagePyWarning, match=r"gets 1 level\(s\) of shape .*, but the image has 2"):
        bp.copy(np.zeros((4, 5), "u4"), f"{path}/labels/cells")
    create_ome_zarr(path / "labels/two", shape=(4, 5), dtype="u4", levels=[(2, 2)])


def test_other_keys_are_plain_arrays(tmp_path: Path) -> None:
    path = tmp_path / "out.ome.zarr"
    made = create_output(path, key="tables/raw", shape=(3, 4), dtype="u1")
    assert made.key == "tables/raw"
    assert list(attributes_of(path, 3)) == []
    with pytest.raises(InvalidArgumentError, match="is not a place for an OME-Zarr image"):
        create_ome_zarr(path, key="tables/raw", shape=(3, 4), dtype="u1")
    with pytest.raises(InvalidArgumentError, match="is not a place for an OME-Zarr image"):
        create_ome_zarr(tmp_path / "a.zarr", shape=(3, 4), dtype="u1")


@FORMATS
def test_nothing_that_is_not_its_own_is_removed(tmp_path: Path, zarr_format: int) -> None:
    path = tmp_path / "out.ome.zarr"
    create_ome_zarr(
        path, shape=(8, 8), dtype="u1", levels=[(2, 2)], zarr_format=zarr_format, attributes={"old": 1}
    )
    with pytest.raises(
        OutputExistsError, match=r"is an OME-Zarr image already\. To replace it, give overwrite=True"
    ):
        create_output(path, shape=(4, 4), dtype="u2", zarr_format=zarr_format)
    (path / "notes").mkdir()
    (path / "notes/mine.txt").write_text("keep")
    with pytest.raises(OutputExistsError, match="also holds notes"):
        create_output(path, shape=(4, 4), dtype="u2", zarr_format=zarr_format, overwrite=True)
    assert open_source(path, "1").shape == (4, 4)
    (path / "notes/mine.txt").unlink()
    (path / "notes").rmdir()
    made = create_output(path, shape=(5, 4), dtype="u2", zarr_format=zarr_format, overwrite=True)
    assert (made.shape, made.dtype) == ((5, 4), np.dtype("u2"))
    assert not (path / "1").exists()
    assert "old" not in attributes_of(path, zarr_format)
    assert check_models(path, zarr_format) == "Image"


def test_arrays_that_a_crash_left_without_metadata_are_replaced(tmp_path: Path) -> None:
    path = tmp_path / "out.ome.zarr"
    create_output(path, key="0", shape=(4, 4), dtype="u1").close()
    with pytest.raises(OutputExistsError, match=r"out\.ome\.zarr/0 is there already"):
        create_output(path, shape=(5, 5), dtype="u1")
    create_output(path, shape=(5, 5), dtype="u1", overwrite=True).close()
    assert list_ome_zarr(path)[0].levels == ("0",)


def test_the_other_version_is_not_mixed_in(tmp_path: Path) -> None:
    path = tmp_path / "out.ome.zarr"
    create_output(path, shape=(4, 4), dtype="u1")
    with pytest.raises(InvalidArgumentError, match="another version of Zarr"):
        create_output(path, shape=(4, 4), dtype="u1", zarr_format=2, overwrite=True)
    assert open_source(path).shape == (4, 4)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"axes": "zcyx"}, "wants axes in the order c, z, y, x"),
        ({"shape": (4,)}, "2 to 5 axes, and this one has 1"),
        ({"axes": "tqcx"}, "cannot describe the axes"),
        ({"voxel_size": 0}, "voxel_size must be positive"),
        ({"units": "pixel"}, "unit 'pixel' is not known"),
        ({"levels": [(2, 2)]}, "level 1 needs one factor of at least 1 per axis, 4 in all"),
        ({"levels": [(1, 1, 2, 0.5)]}, "at least 1"),
        ({"chunks": (1, 1)}, "chunks"),
    ],
)
def test_what_cannot_be_made_leaves_nothing(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        create_ome_zarr(tmp_path / "out.ome.zarr", **{"shape": (2, 3, 4, 5), "dtype": "u1", **options})
    assert not list(tmp_path.iterdir())


def test_a_failure_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bioimage_py.sources.ome_zarr import writing as ome_zarr_writing

    def fail(*args: Any, **options: Any) -> None:
        raise OSError("no")

    monkeypatch.setattr(ome_zarr_writing, "group_files", fail)
    with pytest.raises(OSError, match="no"):
        create_ome_zarr(tmp_path / "out.ome.zarr", shape=(8, 8), dtype="u1", levels=[(2, 2)])
    assert not list(tmp_path.iterdir())


def test_the_check_for_users_says_what_is_wrong(tmp_path: Path) -> None:
    pytest.importorskip("ome_zarr_models", reason="ome-zarr-models is not installed (extra 'ome')")
    from bioimage_py.sources.ome_zarr import check_ome_zarr

    for zarr_format in (2, 3):
        path = tmp_path / f"{zarr_format}.ome.zarr"
        create_ome_zarr(path, shape=(8, 8), dtype="u1", zarr_format=zarr_format)
        create_ome_zarr(path / "labels/cells", shape=(8, 8), dtype="u1", zarr_format=zarr_format)
        assert (check_ome_zarr(path), check_ome_zarr(path, "labels/cells")) == ("Image", "ImageLabel")
    create_output(tmp_path / "a.zarr", key="0", shape=(8, 8), dtype="u1")
    with pytest.raises(StorageError, match=r"a\.zarr is not a valid OME-Zarr 0\.4"):
        check_ome_zarr(tmp_path / "a.zarr")


def test_the_check_needs_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from bioimage_py.sources.ome_zarr import check_ome_zarr

    monkeypatch.setitem(sys.modules, "ome_zarr_models", None)
    with pytest.raises(MissingDependencyError, match="pip install ome-zarr-models"):
        check_ome_zarr(tmp_path)


def test_version_0_6_is_written_read_by_others_and_turned_into_others(tmp_path: Path) -> None:
    path, known = tmp_path / "six.ome.zarr", channels().metadata
    turned = (None, {"type": "anatomical", "value": "inferior-to-superior"}, None, None)
    source = NumpySource(channels()[...], replace(known, orientations=turned))
    levels = bp.pyramid(source, path, ome_zarr_version="0.6", chunks=(1, 6, 10, 12), levels=2)
    bp.pyramid((channels()[0] > 5).astype("u1"), path / "labels" / "cells", kind="labels", levels=2)
    said = attributes_of(path, 3)["ome"]
    assert said["version"] == attributes_of(path / "labels" / "cells", 3)["ome"]["version"] == "0.6"
    assert attributes_of(path / "labels", 3)["ome"] == {"version": "0.6", "labels": ["cells"]}
    assert "axes" not in said["multiscales"][0]
    for group, schema in ((path, "image"), (path / "labels" / "cells", "label")):
        check_schema(group, 3, schema, "0.6")
    for name in ("axes", "voxel_size", "units", "origin", "orientations", "channel_names"):
        assert getattr(levels[0].metadata, name) == getattr(source.metadata, name), name
    with pytest.raises(UnsupportedFormatError, match=r"0\.6, and ome-zarr-models"):
        check_ome_zarr(path)
    # The same image in all versions, one made of the other.
    before, metadata = path, [open_source(path, key).metadata for key in "01"]
    for version, zarr_format in (("0.5", 3), ("0.4", 2), ("0.6", 3), ("0.6", 3)):
        after = tmp_path / f"{version} of {before.name}"
        bp.copy(before, after, ome_zarr_version=version)
        assert bp.verify(before, after)
        assert [open_source(after, key).metadata for key in "01"] == metadata
        check_schema(after, zarr_format, "image", version)
        if version != "0.6":
            assert check_models(after, zarr_format) == "Image"
        before = after
    assert attributes_of(before, 3)["ome"]["multiscales"] == said["multiscales"]
    nz = pytest.importorskip("ngff_zarr")
    for made in (path, before):
        images = nz.from_ngff_zarr(str(made), validate=True).images
        assert images[0].axes_orientations["z"].value == "inferior-to-superior"
        for image, level in zip(images, levels, strict=True):
            np.testing.assert_array_equal(np.asarray(image.data), level[...])
            assert tuple(image.scale.values()) == level.metadata.voxel_size


def test_versions_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    image = np.zeros((8, 8), "u1")
    with pytest.raises(InvalidArgumentError, match=r"OME-Zarr 0\.6 is stored as Zarr v3, got zarr_format=2"):
        bp.copy(image, tmp_path / "a.ome.zarr", ome_zarr_version="0.6", zarr_format=2)
    with pytest.raises(InvalidArgumentError, match=r"must be one of 0\.4, 0\.5, 0\.6, got '0\.3'"):
        bp.copy(image, tmp_path / "a.ome.zarr", ome_zarr_version="0.3")
    with pytest.raises(InvalidArgumentError, match="not a place for one"):
        bp.copy(image, tmp_path / "a.n5", ome_zarr_version="0.5")


def test_more_than_one_coordinate_system_and_scenes(tmp_path: Path) -> None:
    scene = tmp_path / "scene.zarr"
    scene.mkdir()
    for name in "ab":
        made, image = tmp_path / f"{name}.ome.zarr", np.full((8, 8), ord(name), "u1")
        bp.copy(image, made, voxel_size=0.5, ome_zarr_version="0.6").close()
        made.rename(scene / made.name)
    ends = ({"name": "physical", "path": "a.ome.zarr"}, {"name": "physical", "path": "b.ome.zarr"})
    step = {"type": "translation", "translation": [0, 4.0], "input": ends[0], "output": ends[1]}
    root = zarr.open_group(scene, mode="a")
    root.attrs["ome"] = {"version": "0.6", "scene": {"coordinateTransformations": [step]}}
    check_schema(scene, 3, "scene", "0.6")
    assert [image.key for image in list_ome_zarr(scene)] == ["a.ome.zarr", "b.ome.zarr"]
    bp.copy(scene, tmp_path / "same.zarr")
    assert attributes_of(tmp_path / "same.zarr", 3) == attributes_of(scene, 3)
    with pytest.raises(
        InvalidArgumentError, match=r"is a scene, which OME-Zarr 0\.5 does not have: .* 'a\.ome\.zarr'"
    ):
        bp.copy(scene, tmp_path / "five.zarr", ome_zarr_version="0.5")
    image = zarr.open_group(scene / "a.ome.zarr", mode="a")
    ome = dict(image.attrs["ome"])
    other = {"name": "atlas", "axes": ome["multiscales"][0]["coordinateSystems"][0]["axes"]}
    ome["multiscales"][0]["coordinateSystems"].append(other)
    image.attrs["ome"] = ome
    with pytest.warns(BioimagePyWarning, match="has one coordinate system for an image, and the others of"):
        bp.copy(scene / "a.ome.zarr", tmp_path / "a.zarr", ome_zarr_version="0.5")
    check_schema(tmp_path / "a.zarr", 3, "image", "0.5")


@pytest.mark.parametrize(("version", "separator"), [("0.1", "."), ("0.2", "/"), ("0.3", ".")])
def test_odd_images_of_old_versions(tmp_path: Path, version: str, separator: str) -> None:
    """As the first versions allow: no axes, or only their names; no scales; chunks in folders or not; metadata that nobody knows."""
    path, image = tmp_path / "old.zarr", textured((1, 2, 4, 12, 10), "uint16")
    group = zarr.open_group(path, mode="w", zarr_format=2)
    for key, step in (("a/full", 1), ("1", 2)):
        group.create_array(
            key,
            data=image[..., ::step, ::step],
            chunks=(1, 1, 2, 5, 5),
            chunk_key_encoding={"name": "v2", "separator": separator},
        )
    entry: dict[str, Any] = {"datasets": [{"path": "a/full"}, {"path": "1"}], "metadata": {"method": "x"}}
    if version == "0.3":
        entry["axes"] = list("tczyx")
    group.attrs.update({"multiscales": [{"version": version, **entry}], "omero": {"channels": []}})
    with open_source(path) as source:
        assert (source.key, source.metadata.axes) == ("a/full", tuple("tczyx"))
        assert source.metadata.voxel_size is None
        np.testing.assert_array_equal(source[...], image)
    bp.copy(path, tmp_path / "same.zarr")
    assert bp.verify(path, tmp_path / "same.zarr")
    assert attributes_of(tmp_path / "same.zarr", 2) == attributes_of(path, 2)
    levels = bp.pyramid(
        path, tmp_path / "new.ome.zarr", voxel_size=(2, 0.5, 0.5), ome_zarr_version="0.6", levels=2
    )
    np.testing.assert_array_equal(levels[0][...], image)
    check_schema(tmp_path / "new.ome.zarr", 3, "image", "0.6")
