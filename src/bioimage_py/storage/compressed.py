"""Files that are compressed as a whole: recognised by their first bytes, and decompressed as a stream."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from typing import IO, Any

from bioimage_py.errors import StorageError
from bioimage_py.storage.file_bytes import FileBytes

COMPRESSED_SUFFIXES = (".gz", ".bz2", ".xz")
"""Endings of what can be decompressed here."""
DAMAGED = (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile)
"""What decompressing a file raises that is damaged; bz2 raises OSError without a number besides."""
_FORMATS: tuple[tuple[bytes, str, Any], ...] = (
    (b"\x1f\x8b\x08", "gzip", gzip.open),
    (b"BZh", "bzip2", bz2.open),
    (b"\xfd7zXZ\0", "xz", lzma.open),
)


def compression_of(head: bytes) -> str:
    return next((name for magic, name, _ in _FORMATS if head.startswith(magic)), "")


def without_compression(path: str) -> str:
    """Return a path without `.gz`, `.bz2` or `.xz` at its end."""
    ending = next((s for s in COMPRESSED_SUFFIXES if path.lower().endswith(s)), "")
    return path.removesuffix(path[len(path) - len(ending) :])


def decompressing(path: str, compression: str) -> IO[bytes]:
    opened: IO[bytes] = next(opener for _, name, opener in _FORMATS if name == compression)(path)
    return opened


def first_bytes(file: FileBytes, path: str, count: int) -> tuple[bytes, str]:
    """Return the first bytes of an open file, decompressed, and the name of its compression, "" for none."""
    head = file.read(0, min(count, file.size))
    compression = compression_of(head)
    if not compression:
        return head, ""
    try:
        with decompressing(path, compression) as stream:
            return stream.read(count), compression
    except (*DAMAGED, OSError) as error:
        raise damaged(path, error) from error


def damaged(path: str, error: Exception, where: str = "") -> StorageError:
    return StorageError(f"{path!r} is damaged or truncated{where}: {error}; copy or download it again")
