"""A folder of slices as one volume, and single PNG and JPEG pictures."""

from __future__ import annotations

import hashlib
import math
import os
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any

import numpy as np

from bioimage_py.errors import InvalidArgumentError, ReadOnlyError, StorageError
from bioimage_py.geometry import Box
from bioimage_py.metadata import ImageMetadata
from bioimage_py.sources.base import AnyArray, FileSource, Source, SourceSpec, StoredSize
from bioimage_py.sources.chunked import ChunkedFileSource
from bioimage_py.sources.file_bytes import OpenFiles
from bioimage_py.sources.identity import file_identity
from bioimage_py.sources.stack_listing import list_slices
from bioimage_py.sources.stack_slices import Pictures, PictureSource, SliceOpener, slice_opener

__all__ = ["StackSource", "open_path", "open_spec"]

_CHECK_ALL = 2000
"""Up to so many slices, every header is compared when the stack is opened; of longer stacks, some."""
_CHECK_SOME = 64
_WHOLE_SLICE = 4 * 2**20
"""Slices up to so many bytes are decoded whole; larger ones by their own tiles or strips."""
_BAND = 2**20
_SLICES_KNOWN = 1024
_FILES_OPEN = 32


def open_path(path: str, key: str | None = None, mode: str = "r") -> Source:
    """Open the slices in a folder that match a pattern as one volume, or one PNG or JPEG picture.

    Parameters
    ----------
    path
        A folder, or a picture.
    key
        A pattern such as `"*.tif"`; none for a picture.
    mode
        `"r"`; slices cannot be written.

    Returns
    -------
    Source
        The slices stacked along a new first axis, in natural order (`s2` before `s10`). Slices that are volumes
        themselves, such as multi-page TIFFs, are stacked the same way.

    Raises
    ------
    SourceNotFoundError
        If there is no such folder, or nothing matches.
    InvalidArgumentError
        If slices differ in shape or dtype. All are compared when there are at most 2000; of more, the first, the
        last and 62 between, and the others when they are read.
    UnsupportedFormatError, StorageError
        If a slice is no image, or damaged.
    """
    return _open(path, key, mode, None)


def open_spec(spec: SourceSpec) -> Source:
    """Reopen a stack from its spec; raises StorageError if its folder holds other slices than then."""
    return _open(spec["path"], spec.get("key"), spec.get("mode", "r"), spec.get("slices"))


def _open(path: str, key: str | None, mode: str, known: Sequence[Any] | None) -> Source:
    if mode != "r":
        raise ReadOnlyError(
            f"slices in {path!r} can only be read; open them with mode='r' and copy them to write"
        )
    if key is None:
        return _open_picture(path)
    names = list_slices(path, key)
    if known is not None and list(known) != _fingerprint(names):
        raise StorageError(
            f"folder {path!r} has changed: there were {known[0]} slices that match {key!r} when it was opened first, "
            f"now there are {len(names)}, or they have other names"
        )
    files = OpenFiles(_FILES_OPEN)
    slices = _Slices(path, names, slice_opener(os.path.join(path, names[0]), files))  # noqa: PTH118
    if known is None:
        slices.compare()
    return StackSource(path, key, slices)


def _open_picture(path: str) -> PictureSource:
    if os.path.isdir(path):  # noqa: PTH112
        raise InvalidArgumentError(f"{path!r} is a folder: give a pattern for its slices, such as '*.tif'")
    opener = slice_opener(path, OpenFiles(1))
    if not isinstance(opener, Pictures):
        raise InvalidArgumentError(f"{path!r} is a TIFF, not a PNG or JPEG: rename it to end in .tif")
    return opener.open(path)


def _fingerprint(names: Sequence[str]) -> list[Any]:
    digest = hashlib.sha256("\0".join(names).encode("utf-8", "surrogateescape"))
    return [len(names), digest.hexdigest()[:16]]


