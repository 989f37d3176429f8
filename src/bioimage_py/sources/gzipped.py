"""Voxels in a file that is compressed with gzip as a whole, which cannot be entered in the middle."""

from __future__ import annotations

import gzip
import os
import tempfile
import threading
import zlib
from typing import Any

from bioimage_py.errors import StorageError
from bioimage_py.geometry import Box
from bioimage_py.sources.base import AnyArray
from bioimage_py.sources.file_bytes import FileBytes, file_error
from bioimage_py.sources.raw_file import RawLayout, RawVoxels

__all__ = ["GzippedVoxels", "first_bytes"]

_PIECE = 2**20
_MAGIC = b"\x1f\x8b"


class GzippedVoxels:
    """Voxels that are decompressed once, at the first read, into a temporary file without a name (in `TMPDIR`).

    Parameters
    ----------
    path
        The compressed file.
    layout
        Where the voxels are in it, decompressed.
    """

    def __init__(self, path: str, layout: RawLayout) -> None:
        self.layout = layout
        self._path = path
        # By the time of the first read the process may work in another folder.
        self._place = os.path.abspath(path)  # noqa: PTH100 - follows no links
        self._lock = threading.Lock()
        self._voxels: RawVoxels | None = None
        self._closed = False

    def read(self, box: Box) -> AnyArray:
        """Return the voxels in a box, as they are stored."""
        with self._lock:
            if self._closed:
                raise StorageError(f"{self._path!r} was closed; open it again to go on")
            if self._voxels is None:
                self._voxels = _decompressed(self._place, self.layout)
            voxels = self._voxels
        return voxels.read(box)

    def close(self) -> None:
        """Drop the temporary file."""
        with self._lock:
            self._closed = True
            if self._voxels is not None:
                self._voxels.close()


def first_bytes(file: FileBytes, path: str, count: int) -> tuple[bytes, bool]:
    """Return the first bytes of an open file, decompressed, and whether it is compressed."""
    head = file.read(0, min(count, file.size))
    if not head.startswith(_MAGIC):
        return head, False
    try:
        with gzip.open(path) as stream:
            return stream.read(count), True
    except (OSError, EOFError, zlib.error) as error:
        raise _damaged(path, error) from error


def _decompressed(path: str, layout: RawLayout) -> RawVoxels:
    """Decompress a file into one without a name, and open that."""
    needed = layout.offset + layout.nbytes
    with tempfile.TemporaryFile(prefix="bioimage-py-") as unpacked:
        found = 0
        try:
            with gzip.open(path) as stream:
                while piece := stream.read(_PIECE):
                    found += len(piece)
                    _store(unpacked, piece, path)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise _damaged(path, error, f" after {found} of {needed} bytes") from error
        except StorageError:
            raise
        except OSError as error:
            raise file_error(error, f"reading {path!r}") from error
        unpacked.flush()
        return RawVoxels(FileBytes(os.dup(unpacked.fileno()), f"{path!r} (decompressed)"), layout)


def _store(unpacked: Any, piece: bytes, path: str) -> None:
    try:
        unpacked.write(piece)
    except OSError as error:
        folder = tempfile.gettempdir()
        raise file_error(
            error, f"decompressing {path!r} into a temporary file in {folder!r} (TMPDIR)"
        ) from error


def _damaged(path: str, error: Exception, where: str = "") -> StorageError:
    return StorageError(f"{path!r} is damaged or truncated{where}: {error}; copy or download it again")
