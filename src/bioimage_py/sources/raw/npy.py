"""NumPy's .npy files: one uncompressed array, read and written by region."""

from __future__ import annotations

from dataclasses import fields
from io import BytesIO
from tokenize import TokenError
from typing import Any, cast

import numpy as np
from numpy.lib import format as npy_format

from bioimage_py.errors import (
    StorageError,
    UnsupportedFormatError,
)
from bioimage_py.sources.array_spec import ArraySpec
from bioimage_py.sources.raw.making import RawFamily
from bioimage_py.sources.raw.voxels import RawFileSource, RawLayout
from bioimage_py.storage import (
    FileBytes,
    first_bytes,
)

_HEADER_LIMIT = 64 * 1024
_FILL_BYTES = 8 * 2**20


class NpySource(RawFileSource):
    """A .npy file, in C or Fortran order; writable by the threads of one process in mode `"r+"`.

    One that is compressed as a whole cannot be written.
    """

    kind = "npy"
    format = "npy"

    def show_as(self, spec: ArraySpec) -> None:
        """Show it as it is: it has no metadata."""


class NpyFamily(RawFamily):
    """NumPy's .npy, read and written."""

    name = ".npy"

    def source(self, path: str, mode: str, file: FileBytes) -> NpySource:
        head, compression = first_bytes(file, path, _HEADER_LIMIT)
        return NpySource(path, mode, file, _layout(path, head), compression)

    def header(self, spec: ArraySpec) -> tuple[bytes, RawLayout]:
        _check_dtype("a new .npy file", spec.dtype)
        header = BytesIO()
        described = cast("str", npy_format.dtype_to_descr(spec.dtype))
        npy_format.write_array_header_1_0(
            header, {"shape": spec.shape, "fortran_order": False, "descr": described}
        )
        return header.getvalue(), RawLayout(header.tell(), spec.shape, spec.dtype)

    def lost(self, spec: ArraySpec) -> list[str]:
        metadata = spec.metadata
        return [field.name for field in fields(metadata) if field.compare and getattr(metadata, field.name)]


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
