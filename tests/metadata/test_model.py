"""What an image says about its axes, followed through regions and new axes."""

from __future__ import annotations

import math

import pytest

from bioimage_py.metadata import ImageMetadata, bdv_view, normalise_unit, with_resolution

IMAGE = ImageMetadata(
    axes=("z", "y", "x"),
    voxel_size=(4.0, 0.5, 0.25),
    units=("micrometer",) * 3,
    attributes={"a": 1},
)


@pytest.mark.parametrize(
    ("unit", "name"),
    [
        ("µm", "micrometer"),
        ("\u03bcm", "micrometer"),
        (" Microns ", "micrometer"),
        ("\u212b", "angstrom"),
        ("nm", "nanometer"),
        ("pixel", None),
        ("", None),
        (None, None),
    ],
)
def test_units(unit: str | None, name: str | None) -> None:
    assert normalise_unit(unit) == name


def test_a_region_begins_where_its_first_voxel_is() -> None:
    assert IMAGE.shifted((0, 0, 0)) is IMAGE
    assert IMAGE.shifted((2, 10, 4)).origin == (8.0, 5.0, 1.0)
    assert IMAGE.shifted((2, 10, 4)).shifted((-1, 0, 0)).origin == (4.0, 5.0, 1.0)
    assert ImageMetadata(axes=("y", "x")).shifted((1, 1)).origin is None
    channels = ImageMetadata(axes=("c", "y"), voxel_size=(2.0, 0.5), origin=(0.0, 1.0))
    assert channels.shifted((3, 2)).origin == (0.0, 2.0)  # a channel has no place


def test_axes_are_selected_together_and_a_new_one_has_no_name() -> None:
    swapped = IMAGE.with_axes_selected((2, 0))
    assert (swapped.axes, swapped.voxel_size) == (("x", "z"), (0.25, 4.0))
    added = IMAGE.with_axes_selected((None, 0, 1, 2))
    assert added.axes is None
    assert added.voxel_size == (1.0, 4.0, 0.5, 0.25)
    assert added.units == (None, "micrometer", "micrometer", "micrometer")
    assert added.attributes == {"a": 1}


def test_what_does_not_fit_the_axes_is_dropped() -> None:
    assert IMAGE.fitting(3) == IMAGE
    assert IMAGE.fitting(2) == ImageMetadata(attributes={"a": 1})
    for sizes in ((0.0, 1.0), (math.nan, 1.0), (-1.0, 1.0)):
        assert ImageMetadata(voxel_size=sizes).fitting(2).voxel_size is None
    assert ImageMetadata(axes=("x", "x")).fitting(2).axes is None


def test_a_mirror_image_turns_its_orientation() -> None:
    image = ImageMetadata(orientations=(None, {"type": "anatomical", "value": "left-to-right"}))
    assert image.with_axes_flipped([1]).orientations == (
        None,
        {"type": "anatomical", "value": "right-to-left"},
    )


def test_resolution_and_offset_of_funlib_are_a_voxel_size() -> None:
    said = ImageMetadata(attributes={"resolution": [40, 4, 4], "offset": [400, 8, 16]})
    found = with_resolution(said, 3)
    assert (found.voxel_size, found.origin) == ((40.0, 4.0, 4.0), (400.0, 8.0, 16.0))


def test_views_of_bigdataviewer_are_named_by_their_keys() -> None:
    assert bdv_view("t00000/s01/2/cells") == (1, 2)
    assert bdv_view("volumes/raw") is None
