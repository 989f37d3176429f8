"""Volumes of a container, one for each time point and channel, as one image: what Imaris and BigDataViewer have in common."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bioimage_py.chunks import AnyArray, EncodedReader, StoredChunks, UnknownEncoding, copy_rows
from bioimage_py.errors import ReadOnlyError, SourceNotFoundError, StorageError, UnsupportedFormatError
from bioimage_py.geometry import Box
from bioimage_py.metadata import ImageMetadata, without_nonsense
from bioimage_py.sources.base import FileSource, SourceSpec, StoredSize
from bioimage_py.sources.chunk_access import encoded_reader, encoding_of
from bioimage_py.sources.chunked import ChunkedFileSource
from bioimage_py.sources.family import Family
from bioimage_py.sources.hdf5.dataset import describe, find_dataset
from bioimage_py.sources.hdf5.files import reading
from bioimage_py.sources.hdf5.links import OtherFiles, follow
from bioimage_py.sources.hdf5.read import stored_source
from bioimage_py.storage import Identity, PartStamps, Recent, StoredBytes, file_identity, file_stamp, is_url

AXES = ("t", "c", "z", "y", "x")
_OPEN = 1024
"""Volumes that are kept open, each with the index of its chunks."""


@dataclass(frozen=True)
class Volumes:
    """The volumes that a level of an image is made of, as its file describes them."""

    format: str  # for people
    container: str  # the file or folder that holds them
    outer: tuple[int, int]  # how many time points and channels
    # Of the volumes, time points slowest; None where the file says that there is none, which is not so of all.
    keys: tuple[str | None, ...]
    open: Callable[[str], FileSource]
    full: tuple[int, ...]  # extents of the full-size image along z, y, x
    shape: tuple[int, ...] | None  # of this level, where volumes are padded; None for that of the volumes
    metadata: ImageMetadata  # of all five axes
    n_levels: int
    unsigned: bool = False  # whether 16 bits that are stored as signed ones are unsigned

    @property
    def kept(self) -> tuple[int, ...]:
        """The axes that an image has: those of more than one voxel at full size, and y and x."""
        return tuple(axis for axis, n in enumerate((*self.outer, *self.full)) if n > 1 or axis > 2)


def hdf5_volumes(path: str, others: OtherFiles) -> Callable[[str], FileSource]:
    """Return what opens the datasets of a file; their attributes are not read."""

    def opened(key: str) -> FileSource:
        with reading(path) as file:
            place, inner = follow(path, key, others, file)
            with nullcontext(file) if place == path else reading(place) as there:
                dataset = find_dataset(there, place, inner)
                described = describe(dataset, attributes=False, path=place)
                return stored_source(dataset, described, path, key, others)

    return opened


class VolumesSource(ChunkedFileSource):
    """An image whose time points and channels are volumes of their own, without axes of extent 1, except for y and x."""

    def __init__(
        self, kind: str, path: str, key: str | None, found: Volumes, options: Mapping[str, Any]
    ) -> None:
        super().__init__()
        self.kind, self.path, self.key, self.found = kind, path, key, found
        self._options, self._recent = options, Recent[int, FileSource](_OPEN)
        volume = found.open(next(one for one in found.keys if one is not None))
        self._stored, self._extents = volume.dtype, found.shape or volume.shape
        if volume.ndim != 3:
            raise StorageError(f"{volume.name!r} has {volume.ndim} axes, not z, y and x")
        chunks = (1, 1, *(volume.chunks or (1, *volume.shape[1:])))
        self.shape = tuple((*found.outer, *self._extents)[axis] for axis in found.kept)
        self.chunks = tuple(max(1, chunks[axis]) for axis in found.kept)
        self.dtype = np.dtype("uint16") if found.unsigned and volume.dtype == "int16" else volume.dtype
        self.format, self.codec, self.one_file = found.format, volume.codec, volume.one_file
        self.fill_value = np.asarray(volume.fill_value or 0, volume.dtype).view(self.dtype)[()]
        self._metadata = without_nonsense(found.metadata.with_axes_selected(found.kept), self.ndim, self.name)
        for _ in self._volumes():  # those that do not fit are found now
            pass

    @property
    def metadata(self) -> ImageMetadata:
        return self._metadata

    def volume(self, number: int) -> FileSource | None:
        """Open a volume by its number; None where there is none, StorageError if it does not fit the others."""
        return None if self.found.keys[number] is None else self._recent.get(number, self._opened)

    def _volumes(self) -> Iterator[FileSource]:
        place = self.found.container
        with reading(place) if os.path.isfile(place) else nullcontext():  # noqa: PTH113 - a text; else each opens it anew
            yield from filter(None, map(self.volume, range(len(self.found.keys))))

    def _opened(self, number: int) -> FileSource:
        volume, padded = self.found.open(str(self.found.keys[number])), self.found.shape is not None
        fits = len(volume.shape) == 3 and all(
            n >= wanted if padded else n == wanted
            for n, wanted in zip(volume.shape, self._extents, strict=True)
        )
        if not fits or volume.dtype != self._stored:
            raise StorageError(
                f"{volume.name!r} has shape {volume.shape} and dtype {volume.dtype}, and should have "
                f"{'at least ' if padded else ''}{self._extents} and {self._stored}"
            )
        twin = volume.for_run(1, 0)  # what is decoded is kept here
        assert isinstance(twin, FileSource)
        return twin

    def place(self, at: tuple[int, ...]) -> tuple[int, tuple[int, ...]]:
        """Return the number of the volume at a position, along the axes that there are, and the position in it."""
        whole = dict(zip(self.found.kept, at, strict=True))
        t, c, *inner = (whole.get(axis, 0) for axis in range(len(AXES)))
        return t * self.found.outer[1] + c, tuple(inner)

    def _volume_at(self, box: Box) -> tuple[FileSource | None, Box]:
        number, begin = self.place(box.begin)
        _, end = self.place(box.end)
        ends = (e if axis + 2 in self.found.kept else 1 for axis, e in enumerate(end))
        return self.volume(number), Box(begin, tuple(ends))

    def _decode_chunk(self, position: tuple[int, ...], box: Box) -> AnyArray | None:
        del position
        volume, inner = self._volume_at(box)
        return None if volume is None else volume.read(inner).view(self.dtype).reshape(box.shape)

    def _decode_into(self, position: tuple[int, ...], box: Box, target: AnyArray) -> None:
        del position
        volume, inner = self._volume_at(box)
        if volume is None:
            target[...] = self._fill()
            return
        # Only axes of extent 1 are added or removed, so it is the same memory.
        part = target.reshape(inner.shape)
        buffer = part.view(self._stored) if volume.fills_buffers and part.flags.c_contiguous else None
        voxels = volume.read(inner, buffer)
        if buffer is None or not np.may_share_memory(voxels, buffer):
            copy_rows(part, voxels.view(self.dtype))

    def _spec_options(self) -> Mapping[str, Any]:
        return self._options

    def identities(self) -> frozenset[Identity]:
        place, folder = self.found.container, os.path.isdir(self.found.container)  # noqa: PTH112 - a text
        keys = [one for one in self.found.keys if one is not None] if folder else [None]
        return frozenset(file_identity(place, one, key_is_folder=folder) for one in keys)

    def files(self) -> list[str]:
        return [] if self.found.container == self.path else [self.found.container]

    def stored_stamp(self) -> str | None:
        return file_stamp(self.found.container)

    def part_stamps(self, *, cheap: bool = False) -> PartStamps | None:
        # What the file names may be written without it.
        return super().part_stamps(cheap=cheap) if self.found.container == self.path else None

    def stored_size(self) -> StoredSize | None:
        sizes = [size for volume in self._volumes() if (size := volume.stored_size()) is not None]
        n_files = 1 if self.one_file else sum(size.n_files for size in sizes)
        return StoredSize(sum(size.n_bytes for size in sizes), n_files)

    def close(self) -> None:
        super().close()
        self._recent = Recent(_OPEN)

    def stored_chunks(self) -> StoredChunks:
        """Return how the chunks of all volumes are stored; UnsupportedFormatError if not in one way."""
        encodings, kept = {encoding_of(volume) for volume in self._volumes()}, self.found.kept
        encoding = encodings.pop()
        if isinstance(encoding, UnknownEncoding):
            raise UnsupportedFormatError(encoding.why)
        if encodings or any(n > 1 for axis, n in enumerate(encoding.chunks, 2) if axis not in kept):
            raise UnsupportedFormatError(f"the volumes of {self.name} do not store their chunks in one way")
        said: Any = {"shape": self.shape, "dtype": self.dtype.name, "chunks": self.chunks}
        order = tuple(kept.index(axis + 2) for axis in encoding.axis_order)
        return StoredChunks(replace(encoding, **said, axis_order=order), self.found.container)


class _VolumeChunks(EncodedReader):
    """The encoded chunks of all volumes."""

    def __init__(self, source: VolumesSource) -> None:
        self._source, self._recent = source, Recent[int, EncodedReader](_OPEN)

    def _at(self, position: tuple[int, ...]) -> tuple[EncodedReader | None, tuple[int, ...]]:
        number, inner = self._source.place(position)
        volume = self._source.volume(number)
        return None if volume is None else self._recent.get(number, lambda _: encoded_reader(volume)), inner

    def path(self, position: tuple[int, ...]) -> str:
        reader, inner = self._at(position)
        return self._source.found.container if reader is None else reader.path(inner)

    def piece(self, position: tuple[int, ...]) -> StoredBytes | None:
        reader, inner = self._at(position)
        return None if reader is None else reader.piece(inner)

    def movable(self, position: tuple[int, ...]) -> bool:
        reader, inner = self._at(position)
        return reader is None or reader.movable(inner)


class VolumesFamily(Family):
    """Images whose time points and channels are volumes, with levels; read only."""

    copies_levels = True

    @abstractmethod
    def volumes(self, path: str, key: str | None, level: int, others: OtherFiles) -> Volumes:
        """Return what a level of an image is made of."""

    def open_path(
        self,
        path: str,
        key: str | None = None,
        mode: str = "r",
        *,
        level: int = 0,
        external_files: bool = False,
    ) -> FileSource:
        """Open an image at a level of its pyramid; files in other folders are read with `external_files` only."""
        if is_url(path):
            raise UnsupportedFormatError(f"{self.title} is read from local files only, not from {path!r}")
        if mode != "r":
            raise ReadOnlyError(f"{self.title} can only be read: open {path!r} with mode='r', and copy it")
        path = os.path.abspath(path)  # noqa: PTH100 - follows no links
        options = {**({"level": level} if level else {}), **OtherFiles(external_files).spec()}
        found = self.volumes(path, key, level, OtherFiles(external_files))
        return VolumesSource(self.entry.kind, path, key, found, options)

    def list_coarser(self, spec: SourceSpec) -> list[SourceSpec]:
        level, others = spec.get("level", 0), OtherFiles(spec.get("external_files", False))
        n_levels = self.volumes(spec["path"], spec.get("key"), level, others).n_levels
        return [{**spec, "level": n} for n in range(level + 1, n_levels)]

    def stored_chunks(self, source: FileSource) -> StoredChunks:
        return source.stored_chunks() if isinstance(source, VolumesSource) else super().stored_chunks(source)

    def encoded_reader(self, source: FileSource) -> EncodedReader:
        return _VolumeChunks(source) if isinstance(source, VolumesSource) else super().encoded_reader(source)


def check_level(path: str, level: int, n_levels: int) -> None:
    if not 0 <= level < n_levels:
        raise SourceNotFoundError(
            f"{path!r} has {n_levels} resolution levels, numbered from 0; there is no level {level}"
        )
