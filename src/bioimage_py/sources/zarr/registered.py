"""Codecs by the registries of zarr-python and numcodecs: which there are, and what the metadata of an array hold of one."""

from __future__ import annotations

import contextlib
import difflib
import inspect
import json
import re
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numcodecs.registry
import numpy as np
import zarr
import zarr.registry
from zarr.abc.codec import ArrayArrayCodec, ArrayBytesCodec

from bioimage_py.errors import InvalidArgumentError
from bioimage_py.sources.array_spec import LEVEL_WORDS, Codec
from bioimage_py.storage import plain_message

_PREFIX = "numcodecs."
_NOT_OF_NUMBERS = re.compile("bytes|endian|sharding|vlen|json|msgpack|pickle|categorize|base64")
"""In names of codecs of objects and texts, and of what is no option: shards, byte order."""


def registered_names(zarr_format: int) -> list[str]:
    """Return the names of the codecs that zarr-python can write numbers with, also those that TensorStore has."""
    of_numcodecs = {*numcodecs.registry.codec_registry, *numcodecs.registry.entries}
    names = of_numcodecs
    if zarr_format == 3:
        # There is no public list. Without it only names that are not known are told less well.
        known = vars(zarr.registry)
        found = known.get("__codec_registries") or known.get("_codec_registries", {})
        given = {name for name, classes in found.items() if classes or classes.lazy_load_list}
        names = {
            n.removeprefix(_PREFIX)
            for n in given
            if n.removeprefix(_PREFIX) in of_numcodecs or _PREFIX not in n
        }
    return sorted(name for name in names if not _NOT_OF_NUMBERS.search(name))


def registered_step(
    codec: Codec, dtype: np.dtype[Any], zarr_format: int, own: tuple[str, ...]
) -> list[tuple[str, dict[str, Any]]]:
    """Return what a codec takes ("array", "array to bytes" or "bytes") and its metadata, and a crc32c behind it where that is wanted.

    InvalidArgumentError for a name that is in no registry, or options that the codec does not take; `own` is what there is besides.
    """
    options = dict(codec.options)
    crc32c = [("bytes", {"name": "crc32c"})] if zarr_format == 3 and options.pop("crc32c", False) else []
    name = codec.name.removeprefix(_PREFIX)
    stored, cls = _zarr_class(codec.name)
    kind = "bytes"
    if cls is not None and issubclass(cls, (ArrayArrayCodec, ArrayBytesCodec)):
        kind = "array" if issubclass(cls, ArrayArrayCodec) else "array to bytes"
    made = _numcodecs_class(name) if zarr_format == 2 or stored.startswith(_PREFIX) else cls
    if made is None or _NOT_OF_NUMBERS.search(name):
        raise _unknown(codec, zarr_format, own, known=cls is not None)
    takes = list(inspect.signature(made).parameters)
    if codec.level is not None:
        word = next((word for word in LEVEL_WORDS if word in takes), None)
        if word is None:
            raise InvalidArgumentError(
                f"codec {codec.name!r} has no level, got {codec.level}; it has {', '.join(takes) or 'no options'}"
            )
        options[word] = codec.level
    of_voxels = {"dtype": dtype.str, "decode_dtype": dtype.str, "elementsize": dtype.itemsize}
    options = {**{n: value for n, value in of_voxels.items() if n in takes}, **options}
    try:
        if made is cls:
            return [(kind, cls.from_dict({"name": stored, "configuration": options}).to_dict()), *crc32c]
        config = dict(made(**options).get_config())
    except Exception as error:  # codecs raise whatever they like
        raise InvalidArgumentError(
            f"codec {codec.name!r} takes {', '.join(takes) or 'no options'}, got {options}: {error}"
        ) from error
    if config.get("keepbits") == 0:
        raise InvalidArgumentError("bitround keeps at least 1 bit, got 0: NaN would become a number")
    del config["id"]
    return [
        (kind, {"id": name, **config} if zarr_format == 2 else {"name": stored, "configuration": config}),
        *crc32c,
    ]


@contextlib.contextmanager
def codecs_of_numcodecs() -> Iterator[None]:
    """Open an array without zarr-python's warning that others may lack a codec, which docs/codecs.md tells."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Numcodecs codecs are not in")
        yield


def try_out_codecs(metadata: Mapping[str, Any], dtype: np.dtype[Any], codec: str) -> None:
    """Write and read a small array in memory, so that what zarr-python refuses is known before anything is touched."""
    name = "zarr.json" if metadata["zarr_format"] == 3 else ".zarray"
    try:
        document = zarr.core.buffer.cpu.Buffer.from_bytes(json.dumps(metadata).encode())
        with codecs_of_numcodecs():
            array = zarr.open_array(zarr.storage.MemoryStore({name: document}), mode="r+")
        array[...] = np.arange(array.size).reshape(array.shape).astype(dtype)
        np.asarray(array[...])
    except Exception as error:  # codecs raise whatever they like
        why = plain_message(error)
        raise InvalidArgumentError(f"{dtype} cannot be stored with the codec {codec!r}: {why}") from error


def _zarr_class(name: str) -> tuple[str, Any]:
    """Return a codec of Zarr v3, whose name may be given without a prefix, and what it is called in metadata."""
    for full in (name, f"{_PREFIX}{name}"):
        try:
            return full, zarr.registry.get_codec_class(full)
        except (KeyError, ValueError):  # by the release of zarr-python
            continue
    return name, None


def _numcodecs_class(name: str) -> Any:
    entry = numcodecs.registry.entries.get(name)
    return numcodecs.registry.codec_registry.get(name) or (entry and entry.load())


def _unknown(codec: Codec, zarr_format: int, own: tuple[str, ...], *, known: bool) -> InvalidArgumentError:
    name = codec.name.removeprefix(_PREFIX)
    if known and not _NOT_OF_NUMBERS.search(name):
        return InvalidArgumentError(
            f"codec {codec.name!r} needs a library that is not installed: pip install 'numcodecs[{name}]'"
        )
    others = [n for n in registered_names(zarr_format) if n not in own]
    near = difflib.get_close_matches(name, [*own, *others], 3)
    meant = f"; did you mean {' or '.join(map(repr, near))}?" if near else ";"
    return InvalidArgumentError(
        f"Zarr v{zarr_format} does not have the codec {codec.name!r}{meant} choose one of {', '.join(own)}, or by zarr-python {', '.join(others)}"
    )
