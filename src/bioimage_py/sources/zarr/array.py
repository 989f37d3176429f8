"""Zarr v2 and v3, on disk and behind URLs: TensorStore where it can, zarr-python where it cannot."""

from __future__ import annotations

import json
import logging
import re
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import tensorstore as ts

from bioimage_py.errors import (
    BioimagePyWarning,
    SourceNotFoundError,
    StorageError,
    UnsupportedFormatError,
)
from bioimage_py.sources.array_spec import ArraySpec
from bioimage_py.sources.base import Source, SourceSpec
from bioimage_py.sources.stores import (
    Node,
    StoredArray,
    StoreRules,
    arrays_below,
    check_room,
    coarser_paths,
    find_array,
    from_tensorstore,
    make_array,
    open_store,
    open_tensorstore_spec,
    room_for_array,
    several_arrays,
    try_out,
    update_consolidated,
)
from bioimage_py.sources.zarr.codecs import codec_text
from bioimage_py.sources.zarr.encoding import names_in_use
from bioimage_py.sources.zarr.files import ZarrSource
from bioimage_py.sources.zarr.metadata import (
    array_metadata,
    group_files,
    image_metadata,
    read_node,
    zarr_format_of,
)
from bioimage_py.storage import URL_OPTIONS, StoreFolder, check_json, plain_message, reads_metadata

_log = logging.getLogger(__name__)
_TITLE = "Zarr"
_MOST_EXTENT = 2**62 - 1
_OWN_ENTRY = re.compile(
    r"zarr\.json|\.z(array|attrs|group)|c|c[./]\d+([./]\d+)*|\d+([./]\d+)*|.*\.__lock|.*\.[0-9a-f]{32}\.partial|\.DS_Store"
)


@reads_metadata
def open_path(path: str, key: str | None, mode: str, **options: Any) -> Source:
    """Open the array at a path or URL; see `hierarchy.find_array` for what a group without a key means."""
    if Path(path).is_file():
        from bioimage_py.sources.zarr.zarr_python import open_zip

        return open_zip(path, key, mode)
    root = StoreFolder.at(path, options)
    found_key, node = find_array(root, key, read_node, _TITLE)
    return _open_node(root, found_key, node, mode)


def _open_node(root: StoreFolder, key: str | None, node: Node, mode: str) -> Source:
    if mode != "r":
        root.check_writable(key)
    stored = _stored(root, key, node, mode)
    # Where it is written behind a URL, it is new, or was opened for reading before.
    renamed = names_in_use(node) if mode == "r" or root.is_local else {}
    if renamed:
        node, stored = _renamed(node, stored, renamed)
    try:
        return ZarrSource(_open_tensorstore(node, mode), stored)
    except (ValueError, NotImplementedError) as error:
        _log.debug("TensorStore does not read %s, so zarr-python does: %s", node.folder.path, error)
        if renamed:
            raise UnsupportedFormatError(f"{stored.path} cannot be read: {plain_message(error)}") from error
        return _open_with_zarr_python(stored, node, error)


def _renamed(node: Node, stored: StoredArray, renamed: Mapping[str, Any]) -> tuple[Node, StoredArray]:
    what = f"the chunk files in {node.folder.path} are called as by {json.dumps(dict(renamed))}, which its metadata do not say"
    if stored.mode != "r":
        raise StorageError(f"{what}, so that it is not written: correct the metadata")
    warnings.warn(f"{what}; they are read by these names", BioimagePyWarning, stacklevel=5)
    return replace(node, array={**(node.array or {}), **renamed}), replace(stored, renamed=renamed)


