"""The OME-XML of a TIFF: which files belong together, which of its images a series is, and what it says of that image."""

from __future__ import annotations

import itertools
import math
import ntpath
import os
import posixpath
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree as ET

import tifffile

from bioimage_py.errors import StorageError
from bioimage_py.metadata import SPACE_UNITS, normalise_unit, unit_ratio

_LONGEST_COMPANION = 256 * 2**20
_MOST_PLANES = 2**24
"""More planes than any set of files has; larger numbers come from damaged texts."""


@dataclass(frozen=True)
class OmeSet:
    """The files that an OME-XML refers to."""

    root: ET.Element | None  # that of the companion file where the TIFF refers to one; None if it is not XML
    changed_xml: str | None = None  # the text, if it differs from that in the TIFF
    absent: Sequence[
        str
    ] = ()  # names of files that it lists and that are not there, with the reason in brackets

    def file_names(self) -> frozenset[str]:
        uuids = () if self.root is None else self.root.iterfind(".//{*}UUID")
        return frozenset(name for uuid in uuids if (name := uuid.get("FileName")))


def ome_set(xml: str, path: str, *, alone: bool = False) -> OmeSet:
    """Find the files next to a TIFF that its OME-XML refers to; none if the TIFF is to be read `alone`.

    A text that only refers to a companion file is replaced by it. A name that leads out of the TIFF's folder is only read
    where a file of that name is beside it.
    """
    root = _parsed(xml)
    if root is None or alone:
        return OmeSet(root)
    folder, own = os.path.split(os.path.realpath(path))
    whole = companion_set(root, path)
    if whole.absent:
        return whole
    changed = whole.root is not None and whole.root is not root
    if whole.root is not None and changed:
        # The root's identifier is that of the file in which the text is taken to be.
        whole.root.attrib.pop("UUID", None)
        if "UUID" in root.attrib:
            whole.root.set("UUID", root.attrib["UUID"])
        root = whole.root
    _check_planes(root, path)
    seen = {}
    for uuid in root.iterfind(".//{*}UUID"):
        name = uuid.get("FileName")
        if name is None or name.lower() == own.lower() or uuid.text == root.get("UUID", ""):
            continue
        if name not in seen:
            seen[name] = _beside(folder, name)
        found, _ = seen[name]
        if found != name:
            # An empty name is a folder, which cannot be opened: its planes are missing.
            uuid.set("FileName", found or "")
            changed = True
    absent = [f"{name} ({why})" for name, (found, why) in seen.items() if found is None]
    return OmeSet(root, ET.tostring(root, encoding="unicode") if changed else None, absent)


def companion_set(root: ET.Element | None, path: str) -> OmeSet:
    """Return what the companion file says to which the text of a TIFF refers; the text itself where it refers to none, or that is absent."""
    refers = None if root is None else root.find("{*}BinaryOnly")
    if refers is None:
        return OmeSet(root)
    folder = os.path.dirname(os.path.realpath(path))  # noqa: PTH120
    name = refers.get("MetadataFile") or "(no name)"
    found, why = _beside(folder, name)
    companion = None if found is None else _companion(os.path.join(folder, found))  # noqa: PTH118
    if companion is None:
        return OmeSet(root, absent=(f"{name} ({why or 'has no OME-XML'})",))
    return OmeSet(companion)


def _parsed(xml: str) -> ET.Element | None:
    try:
        return ET.fromstring(xml)  # noqa: S314 - expat itself refuses entities that explode
    except (ET.ParseError, ValueError):
        return None


def _beside(folder: str, name: str) -> tuple[str | None, str]:
    """Return the path of a file that a text names, relative to the folder, or None and the reason why it is not read."""
    plain = posixpath.normpath(name.replace("\\", "/"))
    outside = plain.startswith(("/", "../")) or plain in ("", ".", "..") or bool(ntpath.splitdrive(name)[0])
    relative = posixpath.basename(plain) if outside else plain
    place = os.path.join(folder, relative)  # noqa: PTH118
    if relative not in ("", ".", "..") and "\0" not in relative and os.path.isfile(place):  # noqa: PTH113
        return relative, ""
    if outside:
        return None, "outside of the folder, and no file of that name is in it"
    return None, "not a regular file" if os.path.lexists(place) else "not there"


