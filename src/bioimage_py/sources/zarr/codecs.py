"""Codecs of Zarr: from a name to what the metadata of v2 and v3 hold, and back to words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from bioimage_py.chunks import BLOSC_SHUFFLES, ChunkEncoding, compare_encodings
from bioimage_py.errors import InvalidArgumentError, UnsupportedFormatError
from bioimage_py.sources.array_spec import LEVEL_WORDS, ArraySpec, Codec
from bioimage_py.sources.family import Family

V2_CODECS = ("none", "zstd", "gzip", "zlib", "bz2", "blosc", "lz4")
V3_CODECS = ("none", "zstd", "gzip", "blosc", "lz4")
BLOSC_NAMES = ("blosclz", "lz4", "lz4hc", "zlib", "zstd")
_LEVELS = {"zstd": (-131072, 22), "gzip": (0, 9), "zlib": (0, 9), "bz2": (1, 9), "blosc": (0, 9)}
_DEFAULT_LEVEL = {"zstd": 1, "gzip": 5, "zlib": 5, "bz2": 5, "blosc": 1}


def default_codec(dtype: np.dtype[Any], **options: Any) -> Codec:
    """Return the codec for those who do not choose one: fast, and made for the kind of numbers."""
    shuffle = "bitshuffle" if dtype.kind in "biu" else "shuffle"
    return Codec("blosc", 1, {"cname": "zstd", "shuffle": shuffle, **options})


def needs_zarr_python(codec: Codec | None, zarr_format: int) -> bool:
    """Whether TensorStore lacks a codec of a new array."""
    own = V3_CODECS if zarr_format == 3 else V2_CODECS
    return codec is not None and any(step.name not in own for step in codec.steps)


def codecs_v2(codec: Codec | None, dtype: np.dtype[Any]) -> dict[str, Any]:
    """Return filters and compressor as the metadata of an array have them."""
    *filters, compressor = (step for _, step in _chain(codec, dtype, 2))
    return {"compressor": compressor, "filters": list(filter(None, filters)) or None}


def codecs_v3(codec: Codec | None, dtype: np.dtype[Any], to_bytes: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the codecs in the metadata of an array, with `to_bytes` where none of them makes bytes of voxels."""
    chain = _chain(codec, dtype, 3)
    kinds, found = [kind for kind, _ in chain], [step for _, step in chain]
    if "array to bytes" not in kinds:
        found.insert(kinds.count("array"), to_bytes)
    return found


def _chain(codec: Codec | None, dtype: np.dtype[Any], zarr_format: int) -> list[tuple[str, Any]]:
    """Return what each codec takes, and its metadata; behind a last one that only prepares voxels follows the default."""
    found: list[tuple[str, Any]] = []
    for step in (None,) if codec is None else codec.steps:
        if step is not None and needs_zarr_python(step, zarr_format):
            from bioimage_py.sources.zarr.registered import registered_step

            own = V3_CODECS if zarr_format == 3 else V2_CODECS
            found += registered_step(step, dtype, zarr_format, own)
            prepares = found[-1][0] == "array"
        else:
            made = _compressors_v3(step, dtype) if zarr_format == 3 else [_compressor_v2(step, dtype)]
            found += [("bytes", one) for one in made]
            prepares = False
    return [*found, *_chain(None, dtype, zarr_format)] if prepares else found


def _compressor_v2(codec: Codec | None, dtype: np.dtype[Any]) -> dict[str, Any] | None:
    codec = checked_codec(codec or default_codec(dtype), V2_CODECS, "Zarr v2")
    if codec.name == "none":
        return None
    if codec.name == "blosc":
        return {"id": "blosc", **blosc_fields(codec, dtype)}
    return {"id": codec.name, "level": checked_level(codec)}


def _compressors_v3(codec: Codec | None, dtype: np.dtype[Any]) -> list[dict[str, Any]]:
    # Without a checksum most flipped bits read as other voxels; it takes 1 % of the time of encoding and writing.
    codec = codec or default_codec(dtype, crc32c=True)
    options = dict(codec.options)
    crc32c = [{"name": "crc32c"}] if checked_flag(options, "crc32c") else []
    checksum = codec.name == "zstd" and checked_flag(options, "checksum")
    codec = checked_codec(Codec(codec.name, codec.level, options), V3_CODECS, "Zarr v3")
    if codec.name == "none":
        return crc32c
    configuration: dict[str, Any]
    if codec.name == "blosc":
        configuration = {**_blosc_choice(codec, dtype), "typesize": dtype.itemsize}
    else:
        configuration = {"level": checked_level(codec)}
        if codec.name == "zstd":
            configuration["checksum"] = checksum
    return [{"name": codec.name, "configuration": configuration}, *crc32c]


