"""Whether encoded chunks of one array can be stored in another as they are, and why not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from bioimage_py.chunks.encoding import BLOSC_SHUFFLES, ChunkEncoding, CodecStep, UnknownEncoding, traits_of

_Steps = tuple[str, ...]


@dataclass(frozen=True)
class EncodingMatch:
    """How encoded chunks of one array can become those of another."""

    # The same bytes; the same behind another header or checksum; or to be decoded and encoded again.
    kind: Literal["payload", "header", "different"]
    road: Literal["verbatim", "repack", "recode"]  # repack: shards have to be made or opened
    why: tuple[str, ...] = ()  # why a better kind and road are not possible, in words of the plan
    unwrap: _Steps = ()  # what is taken off each chunk, outermost first
    wrap: _Steps = ()  # what is put around it, innermost first
    recoded: tuple[str, ...] = ()  # which chunks have to be recoded all the same: words of the plan
    recodes_missing: bool = False  # chunks that are not stored would read otherwise, so they are written
    settings: tuple[str, ...] = ()  # what chunks keep though the metadata of the second array say otherwise
    whole_files: bool = False  # a file, or object, of the second array is one of the first as it is
    carried: str = ""  # how objects get from one store to another place: words of the plan
    hint: str = ""  # what would carry them better

    def __str__(self) -> str:
        what = {
            "payload": "encoded chunks are the same bytes in both",
            "header": "encoded chunks are the same behind another header or checksum",
            "different": "chunks have to be decoded and encoded again",
        }[self.kind]
        also = f"; {' and '.join(self.recoded)} are recoded" if self.recoded else ""
        carried = f"; {self.carried}" if self.carried else ""
        return what + (f" ({'; '.join(self.why)})" if self.why else "") + also + carried


def compare_encodings(
    input: ChunkEncoding | UnknownEncoding,
    output: ChunkEncoding | UnknownEncoding,
    offset: tuple[int, ...] | None = None,
) -> EncodingMatch:
    """Compare how two arrays encode their chunks; with `offset`, the output is a region of the input that begins there."""
    for known in (input, output):
        if isinstance(known, UnknownEncoding):
            return EncodingMatch("different", "recode", (known.why,))
    assert isinstance(input, ChunkEncoding)
    assert isinstance(output, ChunkEncoding)
    core_in, unwrap, core_out, wrap = _peeled(input.codecs, output.codecs)
    why = [*_voxels(input, output), *_place(input, output, offset)]
    if output.one_file:
        why.append(f"chunks are written into {output.format.upper()} files by their library only")
    if core_in != core_out:
        why.append(f"codec {_codec_text(input.codecs)} vs {_codec_text(output.codecs)}")
    if why:
        return EncodingMatch("different", "recode", tuple(why))
    if input.wrapping != output.wrapping:
        unwrap = unwrap if input.wrapping == "bare" else (input.wrapping, *unwrap)
        wrap = wrap if output.wrapping == "bare" else (*wrap, output.wrapping)
    files = _files(input, output, offset)
    headers = [
        f"{word} {', '.join(steps)}" for word, steps in (("taken off:", unwrap), ("put on:", wrap)) if steps
    ]
    fills = input.fill != output.fill
    return EncodingMatch(
        kind="header" if headers else "payload",
        road="repack" if files else "verbatim",
        why=(*headers, *files),
        unwrap=unwrap,
        wrap=wrap,
        recoded=tuple(_recoded(input, output)),
        recodes_missing=fills,
        settings=tuple(_settings(input, output)),
        whole_files=not (headers or files)
        and input.edge == output.edge
        and (input.shards is None or (input.shape == output.shape and not fills)),
    )


def _voxels(a: ChunkEncoding, b: ChunkEncoding) -> Iterator[str]:
    if a.dtype != b.dtype:
        yield f"dtype {a.dtype} vs {b.dtype}"
    elif a.byte_order != b.byte_order:
        yield f"byte order {a.byte_order} vs {b.byte_order}"
    if a.chunks != b.chunks:
        yield f"chunk grid {_times(a.chunks)} vs {_times(b.chunks)}"
    elif a.axis_order != b.axis_order:
        yield f"order of axes in memory {a.axis_order} vs {b.axis_order}"


def _place(a: ChunkEncoding, b: ChunkEncoding, offset: tuple[int, ...] | None) -> Iterator[str]:
    if offset is None:
        if a.shape != b.shape:
            yield f"shape {a.shape} vs {b.shape}"
    elif any(o % c for o, c in zip(offset, a.chunks, strict=True)):
        yield f"the region begins at {offset}, inside a chunk of {_times(a.chunks)}"


def _files(a: ChunkEncoding, b: ChunkEncoding, offset: tuple[int, ...] | None) -> list[str]:
    """Return what keeps whole files from being moved."""
    if a.shards is None and b.shards is None:
        return []
    found = []
    if a.shards != b.shards:
        found.append(f"shards {_times(a.shards)} vs {_times(b.shards)}")
    elif a.index != b.index:
        found.append(f"index of shards {a.index} vs {b.index}")
    if a.shards is not None and offset is not None and any(offset):
        found.append("a region of the input")
    return found


def _peeled(
    input: tuple[CodecStep, ...], output: tuple[CodecStep, ...]
) -> tuple[tuple[CodecStep, ...], _Steps, tuple[CodecStep, ...], _Steps]:
    """Take off the outermost codecs that can change without encoding again; return what is left, and what is off, of both."""
    a, b, off, on = list(input), list(output), list[str](), list[str]()
    while a != b and a and traits_of(a[-1]).sums:
        off.append(a.pop()[0])
    while a != b and b and b[-1] == ("crc32c",):
        on.insert(0, b.pop()[0])
    # A new header needs the length of what is inside, which is only known behind codecs that keep it.
    known = a and b and a[:-1] == b[:-1] and all(traits_of(step).keeps_length for step in a[:-1])
    if known and a != b and traits_of(a[-1]).deflates and traits_of(b[-1]).deflates:
        off.append(a.pop()[0])
        on.insert(0, b.pop()[0])
    return tuple(a), tuple(off), tuple(b), tuple(on)


def _recoded(a: ChunkEncoding, b: ChunkEncoding) -> Iterator[str]:
    cut = any(n % c for n, c in zip(a.shape, a.chunks, strict=True))
    if a.edge == "truncated" and b.edge == "padded" and cut:
        yield "edge chunks that are truncated"
    if a.fill != b.fill:
        yield f"missing chunks (fill value {_number(a)} vs {_number(b)})"


def _settings(a: ChunkEncoding, b: ChunkEncoding) -> Iterator[str]:
    for mine, other in zip(a.settings, b.settings, strict=False):
        first, second = _normal(mine), _normal(other)
        for name in ("level", "cname", "shuffle"):
            if first.get(name) != second.get(name):
                yield f"{mine[0]} {name} {first.get(name)} vs {second.get(name)}"


def _normal(settings: CodecStep) -> dict[str, Any]:
    found = dict(settings[1:])
    if "clevel" in found:
        found["level"] = found.pop("clevel")
    if settings[0] == "blosc":
        shuffle = found.get("shuffle")
        found["shuffle"] = BLOSC_SHUFFLES[shuffle] if shuffle in (0, 1, 2) else shuffle
    return found


def _number(encoding: ChunkEncoding) -> str:
    return str(np.frombuffer(encoding.fill, np.dtype(encoding.dtype).newbyteorder("<"))[0])


def _codec_text(codecs: tuple[CodecStep, ...]) -> str:
    return " ".join(" ".join(map(str, step)) for step in codecs) or "none"


def _times(extents: tuple[int, ...] | None) -> str:
    return "none" if extents is None else "×".join(map(str, extents)) or "1"
