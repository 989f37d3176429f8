"""The XML file that BigDataViewer keeps beside its HDF5 or N5: voxel size and unit of each setup."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree as ET

from bioimage_py.metadata.model import ImageMetadata

_HDF5 = re.compile(r"/?t\d+/s(?P<setup>\d+)/(?P<level>\d+)/cells")
_N5 = re.compile(r"/?setup(?P<setup>\d+)/timepoint\d+/s(?P<level>\d+)")
_MOST_BYTES = 64 * 2**20


class BdvView(NamedTuple):
    """Which setup and level an array of BigDataViewer is."""

    setup: int
    level: int


def bdv_view(key: str) -> BdvView | None:
    """Return which setup and level the name of an array says, as in `t00000/s01/2/cells`; None for other names."""
    found = _HDF5.fullmatch(key) or _N5.fullmatch(key)
    return None if found is None else BdvView(int(found["setup"]), int(found["level"]))


def bdv_metadata(container: str, setup: int, factors: tuple[float, ...] | None) -> ImageMetadata | None:
    """Return voxel size, unit and place of a view along z, y, x from the XML file beside a container; None without one.

    `factors`: by how much voxels of the level are larger; None for full size.
    """
    path = Path(container).with_suffix(".xml")
    try:
        if path.stat().st_size > _MOST_BYTES:
            return None
        root = ET.fromstring(path.read_bytes())  # noqa: S314 - expat itself refuses entities that explode
    except (OSError, ET.ParseError):
        return None
    for view in root.iterfind("./SequenceDescription/ViewSetups/ViewSetup"):
        if (view.findtext("id") or "").strip() != str(setup):
            continue
        try:
            sizes = [float(size) for size in (view.findtext("voxelSize/size") or "").split()][::-1]
        except ValueError:
            return None
        if len(sizes) != 3:
            return None
        unit = (view.findtext("voxelSize/unit") or "").strip() or None
        larger = factors or (1.0, 1.0, 1.0)
        origin = tuple((f - 1) / 2 * s for f, s in zip(larger, sizes, strict=True))
        return ImageMetadata(
            axes=("z", "y", "x"),
            voxel_size=tuple(s * f for s, f in zip(sizes, larger, strict=True)),
            units=(unit,) * 3,
            origin=origin if any(origin) else None,
        )
    return None
