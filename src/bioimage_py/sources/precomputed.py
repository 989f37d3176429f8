"""Neuroglancer precomputed volumes, on disk and behind URLs, through TensorStore; axes are (c,) z, y, x."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bioimage_py.errors import (
    InvalidArgumentError,
    ReadOnlyError,
    SourceNotFoundError,
    StorageError,
    UnsupportedFormatError,
)
from bioimage_py.metadata import to_attributes
from bioimage_py.sources.array_spec import ArraySpec, Codec
from bioimage_py.sources.base import Source, SourceSpec, StoredSize
from bioimage_py.sources.hierarchy import Node
from bioimage_py.sources.identity import file_identity
from bioimage_py.sources.kvstore import URL_OPTIONS, StoreFolder
from bioimage_py.sources.precomputed_metadata import OWN_ENTRY, metadata_of, place_of, warn_of_lost
from bioimage_py.sources.store_errors import plain_message
from bioimage_py.sources.store_room import StoreRules, make_array, room_for_array, try_out
from bioimage_py.sources.tensorstore_array import StoredArray, TensorStoreSource, open_store
from bioimage_py.sources.zarr_metadata import checked_grid

__all__ = ["create", "list_arrays", "list_coarser", "open_path", "open_spec"]

_TITLE = "precomputed"
_DTYPES = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "float32")
_SCALE = "s0"
_OWN_FILES = re.compile(
    rf"info|{_SCALE}|\d+(\.\d+)?(_\d+(\.\d+)?)*|.*\.__lock|.*\.[0-9a-f]{32}\.partial|\.DS_Store"
)


def _read_node(folder: StoreFolder) -> Node | None:
    info = folder.read_json("info")
    if info is None or not isinstance(info.get("scales"), list) or not info["scales"]:
        return None
    scale = info["scales"][0]
    return Node(folder, info, shape=_shape(info, scale), dtype=str(info.get("data_type")))


def _shape(info: Mapping[str, Any], scale: Mapping[str, Any]) -> tuple[int, ...]:
    channels = info.get("num_channels", 1)
    return (*((channels,) if channels != 1 else ()), *scale["size"][::-1])


_RULES = StoreRules(_TITLE, _read_node, _OWN_FILES)


def _one_channel(store: Any) -> Any:
    return store[:, :, :, store.domain.origin[3]].T.translate_to[0, 0, 0]


def _channels(store: Any) -> Any:
    return store.T.translate_to[0, 0, 0, 0]


def open_path(path: str, key: str | None, mode: str, **options: Any) -> Source:
    """Open the full-size scale of the volume at a path or URL, or the scale that a key names."""
    root = StoreFolder.at(path, options)
    info = root.read_json("info")
    if info is None:
        raise SourceNotFoundError(f"there is no {_TITLE} volume at {root.path}: it has no file 'info'")
    if mode != "r" and root.read_only:
        raise ReadOnlyError(f"{root.path} cannot be opened for writing: http only reads")
    index = _scale_index(root, info, key)
    scale = info["scales"][index]
    stored = StoredArray(
        kind="precomputed",
        path=root.path,
        key=key,
        mode=mode,
        format="precomputed",
        codec="" if scale.get("encoding", "raw") == "raw" else str(scale["encoding"]),
        metadata=metadata_of(info, scale, len(_shape(info, scale)), root.path),
        options=root.options,
        folder=root.child(scale["key"]).path if root.is_local else None,
        view=_one_channel if info.get("num_channels", 1) == 1 else _channels,
    )
    spec = {
        "driver": "neuroglancer_precomputed",
        "kvstore": root.spec(),
        "scale_index": index,
        "recheck_cached_data": True,
    }
    try:
        return PrecomputedSource(open_store(spec, mode), stored)
    except (ValueError, NotImplementedError) as error:
        raise UnsupportedFormatError(
            f"{root.path} is stored in a way that cannot be read: {plain_message(error)}"
        ) from error


class PrecomputedSource(TensorStoreSource):
    """One scale of a precomputed volume."""

    def identities(self) -> frozenset[tuple[Any, ...]]:
        """Return the folder of the volume and the scale in it, whether or not a key named the scale."""
        scale = self._raw.spec().to_json()["scale_metadata"]["key"]
        return frozenset({file_identity(self.path, scale)})

    def stored_size(self) -> StoredSize | None:
        """Return bytes and files of the scale and of the info file; None for a URL."""
        chunks = super().stored_size()
        if chunks is None:
            return None
        return StoredSize(chunks.n_bytes + Path(self.path, "info").stat().st_size, chunks.n_files + 1)


def _scale_index(root: StoreFolder, info: Mapping[str, Any], key: str | None) -> int:
    scales = info.get("scales")
    if not isinstance(scales, list) or not scales:
        raise StorageError(f"{root.path}/info lists no scales, so there is no volume to read")
    keys = [str(scale.get("key")) for scale in scales]
    if key is None:
        return 0
    if key not in keys:
        raise SourceNotFoundError(
            f"there is no scale {key!r} in {root.path}: there is {', '.join(keys[:20])}"
        )
    return keys.index(key)


def open_spec(spec: SourceSpec) -> Source:
    """Reopen from plain JSON."""
    options = {name: spec[name] for name in URL_OPTIONS if name in spec}
    return open_path(spec["path"], spec.get("key"), spec.get("mode", "r"), **options)


def list_arrays(path: str, **options: Any) -> list[str]:
    """Return the keys of the scales of a volume, full size first."""
    root = StoreFolder.at(path, options)
    info = root.read_json("info")
    if info is None:
        raise SourceNotFoundError(f"there is no {_TITLE} volume at {root.path}: it has no file 'info'")
    return [str(scale.get("key")) for scale in info.get("scales", ())]


def list_coarser(spec: SourceSpec) -> list[SourceSpec]:
    """Return the specs of the scales that follow one in a volume."""
    options = {name: spec[name] for name in URL_OPTIONS if name in spec}
    keys = list_arrays(spec["path"], **options)
    first = keys.index(spec["key"]) if spec.get("key") in keys else 0
    return [{**spec, "key": key} for key in keys[first + 1 :]]


def create(path: str, key: str | None, spec: ArraySpec, overwrite: bool = False) -> Source:
    """Make a new volume of one scale and open it for writing; a chunk holds all channels.

    Raises
    ------
    UnsupportedFormatError
        For a dtype or a number of axes that precomputed cannot hold.
    InvalidArgumentError
        For chunks, shards, a fill value or a codec that it cannot have, or a place inside another volume.
    OutputExistsError
        If something is there that may not, or must not, be replaced.
    ReadOnlyError, StorageError
        If the place cannot be written.
    """
    if key:
        raise InvalidArgumentError(f"a {_TITLE} volume holds one image: leave out the key (got {key!r})")
    making = _description(spec)
    try_out(making)
    root = StoreFolder.at(path)
    with room_for_array(root, None, overwrite, _RULES) as folder:
        make_array(making, folder, overwrite=overwrite)
        attributes = to_attributes(spec.metadata)
        if attributes:
            folder.write_json("info", {**(folder.read_json("info") or {}), OWN_ENTRY: attributes})
        warn_of_lost(spec.metadata, path)
        return open_path(path, None, "r+")


def _description(spec: ArraySpec) -> dict[str, Any]:
    """Return a new volume as TensorStore takes it."""
    if spec.dtype.name not in _DTYPES:
        raise UnsupportedFormatError(f"{_TITLE} cannot hold {spec.dtype}; it can hold {', '.join(_DTYPES)}")
    if len(spec.shape) not in (3, 4):
        raise UnsupportedFormatError(
            f"{_TITLE} holds arrays of 3 axes (z, y, x) or 4 (c, z, y, x), not shape {spec.shape}"
        )
    if spec.shards is not None:
        raise InvalidArgumentError(
            f"shards cannot be given for {_TITLE} (got {spec.shards}): use Zarr with zarr_format=3"
        )
    if spec.fill_value is not None and spec.fill_value != 0:
        raise InvalidArgumentError(f"{_TITLE} has no fill value but 0 (got {spec.fill_value!r}): use Zarr")
    chunks = checked_grid(spec.chunks or tuple(min(64, max(1, n)) for n in spec.shape), spec.shape, "chunks")
    kind = "segmentation" if spec.dtype == np.uint64 else "image"
    return {
        "driver": "neuroglancer_precomputed",
        "multiscale_metadata": {
            "type": kind,
            "data_type": spec.dtype.name,
            "num_channels": spec.shape[0] if len(spec.shape) == 4 else 1,
        },
        "scale_metadata": {
            "key": _SCALE,
            "size": list(spec.shape[:-4:-1]),
            "chunk_size": list(chunks[:-4:-1]),
            **place_of(spec.metadata),
            **_encoding(spec),
        },
    }


def _encoding(spec: ArraySpec) -> dict[str, Any]:
    codec = spec.codec or Codec("none")
    if codec.name == "none":
        return {"encoding": "raw"}
    if codec.name == "jpeg":
        quality = {} if codec.level is None else {"jpeg_quality": codec.level}
        return {"encoding": "jpeg", **quality}
    raise InvalidArgumentError(
        f"{_TITLE} does not have the codec {codec.name!r}; choose none, or jpeg, which changes voxels"
    )
