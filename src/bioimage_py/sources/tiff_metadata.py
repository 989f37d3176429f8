"""What a TIFF says about its axes: OME-XML, ImageJ's description, or resolution tags, in this order."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import tifffile

from bioimage_py.metadata import ImageMetadata, without_nonsense
from bioimage_py.metadata.ome_ngff import channel_count

__all__ = ["TiffTexts", "axis_names", "metadata_of"]

_PRINTER_DPI = (72, 96, 100, 150, 200, 300, 400, 600, 1200, 2400)
"""Resolutions that programs write when they know nothing; no microscope has them."""
_LONGEST = 256 * 2**10


@dataclass(frozen=True)
class TiffTexts:
    """What a file says, as it stands in the file, to be parsed when somebody asks.

    Attributes
    ----------
    description
        ImageDescription of the first page of the series.
    ome_xml
        OME-XML of the file, or None.
    image_index
        Number of the series.
    described
        ImageJ's or tifffile's key-value pairs.
    pixels_per_unit
        X and Y resolution of the full-resolution page.
    resolution_unit
        1 none, 2 inch, 3 centimetre.
    coarser
        By how much a voxel of the pyramid level is larger, along y and x.
    """

    description: str = ""
    ome_xml: str | None = None
    image_index: int = 0
    described: Mapping[str, Any] = field(default_factory=dict)
    pixels_per_unit: tuple[float, float] = (1.0, 1.0)
    resolution_unit: int = 1
    coarser: tuple[float, float] = (1.0, 1.0)

    @classmethod
    def of(
        cls, file: tifffile.TiffFile, series: tifffile.TiffPageSeries, index: int, level: int
    ) -> TiffTexts:
        """Take the texts from an open file."""
        page = series.keyframe
        described: Mapping[str, Any] = {}
        if series.kind == "imagej":
            described = file.imagej_metadata or {}
        elif series.kind == "shaped":
            described = (file.shaped_metadata or ({},))[0]
        scaled = series.levels[level].keyframe
        return cls(
            description=page.description or "",
            ome_xml=file.ome_metadata if series.kind == "ome" else None,
            image_index=index,
            described={
                k: v
                for k, v in described.items()
                if isinstance(v, (str, int, float, list, tuple, np.ndarray))
            },
            pixels_per_unit=(_ratio(page, "XResolution"), _ratio(page, "YResolution")),
            resolution_unit=int(page.resolutionunit),
            coarser=(
                page.imagelength / max(1, scaled.imagelength),
                page.imagewidth / max(1, scaled.imagewidth),
            ),
        )


def axis_names(letters: str) -> tuple[str, ...]:
    """Return one unique name per axis from tifffile's letters.

    Samples are the channels where there are no others; the pages of a stack that does not say what they are, are taken
    for slices.

    Examples
    --------
    >>> axis_names("IYX"), axis_names("YXS"), axis_names("TZCYXS"), axis_names("QQYX")
    (('z', 'y', 'x'), ('y', 'x', 'c'), ('t', 'z', 'c', 'y', 'x', 's'), ('q', 'q1', 'y', 'x'))
    """
    unknown = [letter for letter in letters.partition("Y")[0] if letter in "IQ"]
    names: list[str] = []
    for letter in letters:
        name = letter.lower()
        if letter == "S" and "C" not in letters:
            name = "c"
        elif [letter] == unknown and "Z" not in letters and {"Y", "X"} <= set(letters):
            name = "z"
        same = sum(1 for other in names if other.rstrip("0123456789") == name)
        names.append(f"{name}{same}" if same else name)
    return tuple(names)


def metadata_of(texts: TiffTexts, letters: str, shape: tuple[int, ...], name: str) -> ImageMetadata:
    """Return axes, voxel size, units and channels; what is malformed counts as not there.

    Parameters
    ----------
    texts
        Of the file.
    letters
        tifffile's letters for the axes.
    shape
        Of the image.
    name
        What it is called in the warning about sizes and units that are nonsense.
    """
    axes = axis_names(letters)
    said = _Said()
    if texts.ome_xml is not None:
        said = _from_ome(texts)
    elif texts.described:
        said = _from_description(texts)
    sizes = said.sizes or _from_resolution(texts)
    for axis, factor in zip("yx", texts.coarser, strict=True):
        if axis in sizes:
            sizes[axis] = (sizes[axis][0] * factor, sizes[axis][1])
    known = any(axis in sizes for axis in axes)
    attributes = {}
    if texts.description and len(texts.description) <= _LONGEST:
        attributes["tiff_description"] = texts.description
    origin = tuple(said.origin.get(axis, 0.0) for axis in axes)
    found = ImageMetadata(
        axes=axes,
        voxel_size=tuple(sizes.get(axis, (1.0, None))[0] for axis in axes) if known else None,
        units=tuple(sizes.get(axis, (1.0, None))[1] for axis in axes) if known else None,
        origin=origin if known and any(origin) else None,
        channel_names=said.channel_names,
        channel_colors=said.channel_colors,
        contrast_limits=said.contrast_limits,
        attributes=attributes,
    )
    return without_nonsense(found, len(letters), name).for_channels(channel_count(axes, shape))


@dataclass
class _Said:
    """What one of the ways to describe a TIFF says: size and unit by axis, as written, and the channels."""

    sizes: dict[str, tuple[float, str | None]] = field(default_factory=dict)
    origin: dict[str, float] = field(default_factory=dict)
    channel_names: tuple[str, ...] | None = None
    channel_colors: tuple[str, ...] | None = None
    contrast_limits: tuple[tuple[float, float], ...] | None = None


def _from_ome(texts: TiffTexts) -> _Said:
    assert texts.ome_xml is not None
    try:
        root = ET.fromstring(texts.ome_xml)  # noqa: S314 - expat itself refuses entities that explode
        images = [e for e in root if e.tag.rpartition("}")[2] == "Image"]
        pixels = next(e for e in images[texts.image_index] if e.tag.rpartition("}")[2] == "Pixels")
    except (ET.ParseError, IndexError, StopIteration):
        return _Said()
    said = _Said()
    for axis in "zyx":
        size = _number(pixels.get(f"PhysicalSize{axis.upper()}"))
        if size is not None:
            said.sizes[axis] = (size, pixels.get(f"PhysicalSize{axis.upper()}Unit", "µm"))
    step = _number(pixels.get("TimeIncrement"))
    if step is not None:
        said.sizes["t"] = (step, pixels.get("TimeIncrementUnit", "s"))
    channels = [e for e in pixels if e.tag.rpartition("}")[2] == "Channel"]
    names = [e.get("Name") for e in channels]
    if names and all(names):
        said.channel_names = tuple(name for name in names if name)
    colors = [_ome_color(e.get("Color")) for e in channels]
    if colors and all(colors):
        said.channel_colors = tuple(color for color in colors if color)
    return said


def _ome_color(text: str | None) -> str | None:
    """Return the red, green and blue of a signed 32-bit number whose bytes are red, green, blue and alpha."""
    try:
        return None if text is None else f"{int(text) & 0xFFFFFFFF:08X}"[:6]
    except ValueError:
        return None


def _from_description(texts: TiffTexts) -> _Said:
    """Read ImageJ's key-value pairs."""
    described = texts.described
    unit = described.get("unit")
    said = _Said(channel_colors=_lut_colors(described.get("LUTs")), contrast_limits=_ranges(described))
    if isinstance(unit, str) and unit.strip():
        for axis, per_unit in zip("xy", texts.pixels_per_unit, strict=True):
            if per_unit > 0:
                said.sizes[axis] = (1 / per_unit, unit)
    elif texts.resolution_unit in (2, 3):
        said.sizes = _from_resolution(texts)
    spacing = _number(described.get("spacing"))
    if spacing is not None and isinstance(unit, str) and unit.strip():
        # ImageJ writes a negative distance for stacks whose slices are in reverse.
        said.sizes["z"] = (abs(spacing), unit)
    for axis in "xyz":
        # ImageJ has the place of its zero in voxels.
        zero = _number(described.get(f"{axis}origin"))
        if zero and axis in said.sizes:
            said.origin[axis] = -zero * said.sizes[axis][0]
    step = _number(described.get("finterval"))
    if step:
        said.sizes["t"] = (step, str(described.get("tunit", "s")))
    return said


