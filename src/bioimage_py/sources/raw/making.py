"""Making files of uncompressed voxels behind a header: each voxel has its place from the beginning."""

from __future__ import annotations

import errno
import os
import shutil
import warnings
from abc import abstractmethod
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from traceback import clear_frames
from typing import Any

import imagecodecs
import numpy as np

from bioimage_py.errors import (
    BioimagePyWarning,
    Hint,
    InvalidArgumentError,
    StorageError,
    UnsupportedFormatError,
)
from bioimage_py.sources.array_spec import ArraySpec
from bioimage_py.sources.base import Source
from bioimage_py.sources.family import Family
from bioimage_py.sources.raw.voxels import RawFileSource, RawLayout, check_single_array, open_file
from bioimage_py.sources.stores import mark_file
from bioimage_py.storage import (
    COMPRESSED_SUFFIXES,
    FileBytes,
    UnfinishedFile,
    check_new_file,
    first_bytes,
    folder_above,
)
from bioimage_py.system import NEW_READ_WRITE

_FILL_BYTES = 8 * 2**20
_HEAD = 1024
_GZIP_LEVEL = 1
_GZIP_PIECE = 4 * 2**20


def check_dtype(title: str, dtype: str, known: Collection[str], near: str) -> None:
    """Raise UnsupportedFormatError if a format has no such data type; `near` is the one to give."""
    if dtype not in known:
        raise UnsupportedFormatError(
            f"{title} cannot hold dtype {dtype}: it has {', '.join(known)}",
            hints=[Hint.of("give {}", dtype=near)],
        )


class RawFamily(Family):
    """Formats of one array of plain voxels: what is new has its size at once, and takes up no disk space until it is written.

    What is compressed as a whole is written uncompressed beside its place, and compressed when all blocks are done.
    """

    continues = True
    name = ""
    """What one of its files is called in messages."""

    @abstractmethod
    def source(self, path: str, mode: str, file: FileBytes) -> RawFileSource:
        """Return the array in an open file."""

    @abstractmethod
    def header(self, spec: ArraySpec) -> tuple[bytes, RawLayout]:
        """Return what stands before the voxels of a new file, and where these are."""

    @abstractmethod
    def lost(self, spec: ArraySpec) -> list[str]:
        """Return the names of metadata that a new file cannot hold."""

    def open_path(self, path: str, key: str | None = None, mode: str = "r", **options: Any) -> Source:
        zipped = path.lower().endswith(COMPRESSED_SUFFIXES)
        check_single_array(self.name, path, key, mode, writable=not zipped, options=options)
        return self.source(path, mode, open_file(path, mode))

    def create(
        self, path: str, key: str | None, spec: ArraySpec, overwrite: bool = False, *args: Any, **options: Any
    ) -> Source:
        """Make a new file; its voxels take up no disk space until written."""
        del args, options
        if _is_gzip(path):
            raise InvalidArgumentError(
                f"{path!r} is compressed as a whole, so it is made by copy only: write it without .gz"
            )
        self.create_unfinished(path, key, spec, overwrite).finish()
        return self.open_path(path, mode="r+")

    def create_unfinished(
        self, path: str, key: str | None, spec: ArraySpec, overwrite: bool = False
    ) -> RawFileSource:
        self.check_create(path, key, spec, overwrite)
        if lost := self.lost(spec):
            warnings.warn(
                f"a {self.name} file stores voxels{'' if self.name == '.npy' else ' and where they are'} only: {', '.join(lost)} of the input will not "
                f"be in {path!r}",
                BioimagePyWarning,
                stacklevel=4,
            )
        unfinished, written = _new_files(path, replaces=overwrite)
        for one in {unfinished, written}:
            one.make_free()
        with unfinished.errors():
            header, layout = self.header(spec)
            _make(written.partial, header, layout, spec.fill_value)
            if written is not unfinished:
                Path(unfinished.partial).touch()
        source = self._opened(path, spec, unfinished, written)
        try:
            source.marked = mark_file(path, unfinished.partial)
        except BaseException:
            source.abandon()
            raise
        return source

    def reopen_unfinished(self, path: str, key: str | None, spec: ArraySpec) -> RawFileSource:
        from bioimage_py.storage import StoreFolder  # it needs a library that is slow to load

        del key
        unfinished, written = _new_files(path, replaces=False)
        unfinished.drop_if_named()
        if Path(unfinished.partial).exists():
            source = self._opened(path, spec, unfinished, written)
        else:  # it has got its name
            mode = "r" if _is_gzip(path) else "r+"
            source = self.source(path, mode, open_file(path, mode))
            source.show_as(spec)
        source.marked = StoreFolder.beside(path)
        return source

    def _opened(
        self, path: str, spec: ArraySpec, unfinished: UnfinishedFile, written: UnfinishedFile
    ) -> RawFileSource:
        file = open_file(written.partial, "r+")
        written.lock(file.number)
        source = self.source(path, "r+", file)
        source.show_as(spec)
        source.unfinished = unfinished
        if written is not unfinished:
            level = _GZIP_LEVEL if spec.codec is None or spec.codec.level is None else spec.codec.level
            source.uncompressed = written
            source.compress = lambda: _compress(file, unfinished, written, level, source.threads)
        return source

    def check_create(self, path: str, key: str | None, spec: ArraySpec, overwrite: bool = False) -> None:
        check_single_array(self.name, path, key, "r+", writable=True, options={})
        for name in ("chunks", "shards"):
            if getattr(spec, name) is not None:
                raise InvalidArgumentError(
                    f"a {self.name} file has no {name}, got {name}={getattr(spec, name)} for {path!r}: leave it out, or write .zarr"
                )
        codecs = ("gzip",) if _is_gzip(path) else ("none",)
        if spec.codec is not None and (spec.codec.name not in codecs or spec.codec.options):
            wanted = "+".join([spec.codec.name, *spec.codec.options])
            raise InvalidArgumentError(
                f"a {self.name} file has neither compression nor checksums, got codec {wanted!r}: use .zarr for {path!r}"
                if codecs == ("none",)
                else f"{path!r} is compressed with gzip, got codec {wanted!r}"
            )
        _, layout = self.header(spec)
        check_new_file(path, self.name, self._is_own, overwrite=overwrite)
        needed = layout.nbytes
        free = shutil.disk_usage(folder_above(path)).free
        if needed > free:
            full = f"no space left for {path!r}: it takes {needed:,} bytes, and {free:,} are free. Make room, or write somewhere else"
            raise StorageError(full) from OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _is_own(self, path: str) -> bool:
        head, _ = first_bytes(FileBytes.open(path), path, _HEAD)
        return any(head[at : at + len(magic)] == magic for at, magic in self.entry.magic)


