"""New arrays that encode their chunks as another one does, so that a copy can move them without decoding."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bioimage_py.chunks import ChunkEncoding, UnknownEncoding, compare_encodings
from bioimage_py.sources.array_spec import ArraySpec, Codec
from bioimage_py.sources.chunk_access import planned_encoding
from bioimage_py.sources.zarr import BLOSC_NAMES


def keeping(
    encoding: ChunkEncoding | UnknownEncoding | None, kind: str, spec: ArraySpec, *, grid: bool, codec: bool
) -> ArraySpec:
    """Return what a new array shall look like to hold chunks of that encoding; unchanged where its family cannot.

    Parameters
    ----------
    encoding
        How the chunks are encoded that will be copied into it.
    kind
        Storage family of the new array.
    spec
        What it shall look like so far.
    grid, codec
        Whether the user left the chunks, and the codec, to us.
    """
    if not isinstance(encoding, ChunkEncoding):
        return spec
    if kind == "hdf5" and codec and ("fletcher32",) in encoding.codecs:
        return replace(spec, codec=Codec("gzip", options={"fletcher32": True}))
    if encoding.dtype != spec.dtype.name:
        return spec
    wanted = spec
    if grid and (spec.shards is None or _divides(encoding.chunks, spec.shards)):
        wanted = replace(wanted, chunks=encoding.chunks)
    if codec:
        kept = kept_codec(encoding, kind, spec.zarr_format)
        # HDF5 files are uncompressed more often by habit than by choice.
        if kept is None or (kept.name == "none" and encoding.format == "hdf5"):
            return spec
        wanted = replace(wanted, codec=kept)
    if kind == "zarr" and encoding.byte_order:
        wanted = replace(wanted, byte_order=encoding.byte_order)
    made = planned_encoding(kind, wanted)
    # A region of the array has another shape, and begins where the planner looks whether that fits.
    shape = made.shape if isinstance(made, ChunkEncoding) else encoding.shape
    match = compare_encodings(replace(encoding, shape=shape), made)
    return spec if match.road == "recode" else wanted


def _divides(chunks: tuple[int, ...], shards: tuple[int, ...]) -> bool:
    return all(s % c == 0 for c, s in zip(chunks, shards, strict=True))


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
