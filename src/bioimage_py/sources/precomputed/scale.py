"""A new scale as TensorStore takes it: data types, encodings, shards, and what chunks an encoding cannot hold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from bioimage_py.errors import Hint, InvalidArgumentError, UnsupportedFormatError
from bioimage_py.geometry import checked_extents
from bioimage_py.sources.array_spec import ArraySpec, Codec
from bioimage_py.sources.precomputed.sharding import sharding_of
from bioimage_py.sources.stores import new_chunks

TITLE = "precomputed"
FULL_SIZE = "s0"
"""The key of the full-size scale of a new volume."""
_DTYPES = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "float32")
_MOST_JPEG = 65_500
"""Pixels along a side of a JPEG that libraries encode."""
_MOST_WORDS = 2**24
"""Of 32 bits in a chunk, to which compressed_segmentation can point."""


def codec_text(scale: Mapping[str, Any]) -> str:
    encoding, sharding = str(scale.get("encoding", "raw")), scale.get("sharding")
    zipped = isinstance(sharding, Mapping) and sharding.get("data_encoding") == "gzip"
    return "+".join([*([encoding] if encoding != "raw" else []), *(["gzip"] if zipped else [])])


def chunk_problem(scale: Mapping[str, Any], dtype: Any) -> str:
    """Return why chunks of a scale cannot be written right, where their encoding does not tell by itself; empty if they can."""
    encoding, size = scale.get("encoding"), scale["size"]
    chunks = scale.get("chunk_sizes") or [scale.get("chunk_size", size)]
    x, y, z = (min(c, n) for c, n in zip(chunks[0], size, strict=True))
    if encoding == "jpeg" and max(x, y * z) > _MOST_JPEG:
        return f"a chunk of {z} x {y} x {x} voxels is a JPEG of {x} x {y * z} pixels, and each side may have {_MOST_JPEG:,}"
    if encoding != "compressed_segmentation":
        return ""
    # Where all labels differ; the format has 24 bits for the place of a block's labels, and TensorStore writes nonsense beyond.
    block = math.prod(scale.get("compressed_segmentation_block_size", (8, 8, 8)))
    bits = next(n for n in (0, 1, 2, 4, 8, 16, 32) if 2**n >= block)
    n_words = x * y * z * (bits + 8 * np.dtype(str(dtype)).itemsize) / 32 + 2 * x * y * z / block
    if n_words < _MOST_WORDS:
        return ""
    return f"a chunk of {z} x {y} x {x} voxels may have more labels than compressed_segmentation has room for"


def new_scale(spec: ArraySpec, place: Mapping[str, Any], key: str = FULL_SIZE) -> dict[str, Any]:
    """Return a new scale at a place as TensorStore takes it."""
    chunks = new_chunks(replace(spec, shards=None), TITLE, _DTYPES, 64)
    if len(spec.shape) not in (3, 4):
        raise UnsupportedFormatError(
            f"{TITLE} holds arrays of 3 axes (z, y, x) or 4 (c, z, y, x), not shape {spec.shape}"
        )
    if len(spec.shape) == 4 and spec.shape[0] == 1:
        raise UnsupportedFormatError(
            f"{TITLE} shows one channel as an array of 3 axes (z, y, x), not of shape {spec.shape}: leave the first axis out, "
            "with SelectSource(source, 0, axis=0)"
        )
    encoding = _encoding(spec)
    labels = spec.labels
    if labels is None:
        labels = spec.dtype == np.uint64 or encoding["encoding"] == "compressed_segmentation"
    scale = {
        "key": key,
        "size": list(spec.shape[:-4:-1]),
        "chunk_size": list(chunks[:-4:-1]),
        **place,
        **encoding,
    }
    if problem := chunk_problem(scale, spec.dtype):
        raise InvalidArgumentError(problem, hints=[Hint.of("give smaller {}", chunks=...)])
    if spec.shards is not None:
        shards = spec.shards[:-4:-1]
        scale["sharding"] = sharding_of(scale["size"], scale["chunk_size"], shards, scale["encoding"])
    return {
        "driver": "neuroglancer_precomputed",
        "multiscale_metadata": {
            "type": "segmentation" if labels else "image",
            "data_type": spec.dtype.name,
            "num_channels": spec.shape[0] if len(spec.shape) == 4 else 1,
        },
        "scale_metadata": scale,
        "store_data_equal_to_fill_value": not spec.skip_zeros,
    }


_ENCODINGS = {"none": ("raw", ""), "jpeg": ("jpeg", "jpeg_quality"), "png": ("png", "png_level")}
"""Of a codec, its name here and that of its level."""


def _encoding(spec: ArraySpec) -> dict[str, Any]:
    codec = spec.codec or Codec("none")
    known = ("block_size",) if codec.name == "compressed_segmentation" else ()
    unknown = [name for name in codec.options if name not in known]
    if unknown:
        raise InvalidArgumentError(f"codec {codec.name!r} of {TITLE} has no option {', '.join(unknown)}")
    if codec.name in _ENCODINGS:
        name, level = _ENCODINGS[codec.name]
        return {"encoding": name, **({level: codec.level} if level and codec.level is not None else {})}
    if codec.name == "compressed_segmentation" and codec.level is None:
        given = codec.options.get("block_size", (8, 8, 8))
        block_size = checked_extents("block_size", given, least=1, ndim=3)
        return {
            "encoding": "compressed_segmentation",
            "compressed_segmentation_block_size": list(block_size[::-1]),
        }
    raise InvalidArgumentError(
        f"{TITLE} does not have the codec {codec.name!r}; choose none, compressed_segmentation, png, or jpeg, which changes voxels"
    )
