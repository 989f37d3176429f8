"""OME-Zarr as input: which array a path and a key mean, what is listed, and metadata that do not fit their arrays."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from bioimage_py.errors import (
    AmbiguousSourceError,
    BioimagePyWarning,
    SourceNotFoundError,
    StorageError,
)
from bioimage_py.sources import as_source, open_source
from bioimage_py.sources.ome_zarr import list_ome_zarr
from bioimage_py.storage import StoreFolder
from tests.sources.ome_groups import AXES, SHAPE, datasets, group, image

pytestmark = pytest.mark.parametrize("version", ["0.4", "0.5"])


def with_labels(path: Path, version: str) -> None:
    image(path, version, value=10)
    group(path / "labels", version, {"labels": ["cells", "nuclei"]})
    image(path / "labels/cells", version, value=20, **{"image-label": {"source": {"image": "../../"}}})
    image(path / "labels/nuclei", version, value=30)


def test_a_key_selects_levels_and_labels(tmp_path: Path, version: str) -> None:
    path = tmp_path / "in.ome.zarr"
    with_labels(path, version)
    for key, value in ((None, 10), ("0", 10), ("1", 11), ("labels/cells/1", 21), ("labels/nuclei", 30)):
        assert open_source(path, key)[0, 0, 0] == value
    assert open_source(f"{path}/labels/cells")[0, 0, 0] == 20
    assert "image-label" in open_source(path, "labels/cells").metadata.attributes
    half = open_source(path, "1").metadata
    assert (half.axes, half.voxel_size) == (("z", "y", "x"), (2.0, 1.0, 1.0))
    with pytest.raises(AmbiguousSourceError, match=r"2 images(.|\n)*labels/cells  shape \(4, 8, 8\), uint8"):
        open_source(path, "labels")


def test_live_groups_mean_their_full_size_level(tmp_path: Path, version: str) -> None:
    with_labels(tmp_path / "in.ome.zarr", version)
    group = zarr.open_group(tmp_path / "in.ome.zarr", mode="r")
    assert as_source(group).name.endswith("in.ome.zarr:0")
    assert as_source(group["labels/cells"])[0, 0, 0] == 20


def test_channels_are_read(tmp_path: Path, version: str) -> None:
    channels = [
        {
            "label": "dna",
            "color": "0000ff",
            "window": {"min": 0, "max": 255, "start": 5, "end": 100},
            "active": True,
        }
    ]
    image(tmp_path / "in.ome.zarr", version, omero={"channels": channels, "rdefs": {"model": "color"}})
    found = open_source(tmp_path / "in.ome.zarr").metadata
    assert (found.channel_names, found.channel_colors, found.contrast_limits) == (
        ("dna",),
        ("0000FF",),
        ((5, 100),),
    )
    assert found.attributes["omero"]["rdefs"] == {"model": "color"}
    image(tmp_path / "two.ome.zarr", version, omero={"channels": channels * 2})
    assert open_source(tmp_path / "two.ome.zarr").metadata.channel_names is None


@pytest.mark.parametrize("listed", [True, False])
def test_images_of_a_container_are_listed_and_selected(tmp_path: Path, version: str, listed: bool) -> None:
    path = tmp_path / "many.ome.zarr"
    group(path, version, {"bioformats2raw.layout": 3})
    if listed:
        group(path / "OME", version, {"series": ["0", "1"]})
    for n in range(2):
        image(path / str(n), version, value=n)
    with pytest.raises(AmbiguousSourceError) as raised:
        open_source(path)
    for words in ("holds 2 images", f"open_source('{path}', '0')", "  1  shape (4, 8, 8), uint8"):
        assert words in str(raised.value)
    assert open_source(path, "1").key == "1/0"
    assert open_source(path, "1/1")[0, 0, 0] == 2
    assert [found.key for found in list_ome_zarr(path)] == ["0", "1"]


def test_the_only_image_of_a_container_is_meant(tmp_path: Path, version: str) -> None:
    group(tmp_path / "one.zarr", version, {"bioformats2raw.layout": 3})
    image(tmp_path / "one.zarr/0", version)
    assert open_source(tmp_path / "one.zarr").key == "0/0"


def test_plates_are_listed_well_by_well(tmp_path: Path, version: str) -> None:
    path = tmp_path / "plate.ome.zarr"
    wells = [{"path": well, "rowIndex": 0, "columnIndex": n} for n, well in enumerate(("A/1", "A/2", "B/1"))]
    group(path, version, {"plate": {"wells": wells, "rows": [{"name": "A"}], "columns": [{"name": "1"}]}})
    for n, well in enumerate(("A/1", "A/2")):  # B/1 was never imaged
        group(path / well, version, {"well": {"images": [{"path": "0"}, {"path": "1"}]}})
        for field in range(2):
            image(path / well / str(field), version, value=10 * n + field)
    with pytest.raises(AmbiguousSourceError, match=r"holds 4 images(.|\n)*A/2/1  shape \(4, 8, 8\), uint8"):
        open_source(path)
    with pytest.raises(AmbiguousSourceError, match="holds 2 images"):
        open_source(path, "A/2")
    assert open_source(path, "A/2/1")[0, 0, 0] == 11
    assert [found.key for found in list_ome_zarr(path)] == ["A/1/0", "A/1/1", "A/2/0", "A/2/1"]
    (one,) = list_ome_zarr(path, "A/2/1")
    assert one.levels == ("A/2/1/0", "A/2/1/1")


def test_a_long_list_is_cut(tmp_path: Path, version: str) -> None:
    group(tmp_path / "many.zarr", version, {"bioformats2raw.layout": 3})
    for n in range(22):
        image(tmp_path / "many.zarr" / str(n), version, levels=1)
    with pytest.raises(AmbiguousSourceError, match=r"more than 20 images(.|\n)*…"):
        open_source(tmp_path / "many.zarr")


def test_listing_tells_levels_labels_and_version(tmp_path: Path, version: str) -> None:
    path = tmp_path / "in.ome.zarr"
    with_labels(path, version)
    (found,) = list_ome_zarr(path)
    assert (found.key, found.version, found.levels) == ("", version, ("0", "1"))
    assert [(label.key, label.levels[1]) for label in found.labels] == [
        ("labels/cells", "labels/cells/1"),
        ("labels/nuclei", "labels/nuclei/1"),
    ]
    with pytest.raises(SourceNotFoundError, match="no OME-Zarr group"):
        list_ome_zarr(path, "0")
    group(tmp_path / "plain.zarr", version, {})
    with pytest.raises(SourceNotFoundError, match="is not an OME-Zarr"):
        list_ome_zarr(tmp_path / "plain.zarr")


class TestDisagreement:
    def write(self, path: Path, version: str, **entry: Any) -> None:
        content = {"axes": AXES, "datasets": datasets(1), **entry}
        made = group(path, version, {"multiscales": [content]})
        made.create_array("0", shape=SHAPE, dtype="u1", chunks=SHAPE)

    @pytest.mark.parametrize(
        ("entry", "words", "kept"),
        [
            (
                {"axes": [{"name": "c", "type": "channel"}, *AXES]},
                r"has 3 axes \(shape \(4, 8, 8\)\): they name 4 axes \(c, z, y, x\)",
                (None, (2.0, 0.5, 0.5)),
            ),
            (
                {
                    "datasets": [
                        {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1, 2]}]}
                    ]
                },
                r"the scale of level '0' has 2 entries \[1.0, 2.0\]",
                (("z", "y", "x"), None),
            ),
            (
                {"coordinateTransformations": [{"type": "scale", "scale": [1, 2]}]},
                r"scale \[1, 2\] has another length than \[2.0, 0.5, 0.5\]",
                (("z", "y", "x"), (2.0, 0.5, 0.5)),
            ),
        ],
    )
    def test_what_does_not_fit_is_one_warning(
        self, tmp_path: Path, version: str, entry: Any, words: str, kept: Any
    ) -> None:
        self.write(tmp_path / "a.zarr", version, **entry)
        with pytest.warns(BioimagePyWarning, match=words) as caught:
            found = open_source(tmp_path / "a.zarr").metadata
        assert len(caught) == 1
        assert (found.axes, found.voxel_size) == kept

    def test_sizes_that_no_voxel_has(self, tmp_path: Path, version: str) -> None:
        steps = [{"type": "scale", "scale": [0, -1, 0.5]}]
        self.write(tmp_path / "a.zarr", version, datasets=[{"path": "0", "coordinateTransformations": steps}])
        with pytest.warns(BioimagePyWarning, match="voxel size 0 of z, voxel size -1 of y"):
            found = open_source(tmp_path / "a.zarr").metadata
        assert (found.voxel_size, found.units) == ((1.0, 1.0, 0.5), (None, None, "micrometer"))

    def test_a_full_size_level_that_is_not_there(self, tmp_path: Path, version: str) -> None:
        self.write(tmp_path / "a.zarr", version, datasets=datasets(2, ["s0", "0"]))
        with pytest.raises(SourceNotFoundError, match=r"name 's0' as the full-size array(.|\n)*there is 0"):
            open_source(tmp_path / "a.zarr")
        assert open_source(tmp_path / "a.zarr", "0").shape == SHAPE

    def test_another_level_that_is_not_there(self, tmp_path: Path, version: str) -> None:
        self.write(tmp_path / "a.zarr", version, datasets=datasets(3))
        assert open_source(tmp_path / "a.zarr").key == "0"
        with pytest.raises(
            SourceNotFoundError, match=r"no '2' .*metadata of its image name it as a level.*there is 0"
        ):
            open_source(tmp_path / "a.zarr", "2")
        with pytest.raises(
            StorageError, match="name the levels 0, 1, 2, but there is no array 1, 2; there is 0"
        ):
            list_ome_zarr(tmp_path / "a.zarr")

    def test_levels_of_different_kinds(self, tmp_path: Path, version: str) -> None:
        self.write(tmp_path / "a.zarr", version, datasets=datasets(2))
        zarr.open_group(tmp_path / "a.zarr").create_array("1", data=np.zeros((2, 2), "u1"))
        with pytest.raises(StorageError, match=r"different numbers of axes: \{'0': 3, '1': 2\}"):
            list_ome_zarr(tmp_path / "a.zarr")


def test_behind_a_url(tmp_path: Path, version: str) -> None:
    path = tmp_path / "in.ome.zarr"
    with_labels(path, version)
    url = f"memory://{version}/in.ome.zarr"
    store = StoreFolder.at(url)
    for file in path.rglob("*"):
        if file.is_file():
            store.write(str(file.relative_to(path)), file.read_bytes())
    assert open_source(url)[0, 0, 0] == 10
    assert open_source(url, "labels/cells").metadata.voxel_size == (2.0, 0.5, 0.5)
    (found,) = list_ome_zarr(url)
    assert len(found.labels) == 2
    json.dumps(dict(found.attributes))
