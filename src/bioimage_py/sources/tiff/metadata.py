"""What a TIFF says about its axes: OME-XML, ImageJ's description, tags of microscopes, or resolution tags, in this order."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import tifffile

from bioimage_py.errors import Hint
from bioimage_py.metadata import ImageMetadata, channel_count, unit_ratio
from bioimage_py.sources.tiff.layout import TiffLayout
from bioimage_py.sources.tiff.ome import Described, OmeSet, Sizes, number_in, ome_image

_PRINTER_DPI = (72, 96, 100, 150, 200, 300, 400, 600, 1200, 2400)
"""Resolutions that programs write when they know nothing; no microscope has them."""
_LONGEST = 256 * 2**10
_LARGEST_OF_A_MICROSCOPE = 100.0
"""Micrometres of a voxel, above which an inch or a centimetre beside a unit is what a program wrote that did not know better."""


def axis_names(letters: str) -> tuple[str, ...]:
    """Return one unique name per axis from tifffile's letters.

    Samples are the channels where there are no others; the pages of a stack that does not say what they are, are taken
    for slices.
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


def metadata_of(
    file: tifffile.TiffFile,
    series: tifffile.TiffPageSeries,
    level: tifffile.TiffPageSeries,
    ome: OmeSet | None,
    number: int,
    layout: TiffLayout,
) -> ImageMetadata:
    """Return axes, voxel size, units and channels as an open file has them; what is malformed counts as not there."""
    page, scaled = series.keyframe, level.keyframe
    axes = axis_names(layout.axes)
    resolution = _ratio(page, "XResolution"), _ratio(page, "YResolution"), int(page.resolutionunit)
    said = Described()
    if ome is not None and series.kind in ("ome", "mmstack"):
        said = ome_image(ome, series, number)
    elif described := _key_value_pairs(file, series):
        said = _from_description(described, *resolution)
    sizes = said.sizes or _tagged_sizes(file, series) or _from_resolution(*resolution)
    # Voxels of a smaller level are larger.
    for axis, whole, part in (
        ("y", page.imagelength, scaled.imagelength),
        ("x", page.imagewidth, scaled.imagewidth),
    ):
        if axis in sizes:
            sizes[axis] = (sizes[axis][0] * whole / max(1, part), sizes[axis][1])
    known = any(axis in sizes for axis in axes)
    origin = tuple(said.origin.get(axis, 0.0) for axis in axes)
    text = page.description or ""
    found = ImageMetadata(
        axes=axes,
        voxel_size=tuple(sizes.get(axis, (1.0, None))[0] for axis in axes) if known else None,
        units=tuple(sizes.get(axis, (1.0, None))[1] for axis in axes) if known else None,
        origin=origin if known and said.origin else None,
        channel_names=said.channel_names,
        channel_colors=said.channel_colors,
        contrast_limits=said.contrast_limits,
        attributes={"tiff_description": text} if 0 < len(text) <= _LONGEST else {},
        assumed=tuple(_assumed(layout.axes, page)),
    ).for_channels(channel_count(axes, layout.shape))
    place = layout.axes.find("S")
    rgb = page.photometric in (2, 6) and page.samplesperpixel >= 3
    if rgb and place >= 0 and axes[place] == "c" and layout.shape[place] == 3:
        return found.as_rgb(layout.dtype)
    return found


def _assumed(letters: str, page: tifffile.TiffPage) -> Iterator[Hint]:
    """Yield what `axis_names` makes of axes that the file does not name."""
    names = axis_names(letters)
    for letter, name in zip(letters, names, strict=True):
        if letter in "IQ" and name == "z":
            yield Hint.of(
                "its pages do not say what they are and are taken for z: state the axes with {}",
                axes="".join(names),
            )
        elif letter == "S" and name == "c" and page.photometric not in (2, 6):
            yield Hint.of(
                "the samples of a pixel are taken for channels, c: state the axes with {}",
                axes="".join(names),
            )


