"""NumPy's .npy files: one uncompressed array, read and written by region."""

from __future__ import annotations

import errno
import math
import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from io import BytesIO
from pathlib import Path
from tokenize import TokenError
from traceback import clear_frames
from typing import Any, cast

import numpy as np
from numpy.lib import format as npy_format

from bioimage_py.errors import (
    BioimagePyWarning,
    InvalidArgumentError,
    StorageError,
    UnsupportedFormatError,
)
from bioimage_py.metadata import ImageMetadata
from bioimage_py.sources.array_spec import ArraySpec
from bioimage_py.sources.base import Source
from bioimage_py.sources.family import Family
from bioimage_py.sources.raw.voxels import RawFileSource, RawLayout, check_single_array, open_file
from bioimage_py.storage import (
    COMPRESSED_SUFFIXES,
    FileBytes,
    UnfinishedFile,
    check_new_file,
    first_bytes,
    folder_above,
)
from bioimage_py.system import NEW_READ_WRITE, RENAMES_OPEN_FILES

_HEADER_LIMIT = 64 * 1024
_FILL_BYTES = 8 * 2**20


class NpySource(RawFileSource):
    """A .npy file, in C or Fortran order; writable by the threads of one process in mode `"r+"`.

    One that is compressed as a whole cannot be written.
    """

    kind = "npy"
    format = "npy"

    @contextmanager
    def _renaming(self) -> Iterator[None]:
        if not RENAMES_OPEN_FILES:
            self._file = None
        yield
        if self._file is None:
            self._file = open_file(self.path, "r+")


class NpyFamily(Family):
    """NumPy's .npy, read and written."""

    def open_path(self, path: str, key: str | None = None, mode: str = "r", **options: Any) -> Source:
        zipped = path.lower().endswith(COMPRESSED_SUFFIXES)
        check_single_array(".npy", path, key, mode, writable=not zipped, options=options)
        file = open_file(path, mode)
        head, compression = first_bytes(file, path, _HEADER_LIMIT)
        return NpySource(path, mode, file, _layout(path, head), compression)

    def create(
        self, path: str, key: str | None, spec: ArraySpec, overwrite: bool = False, *args: Any, **options: Any
    ) -> Source:
        """Make a new file in C order; its voxels take up no disk space until written."""
        del args, options
        self.create_unfinished(path, key, spec, overwrite).finish()
        return self.open_path(path, mode="r+")

    def create_unfinished(
        self, path: str, key: str | None, spec: ArraySpec, overwrite: bool = False
    ) -> NpySource:
        self.check_create(path, key, spec, overwrite)
        _warn_of_lost(path, spec.metadata)
        unfinished = UnfinishedFile(path, replaces=overwrite)
        unfinished.make_free()
        with unfinished.errors():
            _make(unfinished.partial, spec)
        file = open_file(unfinished.partial, "r+")
        unfinished.lock(file.number)
        source = NpySource(path, "r+", file, _layout(path, file.read(0, min(_HEADER_LIMIT, file.size))))
        source.unfinished = unfinished
        return source

    def check_create(self, path: str, key: str | None, spec: ArraySpec, overwrite: bool = False) -> None:
        _check_spec(path, key, spec)
        check_new_file(path, ".npy", _is_npy, overwrite=overwrite)
        _check_disk(path, spec)


def _layout(path: str, head: bytes) -> RawLayout:
    if not head.startswith(npy_format.MAGIC_PREFIX):
        raise UnsupportedFormatError(f"{path!r} is not a .npy file: it begins with {head[:6]!r}")
    version = tuple(head[6:8])
    if version not in ((1, 0), (2, 0), (3, 0)):
        raise UnsupportedFormatError(
            f"{path!r} is .npy version {version}; versions 1.0, 2.0 and 3.0 can be read"
        )
    # Version 3 differs from 2 only in the encoding of field names of structured dtypes, which are refused.
    read_header = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
    stream = BytesIO(head)
    stream.seek(8)
    try:
        shape, fortran, dtype = read_header(stream, max_header_size=_HEADER_LIMIT)
    except (ValueError, EOFError, SyntaxError, TypeError, TokenError, OverflowError) as error:
        raise StorageError(f"the header of {path!r} cannot be read: {str(error)[:200]}") from error
    if any(not 0 <= n < 2**63 for n in shape):
        raise StorageError(f"the header of {path!r} is damaged: it says shape {shape}")
    _check_dtype(path, dtype)
    return RawLayout(stream.tell(), tuple(int(n) for n in shape), dtype, "F" if fortran else "C")


def _check_dtype(path: str, dtype: np.dtype[Any]) -> None:
    if dtype.kind not in "biufc" or dtype.subdtype is not None:
        raise UnsupportedFormatError(
            f"{path!r} has dtype {dtype}, but voxels are bool, integers, floats or complex numbers"
        )


def _check_disk(path: str, spec: ArraySpec) -> None:
    needed = spec.dtype.itemsize * math.prod(spec.shape)
    free = shutil.disk_usage(folder_above(path)).free
    if needed > free:
        full = f"no space left for {path!r}: it takes {needed:,} bytes, and {free:,} are free. Make room, or write somewhere else"
        raise StorageError(full) from OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _check_spec(path: str, key: str | None, spec: ArraySpec) -> None:
    check_single_array(".npy", path, key, "r+", writable=True, options={})
    for name in ("chunks", "shards"):
        if getattr(spec, name) is not None:
            raise InvalidArgumentError(
                f"a .npy file has no {name}, got {name}={getattr(spec, name)} for {path!r}: leave it out, or write .zarr"
            )
    if spec.codec is not None and (spec.codec.name != "none" or spec.codec.options):
        wanted = "+".join([spec.codec.name, *spec.codec.options])
        raise InvalidArgumentError(
            f"a .npy file has neither compression nor checksums, got codec {wanted!r}: use .zarr for {path!r}"
        )
    _check_dtype(path, spec.dtype)


def _is_npy(path: str) -> bool:
    file = FileBytes.open(path)
    return file.read(0, min(file.size, len(npy_format.MAGIC_PREFIX))) == npy_format.MAGIC_PREFIX


def _make(made: str, spec: ArraySpec) -> None:
    file = FileBytes(os.open(made, NEW_READ_WRITE, 0o666), repr(made))
    try:
        header = BytesIO()
        described = cast("str", npy_format.dtype_to_descr(spec.dtype))
        npy_format.write_array_header_1_0(
            header, {"shape": spec.shape, "fortran_order": False, "descr": described}
        )
        layout = RawLayout(header.tell(), spec.shape, spec.dtype)
        file.write(0, header.getbuffer())
        os.truncate(file.number, layout.offset + layout.nbytes)
        if spec.fill_value is not None and layout.nbytes:
            _fill(file, layout, spec.fill_value)
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


def _warn_of_lost(path: str, metadata: ImageMetadata) -> None:
    lost = [field.name for field in fields(metadata) if field.compare and getattr(metadata, field.name)]
    if lost:
        warnings.warn(
            f"a .npy file stores voxels only: {', '.join(lost)} of the input will not be in {path!r}",
            BioimagePyWarning,
            stacklevel=4,
        )
