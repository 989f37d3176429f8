"""Live `tensorstore.TensorStore` handles of any driver, in the axis order that their user sees."""

from __future__ import annotations

from typing import Any

from bioimage_py.errors import InvalidArgumentError
from bioimage_py.sources.base import Source, SourceSpec
from bioimage_py.sources.stores.tensorstore_array import StoredArray, TensorStoreSource, open_store
from bioimage_py.storage import StoreFolder, file_identity, storage_errors


class TensorStoreHandleSource(TensorStoreSource):
    """What a user opened with TensorStore, cut or transposed as the user did it; the first voxel is at 0."""

    def __init__(self, store: Any, stored: StoredArray) -> None:
        super().__init__(store, stored)
        layout = self._store.chunk_layout
        cells = zip(layout.grid_origin or (), layout.write_chunk.shape or (), strict=False)
        if any(origin is not None and extent and origin % extent for origin, extent in cells):
            # The first chunk is cut: no blocks that begin at 0 are whole chunks, so two writers would meet in them.
            self.chunks = self.shards = None
            self.concurrent_writes = False

    def _plain_spec(self) -> dict[str, Any]:
        found: dict[str, Any] = self._raw.spec(retain_context=False, minimal_spec=True).to_json()
        return found

    def for_run(self, threads: int, cache_bytes: int) -> Source:
        kvstore = self._plain_spec().get("kvstore")
        again = isinstance(kvstore, dict) and kvstore.get("driver") in ("file", "s3", "gcs", "http")
        return super().for_run(threads, cache_bytes) if again else self

    def to_spec(self) -> SourceSpec:
        spec = self._plain_spec()
        kvstore = spec.get("kvstore")
        if not isinstance(kvstore, dict) or kvstore.get("driver") in (None, "memory") or "headers" in kvstore:
            raise InvalidArgumentError(
                f"{self.name} has no spec that another process could use: it can be used in local runs only"
            )
        return {"kind": "zarr", "mode": self.mode, "tensorstore": spec}

    def identities(self) -> frozenset[tuple[Any, ...]]:
        if self._stored.folder is not None:
            return frozenset({file_identity(self._stored.folder)})
        return frozenset({("tensorstore", str(self._plain_spec().get("kvstore") or id(self._raw)))})

    def mark_place(self) -> StoreFolder | None:
        return super().mark_place() if self._stored.folder is not None else None


def from_tensorstore(store: Any) -> TensorStoreSource:
    if not store.readable:
        raise InvalidArgumentError("a TensorStore that cannot be read (mode 'w') cannot be a source")
    if store.dtype.numpy_dtype.kind not in "biufc":
        raise InvalidArgumentError(f"a TensorStore of {store.dtype} holds no voxels")
    spec = store.spec(retain_context=False, minimal_spec=True).to_json()
    kvstore = spec.get("kvstore")
    is_file = isinstance(kvstore, dict) and kvstore.get("driver") == "file"
    folder = kvstore["path"].rstrip("/") if is_file else None
    path = folder or _url(store) or f"tensorstore {spec.get('driver')}"
    stored = StoredArray(
        kind="zarr",
        path=path,
        key=None,
        mode="r+" if store.writable else "r",
        format=f"tensorstore {spec.get('driver')}",
        folder=folder,
        view=_from_zero,
        whole_chunks=True,
    )
    return TensorStoreHandleSource(store, stored)


def _url(store: Any) -> str:
    if store.kvstore is None:
        return ""
    try:
        return str(store.kvstore.url)
    except NotImplementedError:
        # With an endpoint of its own TensorStore gives S3 no URL; ours says how to reach it besides.
        place = store.kvstore.spec().to_json()
        return f"s3://{place['bucket']}/{place['path']}" if place.get("driver") == "s3" else ""


def _from_zero(store: Any) -> Any:
    return store.translate_to[(0,) * store.rank] if store.rank else store


def open_tensorstore_spec(spec: SourceSpec) -> TensorStoreSource:
    with storage_errors("a TensorStore cannot be reopened from its spec"):
        store = open_store(spec["tensorstore"], spec.get("mode", "r"))
    return from_tensorstore(store)