def checked_flag(options: dict[str, Any], name: str) -> bool:
    """Take an option that is True or False out of others; False where it is not among them."""
    value = options.pop(name, False)
    if not isinstance(value, (bool, np.bool_)):
        raise InvalidArgumentError(f"option {name} of a codec must be True or False, got {value!r}")
    return bool(value)


def checked_codec(codec: Codec, known: tuple[str, ...], store: str) -> Codec:
    """Return the codec as a store knows it (lz4 as a blosc codec where the store is Zarr or N5)."""
    if codec.name not in known:
        raise InvalidArgumentError(
            f"{store} does not have the codec {codec.name!r}; choose one of {', '.join(known)}"
        )
    if codec.options.get("crc32c"):
        raise InvalidArgumentError(f"{store} has no crc32c behind its chunks: leave it out, or use Zarr v3")
    if codec.name == "lz4":
        return Codec("blosc", codec.level, {"shuffle": "shuffle", **codec.options, "cname": "lz4"})
    if codec.name != "blosc" and codec.options:
        raise InvalidArgumentError(
            f"codec {codec.name!r} of {store} has no option {', '.join(codec.options)}"
        )
    return codec


def _blosc_choice(codec: Codec, dtype: np.dtype[Any]) -> dict[str, Any]:
    """Return the settings of blosc, or raise InvalidArgumentError for what it does not have."""
    unknown = sorted(set(codec.options) - {"cname", "shuffle"})
    if unknown:
        raise InvalidArgumentError(
            f"codec 'blosc' has no option {', '.join(unknown)}; there are cname and shuffle"
        )
    cname = codec.options.get("cname", "zstd")
    shuffle = codec.options.get("shuffle", "bitshuffle" if dtype.kind in "biu" else "shuffle")
    if shuffle in (0, 1, 2):
        shuffle = BLOSC_SHUFFLES[int(shuffle)]
    if cname == "snappy":
        raise InvalidArgumentError(
            "blosc with snappy can be read, but is not written: most other programs cannot read it. "
            f"Choose one of {', '.join(BLOSC_NAMES)}"
        )
    if cname not in BLOSC_NAMES:
        raise InvalidArgumentError(f"blosc has no cname {cname!r}; choose one of {', '.join(BLOSC_NAMES)}")
    if shuffle not in BLOSC_SHUFFLES:
        raise InvalidArgumentError(
            f"blosc has no shuffle {shuffle!r}; choose one of {', '.join(BLOSC_SHUFFLES)}"
        )
    return {"cname": cname, "clevel": checked_level(codec), "shuffle": shuffle, "blocksize": 0}


def blosc_fields(codec: Codec, dtype: np.dtype[Any]) -> dict[str, Any]:
    """Return the settings of blosc as Zarr v2 and N5 number them."""
    found = _blosc_choice(codec, dtype)
    return {**found, "shuffle": BLOSC_SHUFFLES.index(found["shuffle"])}


def checked_level(codec: Codec) -> int:
    level = _DEFAULT_LEVEL[codec.name] if codec.level is None else codec.level
    low, high = _LEVELS[codec.name]
    if not low <= level <= high:
        raise InvalidArgumentError(f"level of {codec.name} must be from {low} to {high}, got {level}")
    return level


def without_rounding(steps: Any) -> Any:
    """Return codecs as in the metadata of an array without bit rounding, which decoding does not undo: TensorStore lacks it."""
    if not isinstance(steps, list):
        return steps
    found = [step for step in steps if _name(step) not in ("bitround", "numcodecs.bitround")] or None
    shard = found[0].get("configuration") if found and _name(found[0]) == "sharding_indexed" else None
    if found and isinstance(shard, Mapping):
        inner = {**shard, "codecs": without_rounding(shard.get("codecs"))}
        found[0] = {**found[0], "configuration": inner}
    return found


def _name(step: Any) -> str:
    told = step if isinstance(step, Mapping) else {}
    return str(told.get("id") or told.get("type") or told.get("name"))


