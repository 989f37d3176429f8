"""OME-NGFF as plain dicts: what is written, by the rules of the specification, and what is read again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bioimage_py.errors import InvalidArgumentError
from bioimage_py.metadata import (
    ImageMetadata,
    Level,
    axes_for_ngff,
    image_attributes,
    images_of,
    ngff_order,
    own_attributes,
    well_paths,
    with_channels,
)

IMAGE = ImageMetadata(
    axes=("t", "c", "z", "y", "x"),
    voxel_size=(2.0, 1.0, 4.0, 0.5, 0.25),
    units=("second", None, "micrometer", "micrometer", "nanometer"),
    origin=(0.0, 0.0, 10.0, 0.0, -1.0),
    channel_names=("dna", "actin"),
    channel_colors=("0000FF", "00FF00"),
    contrast_limits=((10, 200), (0.5, 99.5)),
    attributes={"sample": 3},
)
SHAPE = (3, 2, 8, 64, 64)
LEVELS = [
    Level("0", (1, 1, 1, 1, 1)),
    Level("1", (1, 1, 1, 2, 4)),
    Level("2", (1, 1, 2, 4, 8), (0, 0, 0, 0, 0)),
]


def written(version: str, metadata: ImageMetadata = IMAGE, **options: Any) -> dict[str, Any]:
    return image_attributes(metadata, SHAPE, np.dtype("uint8"), LEVELS, version=version, name="a", **options)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_what_is_written_is_read_again(version: str) -> None:
    attributes = written(version)
    (image,) = images_of(attributes)
    for level in LEVELS:
        dataset = next(found for found in image.datasets if found.path == level.path)
        assert dataset is not None
        assert dataset.problems == ()
        found = with_channels(image.metadata_of(dataset, ImageMetadata(), 4), attributes, SHAPE)
        assert IMAGE.voxel_size is not None
        size = tuple(s * f for s, f in zip(IMAGE.voxel_size, level.factors, strict=True))
        assert found == replace(IMAGE, attributes={}, voxel_size=size, origin=found.origin)
    assert own_attributes(attributes) == {
        "sample": 3,
        "omero": (attributes.get("ome") or attributes)["omero"],
    }


def test_a_coarser_voxel_lies_in_the_middle_of_those_it_stands_for() -> None:
    (image,) = images_of(written("0.5"))
    half, other = (image.metadata_of(dataset, ImageMetadata(), 4) for dataset in image.datasets[1:3])
    assert half.voxel_size == (2.0, 1.0, 4.0, 1.0, 1.0)
    assert half.origin == (0.0, 0.0, 10.0, 0.25, -1.0 + 1.5 * 0.25)
    assert other.origin == IMAGE.origin  # it was said where it lies


def test_versions_stand_where_each_version_wants_them() -> None:
    old, new = written("0.4"), written("0.5")
    assert old["multiscales"][0]["version"] == "0.4"
    assert new["ome"]["version"] == "0.5"
    assert "version" not in new["ome"]["multiscales"][0]
    assert old["sample"] == new["sample"] == 3


def test_channels_say_how_they_are_shown_only_where_that_is_known() -> None:
    plain = ImageMetadata(axes=IMAGE.axes)
    assert "omero" not in written("0.5", plain)["ome"]
    named = ImageMetadata(axes=IMAGE.axes, channel_names=("dna", "actin"))
    channels = written("0.5", named)["ome"]["omero"]["channels"]
    assert [c["label"] for c in channels] == ["dna", "actin"]
    assert channels[0]["window"] == {"min": 0, "max": 255, "start": 0, "end": 255, "provisional": True}
    assert with_channels(named, written("0.5", named), (2, 4, 5, 6)).contrast_limits is None
    wrong = ImageMetadata(axes=IMAGE.axes, channel_names=("dna",))
    assert "omero" not in written("0.5", wrong)["ome"]
    limited = ImageMetadata(axes=IMAGE.axes, contrast_limits=((0, 9), (1, 8)))
    channels = written("0.5", limited)["ome"]["omero"]["channels"]
    assert all("label" not in channel for channel in channels)
    assert channels[1]["window"] == {"min": 0, "max": 255, "start": 1, "end": 8}


def test_what_the_input_said_of_channels_goes_on() -> None:
    omero = {
        "rdefs": {"model": "color"},
        "channels": [{"label": "dna", "family": "linear"}, {"label": "actin"}],
    }
    kept = written(
        "0.5", ImageMetadata(axes=IMAGE.axes, channel_names=("dna", "actin"), attributes={"omero": omero})
    )
    assert kept["ome"]["omero"]["rdefs"] == {"model": "color"}
    assert kept["ome"]["omero"]["channels"][0]["family"] == "linear"
    assert "omero" not in kept
    turned = written(
        "0.5", ImageMetadata(axes=IMAGE.axes, channel_names=("actin", "dna"), attributes={"omero": omero})
    )
    assert "family" not in turned["ome"]["omero"]["channels"][1]


def test_labels_lead_to_their_image() -> None:
    label = {"colors": [{"label-value": 1, "rgba": [1, 2, 3, 4]}], "source": {"image": "elsewhere"}}
    metadata = ImageMetadata(axes=IMAGE.axes, attributes={"image-label": label})
    old, new = (written(version, metadata, labels_of="../../") for version in ("0.4", "0.5"))
    assert new["ome"]["image-label"] == {"colors": label["colors"], "source": {"image": "../../"}}
    assert old["image-label"]["version"] == "0.4"
    assert "omero" not in new["ome"]
    # Outside of a group of labels there is no image to lead to.
    assert "source" not in written("0.5", metadata)["ome"]["image-label"]


def test_axes_without_names_are_taken_for_the_last_ones() -> None:
    assert axes_for_ngff(None, 3, "a") == ("z", "y", "x")
    assert axes_for_ngff(("T", "Z", "Y", "X"), 4, "a") == ("t", "z", "y", "x")
    assert axes_for_ngff(("n", "y", "x"), 3, "a") == ("n", "y", "x")
    assert ngff_order(("y", "x", "c")) == (2, 0, 1)
    assert ngff_order(("x", "y", "z", "t")) == (3, 2, 1, 0)
    assert ngff_order(("t", "q", "y", "x")) is None


@pytest.mark.parametrize(
    ("axes", "ndim", "words"),
    [
        (None, 1, "2 to 5 axes, and this one has 1"),
        (None, 6, "this one has 6"),
        (("c", "x"), 2, "cannot describe the axes c, x"),
        (("i", "j", "k"), 3, "axes='czyx'"),
        (("t", "time", "y", "x"), 4, "cannot describe"),
        (("c", "s", "y", "x"), 4, "cannot describe"),
        (("Y", "y", "x"), 3, "cannot describe"),
        (("z", "c", "y", "x"), 4, r"TransposeSource\(source, \('c', 'z', 'y', 'x'\)\)"),
    ],
)
def test_axes_that_cannot_be_are_named(axes: Any, ndim: int, words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        axes_for_ngff(axes, ndim, "a.tif")


@pytest.mark.parametrize(
    "attributes",
    [
        {"multiscales": 3},
        {"multiscales": [{"datasets": 3}]},
        {"ome": {"multiscales": [None]}},
        {"plate": {"wells": [{"path": 3}, 4]}},
        {"omero": {"channels": [{"label": 3, "color": "blue", "window": {"start": "a"}}]}},
        {"omero": {"channels": "many"}},
    ],
)
def test_nonsense_is_left_out(attributes: dict[str, Any]) -> None:
    assert list(images_of(attributes)) == []
    assert well_paths(attributes) == []
    assert with_channels(ImageMetadata(), attributes, (4, 5)) == ImageMetadata()


def test_transformations_are_put_together_in_order() -> None:
    steps = [{"type": "scale", "scale": [2, 3]}, {"type": "translation", "translation": [1, 1]}]
    image = {
        "datasets": [{"path": "/0/", "coordinateTransformations": steps}],
        "coordinateTransformations": [{"type": "scale", "scale": [10, 1]}],
    }
    ((found,),) = ([*i.datasets] for i in images_of({"multiscales": [image]}))
    assert (found.path, found.scale, found.translation) == ("0", (20.0, 3.0), (10.0, 1.0))
    image["coordinateTransformations"] = [{"type": "scale", "scale": [10, 1, 1]}]
    ((found,),) = ([*i.datasets] for i in images_of({"multiscales": [image]}))
    assert found.scale == (2.0, 3.0)
    assert "has another length" in found.problems[0]


def with_systems(*steps: Any, output: Any = "physical") -> dict[str, Any]:
    """An image as version 0.6 describes it, of one level, and a second coordinate system that it is registered to."""
    axes = [{"name": n, "type": "space", "unit": "micrometer"} for n in "zyx"]
    atlas = [{"name": n, "type": "space", "unit": "millimeter"} for n in "zyx"]
    on = {
        "type": "affine",
        "affine": [[0, 1, 0, 5], [1, 0, 0, 0], [0, 0, 1, 0]],
        "input": output,
        "output": "atlas",
    }
    return {
        "coordinateSystems": [{"name": "atlas", "axes": atlas}, {"name": "physical", "axes": axes}],
        "datasets": [{"path": "scale0/image", "coordinateTransformations": list(steps)}],
        "coordinateTransformations": [on],
    }


SCALE = {"type": "scale", "scale": [2.0, 0.5, 0.25]}
PLACE = {"type": "translation", "translation": [1.0, 2.0, 3.0]}
MATRIX = [[2.0, 0, 0, 1.0], [0, 0.5, 0, 2.0], [0, 0, 0.25, 3.0]]


@pytest.mark.parametrize(
    "step",
    [
        {"type": "sequence", "transformations": [SCALE, PLACE]},
        {
            "type": "sequence",
            "transformations": [
                {"type": "identity"},
                SCALE,
                {"type": "sequence", "transformations": [PLACE]},
            ],
        },
        {"type": "affine", "affine": MATRIX},
        {
            "type": "bijection",
            "forward": {"type": "affine", "affine": MATRIX},
            "inverse": {"type": "identity"},
        },
        {
            "type": "byDimension",
            "transformations": [
                {
                    "inputAxes": [0],
                    "outputAxes": [0],
                    "transformation": {"type": "affine", "affine": [[2.0, 1.0]]},
                },
                {
                    "inputAxes": [1, 2],
                    "outputAxes": [1, 2],
                    "transformation": {"type": "affine", "affine": [[0.5, 0, 2.0], [0, 0.25, 3.0]]},
                },
            ],
        },
        {
            "type": "byDimension",
            "transformations": [
                {
                    "type": "sequence",
                    "transformations": [
                        {"type": "scale", "scale": [0.5]},
                        {"type": "translation", "translation": [2.0]},
                    ],
                    "input": ["y"],
                    "output": ["y"],
                },
                {
                    "type": "affine",
                    "affine": [[2.0, 0, 1.0], [0, 0.25, 3.0]],
                    "input": ["z", "x"],
                    "output": ["z", "x"],
                },
            ],
        },
    ],
    ids=["sequence", "nested", "affine", "bijection", "by number", "by name"],
)
@pytest.mark.parametrize("output", ["physical", {"name": "physical"}])
def test_coordinate_systems(step: dict[str, Any], output: Any) -> None:
    image = with_systems({**step, "input": {"path": "scale0/image"}, "output": output}, output=output)
    (found,) = images_of({"ome": {"version": "0.6", "multiscales": [image]}})
    assert (found.axes, found.units) == (("z", "y", "x"), ("micrometer",) * 3)
    assert found.datasets[0].scale == (2.0, 0.5, 0.25)
    assert found.datasets[0].translation == (1.0, 2.0, 3.0)
    assert found.datasets[0].problems == ()


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ({"type": "affine", "affine": [[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0]]}, "turns the axes"),
        ({"type": "rotation", "rotation": [[0, 1, 0], [1, 0, 0], [0, 0, 1]]}, "turns the axes"),
        ({"type": "mapAxis", "mapAxis": [2, 1, 0]}, "changes the order of the axes"),
        ({"type": "scale", "path": "sizes"}, "in the array 'sizes', which is not read"),
        ({"type": "displacements", "path": "field"}, "of type displacements cannot be expressed"),
    ],
)
def test_what_no_voxel_size_can_say_is_a_problem(step: dict[str, Any], words: str) -> None:
    image = with_systems({**step, "input": "scale0/image", "output": "physical"})
    (found,) = images_of({"ome": {"version": "0.6", "multiscales": [image]}})
    assert words in found.datasets[0].problems[0]


def test_orientations_are_written_and_read() -> None:
    turned = ({"type": "anatomical", "value": "inferior-to-superior"}, None, None)
    known = ImageMetadata(axes=("z", "y", "x"), orientations=turned)
    written = image_attributes(
        known, (4, 5, 6), np.dtype("u1"), [Level("0", (1.0, 1.0, 1.0))], version="0.5", name="a"
    )
    assert written["ome"]["multiscales"][0]["axes"][0]["orientation"] == turned[0]
    (found,) = images_of(written)
    assert found.orientations == turned
