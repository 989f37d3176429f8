"""Override a source's axes, voxel size and units."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bioimage_py.chunks import AnyArray
from bioimage_py.geometry import Box
from bioimage_py.metadata import ImageMetadata, overridden, plain_value
from bioimage_py.sources.base import Source, SourceSpec, StoredSize
from bioimage_py.sources.family import Family
from bioimage_py.sources.registry import from_spec

if TYPE_CHECKING:
    from bioimage_py.storage import StoreFolder


class DescribedSource(Source):
    """Another source with other metadata; everything else is that source's."""

    kind = "described"
    reads_others = True

    def __init__(self, source: Source, said: Mapping[str, Any], *, owned: bool) -> None:
        self.inputs = (source,)
        self._said = {
            name: value if isinstance(value, str) else plain_value(value) for name, value in said.items()
        }
        self._owned = owned
        self._metadata = overridden(source.metadata, source.ndim, **said)
        self.shape, self.dtype = source.shape, source.dtype
        self.chunks, self.shards = source.chunks, source.shards
        self.writable, self.concurrent_writes = source.writable, source.concurrent_writes
        self.format, self.codec = source.format, source.codec
        self.storage_order, self.fill_value = source.storage_order, source.fill_value

    @property
    def metadata(self) -> ImageMetadata:
        return self._metadata

    @property
    def name(self) -> str:
        return self.inputs[0].name

    def _read(self, box: Box) -> AnyArray:
        return self.inputs[0].read(box)

    def _write(self, box: Box, values: AnyArray) -> None:
        self.inputs[0].write(box, values)

    def to_spec(self) -> SourceSpec:
        inner = self.inputs[0].to_spec()
        mode = {"mode": inner["mode"]} if "mode" in inner else {}
        return {"kind": self.kind, "input": inner, **mode, "said": self._said}

    def identities(self) -> frozenset[tuple[Any, ...]]:
        return self.inputs[0].identities()

    def for_run(self, threads: int, cache_bytes: int) -> Source:
        twin = self.inputs[0].for_run(threads, cache_bytes)
        return self if twin is self.inputs[0] else twin

    def stored_size(self) -> StoredSize | None:
        return self.inputs[0].stored_size()

    def mark_place(self) -> StoreFolder | None:
        return self.inputs[0].mark_place()

    def stored_stamp(self) -> str | None:
        return self.inputs[0].stored_stamp()

    def check_present(self) -> None:
        self.inputs[0].check_present()

    def flush(self) -> None:
        self.inputs[0].flush()

    def force_to_disk(self) -> None:
        self.inputs[0].force_to_disk()

    def remove_leftovers(self) -> int:
        return self.inputs[0].remove_leftovers()

    def close(self) -> None:
        if self._owned:
            self.inputs[0].close()


def override_metadata(source: Source, *, owned: bool, **said: Any) -> Source:
    """Return the source itself where nothing is said, else one with other metadata; it is closed if that fails."""
    given = {name: value for name, value in said.items() if value is not None}
    if not given:
        return source
    try:
        return DescribedSource(source, given, owned=owned)
    except BaseException:
        if owned:
            source.close()
        raise


class OverrideFamily(Family):
    """Arrays with other metadata, in specs."""

    def open_spec(self, spec: SourceSpec) -> Source:
        inner = dict(spec["input"])
        if "mode" in inner:
            inner["mode"] = spec.get("mode", "r")
        return override_metadata(from_spec(inner), owned=True, **spec["said"])
