"""Override a source's axes, voxel size and units."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bioimage_py.chunks import AnyArray
from bioimage_py.geometry import Box
from bioimage_py.metadata import ImageMetadata, overridden, plain_value
from bioimage_py.sources.base import Source, SourceSpec, StandIn
from bioimage_py.sources.family import Family
from bioimage_py.sources.registry import from_spec

_SAME = (
    "shape", "dtype", "chunks", "shards", "writable", "concurrent_writes", "format", "codec", "storage_order", "fill_value",
)  # fmt: skip


class OverriddenSource(StandIn):
    """Another source with other metadata; everything else is that source's."""

    kind = "described"
    reads_others = True

    def __init__(self, source: Source, said: Mapping[str, Any], *, owned: bool) -> None:
        self.stands_for, self.inputs = source, (source,)
        self._said = {k: value if isinstance(value, str) else plain_value(value) for k, value in said.items()}
        self._owned = owned
        self._metadata = overridden(source.metadata, source.ndim, **said)
        for name in _SAME:
            setattr(self, name, getattr(source, name))

    @property
    def metadata(self) -> ImageMetadata:
        return self._metadata

    @property
    def name(self) -> str:
        return self.stands_for.name

    def _read(self, box: Box) -> AnyArray:
        return self.stands_for.read(box)

    def _write(self, box: Box, values: AnyArray) -> None:
        self.stands_for.write(box, values)

    def to_spec(self) -> SourceSpec:
        inner = self.stands_for.to_spec()
        mode = {"mode": inner["mode"]} if "mode" in inner else {}
        return {"kind": self.kind, "input": inner, **mode, "said": self._said}

    def for_run(self, threads: int, cache_bytes: int) -> Source:
        twin = self.stands_for.for_run(threads, cache_bytes)
        return self if twin is self.stands_for else twin

    def close(self) -> None:
        if self._owned:
            self.stands_for.close()


def override_metadata(source: Source, *, owned: bool, **said: Any) -> Source:
    """Return the source itself where nothing is said, else one with other metadata; it is closed if that fails."""
    given = {name: value for name, value in said.items() if value is not None}
    if not given:
        return source
    try:
        return OverriddenSource(source, given, owned=owned)
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
