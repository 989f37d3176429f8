"""Neuroglancer precomputed volumes, on disk and behind URLs, through TensorStore; axes are (c,) z, y, x."""

from __future__ import annotations

import bz2
import gzip
import itertools
import json
import lzma
import re
import warnings
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tensorstore as ts

from bioimage_py.chunks import AnyArray
from bioimage_py.errors import (
    BioimagePyWarning,
    InvalidArgumentError,
    ReadOnlyError,
    SourceNotFoundError,
    StorageError,
)
from bioimage_py.geometry import Blocking, Box
from bioimage_py.metadata import to_attributes
from bioimage_py.sources.array_spec import ArraySpec, Codec
from bioimage_py.sources.base import FileSource, Source, SourceSpec, StandIn, StoredSize
from bioimage_py.sources.casting import cast_values
from bioimage_py.sources.chunked import ChunkedFileSource
from bioimage_py.sources.identity import leaves
from bioimage_py.sources.precomputed.metadata import (
    OWN_ENTRY,
    metadata_of,
    place_of,
    place_of_level,
    warn_of_lost,
)
from bioimage_py.sources.precomputed.scale import FULL_SIZE, TITLE, chunk_problem, codec_text, new_scale
from bioimage_py.sources.precomputed.sharding import ShardWriter
from bioimage_py.sources.stores import (
    Node,
    StoredArray,
    StoreFamily,
    StoreRules,
    TensorStoreSource,
    make_array,
    try_out,
)
from bioimage_py.storage import (
    ENGINE_ERRORS,
    ChunkKeys,
    StoreFolder,
    check_json,
    credentials_of,
    file_identity,
    names_like,
    plain_message,
    reads_metadata,
    storage_error,
    store_context,
    unused_chunks,
    url_options,
)

_COMPRESSED: dict[str, Callable[[bytes], bytes | bytearray]] = {
    ".gz": gzip.decompress,
    ".br": imagecodecs.brotli_decode,
    ".zstd": imagecodecs.zstd_decode,
    ".bz2": bz2.decompress,
    ".xz": lzma.decompress,
}
"""What cloud-volume puts behind the names of files that it compresses, and how they are read."""
_CHUNK_NAME = re.compile("_".join([r"(-?\d+)-(-?\d+)"] * 3))
_CHUNK_FILE = re.compile(
    rf"({_CHUNK_NAME.pattern}|[0-9a-f]+\.(shard|index|data))({'|'.join(map(re.escape, _COMPRESSED))})?"
)
_LOOKED_AT = 16
_SKIPS = "bioimage_py_skips_zeros"
"""The entry of a scale that leaves out chunks of zeros."""
_OWN_FILES = re.compile(
    r"info|s\d+|\d+(\.\d+)?(_\d+(\.\d+)?)*|.*\.__lock|.*\.[0-9a-f]{32}\.partial|\.DS_Store"
)


def _read_node(folder: StoreFolder) -> Node | None:
    info = folder.read_json("info")
    if info is None or not isinstance(info.get("scales"), list) or not info["scales"]:
        return None
    scale = info["scales"][0]
    _check_scale(scale, f"{folder.path}/info")
    return Node(folder, info, shape=_shape(info, scale), dtype=str(info.get("data_type")))


def _shape(info: Mapping[str, Any], scale: Mapping[str, Any]) -> tuple[int, ...]:
    channels = info.get("num_channels", 1)
    return (*((channels,) if channels != 1 else ()), *scale["size"][::-1])


def _one_channel(store: Any) -> Any:
    return store[:, :, :, store.domain.origin[3]].T.translate_to[0, 0, 0]


def _channels(store: Any) -> Any:
    return store.T.translate_to[0, 0, 0, 0]


