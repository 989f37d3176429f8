"""What a new stored array shall look like: shape, dtype, chunks, shards, codec, fill value, metadata."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bioimage_py.errors import InvalidArgumentError
from bioimage_py.metadata import ImageMetadata

CODECS = (
    "none", "zstd", "gzip", "zlib", "deflate", "lzw", "bz2", "lz4", "blosc", "lzf", "jpeg", "png", "compressed_segmentation",
)  # fmt: skip
_CHECKSUMS = ("crc32c", "checksum", "fletcher32")


@dataclass(frozen=True)
class Codec:
    """A compression by name, with the options that most stores share.

    Attributes
    ----------
    name
        One of `CODECS`. Not every store has every codec.
    level
        The codec's own level, or None for the store's default.
    options
        Further options: for blosc `cname` (`"zstd"`, `"lz4"`, …) and `shuffle` (`"noshuffle"`, `"shuffle"`,
        `"bitshuffle"`); in Zarr v3 `crc32c=True` for a checksum behind each chunk, and for zstd `checksum=True` for one
        in its frames; in HDF5 `fletcher32=True`; in TIFF `predictor=False` for no differences of neighbours.
    """

    name: str
    level: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, codec: str | Mapping[str, Any] | Codec) -> Codec:
        """Read a codec as a user gives it: `"zstd"`, `"gzip:6"`, `"zstd:3+crc32c"`, or `{"name": "blosc", "level": 3, "cname": "lz4"}`.

        Raises
        ------
        InvalidArgumentError
            For a name that is not in `CODECS`, a level that is not an integer, or a checksum that is not known.

        Examples
        --------
        >>> Codec.parse("gzip:6")
        Codec(name='gzip', level=6, options={})
        >>> Codec.parse("zstd:3+crc32c").options
        {'crc32c': True}
        """
        if isinstance(codec, Codec):
            return codec
        if isinstance(codec, str):
            text, *checksums = codec.split("+")
            name, _, level = text.partition(":")
            unknown = [word for word in checksums if word not in _CHECKSUMS]
            if unknown:
                raise InvalidArgumentError(
                    f"codec {codec!r} has {unknown[0]!r} after a '+'; only a checksum can be there: {' or '.join(_CHECKSUMS)}"
                )
            options: dict[str, Any] = dict.fromkeys(checksums, True)
        elif isinstance(codec, Mapping):
            options = dict(codec)
            name = str(options.pop("name", options.pop("id", "")))
            level = options.pop("level", options.pop("clevel", ""))
        else:
            raise InvalidArgumentError(f"codec must be a name, a dict or a Codec, got {codec!r}")
        if name not in CODECS:
            raise InvalidArgumentError(f"codec {name!r} is not known; choose one of {', '.join(CODECS)}")
        try:
            return cls(name, None if level in ("", None) else int(level), options)
        except (TypeError, ValueError):
            raise InvalidArgumentError(f"level of codec {name!r} must be an integer, got {level!r}") from None


@dataclass(frozen=True)
class ArraySpec:
    """What `create_output` hands to a storage family; every choice is already made, except store defaults (None).

    `labels` says whether voxels are names of objects, for a store that tells, `imagej` whether a TIFF is to be an ImageJ hyperstack.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunks: tuple[int, ...] | None = None
    shards: tuple[int, ...] | None = None
    codec: Codec | None = None
    zarr_format: int = 3
    fill_value: Any = None
    byte_order: str = "little"
    labels: bool | None = None
    imagej: bool = False
    metadata: ImageMetadata = field(default_factory=ImageMetadata)
    # Gives the OME-XML of the image whose voxels these will be, for a store that keeps it.
    ome_xml: Callable[[], str | None] | None = field(default=None, compare=False, repr=False)
