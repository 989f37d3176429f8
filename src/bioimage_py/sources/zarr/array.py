"""Zarr v2 and v3, on disk and behind URLs: TensorStore where it can, zarr-python where it cannot."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import tensorstore as ts

from bioimage_py.chunks import ChunkEncoding, StoredChunks
from bioimage_py.errors import (
    AmbiguousSourceError,
    BioimagePyWarning,
    MissingDependencyError,
    SourceNotFoundError,
    StorageError,
    UnsupportedFormatError,
)
from bioimage_py.metadata import ImageMetadata
from bioimage_py.sources.array_spec import ArraySpec
from bioimage_py.sources.base import FileSource, Source, SourceSpec
from bioimage_py.sources.ome_zarr import ImageGroup
from bioimage_py.sources.stores import (
    Node,
    StoredArray,
    StoreFamily,
    StoreRules,
    coarser_paths,
    find_array,
    from_tensorstore,
    mark_new,
    open_store,
    open_tensorstore_spec,
    update_consolidated,
)
from bioimage_py.sources.zarr.codecs import codec_text, keeping, needs_zarr_python, without_rounding
from bioimage_py.sources.zarr.encoding import encoding_from_metadata, names_in_use, stored_chunks
from bioimage_py.sources.zarr.files import ZarrSource
from bioimage_py.sources.zarr.metadata import (
    TITLE,
    array_metadata,
    described_array,
    dimension_names,
    image_metadata,
    make_zarr_array,
    problems_of,
    read_node,
    store_rules,
    zarr_format_of,
)
from bioimage_py.storage import StoreFolder, check_json, is_url, plain_message, reads_metadata

_log = logging.getLogger(__name__)
_MOST_EXTENT = 2**62 - 1


class ZarrFamily(StoreFamily):
    @reads_metadata
    def open_path(self, path: str, key: str | None, mode: str, **options: Any) -> Source:
        """Open the array at a path or URL; see `find_array` for what a group without a key means."""
        root = StoreFolder.at(path, options)
        found_key, node = find_array(root, key, read_node, TITLE)
        return _open_node(root, found_key, node, mode)

    def open_spec(self, spec: SourceSpec) -> Source:
        return open_tensorstore_spec(spec) if "tensorstore" in spec else super().open_spec(spec)

    def from_handle(self, handle: Any) -> Source | None:
        """Wrap a live `zarr.Array`, `zarr.Group` with one array, or `tensorstore.TensorStore`."""
        if isinstance(handle, ts.TensorStore):
            return from_tensorstore(handle)
        import zarr

        if not isinstance(handle, (zarr.Group, zarr.Array)):
            return None
        if isinstance(handle.store, zarr.storage.LocalStore):
            path, key = str(handle.store.root), handle.path or None
            # zarr's own default is to write, so what may not be written is not an error yet.
            closed = handle.read_only or StoreFolder.at(path).link_out(key) is not None
            mode = "r" if closed else "r+"
            if isinstance(handle, zarr.Group):
                source: Source = self.open_path(path, key, mode)
                return source
            node = read_node(StoreFolder(path).child(key))
            if node is not None and node.array is not None:
                return _open_node(StoreFolder(path), key, node, mode)
        from bioimage_py.sources.zarr.zarr_python import wrap

        return wrap(_only_array(handle) if isinstance(handle, zarr.Group) else handle)

    def problems(self, node: Node) -> Iterator[str]:
        return problems_of(node.array or {})

    def list_coarser(self, spec: SourceSpec) -> list[SourceSpec]:
        """Return the specs of the levels below an array in its OME-Zarr image."""
        parts = (spec.get("key") or "").split("/")
        if "tensorstore" in spec or parts == [""]:
            return []
        root = StoreFolder.of_spec({**spec, "key": None})
        # A level may lie in groups of its own below the image.
        for n in reversed(range(len(parts))):
            group = "/".join(parts[:n])
            paths = coarser_paths(root.child(group or None), "/".join(parts[n:]))
            if paths:
                return [{**spec, "key": f"{group}/{path}" if group else path} for path in paths]
        return []

    def stored_chunks(self, source: FileSource) -> StoredChunks:
        return stored_chunks(source)

    def planned_encoding(self, spec: ArraySpec) -> ChunkEncoding:
        return encoding_from_metadata(array_metadata(spec)[0], spec.fill_value)

    def rules(self, zarr_format: int) -> StoreRules:
        return store_rules(zarr_format)

    def making(self, key: str | None, spec: ArraySpec) -> tuple[dict[str, Any], dict[str, Any]]:
        del key
        return described_array(spec)

    def make(
        self,
        making: dict[str, Any],
        attributes: Mapping[str, Any],
        folder: StoreFolder,
        *,
        listed: bool = True,
    ) -> None:
        """Make the array; with `listed`, consolidated metadata of groups around it list it."""
        make_zarr_array(making, attributes, folder)
        if listed:
            update_consolidated([folder])

    def make_level(self, like: Node, folder: StoreFolder, shape: tuple[int, ...]) -> bool:
        mark_new(folder)
        array = {**(like.array or {}), "shape": list(shape)}
        if zarr_format_of(like) == 3:
            folder.write_json(
                "zarr.json", {**array, "attributes": {}}
            )  # voxel sizes are those of the other level
        else:
            names = {key: value for key, value in like.attributes.items() if key == "_ARRAY_DIMENSIONS"}
            folder.write_json(".zarray", array)
            folder.write_json(".zattrs", names)
        update_consolidated([folder])
        return True

    def format_of(self, spec: ArraySpec) -> str:
        return f"zarr v{spec.zarr_format}"

    def metadata_files(self, spec: ArraySpec) -> tuple[str, ...]:
        return ("zarr.json",) if spec.zarr_format == 3 else (".zarray", ".zattrs")

    def has_shards(self, zarr_format: int) -> bool:
        return zarr_format == 3

    def format_around(self, path: str, key: str | None, **options: Any) -> int | None:
        """Return 2 or 3, the version of the innermost group that a new array is put into; None where there is none yet."""
        root, parts = StoreFolder.at(path, options), (key or "").split("/")
        for n in reversed(range(len(parts) if key else 0)):
            group = root.child("/".join(parts[:n]))
            if group.read("zarr.json") is not None:
                return 3
            # Some writers leave out the .zgroup.
            if any(group.read(name) is not None for name in (".zgroup", ".zattrs")):
                return 2
        return None

    def image_group(self, path: str, key: str | None) -> ImageGroup | None:
        return ImageGroup.at(path, key)

    def settled(self, spec: ArraySpec, path: str, *, grid: bool) -> ArraySpec:
        codec = spec.codec
        if (
            codec is not None
            and needs_zarr_python(codec, spec.zarr_format)
            and is_url(path)
            and not path.startswith("az://")
        ):
            raise UnsupportedFormatError(
                f"{path} cannot have the codec {codec.text!r}, which TensorStore lacks: zarr-python writes into local folders and at az:// only here"
            )
        return super().settled(spec, path, grid=grid)

    def keeping(self, spec: ArraySpec, encoding: ChunkEncoding, *, grid: bool, codec: bool) -> ArraySpec:
        return keeping(self, spec, encoding, spec.zarr_format, grid=grid, codec=codec)

    def finish_image(self, arrays: Sequence[FileSource]) -> None:
        from bioimage_py.sources.ome_zarr import set_contrast_limits

        set_contrast_limits(arrays)

    def removed(self, folder: StoreFolder) -> None:
        update_consolidated([folder])


@reads_metadata
def open_array(root: StoreFolder, key: str | None, node: Node | None = None, mode: str = "r") -> Source:
    """Open an array for its voxels only, without attributes and what images say of it; `node` is what was read of it before, and holds."""
    found = node or read_node(root.child(key))
    if found is None or found.array is None:
        raise SourceNotFoundError(f"there is no {TITLE} array {key!r} in {root.path}")
    return _open_node(root, key, found, mode, voxels_only=True)


def _open_node(
    root: StoreFolder, key: str | None, node: Node, mode: str, *, voxels_only: bool = False
) -> Source:
    if mode != "r":
        root.check_writable(key)
    stored = _stored(root, key, node, mode, voxels_only=voxels_only)
    # Where it is written behind a URL, it is new, or was opened for reading before.
    renamed = names_in_use(node) if mode == "r" or root.is_local else {}
    if renamed:
        what = f"the chunk files in {node.folder.path} are called as by {json.dumps(dict(renamed))}, which its metadata do not say"
        if mode != "r":
            raise StorageError(f"{what}, so that it is not written: correct the metadata")
        warnings.warn(f"{what}; they are read by these names", BioimagePyWarning, stacklevel=4)
        node, stored = (
            replace(node, array={**(node.array or {}), **renamed}),
            replace(stored, renamed=renamed),
        )
    if root.archive is not None:
        return _open_with_zarr_python(stored, node, NotImplementedError("zip files are read by zarr-python"))
    try:
        return ZarrSource(_open_tensorstore(node, mode), stored)
    except (ValueError, NotImplementedError) as error:
        # At az:// this is how it is: TensorStore does not get there.
        _log.debug("TensorStore does not read %s, so zarr-python does: %s", node.folder.path, error)
        if renamed:
            raise UnsupportedFormatError(f"{stored.path} cannot be read: {plain_message(error)}") from error
        return _open_with_zarr_python(stored, node, error)


def _open_tensorstore(node: Node, mode: str) -> Any:
    """Open through TensorStore with the metadata that has been read already; ValueError if it cannot read that."""
    metadata = dict(node.array or {})
    # Only what decoding needs: attributes have been read, and must not be able to break anything.
    for unneeded in ("attributes", "dimension_names", "consolidated_metadata"):
        metadata.pop(unneeded, None)
    for steps in ("codecs", "filters") if mode == "r" else ():
        metadata |= {steps: without_rounding(metadata[steps])} if steps in metadata else {}
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
        return open_folder(node.folder, stored, node.array)
    except (MissingDependencyError, StorageError):
        raise
    except Exception as error:  # codecs raise whatever they like
        raise UnsupportedFormatError(
            f"{stored.path}{':' + stored.key if stored.key else ''} is stored in a way that cannot be read. "
            f"TensorStore: {plain_message(reason)}. zarr-python: {plain_message(error)}"
        ) from error


def _stored(root: StoreFolder, key: str | None, node: Node, mode: str, *, voxels_only: bool) -> StoredArray:
    array, zarr_format = node.array or {}, zarr_format_of(node)
    steps = (array.get("codecs"),) if zarr_format == 3 else (array.get("filters"), array.get("compressor"))
    return StoredArray(
        kind="zarr",
        path=root.path,
        key=key,
        mode=mode,
        format=f"zarr v{zarr_format}",
        codec=" ".join(filter(None, map(codec_text, steps))),
        metadata=ImageMetadata(axes=dimension_names(node)) if voxels_only else image_metadata(node),
        array=array if voxels_only else None,
        options=root.options,
        folder=node.folder.path if root.is_local else None,
        zipped=root.archive is not None and not is_url(root.path),
        whole_chunks=True,
    )


def group_path(handle: Any) -> str | None:
    """Return the path of a live `zarr.Group` in a local folder; None for anything else."""
    import zarr

    if not isinstance(handle, zarr.Group) or not isinstance(handle.store, zarr.storage.LocalStore):
        return None
    return f"{handle.store.root}/{handle.path}".rstrip("/")


def _only_array(group: Any) -> Any:
    arrays = {name: member for name, member in group.members(max_depth=None) if hasattr(member, "dtype")}
    if not arrays:
        raise SourceNotFoundError(f"there is no array in the group {group.store_path}")
    if len(arrays) > 1:
        raise AmbiguousSourceError(
            f"the group {group.store_path} holds {len(arrays)} arrays, give one of them: {', '.join(sorted(arrays))}"
        )
    return next(iter(arrays.values()))
