"""Names of units, and what a user says over what a file says."""

from __future__ import annotations

import math
from typing import Any

import pytest

from bioimage_py.errors import BioimagePyWarning, InvalidArgumentError
from bioimage_py.metadata import (
    SPACE_UNITS,
    TIME_UNITS,
    ImageMetadata,
    normalise_unit,
    overridden,
    unit_ratio,
    unit_symbol,
    without_nonsense,
)

CZYX = ImageMetadata(axes=("c", "z", "y", "x"), voxel_size=(1.0, 2.0, 0.5, 0.5), origin=(0.0, 1.0, 1.0, 1.0))


@pytest.mark.parametrize(
    ("spellings", "name"),
    [
        ("µm μm um UM micron Microns micrometer micrometre micrometers \\u00B5m", "micrometer"),
        ("Å \u212b A angstrom Ångström", "angstrom"),
        ("nm nanometers", "nanometer"),
        ("mm MM millimetres", "millimeter"),
        ("pm picometer", "picometer"),
        ('" in inch inches', "inch"),
        ("s sec seconds", "second"),
        ("msec ms", "millisecond"),
        ("min", "minute"),
        ("us µs usec", "microsecond"),
        ("pixel pixels px voxel a.u. furlong", None),
    ],
)
def test_units_have_one_name_however_they_are_spelt(spellings: str, name: str | None) -> None:
    assert {normalise_unit(spelling) for spelling in spellings.split()} == {name}


def test_the_names_of_the_specification_are_known() -> None:
    assert all(normalise_unit(name) == name for name in SPACE_UNITS | TIME_UNITS)
    assert (len(SPACE_UNITS), len(TIME_UNITS)) == (26, 23)  # as many as its lists have


@pytest.mark.parametrize("size", [0.0, -0.5, math.nan, math.inf])
def test_nonsense_is_one_warning_and_leaves_what_makes_sense(size: float) -> None:
    raw = ImageMetadata(
        axes=("z", "y", "x"),
        voxel_size=(size, 0.5, 0.25),
        units=("pixel", "µm", "um"),
        origin=(math.nan, 0, 0),
    )
    with pytest.warns(BioimagePyWarning) as caught:
        found = without_nonsense(raw, 3, "a.tif")
    assert found == ImageMetadata(
        axes=("z", "y", "x"), voxel_size=(1.0, 0.5, 0.25), units=(None, "micrometer", "micrometer")
    )
    (warning,) = caught
    for words in ("a.tif", f"voxel size {size:g} of z", "unit 'pixel' of z", "origin (nan"):
        assert words in str(warning.message)


def test_a_user_says_what_is_right() -> None:
    assert overridden(CZYX, 4) == CZYX
    one = overridden(CZYX, 4, voxel_size=3, units="nm")
    assert one.voxel_size == (1.0, 3.0, 3.0, 3.0)
    assert one.units == (None, "nanometer", "nanometer", "nanometer")
    assert one.origin == CZYX.origin
    three = overridden(CZYX, 4, voxel_size=(4, 1, 1), units=("um", "nm", None))
    assert three.voxel_size == (1.0, 4.0, 1.0, 1.0)
    assert three.units == (None, "micrometer", "nanometer", None)
    four = overridden(CZYX, 4, axes="tzyx", voxel_size=(10, 4, 1, 1), units=("s", "um", "um", "um"))
    assert (four.axes, four.voxel_size) == (("t", "z", "y", "x"), (10.0, 4.0, 1.0, 1.0))
    assert four.units == ("second", "micrometer", "micrometer", "micrometer")
    assert overridden(ImageMetadata(), 4, voxel_size=(4, 1, 1)).voxel_size == (1.0, 4.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"voxel_size": 0}, "positive numbers, got 0"),
        ({"voxel_size": (1, -1, 1)}, "positive numbers, got -1"),
        ({"voxel_size": math.nan}, "positive numbers, got nan"),
        ({"voxel_size": "2"}, "positive numbers, got '2'"),
        ({"voxel_size": True}, "positive numbers, got True"),
        ({"voxel_size": (1, 2)}, "4 entries, one per axis, or 3, one per axis of space"),
        ({"voxel_size": object()}, "4 entries"),
        ({"units": "pixel"}, "unit 'pixel' is not known"),
        ({"units": (3, "um", "um")}, "unit 3 is not known"),
        ({"axes": "zyx"}, "each of the 4 axes"),
        ({"axes": "zzyx"}, "an axis twice"),
        ({"axes": 4}, "each of the 4 axes"),
        ({"axes": (1, 2, 3, 4)}, "each of the 4 axes"),
    ],
)
def test_what_does_not_fit_is_named(said: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        overridden(CZYX, 4, **said)


def test_channels_are_followed() -> None:
    image = ImageMetadata(
        channel_names=("dna", "actin"), channel_colors=("0000FF", "00FF00"), contrast_limits=((0, 1), (2, 3))
    )
    second = image.with_channels_selected([1])
    assert (second.channel_names, second.channel_colors) == (("actin",), ("00FF00",))
    assert second.contrast_limits == ((2, 3),)
    assert image.with_channels_selected([1, 0]).with_channels_selected([1, 0]) == image
    for nothing in (
        image.with_channels_selected(None),
        image.with_channels_selected([2]),
        image.for_channels(3),
    ):
        assert nothing == ImageMetadata()
    assert image.for_channels(2) == image


def test_symbols_and_ratios_of_units() -> None:
    assert [unit_symbol(u) for u in ("micrometer", "angstrom", "centimeter")] == [
        ("um", 1),
        ("nm", 0.1),
        ("mm", 10),
    ]
    assert [unit_ratio(*u) for u in (("mm", "micron"), ("inch", "cm"), ("s", "nm"))] == [1000, 2.54, None]
