"""Attributes of OME-Zarr groups as the versions 0.4 and 0.5 of OME-NGFF write them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bioimage_py.metadata import VERSIONS, ome_of

_NAMES = (
    "multiscales", "omero", "image-label", "labels", "plate", "well", "bioformats2raw.layout", "series",
)  # fmt: skip
"""What the specification has in the attributes of a group; 0.5 puts it below `ome`."""
_VERSIONED = ("image-label", "plate", "well")
"""What says its own version in 0.4, as each entry of `multiscales` does."""


def version_of(attributes: Mapping[str, Any]) -> str:
    """Return the version of OME-NGFF that a group says, or `""`."""
    ome = ome_of(attributes)
    entries = ome.get("multiscales")
    holders = [ome, *(ome.get(name) for name in _VERSIONED), *(entries if isinstance(entries, list) else ())]
    return next(
        (str(holder["version"]) for holder in holders if isinstance(holder, Mapping) and "version" in holder),
        "",
    )


def in_version(attributes: Mapping[str, Any], version: str) -> dict[str, Any]:
    """Return the attributes of a group as version 0.4 or 0.5 writes them; those of a group that says nothing of it stay."""
    inside = isinstance(attributes.get("ome"), Mapping)
    ome = {name: value for name, value in ome_of(attributes).items() if name != "version"}
    if inside:
        others = {name: value for name, value in attributes.items() if name != "ome"}
    else:
        others = {name: value for name, value in ome.items() if name not in _NAMES}
        ome = {name: value for name, value in ome.items() if name in _NAMES}
    if not ome and not inside:
        return others
    within = version if version == VERSIONS[2] else None
    if isinstance(ome.get("multiscales"), list):
        ome["multiscales"] = [_versioned(entry, within) for entry in ome["multiscales"]]
    for name in _VERSIONED:
        if name in ome:
            # Plates say it in both versions.
            ome[name] = _versioned(ome[name], version if name == "plate" else within)
    return {**others, **ome} if within else {**others, "ome": {"version": version, **ome}}


def _versioned(entry: Any, version: str | None) -> Any:
    if not isinstance(entry, Mapping):
        return entry
    rest = {name: value for name, value in entry.items() if name != "version"}
    return rest if version is None else {**rest, "version": version}
