"""How Zarr v2 and v3 encode their chunks, read from the metadata of an array."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from bioimage_py.chunks import (
    CODECS,
    NUMBERS,
    ChunkEncoding,
    CodecStep,
    ShardIndexEncoding,
    StoredChunks,
    byte_order_of,
    codec_step,
    fill_bytes,
)
from bioimage_py.errors import InvalidArgumentError, UnsupportedFormatError
from bioimage_py.sources.base import Source
from bioimage_py.sources.stores import Node, TensorStoreSource, folder_of
from bioimage_py.sources.zarr.metadata import read_node
from bioimage_py.storage import ChunkKeys, StoreFolder, keys_in_use

_log = logging.getLogger(__name__)


def stored_chunks(source: Source) -> StoredChunks:
    folder = _folder(source)
    array = source.known_metadata if isinstance(source, TensorStoreSource) else None
    if array is None:
        node = read_node(folder)
        if node is None or node.array is None:
            raise UnsupportedFormatError(f"the chunks of {source.name} are not files of their own")
        array = node.array
    array = {**array, **(source.renamed if isinstance(source, TensorStoreSource) else {})}
    encoding = encoding_from_metadata(array, source.fill_value)
    if encoding.shape != source.shape:
        raise UnsupportedFormatError(f"{source.name} shows a part of a stored array")
    place = folder.path if folder.is_local else None
    return StoredChunks(encoding, place, _keys(array, encoding), folder.objects())


def names_in_use(node: Node) -> Mapping[str, Any]:
    """Return what has to stand in the metadata of an array for the chunk files that are there; nothing where it does."""
    folder = node.folder
    place, has = (folder.path, None) if folder.is_local else (None, folder.has)
    return _names_in_use(
        node.array or {}, folder.path, lambda keys, others: keys_in_use(keys, others, place, has)
    )


def _names_in_use(
    array: Mapping[str, Any], where: str, choose: Callable[[ChunkKeys, list[ChunkKeys]], ChunkKeys]
) -> Mapping[str, Any]:
    try:
        encoding = encoding_from_metadata(array, None)
        keys = _keys(array, encoding)
        said: list[dict[str, Any]] = [{"dimension_separator": separator} for separator in "/."]
        if array.get("zarr_format") == 3:
            said = [
                {"chunk_key_encoding": {"name": name, "configuration": {"separator": separator}}}
                for name, separator in itertools.product(("default", "v2"), "/.")
            ]
        others = {_keys({**array, **each}, encoding): each for each in said}
        # With one axis both separators give the same names.
        last, name = encoding.grid, keys.key(encoding.grid)
        others = {k: each for k, each in others.items() if k.key(last) != name}
    except (UnsupportedFormatError, KeyError, TypeError, ValueError, AttributeError) as error:
        _log.debug("the names of chunks in %s are not known: %r", where, error)
        return {}
    return others.get(choose(keys, list(others)), {})


def _folder(source: Source) -> StoreFolder:
    try:
        spec = source.to_spec()
    except InvalidArgumentError as error:
        raise UnsupportedFormatError(f"{source.name} is held in memory or by a live handle") from error
    if "tensorstore" in spec:
        return _folder_of_handle(source, spec["tensorstore"])
    return folder_of(source, spec)


def _folder_of_handle(source: Source, spec: Mapping[str, Any]) -> StoreFolder:
    store = spec.get("kvstore")
    shown = spec.get("transform", {})
    whole = "output" not in shown and not any(shown.get("input_inclusive_min", ()))
    if spec.get("driver") not in ("zarr", "zarr3") or not isinstance(store, Mapping) or not whole:
        raise UnsupportedFormatError(f"{source.name} is a TensorStore that is cut or turned, or not of Zarr")
    if store.get("driver") != "file" or spec.get("path"):
        raise UnsupportedFormatError(f"{source.name} is a TensorStore that is not in a local folder")
    return StoreFolder(str(store["path"]).rstrip("/"))


def encoding_from_metadata(array: Mapping[str, Any], fill_value: Any) -> ChunkEncoding:
    return (_from_v3 if array.get("zarr_format") == 3 else _from_v2)(array, fill_value)


def _from_v2(array: Mapping[str, Any], fill_value: Any) -> ChunkEncoding:
    try:
        dtype = np.dtype(array["dtype"])
    except TypeError as error:
        raise UnsupportedFormatError(f"its dtype {array['dtype']!r} is not a number") from error
    _check_dtype(dtype.name)
    chunks = _extents(array["chunks"])
    axes = tuple(range(len(chunks)))
    steps = [*(array.get("filters") or ()), *filter(None, [array.get("compressor")])]
    codecs, settings = _described(
        (str(step["id"]), {k: v for k, v in step.items() if k != "id"}) for step in steps
    )
    return ChunkEncoding(
        format="zarr v2",
        shape=tuple(array["shape"]),
        dtype=dtype.name,
        byte_order=byte_order_of(dtype),
        chunks=chunks,
        axis_order=_with_extent(axes[::-1] if array.get("order") == "F" else axes, chunks),
        codecs=codecs,
        settings=settings,
        fill=fill_bytes(fill_value, dtype),
    )


@dataclass
class _Chain:
    chunks: tuple[int, ...]
    order: tuple[int, ...]
    byte_order: str = ""
    steps: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)
    sharding: Mapping[str, Any] | None = None


def _from_v3(array: Mapping[str, Any], fill_value: Any) -> ChunkEncoding:
    name = array["data_type"] if isinstance(array["data_type"], str) else "of another kind"
    _check_dtype(name)
    dtype = np.dtype(name)
    grid = array["chunk_grid"]
    if grid["name"] != "regular" or array.get("storage_transformers"):
        raise UnsupportedFormatError(f"its chunk grid is {grid['name']!r} or its storage is transformed")
    chain = _chain(array["codecs"], _extents(grid["configuration"]["chunk_shape"]))
    shards, index = None, None
    if chain.sharding is not None:
        shards, sharding = chain.chunks, chain.sharding
        index = _index_encoding(sharding)
        chain = _chain(sharding["codecs"], _extents(sharding["chunk_shape"]))
        if chain.sharding is not None:
            raise UnsupportedFormatError("its shards hold shards")
    codecs, settings = _described(chain.steps)
    return ChunkEncoding(
        format="zarr v3",
        shape=tuple(array["shape"]),
        dtype=dtype.name,
        byte_order="" if dtype.itemsize == 1 else chain.byte_order,
        chunks=chain.chunks,
        shards=shards,
        index=index,
        axis_order=_with_extent(chain.order, chain.chunks),
        codecs=codecs,
        settings=settings,
        fill=fill_bytes(fill_value, dtype),
    )


def _chain(codecs: Iterable[Any], chunks: tuple[int, ...]) -> _Chain:
    found = _Chain(chunks, tuple(range(len(chunks))))
    serialized = False
    for name, options in map(_named, codecs):
        if found.sharding is not None or (name == "sharding_indexed" and (found.steps or serialized)):
            raise UnsupportedFormatError("its shards are encoded again as a whole")
        if name == "transpose" and not found.steps:
            found.order = tuple(found.order[axis] for axis in _permutation(options["order"], len(chunks)))
        elif name == "sharding_indexed":
            if found.order != tuple(range(len(chunks))):
                raise UnsupportedFormatError("the axes of its shards are turned")
            found.sharding = options
        elif name in ("bytes", "endian"):
            found.byte_order, serialized = str(options.get("endian", "little")), True
        else:
            found.steps.append((name, options))
    if found.sharding is None and not serialized:
        raise UnsupportedFormatError("its voxels become bytes by a codec that is not known here")
    return found


def _permutation(order: Any, ndim: int) -> tuple[int, ...]:
    if order in ("C", "F"):
        return tuple(range(ndim))[:: -1 if order == "F" else 1]
    return tuple(int(axis) for axis in order)


def _index_encoding(sharding: Mapping[str, Any]) -> ShardIndexEncoding:
    steps = [_named(codec) for codec in sharding.get("index_codecs", ())]
    found = ShardIndexEncoding(str(sharding.get("index_location", "end")), checksum=len(steps) == 2)
    if [name for name, _ in steps] not in (["bytes"], ["bytes", "crc32c"]):
        raise UnsupportedFormatError("the index of its shards is encoded in a way that is not known here")
    return replace(found, byte_order=str(steps[0][1].get("endian", "little")))


def _named(codec: Any) -> tuple[str, Mapping[str, Any]]:
    if isinstance(codec, str):
        return codec, {}
    return str(codec["name"]), codec.get("configuration") or {}


def _described(
    steps: Iterable[tuple[str, Mapping[str, Any]]],
) -> tuple[tuple[CodecStep, ...], tuple[CodecStep, ...]]:
    """Return codecs as they are compared, and what decoding does not need; what does nothing is left out."""
    plain = ((name, name.removeprefix("numcodecs."), options) for name, options in steps)
    found = [codec_step(short if short in CODECS else name, options) for name, short, options in plain]
    kept = [pair for pair in found if pair[0] != ("shuffle", 1)]
    return tuple(step for step, _ in kept), tuple(settings for _, settings in kept)


def _keys(array: Mapping[str, Any], encoding: ChunkEncoding) -> ChunkKeys:
    files = encoding.shards or encoding.chunks
    grid = tuple(-(-n // f) for n, f in zip(encoding.shape, files, strict=True))
    if array.get("zarr_format") != 3:
        return ChunkKeys("", array.get("dimension_separator") or ".", fastest_first=False, grid=grid)
    name, options = _named(array["chunk_key_encoding"])
    if name not in ("default", "v2"):
        raise UnsupportedFormatError(f"its chunk keys are of the kind {name!r}")
    prefix, separator = ("c", "/") if name == "default" else ("", ".")
    return ChunkKeys(prefix, options.get("separator", separator), fastest_first=False, grid=grid)


def _with_extent(order: tuple[int, ...], chunks: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(axis for axis in order if chunks[axis] > 1)


def _extents(chunks: Any) -> tuple[int, ...]:
    found = tuple(chunks) if isinstance(chunks, (list, tuple)) else ()
    if not all(isinstance(n, int) and n > 0 for n in found):
        raise UnsupportedFormatError(f"its chunks {chunks!r} are not one extent per axis")
    return found


def _check_dtype(name: str) -> None:
    if name not in NUMBERS:
        raise UnsupportedFormatError(f"its dtype {name!r} is not one of whose bytes all readers think alike")