def _companion(path: str) -> ET.Element | None:
    """Return the OME-XML in a companion file, which is a text or another TIFF."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            data = file.read(_LONGEST_COMPANION)
        if data[:2] in (b"II", b"MM"):
            with tifffile.TiffFile(path) as other:
                return _parsed(other.ome_metadata or "")
        return ET.fromstring(data)  # noqa: S314 - as above; the text says its own encoding
    except (OSError, ValueError, ET.ParseError):
        return None


def _check_planes(root: ET.Element, path: str) -> None:
    pixels, places = root.iterfind(".//{*}Pixels"), root.iterfind(".//{*}TiffData")
    numbers = ("IFD", "PlaneCount", "NumPlanes", "FirstC", "FirstZ", "FirstT")
    counts = itertools.chain(
        (math.prod(_count(element, f"Size{axis}") for axis in "CZT") for element in pixels),
        (max(_count(element, name) for name in numbers) for element in places),
    )
    for n_planes in counts:
        if n_planes > _MOST_PLANES:
            raise StorageError(f"TIFF {path!r} is damaged: its OME-XML lists {n_planes} planes")


def _count(element: ET.Element, name: str) -> int:
    try:
        return abs(int(element.get(name, "1")))
    except ValueError:
        return 1


def _holds(image: ET.Element, file_name: str, page: int) -> bool:
    for data in image.iterfind("{*}Pixels/{*}TiffData"):
        uuid = data.find("{*}UUID")
        named = None if uuid is None else uuid.get("FileName")
        if named and posixpath.basename(named).lower() != file_name.lower():
            continue
        first = _count(data, "IFD") if "IFD" in data.attrib else 0
        said = data.get("PlaneCount", data.get("NumPlanes"))
        n_planes = _count(data, "PlaneCount") if said else (1 if "IFD" in data.attrib else _MOST_PLANES)
        if first <= page < first + n_planes:
            return True
    return False


Sizes = dict[str, tuple[float, str | None]]
"""Size of a voxel and its unit, by axis, as written."""


@dataclass
class Described:
    """What one of the ways to describe a TIFF says of an image."""

    sizes: Sizes = field(default_factory=dict)
    origin: dict[str, float] = field(default_factory=dict)
    channel_names: tuple[str, ...] | None = None
    channel_colors: tuple[str, ...] | None = None
    contrast_limits: tuple[tuple[float, float], ...] | None = None


def ome_image(ome: OmeSet, series: tifffile.TiffPageSeries, number: int) -> Described:
    """Read what a text says of the image that the series of a number is."""
    image = _image_of(ome, series, number)
    pixels = None if image is None else image.find("{*}Pixels")
    if pixels is None:
        return Described()
    sizes: Sizes = {}
    for axis in "zyx":
        size = number_in(pixels.get(f"PhysicalSize{axis.upper()}"))
        if size is not None:
            sizes[axis] = (size, pixels.get(f"PhysicalSize{axis.upper()}Unit", "µm"))
    step = number_in(pixels.get("TimeIncrement"))
    if step is not None:
        sizes["t"] = (step, pixels.get("TimeIncrementUnit", "s"))
    channels = pixels.findall("{*}Channel")
    names = [e.get("Name") for e in channels]
    colors = [_color(e.get("Color")) for e in channels]
    return Described(
        sizes,
        _place(image, pixels, sizes),
        tuple(name for name in names if name) if names and all(names) else None,
        tuple(color for color in colors if color) if colors and all(colors) else None,
    )


def _image_of(ome: OmeSet, series: tifffile.TiffPageSeries, number: int) -> ET.Element | None:
    """Return the image that the series of a number is: the one that lists its first plane, or has its name."""
    page = next((page for page in series if page is not None), None) if len(series) else None

    def likeness(numbered: tuple[int, ET.Element]) -> tuple[bool, bool, int]:
        n, image = numbered
        holds = page is not None and _holds(image, page.parent.filehandle.name, page.index)
        return holds, (image.get("Name") or "") == series.name, -abs(n - number)

    images = () if ome.root is None else ome.root.iterfind("{*}Image")
    return max(enumerate(images), key=likeness, default=(0, None))[1]


def alone_in_xml(ome: OmeSet, series: tifffile.TiffPageSeries, number: int) -> str | None:
    """Return the text with no other image than the one that a series is, and without where its planes are stored; it is spent."""
    root, image = ome.root, _image_of(ome, series, number)
    if root is None or image is None or image.find("{*}Pixels") is None:
        return None
    others = [other for other in root.iterfind("{*}Image") if other is not image]
    gone = {other.get("ID") for other in others}
    for other in others:
        root.remove(other)
    for data in root.iterfind("{*}Dataset"):
        for reference in [one for one in data.iterfind("{*}ImageRef") if one.get("ID") in gone]:
            data.remove(reference)
    return _without_planes(root)


def all_in_xml(ome: OmeSet, n_images: int) -> str | None:
    """Return the text without where planes are stored, if it is of so many images; it is spent."""
    if ome.root is None or len(ome.root.findall("{*}Image")) != n_images:
        return None
    return _without_planes(ome.root)


def _without_planes(root: ET.Element) -> str:
    space = root.tag.rpartition("}")[0]
    for pixels in root.findall("{*}Image/{*}Pixels"):
        place = len(pixels.findall("{*}Channel"))
        for tag in ("TiffData", "BinData", "MetadataOnly"):
            for element in pixels.findall(f"{{*}}{tag}"):
                pixels.remove(element)
        # What bioformats2raw writes where voxels are in a Zarr.
        pixels.insert(place, ET.Element(f"{space}}}MetadataOnly" if space else "MetadataOnly"))
    return _text_of(root)


def with_rest(own: str, other: str | None) -> str:
    """Return the text of a new file with all else that another text says of the same image, such as its instrument."""
    root, mine = _parsed(other or ""), _parsed(own)
    pixels = None if root is None else root.find("{*}Image/{*}Pixels")
    new = None if mine is None else mine.find("{*}Image/{*}Pixels")
    if root is None or mine is None or pixels is None or new is None:
        return own
    channels, described = pixels.findall("{*}Channel"), new.findall("{*}Channel")
    if len(channels) != len(described):  # a colour pixel has three samples
        return own
    for channel, found in zip(channels, described, strict=True):
        channel.attrib.update({name: value for name, value in found.attrib.items() if name != "ID"})
    for name in ("Interleaved", "BigEndian"):
        pixels.attrib.pop(name, None)
    pixels.attrib.update({name: value for name, value in new.attrib.items() if name != "ID"})
    for tag in ("TiffData", "BinData", "MetadataOnly"):
        for element in pixels.findall(f"{{*}}{tag}"):
            pixels.remove(element)
    space = "".join(root.tag.rpartition("}")[:2])
    for number, data in enumerate(new.findall("{*}TiffData")):
        pixels.insert(len(channels) + number, ET.Element(f"{space}TiffData", data.attrib))
    root.set("UUID", mine.get("UUID", ""))
    return _text_of(root)


def _text_of(root: ET.Element) -> str:
    space = root.tag.rpartition("}")[0]
    for element in root.iter():
        if space and isinstance(element.tag, str):
            element.tag = element.tag.removeprefix(f"{space}}}")
    if space:
        root.set("xmlns", space[1:])
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(root, encoding="unicode")}'


def _place(image: ET.Element | None, pixels: ET.Element, sizes: Sizes) -> dict[str, float]:
    """Return where the first plane is, else the stage, in the units of the voxel size, on the axes for which both are known."""
    planes = pixels.iterfind("{*}Plane")
    first = next((p for p in planes if all(p.get(f"The{axis}", "0") == "0" for axis in "CZT")), None)
    stage = None if image is None else image.find("{*}StageLabel")
    place: dict[str, float] = {}
    for axis, (_, unit) in sizes.items():
        name, element = f"Position{axis.upper()}", first
        if stage is not None and (first is None or first.get(name) is None):
            name, element = axis.upper(), stage
        value = None if axis == "t" or element is None else number_in(element.get(name))
        # Without a unit, as texts from before 2015 have it, it is that of the size; "reference frame" is not a unit.
        own = unit if element is None else element.get(f"{name}Unit", unit)
        ratio = unit_ratio(own, unit) if normalise_unit(own) in SPACE_UNITS else None
        if value is not None and ratio is not None:
            place[axis] = value * ratio
    return place


def _color(text: str | None) -> str | None:
    """Return the red, green and blue of a signed 32-bit number whose bytes are red, green, blue and alpha."""
    try:
        return None if text is None else f"{int(text) & 0xFFFFFFFF:08X}"[:6]
    except ValueError:
        return None


def number_in(value: Any) -> float | None:
    """Return a value as a number, None if it is not one."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