def codec_text(codecs: Any) -> str:
    """Return codecs as in the metadata of an array (v2 compressor or v3 codec list) in words for people."""
    steps = [codecs] if isinstance(codecs, Mapping) else codecs if isinstance(codecs, list) else []
    return " ".join(filter(None, (_step_text(step) for step in steps if isinstance(step, Mapping))))


def _step_text(step: Mapping[str, Any]) -> str:
    name = _name(step)
    details = step.get("configuration", step)
    if not isinstance(details, Mapping):
        return name
    if name == "sharding_indexed":
        return codec_text(details.get("codecs"))
    if name == "bytes":
        return "big-endian" if details.get("endian") == "big" else ""
    if name == "blosc":
        shuffle = details.get("shuffle", "")
        shuffle = BLOSC_SHUFFLES[int(shuffle)] if shuffle in (0, 1, 2) else shuffle
        return f"blosc {details.get('cname', '')}:{details.get('clevel', '')} {shuffle}".rstrip()
    level = next((details[word] for word in LEVEL_WORDS if word in details), None)
    return name if level is None else f"{name}:{level}"


def keeping(
    family: Family, spec: ArraySpec, encoding: ChunkEncoding, version: int, *, grid: bool, codec: bool
) -> ArraySpec:
    """Return a new Zarr or N5 array that holds chunks of an encoding as they are; unchanged if it cannot. `version` as for `kept_codec`."""
    if encoding.dtype != spec.dtype.name:
        return spec
    wanted = spec
    if grid and (
        spec.shards is None or all(s % c == 0 for c, s in zip(encoding.chunks, spec.shards, strict=True))
    ):
        wanted = replace(wanted, chunks=encoding.chunks)
    if codec:
        kept = kept_codec(encoding, version)
        # Single files are uncompressed more often by habit than by choice.
        if kept is None or (kept.name == "none" and encoding.one_file):
            return spec
        wanted = replace(wanted, codec=kept)
    if version > 1 and encoding.byte_order:
        wanted = replace(wanted, byte_order=encoding.byte_order)
    try:
        made = family.planned_encoding(wanted)
    except UnsupportedFormatError:
        return spec
    # A region of the array has another shape, and begins where the planner looks whether that fits.
    match = compare_encodings(replace(encoding, shape=made.shape), made)
    return spec if match.road == "recode" else wanted


def kept_codec(encoding: ChunkEncoding, version: int) -> Codec | None:
    """Return the codec with which a new array can hold these chunks as they are, or behind another header; None if there is none.

    The version is 2 or 3, that of Zarr, or 1 for N5. Whether chunks can then be moved depends on byte order and grid too.
    """
    pairs = [
        (step[0], dict(settings[1:]))
        for step, settings in zip(encoding.codecs, encoding.settings, strict=True)
        if step[0] not in ("crc32c", "fletcher32")
    ]
    crc32c = {} if version < 3 or len(pairs) == len(encoding.codecs) else {"crc32c": True}
    if not pairs:
        return Codec("none", options=crc32c)
    if len(pairs) > 1:
        return None
    name, settings = pairs[0]
    if name == "zlib" and version != 2:
        name = "gzip"
    if name == "blosc":
        return _kept_blosc(settings, crc32c)
    if name in ("gzip", "zlib", "zstd") or (name == "bz2" and version < 3):
        checksum = {"checksum": True} if settings.get("checksum") and version == 3 else {}
        level = _kept_level(settings, "blockSize" if "blockSize" in settings else "level")
        return Codec(name, level, {**checksum, **crc32c})
    return None


def _kept_blosc(settings: Mapping[str, Any], crc32c: Mapping[str, Any]) -> Codec | None:
    # Snappy is read, but not written.
    if settings.get("cname") not in BLOSC_NAMES:
        return None
    options = {"cname": settings["cname"], **crc32c}
    shuffle = settings.get("shuffle")
    shuffle = BLOSC_SHUFFLES[int(shuffle)] if shuffle in (0, 1, 2) else shuffle
    if shuffle in BLOSC_SHUFFLES:
        options["shuffle"] = shuffle
    return Codec("blosc", _kept_level(settings, "clevel"), options)


def _kept_level(settings: Mapping[str, Any], name: str) -> int | None:
    level = settings.get(name)
    return level if isinstance(level, int) and level >= 0 else None