def _open_tensorstore(node: Node, mode: str) -> Any:
    """Open through TensorStore with the metadata that has been read already; ValueError if it cannot read that."""
    metadata = dict(node.array or {})
    # Only what decoding needs: attributes have been read, and must not be able to break anything.
    for unneeded in ("attributes", "dimension_names", "consolidated_metadata"):
        metadata.pop(unneeded, None)
    check_json(metadata, node.folder.path)
    if any(n >= _MOST_EXTENT for n in node.shape):
        raise StorageError(
            f"{node.folder.path} has shape {node.shape}; no axis can be longer than {_MOST_EXTENT - 1}"
        )
    chunks = metadata.get("chunks")
    if zarr_format_of(node) == 3:
        grid = metadata.get("chunk_grid")
        chunks = (grid.get("configuration") or {}).get("chunk_shape") if isinstance(grid, Mapping) else None
    if isinstance(chunks, list) and any(c == 0 and n for c, n in zip(chunks, node.shape, strict=False)):
        raise StorageError(f"{node.folder.path} has chunks of shape {chunks}, which hold no voxel")
    if len(node.shape) < 2 and "order" in metadata:
        metadata["order"] = "C"  # the same thing here, but TensorStore refuses "F"
    spec = {
        "driver": "zarr3" if zarr_format_of(node) == 3 else "zarr",
        "kvstore": node.folder.spec(),
        "metadata": metadata,
        "recheck_cached_data": True,
    }
    store = open_store(spec, mode, assume_metadata=True)
    if store.rank != len(node.shape) or store.dtype.numpy_dtype.kind not in "biufc":
        raise ValueError(f"TensorStore shows it as {store.dtype} with {store.rank} axes")
    return store


def _open_with_zarr_python(stored: StoredArray, node: Node, reason: Exception) -> Source:
    from bioimage_py.sources.zarr.zarr_python import open_folder

    try:
        return open_folder(node.folder, stored)
    except Exception as error:  # codecs raise whatever they like
        raise UnsupportedFormatError(
            f"{stored.path}{':' + stored.key if stored.key else ''} is stored in a way that cannot be read. "
            f"TensorStore: {plain_message(reason)}. zarr-python: {plain_message(error)}"
        ) from error


def _stored(root: StoreFolder, key: str | None, node: Node, mode: str) -> StoredArray:
    array = node.array or {}
    return StoredArray(
        kind="zarr",
        path=root.path,
        key=key,
        mode=mode,
        format=f"zarr v{zarr_format_of(node)}",
        codec=" ".join(filter(None, (codec_text(array.get(name)) for name in ("filters", "compressor"))))
        if zarr_format_of(node) == 2
        else codec_text(array.get("codecs")),
        metadata=image_metadata(node),
        options=root.options,
        folder=node.folder.path if root.is_local else None,
    )


def open_spec(spec: SourceSpec) -> Source:
    """Reopen from plain JSON."""
    if "tensorstore" in spec:
        return open_tensorstore_spec(spec)
    options = {name: spec[name] for name in URL_OPTIONS if name in spec}
    return open_path(spec["path"], spec.get("key"), spec.get("mode", "r"), **options)


def from_handle(handle: Any) -> Source | None:
    """Wrap a live `zarr.Array`, `zarr.Group` with one array, or `tensorstore.TensorStore`."""
    if isinstance(handle, ts.TensorStore):
        return from_tensorstore(handle)
    import zarr

    if isinstance(handle, zarr.Group):
        if isinstance(handle.store, zarr.storage.LocalStore):
            path, key = str(handle.store.root), handle.path or None
            return open_path(path, key, _mode_of(path, key, read_only=handle.read_only))
        handle = _only_array(handle)
    if not isinstance(handle, zarr.Array):
        return None
    from bioimage_py.sources.zarr.zarr_python import wrap

    if isinstance(handle.store, zarr.storage.LocalStore):
        path, key = str(handle.store.root), handle.path or None
        mode = _mode_of(path, key, read_only=handle.read_only)
        node = read_node(StoreFolder(path).child(key))
        if node is not None and node.array is not None:
            return _open_node(StoreFolder(path), key, node, mode)
    return wrap(handle)


def group_path(handle: Any) -> str | None:
    """Return the path of a live `zarr.Group` in a local folder; None for anything else."""
    import zarr

    if not isinstance(handle, zarr.Group) or not isinstance(handle.store, zarr.storage.LocalStore):
        return None
    return f"{handle.store.root}/{handle.path}".rstrip("/")


def _mode_of(path: str, key: str | None, *, read_only: bool) -> str:
    """Return how a handle's array is opened: zarr's own default is to write, so what may not be written is no error yet."""
    return "r" if read_only or StoreFolder.at(path).link_out(key) is not None else "r+"


def _only_array(group: Any) -> Any:
    arrays = [(name, member) for name, member in group.members(max_depth=None) if hasattr(member, "dtype")]
    if not arrays:
        raise SourceNotFoundError(f"there is no array in the group {group.store_path}")
    if len(arrays) > 1:
        nodes = [
            (name, Node(StoreFolder(name), {}, shape=member.shape, dtype=str(member.dtype)))
            for name, member in arrays
        ]
        raise several_arrays(str(group.store_path), nodes)
    return arrays[0][1]


