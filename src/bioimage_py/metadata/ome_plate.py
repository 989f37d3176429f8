"""Plates: which wells the images of a file are fields of, as OME-XML says it and as OME-NGFF writes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree as ET

_MOST_ROWS = 1000


@dataclass(frozen=True)
class Plate:
    """Where the images of a file are in a plate."""

    places: tuple[str, ...]  # of the images, in their order: row, column and number of the field, `"A/1/0"`
    attributes: Mapping[str, Mapping[str, Any]]  # of the groups: the plate `""`, its rows, and its wells


def plate_of(xml: str | None, n_images: int) -> Plate | None:
    """Return the plate that an OME-XML describes; None unless there is one, and each of so many images is one field of it."""
    try:
        root = ET.fromstring(xml or "")  # noqa: S314 - expat itself refuses entities that explode
        plates = root.findall("{*}Plate")
        return _plate(root, plates[0], n_images) if len(plates) == 1 else None
    except (ET.ParseError, LookupError, ValueError):
        return None


def _plate(root: ET.Element, plate: ET.Element, n_images: int) -> Plate | None:
    numbers = {image.get("ID"): n for n, image in enumerate(root.findall("{*}Image"))}
    by_letter = plate.get("RowNamingConvention") != "number", plate.get("ColumnNamingConvention") == "letter"
    runs = plate.findall("{*}PlateAcquisition")
    run_of = {ref.get("ID"): n for n, run in enumerate(runs) for ref in run.findall("{*}WellSampleRef")}
    places: dict[int, str] = {}
    fields: dict[str, list[dict[str, Any]]] = {}
    corners: dict[str, tuple[int, int]] = {}
    for well in plate.findall("{*}Well"):
        corner = int(well.attrib["Row"]), int(well.attrib["Column"])
        path = "/".join(_name(n, letters) for n, letters in zip(corner, by_letter, strict=True))
        for sample in well.findall("{*}WellSample"):
            if (ref := sample.find("{*}ImageRef")) is None:
                continue
            listed, number = fields.setdefault(path, []), numbers[ref.get("ID")]
            if number in places:
                return None
            places[number], corners[path] = f"{path}/{len(listed)}", corner
            run = {"acquisition": run_of[sample.get("ID")]} if sample.get("ID") in run_of else {}
            listed.append({"path": str(len(listed)), **run})
    extents = [max(ends) + 1 for ends in zip(*corners.values(), strict=True)]
    inside = all(0 <= n < _MOST_ROWS for corner in corners.values() for n in corner)
    if sorted(places) != list(range(n_images)) or len(numbers) != n_images or not inside:
        return None
    rows, columns = (
        [_name(n, letters) for n in range(extent)] for extent, letters in zip(extents, by_letter, strict=True)
    )
    wells = [
        {"path": path, "rowIndex": row, "columnIndex": column}
        for path, (row, column) in sorted(corners.items(), key=lambda well: well[1])
    ]
    said: dict[str, Any] = {
        "name": plate.get("Name") or plate.get("ID") or "plate",
        "rows": [{"name": name} for name in rows],
        "columns": [{"name": name} for name in columns],
        "wells": wells,
        "field_count": max(map(len, fields.values())),
    }
    if runs:
        said["acquisitions"] = [
            {"id": n, "name": run.get("Name") or f"run {n}"} for n, run in enumerate(runs)
        ]
    in_wells = {path: {"well": {"images": listed}} for path, listed in fields.items()}
    around: dict[str, dict[str, Any]] = {path.partition("/")[0]: {} for path in fields}
    return Plate(tuple(places[n] for n in range(n_images)), {"": {"plate": said}, **around, **in_wells})


def _name(number: int, letters: bool) -> str:
    if not letters:
        return str(number + 1)
    above, last = divmod(number, 26)
    return (_name(above - 1, letters=True) if above else "") + chr(ord("A") + last)