def _is_gzip(path: str) -> bool:
    return path.lower().endswith(".gz")


def _new_files(path: str, *, replaces: bool) -> tuple[UnfinishedFile, UnfinishedFile]:
    """Return a new file, and the one that its voxels are written into first: another one if it is compressed."""
    unfinished = UnfinishedFile(path, replaces=replaces)
    return unfinished, UnfinishedFile(f"{path}.voxels", replaces=False) if _is_gzip(path) else unfinished


def _make(made: str, header: bytes, layout: RawLayout, fill_value: Any) -> None:
    file = FileBytes(os.open(made, NEW_READ_WRITE, 0o666), repr(made))
    try:
        file.write(0, memoryview(header))
        os.truncate(file.number, layout.offset + layout.nbytes)
        if fill_value is not None and layout.nbytes:
            _fill(file, layout, fill_value)
    except BaseException as error:
        # Frames hold the file open, and Windows removes no open file.
        clear_frames(error.__traceback__)
        del file
        Path(made).unlink(missing_ok=True)
        raise


def _fill(file: FileBytes, layout: RawLayout, fill_value: Any) -> None:
    value = np.asarray(fill_value).astype(layout.dtype)
    if not any(value.tobytes()):
        return
    piece = memoryview(np.full(max(1, _FILL_BYTES // layout.dtype.itemsize), value).tobytes())
    end = layout.offset + layout.nbytes
    for at in range(layout.offset, end, len(piece)):
        file.write(at, piece[: end - at])


def _compress(
    file: FileBytes, unfinished: UnfinishedFile, written: UnfinishedFile, level: int, threads: int
) -> None:
    """Compress a file that is complete: piece by piece, which makes one gzip file of several members."""
    end, step = os.fstat(file.number).st_size, threads * _GZIP_PIECE

    def packed(at: int) -> bytes:
        return bytes(imagecodecs.gzip_encode(file.read(at, min(_GZIP_PIECE, end - at)), level=level))

    with (
        unfinished.errors(),
        open(unfinished.partial, "wb") as into,  # noqa: PTH123 - a text stays a text
        ThreadPoolExecutor(threads, thread_name_prefix="bioimage-gzip") as pool,
    ):
        for first in range(0, end, step):
            into.writelines(pool.map(packed, range(first, min(end, first + step), _GZIP_PIECE)))
    written.drop()
