"""A source of which a user knows better what its axes and voxel sizes are than its file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bioimage_py.chunks import AnyArray
from bioimage_py.geometry import Box
from bioimage_py.metadata import ImageMetadata, overridden, plain_value
from bioimage_py.sources.base import Source, SourceSpec, StoredSize

if TYPE_CHECKING:
    from bioimage_py.storage import StoreFolder


class DescribedSource(Source):
    """Another source with other metadata; everything else is that source's.

    Parameters
    ----------
    source
        Read, and written if it is writable.
    said
        What a user says: `axes`, `voxel_size`, `units`, as `overridden` takes them.
    owned
        Whether closing this closes the source.

    Attributes
    ----------
    inputs
        The source.
    """

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
        """Metadata of the source, with what the user said in their place."""
        return self._metadata

    @property
    def name(self) -> str:
        """What the source is called."""
        return self.inputs[0].name

    def _read(self, box: Box) -> AnyArray:
        return self.inputs[0].read(box)

    def _write(self, box: Box, values: AnyArray) -> None:
        self.inputs[0].write(box, values)

    def to_spec(self) -> SourceSpec:
        """Return the source's spec and what was said."""
        inner = self.inputs[0].to_spec()
        mode = {"mode": inner["mode"]} if "mode" in inner else {}
        return {"kind": self.kind, "input": inner, **mode, "said": self._said}

    def identities(self) -> frozenset[tuple[Any, ...]]:
        """Return those of the source."""
        return self.inputs[0].identities()

    def for_run(self, threads: int, cache_bytes: int) -> Source:
        """Return the source's twin, as runs ask for no metadata; where the source is its own twin, so is this."""
        twin = self.inputs[0].for_run(threads, cache_bytes)
        return self if twin is self.inputs[0] else twin

    def stored_size(self) -> StoredSize | None:
        """Return that of the source."""
        return self.inputs[0].stored_size()

    def mark_place(self) -> StoreFolder | None:
        """Return that of the source."""
        return self.inputs[0].mark_place()

    def stored_stamp(self) -> str | None:
        """Return that of the source."""
        return self.inputs[0].stored_stamp()

    def check_present(self) -> None:
        """Raise StorageError if what is stored has gone away."""
        self.inputs[0].check_present()

    def flush(self) -> None:
        """Hand to the operating system what the source has in buffers."""
        self.inputs[0].flush()

    def force_to_disk(self) -> None:
        """Return when everything that was written survives a crash of the machine."""
        self.inputs[0].force_to_disk()

    def remove_leftovers(self) -> int:
        """Remove the half-written files that killed writers left in the store."""
        return self.inputs[0].remove_leftovers()

    def close(self) -> None:
        """Close the source, if it was opened for this."""
        if self._owned:
            self.inputs[0].close()


def with_metadata(
    source: Any,
    *,
    axes: Sequence[str] | None = None,
    voxel_size: float | Sequence[float] | None = None,
    units: str | Sequence[str | None] | None = None,
) -> Source:
    """Return a source with other axes, voxel size or units than its file says; voxels and store stay the same.

    Parameters
    ----------
    source
        Source, array, handle or path.
    axes
        One name per axis, slowest first: `"zyx"` or `("z", "y", "x")`.
    voxel_size
        One number for all axes of space, one per axis of space, or one per axis.
    units
        One unit for all axes of space, one per axis of space, or one per axis, such as `"um"`.

    Raises
    ------
    InvalidArgumentError
        If there is not one value per axis, a size is not a positive number, a unit is not known, or an axis is named twice.

    Examples
    --------
    >>> import numpy as np
    >>> image = with_metadata(np.zeros((5, 6, 7), "uint8"), axes="zyx", voxel_size=(2, 0.5, 0.5), units="um")
    >>> image.metadata.voxel_size, image.metadata.units[0]
    ((2.0, 0.5, 0.5), 'micrometer')
    """
    from bioimage_py.sources.opening import as_source

    found = as_source(source)
    return described(found, axes=axes, voxel_size=voxel_size, units=units, owned=found is not source)


def described(source: Source, *, owned: bool, **said: Any) -> Source:
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


def open_spec(spec: SourceSpec) -> Source:
    """Reopen from plain JSON."""
    from bioimage_py.sources.opening import from_spec

    inner = dict(spec["input"])
    if "mode" in inner:
        inner["mode"] = spec.get("mode", "r")
    return described(from_spec(inner), owned=True, **spec["said"])
