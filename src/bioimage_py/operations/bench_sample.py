"""What of an array `bench` measures: boxes of whole chunks from all over it, and where their stored bytes are."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bioimage_py.chunks import AnyArray, EncodedReader, FilePlace
from bioimage_py.errors import StorageError, UnsupportedFormatError
from bioimage_py.geometry import Blocking, Box
from bioimage_py.kernels import moving_origin
from bioimage_py.sources import Source, encoded_reader
from bioimage_py.sources.slices import StackSource
from bioimage_py.storage import files_below

_LEAST_READ = 2**20
"""Bytes of voxels that are read at a time at least: a copy reads no smaller blocks either."""
_MOST_FILES = 10_000


@dataclass(frozen=True)
class ReadSample:
    """Boxes to read.

    Attributes
    ----------
    boxes
        Whole chunks each.
    places
        For each box where its encoded bytes are; None where that cannot be told, as behind a URL.
    exact
        Whether the places are those of the chunks, and not merely as large a part of the file.
    """

    boxes: list[Box]
    places: list[list[FilePlace]] | None
    exact: bool = True


@dataclass(frozen=True)
class WriteSample:
    """Boxes to write, with their voxels.

    Attributes
    ----------
    items
        Whole write units of the output, and what is written there.
    own
        Whether the voxels are those of the boxes. Otherwise they come from elsewhere in the sample, because to read those
        of the boxes would mean decoding far more than is written.
    """

    items: list[tuple[Box, AnyArray]]
    own: bool


def choose_read_sample(source: Source, n_bytes: int) -> ReadSample:
    """Choose boxes of whole chunks, evenly from all over an array, of that many bytes of voxels and at least one."""
    boxes = _spread(source, source.chunks or (1,) * source.ndim, n_bytes, _LEAST_READ)
    origin = moving_origin(source)
    if origin is None or origin.offset is not None:
        return ReadSample(boxes, None)
    path = str(getattr(origin.source, "path", ""))
    if not path or "://" in path:
        return ReadSample(boxes, None)
    try:
        reader = encoded_reader(origin.source)
    except UnsupportedFormatError:
        return ReadSample(boxes, _shares(_files(origin.source, path), boxes, source.size), exact=False)
    assert source.chunks is not None
    found = [(box, _chunk_places(reader, box, source.chunks)) for box in boxes]
    # Where nothing is stored, nothing is read: boxes of background would tell nothing.
    stored = [(box, places) for box, places in found if places]
    return ReadSample([b for b, _ in stored], [p for _, p in stored]) if stored else ReadSample(boxes, None)


def choose_write_sample(source: Source, output: Source, sample: ReadSample, n_bytes: int) -> WriteSample:
    """Choose whole write units of an output, and voxels for them, of that many bytes and at least one unit.

    Parameters
    ----------
    source
        Tuned to decode with all workers.
    output
        Where the voxels would be written.
    sample
        Of the source.
    n_bytes
        How much to write.
    """
    unit = output.write_unit or tuple(sample.boxes[0].shape)
    boxes = _spread(output, unit, n_bytes, _LEAST_READ)
    chunks = source.chunks or (1,) * source.ndim
    to_decode = sum(box.snap(chunks, source.shape).size for box in boxes) * source.dtype.itemsize
    if to_decode <= 4 * n_bytes:
        return WriteSample([(box, source.read(box)) for box in boxes], own=True)
    voxels = _stream(source, sample.boxes, n_bytes)
    starts = itertools.count(0, max(1, voxels.size // len(boxes)))
    return WriteSample(
        [
            (box, np.resize(np.roll(voxels, -start)[: box.size], box.shape))
            for box, start in zip(boxes, starts, strict=False)
        ],
        own=False,
    )


def _stream(source: Source, boxes: Sequence[Box], n_bytes: int) -> AnyArray:
    """Return voxels of boxes one after the other."""
    read: list[Any] = []
    held = 0
    for box in boxes:
        read.append(source.read(box).ravel())
        held += read[-1].nbytes
        if held >= n_bytes:
            break
    return np.concatenate(read)


def _spread(array: Source, unit: tuple[int, ...], n_bytes: int, least: int) -> list[Box]:
    """Return boxes of whole units, at least so large and evenly from all over the array, that hold that many bytes."""
    shape = _grown(unit, array.shape, least // array.dtype.itemsize)
    blocking = Blocking(array.shape, shape)
    wanted = n_bytes // (math.prod(shape) * array.dtype.itemsize)
    n = max(1, min(blocking.n_blocks, wanted))
    # From the middle of each part: at the faces there is background more often than elsewhere.
    return [blocking[(2 * i + 1) * blocking.n_blocks // (2 * n)] for i in range(n)]


def _grown(unit: tuple[int, ...], shape: tuple[int, ...], least: int) -> tuple[int, ...]:
    """Return whole units, as many along the last axes as make up that many voxels, cut at the array."""
    grown = [min(u, max(1, n)) for u, n in zip(unit, shape, strict=True)]
    for axis in reversed(range(len(grown))):
        times = -(-least // max(1, math.prod(grown)))
        if times <= 1:
            break
        grown[axis] = min(max(1, shape[axis]), grown[axis] * times)
    return tuple(grown)


def _chunk_places(reader: EncodedReader, box: Box, chunks: tuple[int, ...]) -> list[FilePlace]:
    cells = [range(b // c, -(-e // c)) for b, e, c in zip(box.begin, box.end, chunks, strict=True)]
    places = (reader.file_of(position) for position in itertools.product(*cells))
    return [place for place in places if place is not None]


def _files(source: Source, path: str) -> list[str]:
    """Return the files that hold an array, or the first of very many."""
    if isinstance(source, StackSource):
        return source.files()[:_MOST_FILES]
    if os.path.isdir(path):  # noqa: PTH112 - a text stays a text
        return sorted(entry.path for entry in itertools.islice(files_below(path), _MOST_FILES))
    return [path]


def _shares(files: Sequence[str], boxes: Sequence[Box], n_voxels: int) -> list[list[FilePlace]] | None:
    """Return for each box as large a part of the files as it is of the array."""
    found = []
    for n, box in enumerate(boxes):
        share = box.size / n_voxels * len(files)
        count = max(1, min(len(files), round(share)))
        first = n * (len(files) - count) // max(1, len(boxes) - 1)
        places = []
        for path in files[first : first + count]:
            try:
                size = os.stat(path).st_size  # noqa: PTH116 - a text stays a text
            except OSError as error:
                raise StorageError(f"{path!r} cannot be read: {error.strerror}") from error
            length = min(size, math.ceil(size * share / count))
            begin = (size - length) * n // max(1, len(boxes) - 1) if len(files) == 1 else 0
            places.append(FilePlace(path, min(begin, size - length), length))
        found.append(places)
    return found if files else None