class PrecomputedFamily(StoreFamily):
    """Neuroglancer precomputed: a volume holds one image of several scales; a chunk holds all channels."""

    only_zero_fill = True
    level_axes = "zyx"
    time_first = True
    states_size = True
    store_rules = StoreRules(TITLE, _read_node, _OWN_FILES)

    @reads_metadata
    def open_path(self, path: str, key: str | None, mode: str, **options: Any) -> Source:
        root = StoreFolder.at(path, options)
        info = _info(root)
        check_json({name: value for name, value in info.items() if name != OWN_ENTRY}, f"{root.path}/info")
        keys = [scale["key"] for scale in info["scales"]]
        if key is not None and key not in keys:
            raise SourceNotFoundError(
                f"there is no scale {key!r} in {root.path}: there is {', '.join(keys[:20])}"
            )
        index = 0 if key is None else keys.index(key)
        scale = info["scales"][index]
        place = _place(root, scale["key"], mode)
        stored = StoredArray(
            kind="precomputed",
            path=root.path,
            key=key,
            mode=mode,
            format="precomputed",
            codec=codec_text(scale),
            metadata=metadata_of(info, scale, len(_shape(info, scale)), root.path),
            options=root.options,
            folder=place.path if root.is_local else None,
            view=_one_channel if info.get("num_channels", 1) == 1 else _channels,
        )
        spec = {
            "driver": "neuroglancer_precomputed",
            "kvstore": root.spec(),
            "scale_index": index,
            # cloud-volume takes a chunk that is not stored for an error, unless told otherwise.
            "store_data_equal_to_fill_value": scale.get(_SKIPS) is not True,
        }
        source = self.opened(PrecomputedSource, spec, stored, root.path)
        if mode != "r" and (problem := chunk_problem(scale, info.get("data_type"))):
            raise ReadOnlyError(f"{root.path} can only be read: {problem}")
        offset, chunk = tuple(scale.get("voxel_offset", (0, 0, 0))), source.chunks or source.shape
        names = ChunkNames(offset, source.shape[:-4:-1], chunk[:-4:-1])
        if stored.folder is None or not names.compressed_in(stored.folder, sharded="sharding" in scale):
            return source
        if mode != "r":
            raise ReadOnlyError(
                f"{stored.folder} holds chunks that are compressed as files (such as .gz), which are read only here"
            )
        alone = {**info, "scales": [{**scale, "key": FULL_SIZE}]}
        return CompressedFilesSource(source, names, stored.folder, alone)

    @reads_metadata
    def list_arrays(self, path: str, **options: Any) -> list[str]:
        return [scale["key"] for scale in _info(StoreFolder.at(path, options))["scales"]]

    def arrays_of(self, node: Node) -> Sequence[str | None]:
        return [str(scale["key"]) for scale in (node.array or {})["scales"]]

    def chunk_names(self, source: FileSource) -> ChunkKeys | None:
        stored = source.stands_for if isinstance(source, CompressedFilesSource) else source
        scale = stored.scale if isinstance(stored, PrecomputedSource) else None
        if scale is None or scale.get("sharding") or source.chunks is None:
            return None
        grid = tuple(-(-n // c) for n, c in zip(source.shape, source.chunks, strict=True))
        offset = tuple(scale.get("voxel_offset", (0, 0, 0)))
        names = ChunkNames(offset, source.shape[:-4:-1], source.chunks[:-4:-1])
        return _ScaleKeys("", "_", fastest_first=True, grid=grid, names=names)

    def list_coarser(self, spec: SourceSpec) -> list[SourceSpec]:
        keys: list[str] = self.list_arrays(spec["path"], **url_options(spec))
        first = keys.index(spec["key"]) if spec.get("key") in keys else 0
        return [{**spec, "key": key} for key in keys[first + 1 :]]

    def settled(self, spec: ArraySpec, path: str, *, grid: bool) -> ArraySpec:
        spec = super().settled(spec, path, grid=grid)
        # A chunk holds all channels.
        return replace(
            spec, chunks=_with_channels(spec.chunks, spec), shards=_with_channels(spec.shards, spec)
        )

    def following(self, spec: ArraySpec, like: Source) -> ArraySpec:
        found = [one for one in leaves(like) if isinstance(one, (PrecomputedSource, CompressedFilesSource))]
        if spec.shards is None and found and (found[0].chunks, found[0].shape) == (spec.chunks, spec.shape):
            spec = replace(spec, shards=found[0].box_shards)
        if not found or any(
            leaf.dtype != spec.dtype or leaf.described != found[0].described for leaf in found
        ):
            return spec
        kind, codec = found[0].described
        return replace(spec, labels=kind == "segmentation", codec=spec.codec or codec)

    def making(self, key: str | None, spec: ArraySpec) -> tuple[dict[str, Any], dict[str, Any]]:
        if key:
            raise InvalidArgumentError(f"a {TITLE} volume holds one image: leave out the key (got {key!r})")
        making = new_scale(spec, place_of(spec.metadata))
        try_out(making)
        return making, to_attributes(spec.metadata)

    def make(
        self,
        making: dict[str, Any],
        attributes: Mapping[str, Any],
        folder: StoreFolder,
        coarser: Sequence[dict[str, Any]] = (),
    ) -> None:
        for one in (making, *coarser):
            make_array(one, folder)
        info = folder.read_json("info") or {}
        if not making["store_data_equal_to_fill_value"]:
            info["scales"] = [{**scale, _SKIPS: True} for scale in info["scales"]]
        folder.write_json("info", {**info, **({OWN_ENTRY: attributes} if attributes else {})})

    def create(
        self, path: str, key: str | None, spec: ArraySpec, overwrite: bool = False, *args: Any, **options: Any
    ) -> Source:
        made = super().create(path, key, spec, overwrite, *args, **options)
        warn_of_lost(spec.metadata, path)
        return made

    def create_levels(
        self,
        path: str,
        key: str | None,
        spec: ArraySpec,
        coarser: Sequence[ArraySpec],
        overwrite: bool = False,
    ) -> Sequence[Source]:
        making, lost = [], []
        for number, one in enumerate(coarser, 1):
            place, exact = place_of_level(one.metadata, spec.metadata)
            making.append(new_scale(one, place, f"s{number}"))
            if not exact:
                lost.append(f"the exact place of scale s{number} (an offset is a whole number of its voxels)")
        made = super().create(path, key, spec, overwrite, how={"coarser": making})
        warn_of_lost(spec.metadata, path, *lost)
        return [made, *(self.open_path(path, one["scale_metadata"]["key"], "r+") for one in making)]


def _info(root: StoreFolder) -> dict[str, Any]:
    info = root.read_json("info")
    if info is None:
        raise SourceNotFoundError(f"there is no {TITLE} volume at {root.path}: it has no file 'info'")
    scales = info.get("scales")
    if not isinstance(scales, list) or not scales:
        raise StorageError(f"{root.path}/info lists no scales, so there is no volume to read")
    for scale in scales:
        _check_scale(scale, f"{root.path}/info")
    return info


def _place(root: StoreFolder, key: str, mode: str) -> StoreFolder:
    """Return the folder of a scale. It may be beside the volume by the format, for reading: then a warning names it."""
    above = len(key) - len(key.removeprefix("../"))
    if mode != "r":
        root.check_writable(key)
    elif above and (around := root.parent()) is not None:
        place = around.child(key[above:])
        warnings.warn(
            f"{root.path}/info names the scale {key!r}, which is outside of the volume: it is read from {place.path}",
            BioimagePyWarning,
            stacklevel=4,
        )
        return place
    return root.child(key)


class PrecomputedSource(TensorStoreSource):
    """One scale of a precomputed volume."""

    grows = False

    def __init__(self, store: Any, stored: StoredArray) -> None:
        super().__init__(store, stored)
        self._spec = store.spec().to_json()
        self.stores_fill = bool(self._spec.get("store_data_equal_to_fill_value"))
        self.shows_labels = self._spec["multiscale_metadata"]["type"] == "segmentation"
        self.threads = 1

    def reopened(self, threads: int, cache_bytes: int) -> TensorStoreSource:
        twin = super().reopened(threads, cache_bytes)
        assert isinstance(twin, PrecomputedSource)
        twin.threads = threads
        return twin

    @cached_property
    def _shards(self) -> ShardWriter | None:
        """What writes into its shards; None where it has none."""
        if not self.scale.get("sharding"):
            return None
        place = self._raw.kvstore.spec().to_json()
        base = {**place, "path": f"{place.get('path', '')}{self.scale['key']}/"}
        credentials = credentials_of(self.kvstore) if self.path.startswith("s3://") else None
        context = store_context(self.threads, 0, patient=True, credentials=credentials)
        return ShardWriter(self.path, self._spec, base, context, not self.stores_fill)

    def writer_from(self, source: Source) -> Callable[[Box], None] | None:
        return None if self._shards else super().writer_from(source)

    def _write(self, box: Box, values: AnyArray) -> None:
        if self._shards is None:
            super()._write(box, values)
            return
        assert self.chunks is not None
        try:
            unit = self.write_unit or box.shape
            for piece in Blocking(self.shape, unit, roi=box):
                part = cast_values(values[piece.relative_to(box.begin).view], self.dtype)
                whole = piece.snap(self.chunks, self.shape)
                if whole != piece:
                    part, new = np.array(self._read(whole)), part
                    part[piece.relative_to(whole.begin).view] = new
                self._shards.write(whole.begin[:-4:-1], part.T if part.ndim == 4 else part.T[..., None])
        except ENGINE_ERRORS as error:
            raise storage_error(
                error, f"{self.name}: cannot write the region {box.text}", writing=True
            ) from error

    @property
    def described(self) -> tuple[str, Codec | None]:
        """Type of the volume, and the codec of its chunks where that keeps all voxels and is more than none."""
        spec, scale = self._spec, self.scale
        codec = None
        if scale["encoding"] == "compressed_segmentation":
            block_size = scale["compressed_segmentation_block_size"][::-1]
            codec = Codec("compressed_segmentation", options={"block_size": block_size})
        elif scale["encoding"] == "png":
            codec = Codec("png", scale.get("png_level"))
        return spec["multiscale_metadata"]["type"], codec

    @property
    def box_shards(self) -> tuple[int, ...] | None:
        """The shards where each is a box of chunks, which the hash `identity` makes of them."""
        return self.shards if (self.scale.get("sharding") or {}).get("hash") == "identity" else None

    @property
    def scale(self) -> Mapping[str, Any]:
        """What the metadata say of the scale."""
        found: Mapping[str, Any] = self._spec["scale_metadata"]
        return found

    def identities(self) -> frozenset[tuple[Any, ...]]:
        return frozenset({file_identity(self.path, self.scale["key"])})

    def mark_place(self) -> StoreFolder | None:
        place = super().mark_place()
        return None if place is None else StoreFolder.at(self.path, url_options(self._stored.options))

    def side_folder(self) -> StoreFolder | None:
        place, scale = super().side_folder(), self.scale["key"]
        # A scale outside of the volume is read only.
        return None if place is None or ".." in scale.split("/") else place.child(scale)

    def stored_size(self) -> StoredSize | None:
        chunks = super().stored_size()
        if chunks is None:
            return None
        return StoredSize(chunks.n_bytes + Path(self.path, "info").stat().st_size, chunks.n_files + 1)


@dataclass(frozen=True)
class ChunkNames:
    """The names of the chunk files of a scale: its offset and size, and the extent of a chunk, in x, y, z."""

    offset: tuple[int, ...]
    size: tuple[int, ...]
    chunk: tuple[int, ...]

    def name(self, box: Box) -> str:
        begin, end = box.begin[:-4:-1], box.end[:-4:-1]
        return "_".join(f"{b + o}-{e + o}" for b, e, o in zip(begin, end, self.offset, strict=True))

    def has(self, name: str) -> bool:
        return self.position(name) is not None

    def position(self, name: str) -> tuple[int, ...] | None:
        """Return the position, in z, y, x, of the chunk in a file of this name; None if it is not that of a chunk."""
        found = _CHUNK_NAME.fullmatch(name)
        if found is None:
            return None
        begin = [int(n) - o for n, o in zip(found.groups()[0:6:2], self.offset, strict=True)]
        end = [int(n) - o for n, o in zip(found.groups()[1:6:2], self.offset, strict=True)]
        each = list(zip(begin, end, self.chunk, self.size, strict=True))
        fits = all(0 <= b < n and b % c == 0 and e == min(b + c, n) for b, e, c, n in each)
        return tuple(b // c for b, _, c, _ in each)[::-1] if fits else None

    def compressed_in(self, folder: str, *, sharded: bool) -> bool:
        """Return whether chunks are compressed as files of their own in a folder, which names with an ending tell."""
        names = list(itertools.islice(names_like(_CHUNK_FILE, folder), _LOOKED_AT))
        if sharded:
            fitting = [name for name in names if name.endswith(".shard")]
            example = "0.shard"
        else:
            fitting = [name for name in names if self.has(name.rpartition(".")[0] or name)]
            example = self.name(Box((0, 0, 0), tuple(map(min, self.chunk, self.size))[::-1]))
        if names and not fitting:
            raise unused_chunks(folder, names, example)
        return not sharded and any("." in name for name in fitting)


@dataclass(frozen=True)
class _ScaleKeys(ChunkKeys):
    """The names of the chunk files of a scale, by their position in the grid; a chunk holds all channels."""

    names: ChunkNames

    def key(self, position: tuple[int, ...]) -> str:
        begin = tuple(p * c for p, c in zip(position[-3:], self.names.chunk[::-1], strict=True))
        end = tuple(
            min(b + c, n)
            for b, c, n in zip(begin, self.names.chunk[::-1], self.names.size[::-1], strict=True)
        )
        return self.names.name(Box(begin, end))

    def position(self, key: str) -> tuple[int, ...] | None:
        at = self.names.position(key.rpartition(".")[0] if key.endswith(tuple(_COMPRESSED)) else key)
        return None if at is None else (0,) * (len(self.grid) - 3) + at


class CompressedFilesSource(StandIn, ChunkedFileSource):
    """A scale of a local volume whose chunk files are compressed as a whole, as cloud-volume writes them: `0-64_0-64_0-64.gz`."""

    kind = "precomputed"
    format = "precomputed"

    stands_for: PrecomputedSource
    box_shards = None

    def __init__(
        self, twin: PrecomputedSource, names: ChunkNames, folder: str, info: Mapping[str, Any]
    ) -> None:
        super().__init__()
        assert twin.chunks is not None
        self.path, self.key, self.codec, self.fill_value = twin.path, twin.key, twin.codec, twin.fill_value
        self.shape, self.dtype, self.chunks = twin.shape, twin.dtype, twin.chunks
        self.stands_for, self.shows_labels, self._names, self._info = twin, twin.shows_labels, names, info
        self._folder = Path(folder).absolute()

    @property
    def described(self) -> tuple[str, Codec | None]:
        return self.stands_for.described

    def _decode_chunk(self, position: tuple[int, ...], box: Box) -> AnyArray | None:
        del position
        name = self._names.name(box)
        data = self._stored(name)
        if data is None:
            return None
        if not self.codec:
            if len(data) != box.size * self.dtype.itemsize:
                raise StorageError(
                    f"{self._folder / name} holds {len(data)} bytes where {box.size * self.dtype.itemsize} are expected"
                )
            voxels = np.frombuffer(data, self.dtype.newbyteorder("<"))
            return voxels.astype(self.dtype, copy=False).reshape(box.shape)
        return self._decoded_by_tensorstore(name, data, box)

    def _stored(self, name: str) -> bytes | None:
        """Return a chunk, decompressed; None where it is not stored."""
        found = [ending for ending in ("", *_COMPRESSED) if (self._folder / (name + ending)).exists()]
        if not found:
            return None
        if len(found) > 1:
            files = " and ".join(name + ending for ending in found)
            raise StorageError(f"{self._folder} holds {files}, and which of them is the chunk is not known")
        path = self._folder / (name + found[0])
        try:
            data = path.read_bytes()
            return bytes(_COMPRESSED[found[0]](data)) if found[0] else data
        except (OSError, ValueError, RuntimeError, EOFError, zlib.error, lzma.LZMAError) as error:
            raise StorageError(f"{path} cannot be read: {error}") from error

    def _decoded_by_tensorstore(self, name: str, data: bytes, box: Box) -> AnyArray:
        try:
            context = ts.Context({"memory_key_value_store": {}})
            store = ts.KvStore.open({"driver": "memory"}, context=context).result()
            store.write("info", json.dumps(self._info)).result()
            store.write(f"{FULL_SIZE}/{name}", data).result()
            spec = {"driver": "neuroglancer_precomputed", "kvstore": {"driver": "memory"}}
            opened = ts.open(spec, open=True, read=True, context=context).result()
            view = _one_channel(opened) if len(box.shape) == 3 else _channels(opened)
            return view[box.slices].read(order="C").result()  # type: ignore[no-any-return]
        except ENGINE_ERRORS as error:
            raise StorageError(f"{self._folder / name} cannot be decoded: {plain_message(error)}") from error


def _check_scale(scale: Any, place: str) -> None:
    """Raise StorageError for a scale without what every scale has."""
    if not isinstance(scale, Mapping) or not isinstance(scale.get("key"), str):
        raise StorageError(f"{place} lists a scale without a key: {str(scale)[:200]}")
    for name, kinds in (("size", int), ("resolution", (int, float)), ("voxel_offset", int)):
        value = scale.get(name, [0, 0, 0] if name == "voxel_offset" else None)
        if not isinstance(value, list) or len(value) != 3 or not all(isinstance(n, kinds) for n in value):
            raise StorageError(
                f"{place}: {name} of scale {scale['key']!r} must be three numbers, got {str(value)[:200]}"
            )


def _with_channels(extents: tuple[int, ...] | None, spec: ArraySpec) -> tuple[int, ...] | None:
    return extents and (*spec.shape[:-3], *extents[-3:])