@reads_metadata
def list_arrays(path: str, **options: Any) -> list[str]:
    """Return the keys of the arrays in a container, in natural order; `""` if the path is an array itself."""
    root = StoreFolder.at(path, options)
    node = read_node(root)
    if node is None:
        raise SourceNotFoundError(f"there is no {_TITLE} array or group at {root.path}")
    return [key for key, _ in arrays_below(node, read_node)]


def list_coarser(spec: SourceSpec) -> list[SourceSpec]:
    """Return the specs of the levels below an array in its OME-Zarr image, finest first."""
    parts = (spec.get("key") or "").split("/")
    if "tensorstore" in spec or parts == [""] or Path(spec["path"]).is_file():
        return []
    options = {name: spec[name] for name in URL_OPTIONS if name in spec}
    root = StoreFolder.at(spec["path"], options)
    # A level may lie in groups of its own below the image.
    for n in reversed(range(len(parts))):
        group = "/".join(parts[:n])
        paths = coarser_paths(root.child(group or None), "/".join(parts[n:]))
        if paths:
            return [{**spec, "key": f"{group}/{path}" if group else path} for path in paths]
    return []


def probe_url(url: str, **options: Any) -> str:
    """Return the storage family of a URL without a known ending, by asking for the metadata files of each.

    Raises
    ------
    SourceNotFoundError
        If none is there.
    """
    folder = StoreFolder.at(url, options)
    markers = (
        ("zarr", "zarr.json"),
        ("zarr", ".zarray"),
        ("zarr", ".zgroup"),
        ("n5", "attributes.json"),
        ("precomputed", "info"),
    )
    for kind, name in markers:
        if folder.read(name) is not None:
            return kind
    asked = ", ".join(name for _, name in markers)
    raise SourceNotFoundError(
        f"there is no Zarr, N5 or precomputed array at {folder.path}: none of {asked} is there"
    )


def format_around(path: str, key: str | None, **options: Any) -> int | None:
    """Return 2 or 3, the version of the innermost group that a new array of a key is put into; None where there is none yet."""
    root, parts = StoreFolder.at(path, options), (key or "").split("/")
    for n in reversed(range(len(parts) if key else 0)):
        group = root.child("/".join(parts[:n]))
        if group.read("zarr.json") is not None:
            return 3
        # Some writers leave out the .zgroup.
        if any(group.read(name) is not None for name in (".zgroup", ".zattrs")):
            return 2
    return None


def store_rules(zarr_format: int) -> StoreRules:
    """Return what the arrays and groups of a version of Zarr have in their folders."""
    return StoreRules(_TITLE, read_node, _OWN_ENTRY, group_files(zarr_format))


def check_create(path: str, key: str | None, spec: ArraySpec, overwrite: bool = False) -> None:
    """Raise what `create` would raise before it makes anything."""
    _making(spec)
    check_room(StoreFolder.at(path), key, overwrite, store_rules(spec.zarr_format))


def _making(spec: ArraySpec) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a new array as TensorStore takes it, which is tried, and its attributes."""
    metadata, attributes = array_metadata(spec)
    making = {"driver": "zarr3" if spec.zarr_format == 3 else "zarr", "metadata": metadata}
    try_out(making)
    return making, attributes


def create(
    path: str,
    key: str | None,
    spec: ArraySpec,
    overwrite: bool = False,
    *,
    listed: bool = True,
    **options: Any,
) -> Source:
    """Make a new array, and the groups around it, and open it for writing; options say how a URL is reached.

    With `listed`, consolidated metadata of groups around it list it.

    Raises
    ------
    UnsupportedFormatError
        For a dtype that Zarr cannot hold.
    InvalidArgumentError
        For chunks, shards or a codec that Zarr cannot have, or a place inside another array.
    OutputExistsError
        If something is there that may not, or must not, be replaced.
    ReadOnlyError, StorageError
        If the place cannot be written.
    """
    making, attributes = _making(spec)
    root = StoreFolder.at(path, options)
    with room_for_array(root, key, overwrite, store_rules(spec.zarr_format)) as folder:
        own = attributes if spec.zarr_format == 3 else None
        make_array(making, folder, overwrite=overwrite, attributes=own)
        if spec.zarr_format == 2 and attributes:
            folder.write_json(".zattrs", attributes)
        if listed:
            update_consolidated([folder])
        return open_path(path, key, "r+", **options)