def _key_value_pairs(file: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> Mapping[str, Any]:
    """Return what ImageJ's or tifffile's description says."""
    if series.kind == "imagej":
        return file.imagej_metadata or {}
    try:
        found = json.loads(series.keyframe.shaped_description or "") if series.kind == "shaped" else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _from_description(described: Mapping[str, Any], x: float, y: float, resolution_unit: int) -> Described:
    units = _units(described)
    said = Described(channel_colors=_lut_colors(described.get("LUTs")), contrast_limits=_ranges(described))
    if units:
        for axis, per_unit in (("x", x), ("y", y)):
            if per_unit > 0:
                said.sizes[axis] = (_in_unit(per_unit, resolution_unit, units[axis]), units[axis])
    else:
        said.sizes = _from_resolution(x, y, resolution_unit)
    spacing = number_in(described.get("spacing"))
    if spacing is not None and units:
        # ImageJ writes a negative distance for stacks whose slices are in reverse.
        said.sizes["z"] = (abs(spacing), units["z"])
    for axis in "xyz":
        # ImageJ gives the origin in voxels.
        zero = number_in(described.get(f"{axis}origin"))
        if zero and axis in said.sizes:
            said.origin[axis] = -zero * said.sizes[axis][0]
    step, rate = number_in(described.get("finterval")), number_in(described.get("fps"))
    if step:
        said.sizes["t"] = (step, str(described.get("tunit", "s")))
    elif rate and rate > 0:
        said.sizes["t"] = (1 / rate, "s")
    return said


def _units(described: Mapping[str, Any]) -> dict[str, str]:
    """Return ImageJ's unit per axis; that of x goes for those that have none of their own."""
    unit = described.get("unit")
    if not isinstance(unit, str) or not unit.strip():
        return {}
    own = {axis: described.get(f"{axis}unit") for axis in "yz"}
    return {"x": unit} | {axis: u if isinstance(u, str) and u.strip() else unit for axis, u in own.items()}


def _in_unit(per_unit: float, resolution_unit: int, unit: str) -> float:
    """Return a voxel's size in a unit from voxels per inch, per centimetre, or per the unit itself."""
    tag = {2: "inch", 3: "centimeter"}.get(resolution_unit)
    ratio = unit_ratio(tag, unit)
    micrometers = (unit_ratio(tag, "micrometer") or 0) / per_unit
    if ratio is None or ratio == 1 or micrometers > _LARGEST_OF_A_MICROSCOPE:
        return 1 / per_unit
    return ratio / per_unit


def _tagged_sizes(file: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> Sizes:
    """Return the sizes that tags of LSM, STK, SVS, FluoView and Micro-Manager say; nothing where they are damaged."""
    readers = {"lsm": _lsm, "stk": _stk, "svs": _svs, "fluoview": _fluoview, "mmstack": _micromanager}
    reader = readers.get(series.kind)
    if reader is None:
        return {}
    try:
        sizes = reader(file, series)
    except (TypeError, ValueError, KeyError, IndexError, AttributeError, ArithmeticError):  # damaged tags
        return {}
    return {axis: (float(n), unit) for axis, (n, unit) in sizes.items() if math.isfinite(n) and n > 0}


def _lsm(file: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> Sizes:
    tag, main, page = file.lsm_metadata or {}, file.pages.first, series.keyframe
    # Its thumbnails are smaller.
    larger = {"x": main.imagewidth / page.imagewidth, "y": main.imagelength / page.imagelength, "z": 1}
    sizes: Sizes = {a: (tag[f"VoxelSize{a.upper()}"] * 1e6 * n, "micrometer") for a, n in larger.items()}
    return {**sizes, "t": (tag.get("TimeIntervall", 0.0), "second")}


def _stk(file: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> Sizes:
    tag = file.stk_metadata or {}
    sizes: Sizes = {}
    unit = tag.get("CalibrationUnits")
    if tag.get("SpatialCalibration") and isinstance(unit, str):
        for axis in "xy":
            value = tag.get(f"{axis.upper()}Calibration")
            if value is not None:  # may be numerator and denominator
                number = value[0] / value[1] if isinstance(value, (tuple, list, np.ndarray)) else float(value)
                sizes[axis] = (number, unit)
    # MetaMorph has the distance of planes in micrometres.
    steps = np.abs(np.asarray(tag.get("ZDistance", ()), float).ravel()[:-1])
    if series.axes.startswith("Z") and len(steps) and np.allclose(steps, steps[0]):
        sizes["z"] = (float(steps[0]), "micrometer")
    return sizes


def _svs(file: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> Sizes:
    first = file.pages.first
    said = re.search(r"\bMPP\s*=\s*([0-9.eE+-]+)", first.description)
    if said is None or series.keyframe.index != first.index:
        return {}
    return dict.fromkeys("yx", (float(said.group(1)), "micrometer"))


def _fluoview(file: tifffile.TiffFile, _: tifffile.TiffPageSeries) -> Sizes:
    found = (file.fluoview_metadata or {}).get("Dimensions", ())
    named = {str(d[0]).strip().lower(): (float(d[3]), str(d[4])) for d in found}
    return {axis: size for axis, size in named.items() if axis in "xyzt"}


def _micromanager(file: tifffile.TiffFile, _: tifffile.TiffPageSeries) -> Sizes:
    summary = (file.micromanager_metadata or {}).get("Summary", {})
    names = {"x": "PixelSize_um", "y": "PixelSize_um", "z": "z-step_um"}
    sizes: Sizes = {axis: (float(summary.get(name) or 0), "micrometer") for axis, name in names.items()}
    return {**sizes, "t": (float(summary.get("Interval_ms") or 0) / 1000, "second")}


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
    values = ranges if isinstance(ranges, (list, tuple)) else (described.get("min"), described.get("max"))
    numbers = [n for value in values if (n := number_in(value)) is not None and math.isfinite(n)]
    if not numbers or len(numbers) != len(values) or len(numbers) % 2:
        return None
    pairs = tuple(zip(numbers[::2], numbers[1::2], strict=True))
    return pairs if all(low < high for low, high in pairs) else None


def _from_resolution(x: float, y: float, resolution_unit: int) -> Sizes:
    """Read voxels per inch or centimetre, unless they are what printers have."""
    micrometers = {2: 25400.0, 3: 10000.0}.get(resolution_unit)
    if micrometers is None or min(x, y) <= 1:
        return {}
    for dpi in (x * 25400 / micrometers, y * 25400 / micrometers):
        if any(math.isclose(dpi, usual, rel_tol=2e-3) for usual in _PRINTER_DPI):
            return {}
    return {"x": (micrometers / x, "micrometer"), "y": (micrometers / y, "micrometer")}


def _ratio(page: tifffile.TiffPage, tag: str) -> float:
    value = page.tags.valueof(tag, default=(0, 1))
    try:
        return float(value[0]) / float(value[1])
    except (TypeError, ValueError, IndexError, ZeroDivisionError):
        return 0.0
