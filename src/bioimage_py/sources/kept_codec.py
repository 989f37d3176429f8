"""Which codec a new array needs so that chunks of another one can be moved into it."""

from __future__ import annotations

from typing import Any

from bioimage_py.sources.array_spec import Codec
from bioimage_py.sources.encoding import ChunkEncoding
from bioimage_py.sources.zarr_codecs import BLOSC_NAMES

__all__ = ["kept_codec"]

_SHUFFLES = {0: "noshuffle", 1: "shuffle", 2: "bitshuffle"}


def kept_codec(encoding: ChunkEncoding, kind: str, zarr_format: int = 3) -> Codec | None:
    """Return the codec with which a new array can hold these chunks as they are, or behind another header.

    Parameters
    ----------
    encoding
        How the chunks are encoded.
    kind
        Storage family of the new array, as in the registry.
    zarr_format
        2 or 3, for Zarr.

    Returns
    -------
    Codec or None
        With the level and the options of the chunks, as far as they are known; None where that family cannot say it. Whether
        chunks can then be moved depends on byte order and grid too: ask `compare_encodings`.

    Examples
    --------
    >>> stored = ChunkEncoding("hdf5", (9,), "uint8", "", (3,), codecs=(("zlib",),), settings=(("zlib", ("level", 4)),))
    >>> kept_codec(stored, "zarr")
    Codec(name='gzip', level=4, options={})
    """
    pairs = [
        (step[0], dict(settings[1:]))
        for step, settings in zip(encoding.codecs, encoding.settings, strict=True)
        if step[0] not in ("crc32c", "fletcher32")
    ]
    older = kind != "zarr" or zarr_format == 2
    crc32c = {} if older or len(pairs) == len(encoding.codecs) else {"crc32c": True}
    if not pairs:
        return Codec("none", options=crc32c)
    if len(pairs) > 1 or kind not in ("zarr", "n5"):
        return None
    name, settings = pairs[0]
    if name == "zlib" and (kind == "n5" or zarr_format == 3):
        name = "gzip"
    if name == "blosc":
        return _blosc(settings, crc32c)
    if name in ("gzip", "zlib", "zstd") or (name == "bz2" and older):
        checksum = {"checksum": True} if settings.get("checksum") and not older else {}
        level = _level(settings, "blockSize" if "blockSize" in settings else "level")
        return Codec(name, level, {**checksum, **crc32c})
    return None


def _blosc(settings: dict[str, Any], crc32c: dict[str, Any]) -> Codec | None:
    # Snappy is read, but not written.
    if settings.get("cname") not in BLOSC_NAMES:
        return None
    options = {"cname": settings["cname"], **crc32c}
    shuffle = settings.get("shuffle")
    if shuffle in _SHUFFLES:
        shuffle = _SHUFFLES[int(shuffle)]
    if shuffle in _SHUFFLES.values():
        options["shuffle"] = shuffle
    return Codec("blosc", _level(settings, "clevel"), options)


def _level(settings: dict[str, Any], name: str) -> int | None:
    """Return the level, None where it is a default that has no number everywhere."""
    level = settings.get(name)
    return level if isinstance(level, int) and level >= 0 else None