class _Slices:
    """The slices of a stack, opened when they are wanted; shared by the twins of a source.

    Parameters
    ----------
    folder, names
        Where they are.
    opener
        What opens one.
    """

    def __init__(self, folder: str, names: Sequence[str], opener: SliceOpener) -> None:
        self.folder = folder
        self.names = names
        self._opener = opener
        self._lock = threading.Lock()
        self._known: OrderedDict[int, FileSource] = OrderedDict()
        self.first = opener.open(self.path(0))

    def path(self, number: int) -> str:
        return os.path.join(self.folder, self.names[number])  # noqa: PTH118 - ten times faster, for each slice

    def get(self, number: int) -> FileSource:
        """Return a slice; raises InvalidArgumentError if it is not like the first one."""
        with self._lock:
            found = self._known.get(number)
            if found is not None:
                self._known.move_to_end(number)
                return found
        found = self._opener.open(self.path(number))
        if found.shape != self.first.shape or found.dtype != self.first.dtype:
            raise InvalidArgumentError(
                f"slices must have one shape and dtype, but {self.first.path!r} has shape {self.first.shape} and dtype "
                f"{self.first.dtype}, and {found.path!r} has shape {found.shape} and dtype {found.dtype}; "
                "give a pattern that leaves out what does not belong to the stack"
            )
        with self._lock:
            self._known[number] = found
            while len(self._known) > _SLICES_KNOWN:
                self._known.popitem(last=False)
        return found

    def compare(self) -> None:
        """Compare the headers of all slices, or of some if there are very many."""
        n = len(self.names)
        chosen: Sequence[int] = range(n)
        if n > _CHECK_ALL:
            chosen = sorted({i * (n - 1) // (_CHECK_SOME - 1) for i in range(_CHECK_SOME)})
        with ThreadPoolExecutor(min(8, len(chosen)), thread_name_prefix="bioimage-slices") as pool:
            for _ in pool.map(self.get, chosen):
                pass


class StackSource(ChunkedFileSource):
    """Slices in the files of a folder, stacked along a new first axis.

    Parameters
    ----------
    folder, pattern
        As the user gave them.
    slices
        The slices.
    threads, cache_bytes
        As of every source that decodes.
    """

    kind = "stack"

    def __init__(
        self, folder: str, pattern: str, slices: _Slices, *, threads: int = 1, cache_bytes: int = 64 * 2**20
    ) -> None:
        super().__init__(threads=threads, cache_bytes=cache_bytes)
        first = slices.first
        self.path = folder
        self.key = pattern
        self.shape = (len(slices.names), *first.shape)
        self.dtype = first.dtype
        self.chunks = (1, *_slice_chunks(first))
        self.format = f"stack of {first.format} slices"
        self.codec = first.codec
        self._slices: _Slices | None = slices

    @cached_property
    def metadata(self) -> ImageMetadata:
        """Axes and voxel size of the first slice, and a new first axis, the distance along which is not known."""
        inner = (self._slices or _closed(self)).first.metadata
        axes = inner.axes or ()
        leading = next((name for name in ("z", "t", "i") if name not in axes), "stack")
        outer = inner.with_axes_selected((None, *range(self.ndim - 1)))
        return ImageMetadata(
            axes=(leading, *axes) if axes else None,
            voxel_size=outer.voxel_size,
            units=outer.units,
            channel_names=inner.channel_names,
        ).fitting(self.ndim)

    def _spec_options(self) -> Mapping[str, Any]:
        return {"slices": _fingerprint((self._slices or _closed(self)).names)}

    def identities(self) -> frozenset[tuple[Any, ...]]:
        """Return the folder and the pattern."""
        return frozenset({file_identity(self.path, f"slices {self.key}")})

    def files(self) -> list[str]:
        """Return the paths of all slices."""
        slices = self._slices or _closed(self)
        return [slices.path(n) for n in range(len(slices.names))]

    def stored_size(self) -> StoredSize:
        """Return the size of all slices."""
        slices = self._slices or _closed(self)
        n_bytes = sum(os.stat(slices.path(n)).st_size for n in range(len(slices.names)))  # noqa: PTH116
        return StoredSize(n_bytes, len(slices.names))

    def for_run(self, threads: int, cache_bytes: int) -> Source:
        """Return a twin that shares what is known of the slices."""
        slices = self._slices or _closed(self)
        return StackSource(self.path, str(self.key), slices, threads=threads, cache_bytes=cache_bytes)

    def _decode_chunk(self, position: tuple[int, ...], box: Box) -> AnyArray:
        found = (self._slices or _closed(self)).get(position[0])
        return found.read(Box(box.begin[1:], box.end[1:]))[None]

    def _decode_into(self, position: tuple[int, ...], box: Box, target: AnyArray) -> None:
        found = (self._slices or _closed(self)).get(position[0])
        plane = target[0]
        buffer = plane if found.fills_buffers and plane.flags.c_contiguous else None
        voxels = found.read(Box(box.begin[1:], box.end[1:]), buffer)
        if buffer is None or not np.may_share_memory(voxels, buffer):
            plane[...] = voxels

    def close(self) -> None:
        """Let go of the slices; twins go on reading."""
        super().close()
        self._slices = None


def _closed(source: StackSource) -> _Slices:
    raise StorageError(f"{source.name} is closed; open it again to read")


def _slice_chunks(first: FileSource) -> tuple[int, ...]:
    """Return what of a slice is decoded at once: all of it, its own chunks, or a band of about a mebibyte."""
    if first.nbytes <= _WHOLE_SLICE:
        return tuple(max(1, n) for n in first.shape)
    if first.chunks is not None:
        return first.chunks
    band: list[int] = []
    for n in reversed(first.shape):
        held = math.prod(band) * first.dtype.itemsize
        band.append(max(1, min(n, _BAND // held)))
    return tuple(reversed(band))
