"""The `attributes.json` of N5: reading nodes, and describing arrays to be made.

N5 names axes fastest first, so everything that has one entry per axis is turned around on its way in and out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from bioimage_py.errors import InvalidArgumentError, UnsupportedFormatError
from bioimage_py.metadata import ImageMetadata, from_attributes, normalise_unit, to_attributes
from bioimage_py.sources.array_spec import ArraySpec, Codec
from bioimage_py.sources.hierarchy import Node
from bioimage_py.sources.kvstore import StoreFolder
from bioimage_py.sources.ome_zarr import first_dataset
from bioimage_py.sources.zarr_codecs import blosc_choice, checked_codec, checked_level
from bioimage_py.sources.zarr_metadata import checked_grid

__all__ = ["DTYPES", "array_metadata", "image_metadata", "read_node", "tensorstore_metadata"]

DTYPES = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float32", "float64")
_CODECS = ("none", "gzip", "zstd", "blosc", "bz2", "lz4")
_ARRAY_FIELDS = ("dimensions", "blockSize", "dataType", "compression", "compressionType")


def read_node(folder: StoreFolder) -> Node | None:
    """Return the group or array in a folder, or None; every local folder with folders in it counts as a group."""
    found = folder.read_json("attributes.json")
    if found is not None and "dimensions" in found and "dataType" in found:
        dimensions = found["dimensions"]
        known = isinstance(dimensions, list) and all(isinstance(n, int) for n in dimensions)
        attributes = {name: value for name, value in found.items() if name not in _ARRAY_FIELDS}
        return Node(
            folder, found, attributes, tuple(dimensions[::-1]) if known else (), str(found["dataType"])
        )
    if found is not None:
        return Node(folder, None, found, first=first_dataset(found))
    if folder.is_local and any(entry.is_dir() for entry in folder.entries()):
        return Node(folder, None)
    return None


def tensorstore_metadata(node: Node) -> dict[str, Any]:
    """Return what TensorStore needs to decode an array, without attributes that could break its parsing."""
    array = dict(node.array or {})
    found = {name: array[name] for name in _ARRAY_FIELDS if name in array}
    if "compression" not in found:  # N5 before version 1.0
        found["compression"] = {"type": found.get("compressionType", "raw")}
    found.pop("compressionType", None)
    return found


def image_metadata(node: Node) -> ImageMetadata:
    """Return axes, voxel size, units and attributes, from any of the ways in which N5 writers say them.

    What is malformed stays a plain attribute: metadata never keeps an array from being opened.
    """
    ndim = len(node.shape)
    attributes = dict(node.attributes)
    found: dict[str, Any] = {}
    transform = attributes.get("transform")
    if isinstance(transform, Mapping):  # cellmap writers; slowest axis first
        found.update(
            axes=transform.get("axes"),
            units=transform.get("units"),
            voxel_size=transform.get("scale"),
            origin=transform.get("translate"),
        )
    pixel = attributes.get("pixelResolution")
    if isinstance(pixel, Mapping):  # n5-viewer
        found.setdefault("voxel_size", _turned(pixel.get("dimensions"), ndim))
        unit = pixel.get("unit")
        found.setdefault("units", [unit] * ndim if isinstance(unit, str) else None)
    elif isinstance(pixel, list):
        found.setdefault("voxel_size", _turned(pixel, ndim))
    found.setdefault("voxel_size", _turned(attributes.get("resolution"), ndim))
    for name in ("axes", "units"):
        turned = _turned(attributes.get(name), ndim)
        if turned is not None:
            del attributes[name]
            found[name] = [value or None for value in turned] if name == "units" else turned
    own = from_attributes(attributes, ndim)
    units = found.pop("units", None)
    told = from_attributes({name: value for name, value in found.items() if value is not None}, ndim)
    if isinstance(units, list) and len(units) == ndim and all(u is None or isinstance(u, str) for u in units):
        told = replace(told, units=tuple(None if u is None else normalise_unit(u) or u for u in units))
    kept = dict(own.attributes)
    if own.voxel_size or told.voxel_size:
        kept.pop("resolution", None)
    return replace(
        own,
        axes=told.axes or own.axes,
        units=(told.units if told.units and any(told.units) else None) or own.units,
        voxel_size=own.voxel_size or told.voxel_size,
        origin=own.origin or told.origin,
        attributes=kept,
    ).fitting(ndim)


def _turned(values: Any, ndim: int) -> list[Any] | None:
    return values[::-1] if isinstance(values, list) and len(values) == ndim else None


def array_metadata(spec: ArraySpec) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the metadata of a new array as TensorStore takes it, and its attributes.

    Raises
    ------
    UnsupportedFormatError
        For a dtype that N5 cannot hold.
    InvalidArgumentError
        For chunks, shards, a fill value or a codec that N5 cannot have.
    """
    if spec.dtype.name not in DTYPES:
        raise UnsupportedFormatError(f"N5 cannot hold {spec.dtype}; it can hold {', '.join(DTYPES)}")
    if spec.shards is not None:
        raise InvalidArgumentError(f"N5 has no shards (got {spec.shards}): use Zarr with zarr_format=3")
    if spec.fill_value is not None and spec.fill_value != 0:
        raise InvalidArgumentError(f"N5 has no fill value but 0 (got {spec.fill_value!r}): use Zarr")
    chunks = checked_grid(spec.chunks or tuple(max(1, n) for n in spec.shape), spec.shape, "chunks")
    metadata = {
        "dimensions": list(spec.shape[::-1]),
        "blockSize": list(chunks[::-1]),
        "dataType": spec.dtype.name,
        "compression": _compression(spec),
    }
    attributes = to_attributes(spec.metadata)
    for name in ("axes", "units", "voxel_size"):
        values = getattr(spec.metadata, name)
        if values is not None:
            turned = ["" if value is None else value for value in values[::-1]]
            attributes["resolution" if name == "voxel_size" else name] = turned
    clash = sorted(set(attributes) & set(_ARRAY_FIELDS))
    for name in clash:
        del attributes[name]
    return metadata, attributes


def _compression(spec: ArraySpec) -> dict[str, Any]:
    codec = checked_codec(spec.codec or Codec("gzip", 1), _CODECS, "N5")
    if codec.name == "none":
        return {"type": "raw"}
    if codec.name == "blosc":
        cname, level, shuffle = blosc_choice(codec, spec.dtype)
        shuffles = ("noshuffle", "shuffle", "bitshuffle")
        return {
            "type": "blosc",
            "cname": cname,
            "clevel": level,
            "shuffle": shuffles.index(shuffle),
            "blocksize": 0,
        }
    if codec.name == "bz2":
        return {"type": "bzip2", "blockSize": checked_level(codec)}
    return {"type": codec.name, "level": checked_level(codec)}
