"""Where a mask can select a voxel at all, told from which of its chunks are stored."""

from __future__ import annotations

import os

from bioimage_py.geometry import Box
from bioimage_py.sources import Source
from bioimage_py.sources.encoded_chunks import ChunkFiles, EncodedReader, encoded_reader
from bioimage_py.sources.encoding import UnknownEncoding, stored_chunks

__all__ = ["MaskRegions"]


class MaskRegions:
    """Tells regions of a mask that hold nothing but zeros from those that have to be read.

    Chunks that a mask does not store are full of its fill value; where that is zero they select nothing. Whether a chunk is
    stored is looked up each time, as the mask may be the very array that is written. Of a mask that is not stored as local
    chunks, everything has to be read.

    Parameters
    ----------
    mask
        The mask.
    """

    def __init__(self, mask: Source) -> None:
        self._reader: EncodedReader | None = None
        stored = stored_chunks(mask)
        if isinstance(stored, UnknownEncoding) or stored.place is None or any(stored.encoding.fill):
            return
        if stored.encoding.shape != mask.shape:
            return
        self._chunks = stored.encoding.chunks
        self._reader = encoded_reader(mask)

    def may_select(self, box: Box) -> bool:
        """Whether a voxel of the box can be other than zero."""
        if self._reader is None:
            return True
        cells = Box(
            tuple(b // c for b, c in zip(box.begin, self._chunks, strict=True)),
            tuple(-(-e // c) for e, c in zip(box.end, self._chunks, strict=True)),
        )
        return any(self._is_stored(self._reader, at) for at in self._reader.candidates(cells))

    def _is_stored(self, reader: EncodedReader, position: tuple[int, ...]) -> bool:
        if isinstance(reader, ChunkFiles):
            return os.path.lexists(reader.path(position))
        return reader.piece(position) is not None
