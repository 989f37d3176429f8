"""Whose chunks a source shows: its own, or those of the array that it is a region of."""

from __future__ import annotations

from typing import NamedTuple

from bioimage_py.chunks import ChunkEncoding, UnknownEncoding
from bioimage_py.sources import DescribedSource, Source, stored_chunks
from bioimage_py.wrapper import WrapperSource
from bioimage_py.wrapper.shape import RoiSource


class MovingOrigin(NamedTuple):
    """A stored array, and where in it a source begins; None for the array itself."""

    source: Source
    offset: tuple[int, ...] | None


def moving_origin(source: Source) -> MovingOrigin | None:
    """Return the stored array whose encoded chunks hold the voxels of a source; None if they are computed."""
    if isinstance(source, DescribedSource):
        return moving_origin(source.inputs[0])
    if isinstance(source, RoiSource):
        inner = source.inputs[0]
        if len(source.kept) != inner.ndim or isinstance(inner, WrapperSource):
            return None
        return MovingOrigin(inner, source.box.begin)
    return None if isinstance(source, WrapperSource) else MovingOrigin(source, None)


def encoding_to_move(source: Source) -> ChunkEncoding | UnknownEncoding:
    """Return how a stored array encodes its chunks, or why they cannot be moved."""
    if str(getattr(source, "path", "")).startswith("memory:"):
        return UnknownEncoding("chunks that are held in memory are not moved")
    found = stored_chunks(source)
    return found if isinstance(found, UnknownEncoding) else found.encoding
