"""Files that are compressed as a whole, recognised by their first bytes and decompressed as a stream; entries of zip files."""

from __future__ import annotations

import bz2
import functools
import gzip
import lzma
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from types import SimpleNamespace
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


_ZIP_HEADER = struct.Struct("<4s22xHH")


class ZipObjects:
    """The entries of a zip file on a disk below a place, with those methods of `tensorstore.KvStore` that are used here; they raise as those do.

    TensorStore 0.1.86 waits for ever where its Zarr driver reads parts of shards that are entries of more than 1 MiB.
    """

    def __init__(self, path: str, begin: str) -> None:
        self._path, self._begin = path, begin
        self._file = FileBytes.open(path)
        self._entries = _directory(path, self._file.stamp)

    def read(self, key: str, byte_range: slice | None = None) -> Future[Any]:
        answer = Future[Any]()
        answer.set_result(self._read(self._begin + key, byte_range or slice(None)))
        return answer

    def list(self, keys: Any = None) -> Future[Sequence[bytes]]:
        low, high = (b"", b"") if keys is None else (keys.inclusive_min, keys.exclusive_max)
        below = (name.removeprefix(self._begin) for name in self._entries if name.startswith(self._begin))
        names = sorted(name.encode() for name in below)
        answer = Future[Sequence[bytes]]()
        answer.set_result([name for name in names if low <= name and (not high or name < high)])
        return answer

    def _read(self, name: str, part: slice) -> Any:
        entry = self._entries.get(name)
        if entry is None:
            return SimpleNamespace(state="missing")
        stamp = SimpleNamespace(generation=str(self._file.stamp).encode())
        begin, end, _ = part.indices(entry.file_size)
        if entry.compress_type == zipfile.ZIP_STORED and end - begin < entry.file_size:
            return SimpleNamespace(
                state="value", value=self._file.read(self._start(entry) + begin, end - begin), stamp=stamp
            )
        try:
            with zipfile.ZipFile(self._path) as opened:  # which compares checksums
                data = opened.read(entry)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
            raise ValueError(f"the entry {name!r} is damaged: {error}") from error
        return SimpleNamespace(state="value", value=data[begin:end], stamp=stamp)

    def _start(self, entry: zipfile.ZipInfo) -> int:
        header = self._file.read(entry.header_offset, _ZIP_HEADER.size)
        magic, name, extra = _ZIP_HEADER.unpack(header)
        if magic != b"PK\3\4":
            raise ValueError(f"the entry {entry.filename!r} is damaged: there is no header")
        return entry.header_offset + _ZIP_HEADER.size + int(name) + int(extra)


@functools.lru_cache(maxsize=8)
def _directory(path: str, stamp: int) -> Mapping[str, zipfile.ZipInfo]:
    del stamp  # another one is another file
    try:
        with zipfile.ZipFile(path) as opened:
            return {entry.filename: entry for entry in opened.infolist()}
    except (zipfile.BadZipFile, NotImplementedError, struct.error, UnicodeDecodeError) as error:
        raise ValueError(f"it is cut or damaged: {error}") from error
