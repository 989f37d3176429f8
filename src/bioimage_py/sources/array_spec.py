"""What a new stored array shall look like: shape, dtype, chunks, shards, codec, fill value, metadata."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from bioimage_py.errors import InvalidArgumentError
from bioimage_py.metadata import ImageMetadata

_CHECKSUMS = ("crc32c", "checksum", "fletcher32")
LEVEL_WORDS = ("level", "clevel", "keepbits", "digits", "acceleration", "preset")
"""What codecs call the number that stands behind their name; the first that they have."""


@dataclass(frozen=True)
class Codec:
    """A compression by name, with the options that most stores share.

    Attributes
    ----------
    name
        Such as `"zstd"`. What there is depends on the store, which refuses what it does not have.
    level
        The codec's own level (or the kept bits of bitround), or None for the store's default.
    options
        Further options: for blosc `cname` (`"zstd"`, `"lz4"`, …) and `shuffle` (`"noshuffle"`, `"shuffle"`,
        `"bitshuffle"`); in Zarr v3 `crc32c=True` for a checksum behind each chunk, and for zstd `checksum=True` for one
        in its frames; in HDF5 `fletcher32=True`; in TIFF `predictor=False` for no differences of neighbours; in Zarr
        `filters`, the codecs before this one, in the order of writing.
    """

    name: str
    level: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def steps(self) -> tuple[Codec, ...]:
        """All codecs in the order of writing."""
        options = dict(self.options)
        filters = options.pop("filters", ())
        return (*map(Codec.parse, filters), replace(self, options=options))

    @property
    def text(self) -> str:
        """The names of all, as they are given."""
        return "+".join(step.name for step in self.steps)

    @classmethod
    def parse(cls, codec: str | Mapping[str, Any] | Codec) -> Codec:
        """Read a codec as a user gives it: `"zstd"`, `"gzip:6"`, `"bitround:10+zstd:3+crc32c"`, or `{"name": "blosc", "level": 3, "cname": "lz4"}`.

        Raises
        ------
        InvalidArgumentError
            For a level that is not an integer.

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
            first, *others = codec.split("+")
            filters: list[Any] = [first, *(word for word in others if word not in _CHECKSUMS)]
            last = filters.pop()
            name, _, level = last.partition(":")
            options: dict[str, Any] = dict.fromkeys((word for word in others if word in _CHECKSUMS), True)
        elif isinstance(codec, Mapping):
            options = dict(codec)
            name = str(options.pop("name", options.pop("id", "")))
            level = options.pop("level", options.pop("clevel", ""))
            filters = options.pop("filters", None) or []
            filters = [filters] if isinstance(filters, (str, Mapping, Codec)) else list(filters)
        else:
            raise InvalidArgumentError(f"codec must be a name, a dict or a Codec, got {codec!r}")
        if filters:
            options["filters"] = tuple(map(cls.parse, filters))
        try:
            return cls(name, None if level in ("", None) else int(level), options)
        except (TypeError, ValueError):
            raise InvalidArgumentError(f"level of codec {name!r} must be an integer, got {level!r}") from None


@dataclass(frozen=True)
class ArraySpec:
    """What `create_output` hands to a storage family; every choice is already made, except store defaults (None).

    `labels` says whether voxels are names of objects, for a store that tells, `imagej` whether a TIFF is to be an ImageJ hyperstack,
    `skip_zeros` whether a precomputed volume leaves out chunks of zeros.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunks: tuple[int, ...] | None = None
    shards: tuple[int, ...] | None = None
    codec: Codec | None = None
    zarr_format: int = 3
    ome_zarr_version: str | None = None  # None for the usual one
    fill_value: Any = None
    byte_order: str = "little"
    labels: bool | None = None
    imagej: bool = False
    skip_zeros: bool = False
    metadata: ImageMetadata = field(default_factory=ImageMetadata)
    # Gives the OME-XML of the image whose voxels these will be, for a store that keeps it.
    ome_xml: Callable[[], str | None] | None = field(default=None, compare=False, repr=False)