def _lut_colors(luts: Any) -> tuple[str, ...] | None:
    """Return the colour of the highest value of ImageJ's tables, three rows of 256 values each."""
    if not isinstance(luts, (list, tuple, np.ndarray)) or len(luts) == 0:
        return None
    # tifffile gives the table itself where there is only one.
    tables = [luts] if isinstance(luts, np.ndarray) else [np.asarray(table) for table in luts]
    if not all(table.shape == (3, 256) and table.dtype == np.uint8 for table in tables):
        return None
    return tuple(bytes(table[:, -1].tolist()).hex().upper() for table in tables)


def _ranges(described: Mapping[str, Any]) -> tuple[tuple[float, float], ...] | None:
    """Return the display ranges of the channels, or that of a single one."""
    ranges = described.get("Ranges")
    values = (
        list(ranges) if isinstance(ranges, (list, tuple)) else [described.get("min"), described.get("max")]
    )
    numbers = [number for value in values if (number := _number(value)) is not None and math.isfinite(number)]
    if not numbers or len(numbers) != len(values) or len(numbers) % 2:
        return None
    pairs = tuple(zip(numbers[::2], numbers[1::2], strict=True))
    return pairs if all(low < high for low, high in pairs) else None


def _from_resolution(texts: TiffTexts) -> dict[str, tuple[float, str | None]]:
    """Read voxels per inch or centimetre, unless they are what printers have."""
    micrometers = {2: 25400.0, 3: 10000.0}.get(texts.resolution_unit)
    if micrometers is None:
        return {}
    sizes: dict[str, tuple[float, str | None]] = {}
    for axis, per_unit in zip("xy", texts.pixels_per_unit, strict=True):
        dpi = per_unit * 25400 / micrometers
        if per_unit > 1 and not any(math.isclose(dpi, usual, rel_tol=2e-3) for usual in _PRINTER_DPI):
            sizes[axis] = (micrometers / per_unit, "micrometer")
    return sizes if len(sizes) == 2 else {}


def _ratio(page: tifffile.TiffPage, tag: str) -> float:
    value = page.tags.valueof(tag, default=(1, 1))
    try:
        return float(value[0]) / float(value[1])
    except (TypeError, ValueError, IndexError, ZeroDivisionError):
        return 1.0


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
