"""What the planner knows of a source: integers and names, no voxels and no files."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from bioimage_py.geometry import Box
from bioimage_py.planning.byte_size import Reported, format_bytes, times
from bioimage_py.sources import ArraySpec, Family, FileSource, Source, families, leaves
from bioimage_py.storage import is_url
from bioimage_py.wrapper import WrapperSource


def n_cells(shape: Sequence[int], grid: Sequence[int]) -> int:
    """Return how many cells of a grid cover a shape."""
    return math.prod(-(-n // g) for n, g in zip(shape, grid, strict=True))


def store_at(path: str) -> str:
    """Return what is at a path or URL: `"disk"`, or the scheme of the URL."""
    return path.partition("://")[0].lower() if is_url(path) else "disk"


def _nothing(shape: tuple[int, ...]) -> int:
    del shape
    return 0


@dataclass(frozen=True)
class ArrayLayout(Reported):
    """How one side of a copy stores its voxels."""

    _told = ("name", "format", "shape", "dtype", "chunks", "shards", "codec", "engine")

    name: str  # like format, codec and engine for people
    format: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunks: tuple[int, ...] | None = None
    shards: tuple[int, ...] | None = None
    codec: str = ""
    engine: str = ""
    store: str = "disk"  # or the scheme of a URL, such as `"s3"`; `""` for what is not stored
    one_file: bool = False  # all chunks are in one file
    fastest_first: bool = False  # names of files begin with their positions on the last axis
    metadata_files: tuple[str, ...] = ()  # names of the files that a new array has beside its chunks
    can_shard: bool = False  # a new array could have shards
    storage_order: str = "C"  # "F": the first axis is contiguous in the store
    # See `Source.scratch_bytes`.
    scratch: Callable[[tuple[int, ...]], int] = field(default=_nothing, compare=False, repr=False)
    # See `Source.decoded_bytes`; None where voxels are stored in these chunks.
    decoded: Callable[[Box], int] | None = field(default=None, compare=False, repr=False)
    chunk_bytes: int | None = None  # of the largest chunk decoded to read anything; None: that of `chunks`
    kept_bytes: int = 0  # kept during a run whatever its cache
    in_memory: bool = False  # in this process's memory already, so that reading costs none

    @classmethod
    def of(cls, source: Source) -> ArrayLayout:
        stored = next((leaf for leaf in leaves(source) if isinstance(leaf, FileSource)), None)
        found = (entry.load() for entry in families() if stored is not None and entry.kind == stored.kind)
        family = next(found, None)
        many_files = stored is None or (
            family is not None and (family.entry.in_folders or family.entry.patterns)
        )
        return cls(
            name=source.name,
            format=source.format,
            shape=source.shape,
            dtype=source.dtype,
            chunks=source.chunks,
            shards=source.shards,
            codec=source.codec,
            engine=str(getattr(source, "engine", "")),
            store="" if stored is None else store_at(stored.path),
            one_file=source.one_file or not many_files,
            fastest_first=family is not None and family.fastest_first,
            storage_order=source.storage_order,
            scratch=source.scratch_bytes,
            decoded=source.decoded_bytes if isinstance(source, WrapperSource) else None,
            chunk_bytes=source.chunk_bytes(),
            kept_bytes=source.kept_bytes(),
            in_memory=source.format == "numpy",
        )

    @classmethod
    def of_output(cls, source: Source) -> ArrayLayout:
        """Return the layout of what is written: a region of an array in shards is written in whole shards too."""
        unit = source.write_unit
        return replace(cls.of(source), shards=None if unit == source.chunks else unit)

    @classmethod
    def of_spec(cls, name: str, path: str, family: Family, spec: ArraySpec) -> ArrayLayout:
        """Return the layout of a new array of a family at a path."""
        return cls(
            name,
            family.format_of(spec),
            spec.shape,
            spec.dtype,
            spec.chunks,
            spec.shards,
            "" if spec.codec is None else spec.codec.text,
            store=store_at(path),
            one_file=not (family.entry.in_folders or family.entry.patterns),
            fastest_first=family.fastest_first,
            metadata_files=family.metadata_files(spec),
            can_shard=family.has_shards(spec.zarr_format),
            storage_order=family.storage_order,
        )

    def alone(self) -> ArrayLayout:
        """Return the layout without the reference to its source."""
        return replace(self, scratch=_nothing, decoded=None)

    @property
    def decoded_chunk(self) -> int:
        """Bytes of the largest chunk that is decoded to read anything."""
        if self.chunk_bytes is not None:
            return self.chunk_bytes
        if self.chunks is None:
            return 0
        return math.prod(self.inside(self.chunks)) * self.itemsize

    def inside(self, extents: tuple[int, ...]) -> tuple[int, ...]:
        """Return extents cut at the array, and at least 1."""
        return tuple(min(e, max(1, n)) for e, n in zip(extents, self.shape, strict=True))

    @property
    def itemsize(self) -> int:
        return self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.itemsize

    @property
    def write_unit(self) -> tuple[int, ...]:
        return self.shards or self.chunks or (1,) * len(self.shape)

    @property
    def is_stored(self) -> bool:
        """Whether it is on a disk or in an object store."""
        return self.store not in ("", "memory") and not self.in_memory

    @property
    def n_units(self) -> int:
        return n_cells(self.shape, self.write_unit)

    @property
    def n_files(self) -> int:
        """The most files that writing all of the array makes, metadata not counted."""
        return self.n_units if self.chunks is not None and not self.one_file else 1

    @property
    def grid_text(self) -> str:
        return times(self.chunks) + (f" in shards of {times(self.shards)}" if self.shards else "")

    def __str__(self) -> str:
        text = f"{self.name}: {times(self.shape)} {self.dtype}, {format_bytes(self.nbytes)}, {self.format}"
        if self.chunks is not None:
            text += f", chunks {self.grid_text}"
        if self.codec:
            text += f", {self.codec}"
        return text + (f" (through {self.engine})" if self.engine else "")
