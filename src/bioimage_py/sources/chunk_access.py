"""Where and how a source stores its encoded chunks, and access to them."""

from __future__ import annotations

import math

import numpy as np

from bioimage_py.chunks import (
    ChunkEncoding,
    ChunkFiles,
    ChunkObjects,
    EncodedReader,
    NamedChunks,
    ShardedChunks,
    ShardedObjects,
    StoredChunks,
    UnknownEncoding,
)
from bioimage_py.errors import UnsupportedFormatError
from bioimage_py.sources.array_spec import ArraySpec
from bioimage_py.sources.base import FileSource, Source
from bioimage_py.sources.family import Family
from bioimage_py.sources.registry import family_of
from bioimage_py.storage import ChunkKeys, FileFolder, PartStamps, file_error, stamps_below, text_stamp

_MOST_PARTS = 2**27
"""Files in the grid of an array whose stamps are held in memory."""
_LEAST_LISTED, _MOST_LISTED = 4, 200_000
"""Objects whose etags are asked for, a thousand at a time, by a copy that only may be updated later."""


def stored_chunks(source: Source) -> StoredChunks | UnknownEncoding:
    """Return where and how a source stores its chunks, from its metadata as it is stored now; StorageError if they cannot be read."""
    if not isinstance(source, FileSource):
        return UnknownEncoding(
            f"the voxels of {source.format} are not stored as encoded chunks that can be moved"
        )
    try:
        return family_of(source.kind).stored_chunks(source)
    except UnsupportedFormatError as error:
        return UnknownEncoding(str(error))
    except (KeyError, TypeError, ValueError, IndexError) as error:
        # An engine could open it all the same, so its voxels can be copied by decoding them.
        return UnknownEncoding(f"the metadata of {source.name} are not understood here ({error!r})")


def encoding_of(source: Source) -> ChunkEncoding | UnknownEncoding:
    found = stored_chunks(source)
    return found if isinstance(found, UnknownEncoding) else found.encoding


def planned_encoding(family: Family, spec: ArraySpec) -> ChunkEncoding | UnknownEncoding:
    """Return how an array of a family that does not exist yet will encode its chunks."""
    try:
        return family.planned_encoding(spec)
    except UnsupportedFormatError as error:
        return UnknownEncoding(str(error))


def encoded_reader(source: Source, found: StoredChunks | UnknownEncoding | None = None) -> EncodedReader:
    """Return access to the encoded chunks of a source, from what `stored_chunks` has found if that was asked already."""
    stored = _stored(source, found)
    if stored.keys is None:
        assert isinstance(source, FileSource)
        return family_of(source.kind).encoded_reader(source)
    files, encoding = _files(stored, stored.keys), stored.encoding
    if encoding.shards is None:
        return files
    return (
        ShardedObjects(files, encoding) if isinstance(files, ChunkObjects) else ShardedChunks(files, encoding)
    )


def encoded_writer(source: Source, found: StoredChunks | UnknownEncoding | None = None) -> NamedChunks:
    """Return what puts whole files into the folder of a source: its chunks, or its shards; `found` as above."""
    stored = _stored(source, found)
    if stored.keys is None:
        raise UnsupportedFormatError(f"chunks are written into {source.format} files by its library only")
    source.forget_digest()
    return _files(stored, stored.keys)


def stored_files(source: Source) -> tuple[ChunkFiles | ChunkObjects, ChunkEncoding] | None:
    """Return the chunks of a source, or its shards if it has such, by their names; None where they have no names."""
    stored = stored_chunks(source)
    if isinstance(stored, UnknownEncoding) or stored.keys is None:
        return None
    return _files(stored, stored.keys), stored.encoding


def chunk_stamps(source: Source, *, cheap: bool = False) -> PartStamps | None:
    """Return the stamps of the chunk files of a source, or of its shards; None where they are not known, see `Source.part_stamps`."""
    found = stored_files(source)
    if found is None:
        return None
    files, encoding = found
    extents = encoding.shards or encoding.chunks
    grid, position = files.keys.grid, files.keys.position
    n_parts = math.prod(grid)
    if n_parts > _MOST_PARTS or (cheap and not _LEAST_LISTED < n_parts < _MOST_LISTED):
        return None
    if isinstance(files, ChunkFiles):
        try:
            return stamps_below(files.files.folder, grid, extents, position)
        except OSError as error:
            raise file_error(error, f"looking at the files of {source.name}") from error
    etags = files.files.etags()
    if etags is None:
        return None
    stamps = np.zeros(grid, np.uint64)
    for name, etag in etags.items():
        at = position(name)
        if at is not None and all(n < end for n, end in zip(at, grid, strict=True)):
            stamps[at] = text_stamp(etag)
    return PartStamps("objects", extents, stamps)


def _files(stored: StoredChunks, keys: ChunkKeys) -> ChunkFiles | ChunkObjects:
    if stored.objects is not None:
        return ChunkObjects(stored.objects, keys)
    assert stored.place is not None
    return ChunkFiles(FileFolder(stored.place), keys)


def _stored(source: Source, found: StoredChunks | UnknownEncoding | None) -> StoredChunks:
    stored = stored_chunks(source) if found is None else found
    if isinstance(stored, UnknownEncoding):
        raise UnsupportedFormatError(stored.why)
    return stored
