"""The metadata files of Zarr v2 and v3: reading nodes, and describing arrays and groups to be made."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from bioimage_py.errors import Hint, InvalidArgumentError, UnsupportedFormatError
from bioimage_py.metadata import (
    ImageMetadata,
    from_attributes,
    normalise_unit,
    to_attributes,
    unit_symbol,
    with_resolution,
)
from bioimage_py.sources.array_spec import ArraySpec
from bioimage_py.sources.stores import (
    Node,
    StoreRules,
    first_dataset,
    group_attributes,
    image_paths,
    make_array,
    try_out,
    with_multiscales,
)
from bioimage_py.sources.zarr.codecs import codecs_v2, codecs_v3, needs_zarr_python
from bioimage_py.storage import StoreFolder

_log = logging.getLogger(__name__)
TITLE = "Zarr"
ZARR_PYTHON = "zarr-python"
"""The driver of a new array that TensorStore cannot make."""
_OWN_ENTRY = re.compile(
    r"zarr\.json|\.z(array|attrs|group)|c|c[./]\d+([./]\d+)*|\d+([./]\d+)*|.*\.__lock|.*\.[0-9a-f]{32}\.partial|\.DS_Store"
)
_KINDS = {"b": (1,), "i": (1, 2, 4, 8), "u": (1, 2, 4, 8), "f": (2, 4, 8), "c": (8, 16)}


def read_node(folder: StoreFolder, names: frozenset[str] | None = None) -> Node | None:
    """Return the group or array in a folder, or None; a local folder without metadata counts as a group.

    Where it is known what lies in the folder, `names` has it: no other file is asked for.
    """

    def read(name: str) -> dict[str, Any] | None:
        return folder.read_json(name) if names is None or name in names else None

    v3 = read("zarr.json")
    if v3 is not None:
        attributes = _mapping(v3.get("attributes"))
        if v3.get("node_type") == "array":
            return _array(folder, v3, attributes, v3.get("data_type"))
        index = _mapping(v3.get("consolidated_metadata")).get("metadata")
        keys = tuple(k for k, v in _mapping(index).items() if _mapping(v).get("node_type") == "array")
    elif (array := read(".zarray")) is not None:
        return _array(folder, array, read(".zattrs") or {}, array.get("dtype"))
    elif ".zgroup" in names if names is not None else folder.read_json(".zgroup") is not None:
        listed = {} if folder.is_local and names is None else read(".zmetadata") or {}
        index = listed.get("metadata")
        keys = tuple(k.removesuffix(".zarray").rstrip("/") for k in _mapping(index) if k.endswith(".zarray"))
        attributes = read(".zattrs") or {}
    else:
        return Node(folder, None, names=names) if folder.is_local and folder.has_folders() else None
    first = first_dataset(attributes)
    return Node(
        folder,
        None,
        attributes,
        # What consolidated metadata lists may be older than the files: on a local disk the files themselves are asked.
        listing=keys if index and not folder.is_local else None,
        first=first,
        images=() if first is not None else image_paths(folder, attributes),
        consolidated=isinstance(index, Mapping),
        names=names,
    )


def _array(folder: StoreFolder, array: dict[str, Any], attributes: Mapping[str, Any], dtype: Any) -> Node:
    shape = array.get("shape")
    extents = tuple(n for n in shape if isinstance(n, int)) if isinstance(shape, list) else ()
    return Node(folder, array, attributes, extents, _dtype_text(dtype))


def _dtype_text(dtype: Any) -> str:
    if isinstance(dtype, Mapping):
        return str(dtype.get("name"))
    try:
        return str(np.dtype(dtype).name)
    except TypeError:
        return str(dtype)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def zarr_format_of(node: Node) -> int:
    return 3 if node.array is not None and node.array.get("zarr_format") == 3 else 2


def dimension_names(node: Node) -> tuple[str, ...] | None:
    """Return the names that an array of Zarr v3 has for its axes, None where they are not one text for each."""
    names = (node.array or {}).get("dimension_names")
    fine = (
        isinstance(names, list) and len(names) == len(node.shape) and all(isinstance(n, str) for n in names)
    )
    return tuple(names) if fine and names else None


def image_metadata(node: Node) -> ImageMetadata:
    """Return axes, voxel size and attributes of an array, from itself and from the OME-Zarr image it belongs to.

    What is malformed is left out: metadata never keeps an array from being opened.
    """
    ndim = len(node.shape)
    attributes = dict(node.attributes)
    names = (node.array or {}).get("dimension_names") or attributes.pop("_ARRAY_DIMENSIONS", None)
    known = _from_dimension_units(attributes.get("dimension_units"), ndim)
    if known is not None:
        del attributes["dimension_units"]
    metadata = from_attributes(attributes, ndim, node.folder.path)
    if known is not None and metadata.voxel_size is None:
        metadata = replace(metadata, voxel_size=known[0], units=known[1])
    if metadata.axes is None and isinstance(names, list) and all(isinstance(n, str) for n in names):
        metadata = replace(metadata, axes=tuple(names)).fitting(ndim)
    path, name = "", node.folder.name
    for folder in node.folder.parents(3):
        path, name = f"{name}/{path}".strip("/"), folder.name
        found = with_multiscales(metadata, _attributes_above(folder), path, node.shape, node.folder.path)
        if found is not None:
            return found
    return with_resolution(metadata, ndim)


_QUANTITY = re.compile(r"\s*([0-9.]+(?:[eE][+-]?[0-9]+)?)?\s*(\D*?)\s*")


def _from_dimension_units(stored: Any, ndim: int) -> tuple[tuple[float, ...], tuple[str | None, ...]] | None:
    """Return voxel size and units that TensorStore and Neuroglancer keep in an attribute: one of `"4 nm"`, `[4, "nm"]`, None per axis."""
    if not isinstance(stored, list) or len(stored) != ndim or not any(stored):
        return None
    sizes, units = [], []
    for each in stored:
        size, unit = each if isinstance(each, list) and len(each) == 2 else (1.0, each or "")
        if isinstance(size, (int, float)) and isinstance(unit, str):
            found = _QUANTITY.fullmatch(unit)
            name = None if found is None else normalise_unit(found[2])
            if found is not None and (name is not None or not found[2]):
                try:
                    sizes.append(float(size) * float(found[1] or 1))
                except (ValueError, OverflowError):
                    return None
                units.append(name)
                continue
        return None
    fine = all(math.isfinite(size) and size > 0 for size in sizes)
    return (tuple(sizes), tuple(units)) if fine else None


def _dimension_units(metadata: ImageMetadata) -> list[str | None] | None:
    """Return what `_from_dimension_units` reads, in symbols that Neuroglancer knows; None where nothing is to be said."""
    if metadata.voxel_size is None or metadata.units is None:
        return None
    found: list[str | None] = []
    for size, unit in zip(metadata.voxel_size, metadata.units, strict=True):
        if unit is None or normalise_unit(unit) != unit or not (0 < size < math.inf):
            found.append(None)
            continue
        symbol, factor = unit_symbol(unit)
        found.append(f"{size * factor:.15g} {symbol}")
    return found if any(found) else None


def _attributes_above(folder: StoreFolder) -> Mapping[str, Any]:
    try:
        return group_attributes(folder)
    except OSError as error:
        # The folders around an array need not be readable, nor be Zarr at all.
        _log.debug("no OME-Zarr metadata from %s: %s", folder.path, error)
        return {}


def group_files(zarr_format: int, attributes: Mapping[str, Any] | None = None) -> dict[str, dict[str, Any]]:
    """Return the metadata files of a group: those that each has, and that of its attributes."""
    if zarr_format == 3:
        return {"zarr.json": {"zarr_format": 3, "node_type": "group", "attributes": dict(attributes or {})}}
    return {".zgroup": {"zarr_format": 2}, **({} if attributes is None else {".zattrs": dict(attributes)})}


ARRAY_FILES = ("zarr.json", ".zarray", ".zattrs")
"""The metadata files of an array, of one version or the other."""


def store_rules(zarr_format: int) -> StoreRules:
    files = ("zarr.json", ".zarray", ".zgroup", ".zattrs")
    return StoreRules(TITLE, read_node, _OWN_ENTRY, group_files(zarr_format), files, by_zarr_python=True)


def described_array(spec: ArraySpec) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return how a new array is made, which is tried, and its attributes; raises as `array_metadata` does."""
    metadata, attributes = array_metadata(spec)
    making = tensorstore_spec(metadata)
    if spec.codec is not None and needs_zarr_python(spec.codec, spec.zarr_format):
        from bioimage_py.sources.zarr.registered import try_out_codecs

        try_out(tensorstore_spec(array_metadata(replace(spec, codec=None))[0]))
        few = (4,) * len(spec.shape)
        small = replace(spec, shape=few, chunks=few, shards=spec.shards and few)
        try_out_codecs(array_metadata(small)[0], spec.dtype, spec.codec.text)
        return {"driver": ZARR_PYTHON, "metadata": metadata}, attributes
    try_out(making)
    return making, attributes


