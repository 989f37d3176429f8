"""N5, on disk and behind URLs, through TensorStore; axes are slowest first, as z5py and zarr show them."""

from __future__ import annotations

import itertools
import re
from typing import Any

from bioimage_py.errors import SourceNotFoundError, UnsupportedFormatError
from bioimage_py.sources.array_spec import ArraySpec
from bioimage_py.sources.base import Source, SourceSpec
from bioimage_py.sources.n5.metadata import array_metadata, image_metadata, read_node, tensorstore_metadata
from bioimage_py.sources.stores import (
    StoredArray,
    StoreRules,
    TensorStoreSource,
    arrays_below,
    check_room,
    find_array,
    make_array,
    open_store,
    room_for_array,
    try_out,
)
from bioimage_py.sources.zarr import codec_text
from bioimage_py.storage import (
    URL_OPTIONS,
    ChunkKeys,
    StoreFolder,
    keys_in_use,
    plain_message,
    reads_metadata,
)

_TITLE = "N5"
_LEVEL = re.compile(r"(.*/)?s(\d+)")
_OWN_ENTRY = re.compile(r"attributes\.json|\d+|.*\.__lock|.*\.[0-9a-f]{32}\.partial|\.DS_Store")
_RULES = StoreRules(_TITLE, read_node, _OWN_ENTRY, {"attributes.json": {"n5": "4.0.0"}})


def _slowest_first(store: Any) -> Any:
    return store.T


@reads_metadata
def open_path(path: str, key: str | None, mode: str, **options: Any) -> Source:
    """Open the array at a path or URL; see `hierarchy.find_array` for what a group without a key means."""
    root = StoreFolder.at(path, options)
    found_key, node = find_array(root, key, read_node, _TITLE)
    if mode != "r":
        root.check_writable(found_key)
    metadata = tensorstore_metadata(node)
    stored = StoredArray(
        kind="n5",
        path=root.path,
        key=found_key,
        mode=mode,
        format="n5",
        codec=""
        if metadata["compression"] in ("raw", {"type": "raw"})
        else codec_text(metadata["compression"]),
        metadata=image_metadata(node),
        options=root.options,
        folder=node.folder.path if root.is_local else None,
        view=_slowest_first,
    )
    spec = {"driver": "n5", "kvstore": node.folder.spec(), "metadata": metadata, "recheck_cached_data": True}
    try:
        source = TensorStoreSource(open_store(spec, mode, assume_metadata=True), stored)
    except (ValueError, NotImplementedError) as error:
        raise UnsupportedFormatError(
            f"{node.folder.path} is stored in a way that cannot be read: {plain_message(error)}"
        ) from error
    if stored.folder is not None:
        grid = tuple(-(-n // c) for n, c in zip(source.shape, source.chunks or (), strict=True))
        keys_in_use(ChunkKeys("", "/", fastest_first=True, grid=grid), (), stored.folder)
    return source


def open_spec(spec: SourceSpec) -> Source:
    """Reopen from plain JSON."""
    options = {name: spec[name] for name in URL_OPTIONS if name in spec}
    return open_path(spec["path"], spec.get("key"), spec.get("mode", "r"), **options)


def from_handle(handle: Any) -> Source | None:
    """Wrap a live `z5py.Dataset`, N5 or Zarr, or a z5py group with one array; None for what is not in local files."""
    import z5py

    if not isinstance(handle, (z5py.Dataset, z5py.Group)) or not isinstance(handle.file, z5py.File):
        return None
    container = handle.file._handle  # noqa: SLF001 - z5py says the path and the mode nowhere else
    key = handle.name.strip("/") or None
    # z5py's own default is to write, so what may not be written is no error yet.
    may = container.mode().can_write() and StoreFolder.at(container.path()).link_out(key) is None
    mode = "r+" if may else "r"
    if handle.is_zarr:
        from bioimage_py.sources import zarr

        return zarr.open_path(container.path(), key, mode)
    return open_path(container.path(), key, mode)


@reads_metadata
def list_arrays(path: str, **options: Any) -> list[str]:
    """Return the keys of the arrays in a container, in natural order; `""` if the path is an array itself."""
    root = StoreFolder.at(path, options)
    node = read_node(root)
    if node is None:
        raise SourceNotFoundError(f"there is no {_TITLE} array or group at {root.path}")
    return [key for key, _ in arrays_below(node, read_node)]


def list_coarser(spec: SourceSpec) -> list[SourceSpec]:
    """Return the specs of the levels s1, s2, … that follow an array called s0 in its group."""
    level = _LEVEL.fullmatch(spec.get("key") or "")
    if level is None:
        return []
    root = StoreFolder.at(spec["path"], {name: spec[name] for name in URL_OPTIONS if name in spec})
    found: list[SourceSpec] = []
    for number in itertools.count(int(level[2]) + 1):
        key = f"{level[1] or ''}s{number}"
        node = read_node(root.child(key))
        if node is None or node.array is None:
            return found
        found.append({**spec, "key": key})
    return found


def check_create(path: str, key: str | None, spec: ArraySpec, overwrite: bool = False) -> None:
    """Raise what `create` would raise before it makes anything."""
    try_out({"driver": "n5", "metadata": array_metadata(spec)[0]})
    check_room(StoreFolder.at(path), key, overwrite, _RULES)


def create(path: str, key: str | None, spec: ArraySpec, overwrite: bool = False) -> Source:
    """Make a new array, and the groups around it, and open it for writing.

    Raises
    ------
    UnsupportedFormatError
        For a dtype that N5 cannot hold.
    InvalidArgumentError
        For chunks, shards or a codec that N5 cannot have, or a place inside another array.
    OutputExistsError
        If something is there that may not, or must not, be replaced.
    ReadOnlyError, StorageError
        If the place cannot be written.
    """
    metadata, attributes = array_metadata(spec)
    making = {"driver": "n5", "metadata": metadata}
    try_out(making)
    root = StoreFolder.at(path)
    with room_for_array(root, key, overwrite, _RULES) as folder:
        make_array(making, folder, overwrite=overwrite)
        version = {} if key else {"n5": "4.0.0"}
        folder.write_json("attributes.json", {**version, **attributes, **metadata})
        return open_path(path, key, "r+")
