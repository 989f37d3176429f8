"""N5, on disk and behind URLs, through TensorStore; axes are slowest first, as z5py and zarr show them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from operator import attrgetter
from typing import Any

from bioimage_py.chunks import ChunkEncoding, StoredChunks
from bioimage_py.sources.array_spec import ArraySpec
from bioimage_py.sources.base import FileSource, Source, SourceSpec
from bioimage_py.sources.n5.metadata import (
    array_metadata,
    chunk_keys,
    encoding_of,
    image_metadata,
    read_node,
    stored_chunks,
    tensorstore_metadata,
)
from bioimage_py.sources.registry import family_of
from bioimage_py.sources.stores import (
    StoredArray,
    StoreFamily,
    StoreRules,
    TensorStoreSource,
    find_array,
    make_array,
    try_out,
)
from bioimage_py.sources.zarr import codec_text, keeping
from bioimage_py.storage import StoreFolder, keys_in_use, reads_metadata

_TITLE = "N5"
_VERSION = {"n5": "4.0.0"}
_LEVEL = re.compile(r"(.*/)?s(\d+)")
_OWN_ENTRY = re.compile(r"attributes\.json|\d+|.*\.__lock|.*\.[0-9a-f]{32}\.partial|\.DS_Store")


class N5Family(StoreFamily):
    only_zero_fill = True
    fastest_first = True
    store_rules = StoreRules(_TITLE, read_node, _OWN_ENTRY, {"attributes.json": _VERSION})

    @reads_metadata
    def open_path(self, path: str, key: str | None, mode: str, **options: Any) -> Source:
        """Open the array at a path or URL; see `find_array` for what a group without a key means."""
        root = StoreFolder.at(path, options)
        found_key, node = find_array(root, key, read_node, _TITLE)
        if mode != "r":
            root.check_writable(found_key)
        metadata = tensorstore_metadata(node)
        compression = metadata["compression"]
        stored = StoredArray(
            kind="n5",
            path=root.path,
            key=found_key,
            mode=mode,
            format="n5",
            codec="" if compression in ("raw", {"type": "raw"}) else codec_text(compression),
            metadata=image_metadata(node),
            options=root.options,
            folder=node.folder.path if root.is_local else None,
            view=attrgetter("T"),  # slowest axis first
        )
        spec = {"driver": "n5", "kvstore": node.folder.spec(), "metadata": metadata}
        source = self.opened(TensorStoreSource, spec, stored, node.folder.path, assume_metadata=True)
        if stored.folder is not None:
            grid = tuple(-(-n // c) for n, c in zip(source.shape, source.chunks or (), strict=True))
            keys_in_use(chunk_keys(grid), (), stored.folder)
        return source

    def from_handle(self, handle: Any) -> Source | None:
        """Wrap a live `z5py.Dataset`, N5 or Zarr, or a z5py group with one array; None for what is not in local files."""
        import z5py

        if not isinstance(handle, (z5py.Dataset, z5py.Group)) or not isinstance(handle.file, z5py.File):
            return None
        container = handle.file._handle  # noqa: SLF001 - z5py says the path and the mode nowhere else
        key = handle.name.strip("/") or None
        # z5py's own default is to write, so what may not be written is not an error yet.
        may = container.mode().can_write() and StoreFolder.at(container.path()).link_out(key) is None
        opened = family_of("zarr") if handle.is_zarr else self
        return opened.open_path(container.path(), key, "r+" if may else "r")

    def list_coarser(self, spec: SourceSpec) -> list[SourceSpec]:
        level = _LEVEL.fullmatch(spec.get("key") or "")
        if level is None:
            return []
        root = StoreFolder.of_spec({**spec, "key": None})
        found: list[SourceSpec] = []
        for number in itertools.count(int(level[2]) + 1):
            key = f"{level[1] or ''}s{number}"
            node = read_node(root.child(key))
            if node is None or node.array is None:
                return found
            found.append({**spec, "key": key})
        return found

    def stored_chunks(self, source: FileSource) -> StoredChunks:
        return stored_chunks(source)

    def planned_encoding(self, spec: ArraySpec) -> ChunkEncoding:
        return encoding_of(array_metadata(spec)[0])

    def making(self, key: str | None, spec: ArraySpec) -> tuple[dict[str, Any], dict[str, Any]]:
        metadata, attributes = array_metadata(spec)
        making = {"driver": "n5", "metadata": metadata}
        try_out(making)
        return making, attributes if key else {**_VERSION, **attributes}

    def make(self, making: dict[str, Any], attributes: Mapping[str, Any], folder: StoreFolder) -> None:
        make_array(making, folder)
        folder.write_json("attributes.json", {**attributes, **making["metadata"]})

    def keeping(self, spec: ArraySpec, encoding: ChunkEncoding, *, grid: bool, codec: bool) -> ArraySpec:
        return keeping(self, spec, encoding, 1, grid=grid, codec=codec)