def tensorstore_spec(metadata: Mapping[str, Any]) -> dict[str, Any]:
    return {"driver": "zarr3" if metadata.get("zarr_format") == 3 else "zarr", "metadata": dict(metadata)}


def make_zarr_array(making: Mapping[str, Any], attributes: Mapping[str, Any], folder: StoreFolder) -> None:
    """Make an array with its attributes in a folder that `room_for_array` gave."""
    v3 = making["metadata"].get("zarr_format") == 3
    if making["driver"] == ZARR_PYTHON:
        if not (folder.is_local or folder.on_azure):
            raise UnsupportedFormatError(f"{folder.path} cannot have a codec that TensorStore lacks")
        told = {"attributes": dict(attributes)} if v3 else {}
        folder.write_json("zarr.json" if v3 else ".zarray", {**making["metadata"], **told})
    else:
        make_array(making, folder, attributes=attributes if v3 else None)
    if attributes and not v3:
        folder.write_json(".zattrs", attributes)


def problems_of(array: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is against the specification in the metadata of an array of numbers, though some reader may take it."""
    shape, v3 = array.get("shape"), array.get("zarr_format") == 3
    ndim = len(shape) if isinstance(shape, list) else -1
    grid = _mapping(_mapping(array.get("chunk_grid")).get("configuration")).get("chunk_shape")
    chunks = grid if v3 else array.get("chunks")
    for name, extents in (("shape", shape), ("chunk shape", chunks)):
        if not isinstance(extents, list) or not all(isinstance(n, int) and n >= 0 for n in extents):
            yield f"its {name} is {extents!r:.80}"
        elif len(extents) != ndim:
            yield f"its {name} {extents} has another number of axes than its shape {shape}"
    names = array.get("dimension_names")
    if isinstance(names, list) and len(names) != ndim:
        yield f"its dimension names {names} are not one per axis of {shape}"
    try:
        dtype = np.dtype(array["data_type" if v3 else "dtype"])
    except (KeyError, TypeError, ValueError):
        return  # numbers have no such dtype
    fill = array.get("fill_value")
    if "fill_value" not in array or (v3 and fill is None):
        yield "it names no fill value"
    elif fill is not None and not _fits(fill, dtype):
        yield f"its fill value {fill!r:.80} is not one of {dtype.name}"


def _fits(fill: Any, dtype: np.dtype[Any]) -> bool:
    """Whether a fill value, as JSON has it, is one of a dtype; a text may be the bytes of one."""
    if dtype.kind == "b":
        return isinstance(fill, bool) or fill in (0, 1)
    if dtype.kind in "iu":
        number = isinstance(fill, (int, float)) and not isinstance(fill, bool) and math.isfinite(fill)
        return number and fill == int(fill) and np.iinfo(dtype).min <= fill <= np.iinfo(dtype).max
    if dtype.kind == "c":
        real = np.dtype(f"f{dtype.itemsize // 2}")
        return isinstance(fill, (int, float)) or (
            isinstance(fill, list) and len(fill) == 2 and all(_fits(n, real) for n in fill)
        )
    if dtype.kind == "f":
        named = isinstance(fill, str) and (fill in ("NaN", "Infinity", "-Infinity") or fill.startswith("0x"))
        return named or (isinstance(fill, (int, float)) and not isinstance(fill, bool))
    return True


_ORDERS: dict[str, Literal["<", ">"]] = {"little": "<", "big": ">"}


def array_metadata(spec: ArraySpec) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the metadata of a new array as TensorStore takes it, and its attributes; raises for what Zarr cannot have."""
    dtype = spec.dtype
    if dtype.itemsize not in _KINDS.get(dtype.kind, ()):
        can = "bool, int8 to int64, uint8 to uint64, float16, float32, float64, complex64, complex128"
        raise UnsupportedFormatError(f"Zarr cannot hold {dtype} here; it can hold {can}")
    chunks = spec.chunks or tuple(max(1, n) for n in spec.shape)
    attributes = to_attributes(spec.metadata)
    quantities = _dimension_units(spec.metadata)
    if quantities is not None:
        attributes.setdefault("dimension_units", quantities)
    fill = _fill_value(spec.fill_value, dtype)
    if spec.zarr_format == 3:
        return _metadata_v3(spec, chunks, fill), attributes
    if spec.shards is not None:
        raise InvalidArgumentError(
            f"Zarr v2 has no shards (got {spec.shards})", hints=[Hint.of("give {}", zarr_format=3)]
        )
    if spec.metadata.axes is not None:
        attributes["_ARRAY_DIMENSIONS"] = list(spec.metadata.axes)
        if spec.fill_value is None or (spec.fill_value == 0 and not np.signbit(spec.fill_value)):
            # xarray masks voxels that equal the fill value, and makes floats of integers for that; null reads as 0 too.
            fill = None
    metadata = {
        "zarr_format": 2,
        "shape": list(spec.shape),
        "chunks": list(chunks),
        "dtype": dtype.newbyteorder(_ORDERS[spec.byte_order]).str,
        "fill_value": fill,
        **codecs_v2(spec.codec, dtype),
        "order": "C",
        "dimension_separator": "/",
    }
    return metadata, attributes


def _metadata_v3(spec: ArraySpec, chunks: tuple[int, ...], fill: Any) -> dict[str, Any]:
    dtype = spec.dtype
    little = {"name": "bytes", "configuration": {"endian": "little"}}
    ordered = {"name": "bytes", "configuration": {"endian": spec.byte_order}}
    codecs = codecs_v3(spec.codec, dtype, ordered if dtype.itemsize > 1 else {"name": "bytes"})
    outer = chunks
    if spec.shards is not None:
        outer = spec.shards
        sharding = {
            "chunk_shape": list(chunks),
            "codecs": codecs,
            "index_codecs": [little, {"name": "crc32c"}],
            "index_location": "end",
        }
        codecs = [{"name": "sharding_indexed", "configuration": sharding}]
    metadata: dict[str, Any] = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(spec.shape),
        "data_type": dtype.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(outer)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "codecs": codecs,
        "fill_value": fill,
    }
    if spec.metadata.axes is not None:
        metadata["dimension_names"] = list(spec.metadata.axes)
    return metadata


def _fill_value(value: Any, dtype: np.dtype[Any]) -> Any:
    exact = dtype.type(0 if value is None else value)
    if dtype.kind == "c":
        return [_float_json(float(exact.real)), _float_json(float(exact.imag))]
    return _float_json(float(exact)) if dtype.kind == "f" else exact.item()


def _float_json(value: float) -> Any:
    if math.isnan(value):
        return "NaN"
    return ("Infinity" if value > 0 else "-Infinity") if math.isinf(value) else value
