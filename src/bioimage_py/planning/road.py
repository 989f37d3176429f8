"""The road that voxels take: as encoded chunks where both sides agree, else decoded and encoded anew."""

from __future__ import annotations

from dataclasses import replace

from bioimage_py.sources.array_spec import Codec
from bioimage_py.sources.encoding import ChunkEncoding, UnknownEncoding
from bioimage_py.sources.encoding_match import EncodingMatch, compare_encodings

__all__ = ["choose_road"]


def choose_road(
    input: ChunkEncoding | UnknownEncoding,
    output: ChunkEncoding | UnknownEncoding,
    offset: tuple[int, ...] | None,
    *,
    codec: Codec | None,
    is_new: bool,
) -> EncodingMatch:
    """Return how the chunks of two arrays match, and the road that a copy takes.

    Parameters
    ----------
    input, output
        How they encode their chunks.
    offset
        Where the input begins in the array that stores it, in voxels, where it is a region of one.
    codec
        The codec that the user asked for, None where nobody did.
    is_new
        Whether the output is made by this copy. One that was there has the settings that its owner chose.

    Returns
    -------
    EncodingMatch
        Of the road `"recode"` also where the chunks could be moved, but would keep a level, or another setting, that is
        not the one asked for.
    """
    match = compare_encodings(input, output, offset)
    if match.road == "recode" or not match.settings:
        return match
    wanted = match.settings
    if is_new:
        # Settings that nobody named are those of the input: they are what moving it is about.
        named = set() if codec is None else {*codec.options, *(["level"] if codec.level is not None else [])}
        wanted = tuple(setting for setting in match.settings if setting.split()[1] in named)
    if not wanted:
        return match
    return replace(
        match, kind="different", road="recode", whole_files=False, why=tuple(f"codec {s}" for s in wanted)
    )
