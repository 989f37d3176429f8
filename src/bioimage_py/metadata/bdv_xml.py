"""The XML file of BigDataViewer beside its HDF5 or N5: setups with voxel size and unit, time points, and where the voxels are."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree as ET

from bioimage_py.errors import BioimagePyError, SourceNotFoundError, StorageError, UnsupportedFormatError
from bioimage_py.metadata.model import ImageMetadata

_HDF5 = re.compile(r"/?t\d+/s(?P<setup>\d+)/(?P<level>\d+)/cells")
_N5 = re.compile(r"/?setup(?P<setup>\d+)/timepoint\d+/s(?P<level>\d+)")
_MOST_BYTES = 64 * 2**20
_MOST_TIMES = 2**20


class BdvView(NamedTuple):
    """Which setup and level an array of BigDataViewer is."""

    setup: int
    level: int


class BdvSetup(NamedTuple):
    """What the XML says of a setup."""

    name: str
    voxel_size: tuple[float, ...] | None  # along z, y, x
    unit: str | None
    attributes: Mapping[str, Any]  # its channel, angle and so on, and the transforms of its first time point


class BdvFile(NamedTuple):
    """What the XML says."""

    format: str  # of the container, such as `"bdv.hdf5"`
    container: str  # its path from the folder of the XML
    setups: Mapping[int, BdvSetup]
    times: tuple[int, ...]
    missing: frozenset[tuple[int, int]]  # time point and setup of volumes that there are not


def bdv_view(key: str) -> BdvView | None:
    """Return which setup and level the name of an array says, as in `t00000/s01/2/cells`; None for other names."""
    found = _HDF5.fullmatch(key) or _N5.fullmatch(key)
    return None if found is None else BdvView(int(found["setup"]), int(found["level"]))


def bdv_metadata(container: str, setup: int, factors: tuple[float, ...] | None) -> ImageMetadata | None:
    """Return voxel size, unit and place of a view along z, y, x from the XML file beside a container; None without one.

    `factors`: by how much voxels of the level are larger; None for full size.
    """
    found = None
    with suppress(BioimagePyError):
        found = read_bdv(str(Path(container).with_suffix(".xml"))).setups.get(setup)
    return None if found is None or found.voxel_size is None else placed(found, factors or (1.0, 1.0, 1.0))


def placed(setup: BdvSetup, factors: tuple[float, ...]) -> ImageMetadata:
    """Return the metadata of a level of a setup along z, y, x."""
    sizes = setup.voxel_size or (1.0, 1.0, 1.0)
    origin = tuple((f - 1) / 2 * s for f, s in zip(factors, sizes, strict=True))
    return ImageMetadata(
        axes=("z", "y", "x"),
        voxel_size=tuple(s * f for s, f in zip(sizes, factors, strict=True)),
        units=(setup.unit,) * 3,
        origin=origin if any(origin) else None,
    )


def read_bdv(path: str) -> BdvFile:
    """Read an XML file of BigDataViewer; UnsupportedFormatError if it is another one, StorageError if it is damaged."""
    try:
        found = Path(path).stat()
        if found.st_size > _MOST_BYTES:
            raise UnsupportedFormatError(f"{path!r} has {found.st_size} bytes: it is not read as XML")
        return _parsed(path, found.st_mtime_ns, found.st_size)
    except FileNotFoundError as error:
        raise SourceNotFoundError(f"there is no file {path!r}") from error
    except (OSError, ET.ParseError, LookupError, TypeError, ValueError) as error:
        raise StorageError(f"{path!r} cannot be read as an XML file of BigDataViewer: {error}") from error


@lru_cache(4)
def _parsed(path: str, *stamp: int) -> BdvFile:
    del stamp
    root = ET.fromstring(Path(path).read_bytes())  # noqa: S314 - expat itself refuses entities that explode
    if root.tag != "SpimData":
        raise UnsupportedFormatError(
            f"{path!r} is not an XML file of BigDataViewer: its element is {root.tag!r}, not 'SpimData'"
        )
    loader, sequence = root.find("./SequenceDescription/ImageLoader"), root.find("./SequenceDescription")
    kind = "" if loader is None else loader.get("format", "")
    container = None if loader is None else loader.find(kind.rpartition(".")[2] or "none")
    views = root.iterfind("./SequenceDescription/MissingViews/MissingView")
    times = tuple(islice(_times(sequence), _MOST_TIMES + 1))
    if len(times) > _MOST_TIMES:
        raise StorageError(f"{path!r} is damaged: it lists more than {_MOST_TIMES} time points")
    return BdvFile(
        kind,
        "" if container is None else (container.text or "").strip(),
        dict(_setup(one, root) for one in root.iterfind("./SequenceDescription/ViewSetups/ViewSetup")),
        times,
        frozenset((int(one.get("timepoint", "")), int(one.get("setup", ""))) for one in views),
    )


def _setup(element: ET.Element, root: ET.Element) -> tuple[int, BdvSetup]:
    number = int(element.findtext("id") or "")
    said = (element.findtext("voxelSize/size") or "").split()
    sizes = tuple(float(size) for size in said[::-1]) if len(said) == 3 else None
    kept: dict[str, Any] = {one.tag: (one.text or "").strip() for one in element.iterfind("./attributes/*")}
    view = root.find(f"./ViewRegistrations/ViewRegistration[@setup='{number}']")
    transforms = [] if view is None else [text.strip() for one in view.iter("affine") if (text := one.text)]
    kept |= {"transforms": transforms} if transforms else {}
    name, unit = (element.findtext("name") or "").strip(), (element.findtext("voxelSize/unit") or "").strip()
    return number, BdvSetup(name or f"setup {number}", sizes, unit or None, kept)


def _times(sequence: ET.Element | None) -> Iterator[int]:
    listed = None if sequence is None else sequence.find("Timepoints")
    kind = "" if listed is None else listed.get("type")
    if listed is None or not kind:
        yield 0
    elif kind == "range":
        yield from range(int(listed.findtext("first") or ""), int(listed.findtext("last") or "") + 1)
    elif kind == "list":
        yield from (int(one.findtext("id") or "") for one in listed.iterfind("timepoint"))
    else:
        for part in (listed.findtext("integerpattern") or "").split(","):
            first, _, rest = part.partition("-")
            last, _, step = rest.partition(":")
            yield from range(int(first), int(last or first) + 1, int(step or 1))
