"""PNG and JPEG pictures, alone or as slices of a stack."""

from __future__ import annotations

import threading
from typing import Any

import imagecodecs
import numpy as np

from bioimage_py.chunks import AnyArray
from bioimage_py.errors import StorageError, UnsupportedFormatError
from bioimage_py.geometry import Box
from bioimage_py.metadata import ImageMetadata
from bioimage_py.sources.base import StoredSize
from bioimage_py.sources.chunked import ChunkedFileSource
from bioimage_py.sources.tiff import check_jpeg_end
from bioimage_py.storage import OpenFiles


class Pictures:
    """PNG and JPEG slices: the first one is decoded to learn its shape, the headers of others are compared with it."""

    def __init__(self, files: OpenFiles) -> None:
        self._files = files
        self._lock = threading.Lock()
        self._like: dict[object, tuple[tuple[int, ...], np.dtype[Any]]] = {}

    def open(self, path: str) -> PictureSource:
        signature = _picture_signature(path, self._files)
        with self._lock:
            if signature not in self._like:
                decoded = _decode_picture(path, self._files)
                self._like[signature] = decoded.shape, decoded.dtype
            shape, dtype = self._like[signature]
        return PictureSource(path, shape, dtype, self._files)


class PictureSource(ChunkedFileSource):
    """A PNG or JPEG picture as an array `(y, x)` or `(y, x, c)`."""

    kind = "stack"
    chunks: tuple[int, ...]

    def __init__(self, path: str, shape: tuple[int, ...], dtype: np.dtype[Any], files: OpenFiles) -> None:
        super().__init__()
        self.path = path
        self.shape = shape
        self.dtype = dtype
        self.chunks = shape
        self._files: OpenFiles | None = files
        self.format = "png" if path.lower().endswith("png") else "jpeg"
        self.codec = self.format

    @property
    def metadata(self) -> ImageMetadata:
        found = ImageMetadata(axes=("y", "x", "c")[: len(self.shape)])
        return found.as_rgb(self.dtype) if self.shape[2:] == (3,) else found

    def _decode_chunk(self, position: tuple[int, ...], box: Box) -> AnyArray:
        del position, box
        if self._files is None:
            raise StorageError(f"{self.name} is closed; open it again to read")
        decoded = _decode_picture(self.path, self._files)
        if decoded.shape != self.shape or decoded.dtype != self.dtype:
            raise StorageError(
                f"{self.name} has changed: expected shape {self.shape} and dtype {self.dtype}, "
                f"found {decoded.shape} and {decoded.dtype}"
            )
        return decoded

    def stored_size(self) -> StoredSize:
        return StoredSize((self._files or OpenFiles()).get(self.path).size, 1)

    def close(self) -> None:
        super().close()
        self._files = None


def _decode_picture(path: str, files: OpenFiles) -> AnyArray:
    file = files.get(path)
    data = file.read(0, file.size)
    try:
        if data.startswith(b"\x89PNG"):
            return imagecodecs.png_decode(data)
        check_jpeg_end(data)
        return imagecodecs.jpeg_decode(data)
    except (RuntimeError, ValueError, TypeError, ImportError) as error:
        raise StorageError(f"picture {path!r} ({file.size} bytes) cannot be decoded: {error}") from error


def _picture_signature(path: str, files: OpenFiles) -> object:
    """Return what decides shape and dtype of a picture: extents, samples and bits from its header."""
    file = files.get(path)
    head = file.read(0, min(file.size, 2**16))
    if head.startswith(b"\x89PNG"):
        return head[16:29], b"tRNS" in head.partition(b"IDAT")[0]
    if not head.startswith(b"\xff\xd8"):
        raise UnsupportedFormatError(f"slice {path!r} is neither PNG nor JPEG ({file.size} bytes)")
    at = 2
    while at + 4 <= len(head) and head[at] == 0xFF:
        marker, length = head[at + 1], int.from_bytes(head[at + 2 : at + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return marker, head[at + 4 : at + 10]
        at += 2 + length
    return path
