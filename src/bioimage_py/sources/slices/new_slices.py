"""A folder of slices that is made: a file for each plane, under names such as `{z:04}.tif`."""

from __future__ import annotations

import fnmatch
import itertools
import os
import string
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np

from bioimage_py.chunks import AnyArray
from bioimage_py.errors import (
    BioimagePyWarning,
    Hint,
    InvalidArgumentError,
    OutputExistsError,
    SourceNotFoundError,
    UnsupportedFormatError,
)
from bioimage_py.geometry import Box
from bioimage_py.metadata import ImageMetadata
from bioimage_py.sources.array_spec import ArraySpec, Codec
from bioimage_py.sources.base import Source
from bioimage_py.sources.chunked import ChunkedFileSource
from bioimage_py.sources.registry import family_of
from bioimage_py.sources.slices.pattern import NamePattern, number
from bioimage_py.sources.tiff import encoded_plane, settled
from bioimage_py.storage import FileFolder, check_writable

_PNG_DTYPES = ("uint8", "uint16")


class SliceNames:
    """The names of the slices of an array, from a path such as `out/t{t}_{z:04}.tif`."""

    def __init__(self, path: str, spec: ArraySpec) -> None:
        self.folder, self.pattern = os.path.split(os.path.abspath(path))  # noqa: PTH100 - follows no links
        axes = spec.metadata.axes or ()
        self._outer = [(axis, n) for axis, n in zip(axes[:-2], spec.shape[:-2], strict=True)]
        try:
            pattern = NamePattern(self.pattern)
            fields = pattern.fields
            last = self.of(tuple(n - 1 for _, n in self._outer))
            read = pattern.match(last)
            ends = {axis: n - 1 for axis, n in self._outer}
            plain = read is not None and [ends[f] for f in fields] == [number(text) for text in read.groups()]
        except (InvalidArgumentError, ValueError, KeyError, IndexError, AttributeError):
            fields, plain = (), False
        lacking = [axis for axis, n in self._outer if n > 1 and axis not in fields]
        if not fields or not plain or lacking or "{" in self.folder or set("*?[") & set(self.pattern):
            says = f", and {self.pattern!r} does not have {', '.join(lacking)}" if fields and lacking else ""
            wanted = "_".join(f"{axis}{{{axis}:04}}" for axis, n in self._outer if n > 1) or "z{z:04}"
            raise InvalidArgumentError(
                f"names of slices have a number for each axis of {', '.join(axes) or 'the array'} but y and x, such as "
                f"'{wanted}{os.path.splitext(path)[1]}', all in the name of the file{says}; got {path!r}"  # noqa: PTH122
            )

    def of(self, position: tuple[int, ...]) -> str:
        return self.pattern.format(**{axis: n for (axis, _), n in zip(self._outer, position, strict=True)})

    def positions(self) -> Iterator[tuple[int, ...]]:
        return itertools.product(*(range(n) for _, n in self._outer))

    @property
    def glob(self) -> str:
        """A pattern that matches the names."""
        return "".join(
            text + ("" if field is None else "*")
            for text, field, _, _ in string.Formatter().parse(self.pattern)
        )

    def check_free(self, *, overwrite: bool) -> None:
        """Raise OutputExistsError for slices that are there and not to be replaced, or would be taken for others of the volume."""
        folder = Path(self.folder)
        if not folder.parent.is_dir():
            raise SourceNotFoundError(
                f"cannot make {self.folder!r}: there is no folder {str(folder.parent)!r}; make it first"
            )
        check_writable(self.folder)
        there = fnmatch.filter(os.listdir(folder), self.glob) if folder.is_dir() else []  # noqa: PTH208
        if there and not overwrite:
            raise OutputExistsError(
                f"{self.folder!r} has {len(there)} files that match {self.glob!r} already, such as {min(there)!r}",
                hints=[Hint.of("to replace them, give {}", overwrite=True)],
            )
        others = set(there) - set(map(self.of, self.positions())) if there else set()
        if others:
            raise OutputExistsError(
                f"{self.folder!r} has {len(others)} files beside those that are to be replaced, such as {min(others)!r}, which would be taken "
                "for slices of this volume: choose another folder, or remove them"
            )


def settled_slices(spec: ArraySpec, path: str, *, grid: bool) -> ArraySpec:
    """Return a new array with a chunk for each slice; InvalidArgumentError where the files cannot hold it."""
    if grid:
        raise InvalidArgumentError(
            "slices are files of one plane: they have no chunks", hints=[Hint.of("leave out {}", chunks=...)]
        )
    codec = spec.codec
    if path.lower().endswith(".png"):
        if spec.dtype.name not in _PNG_DTYPES:
            raise UnsupportedFormatError(
                f"PNG cannot hold dtype {spec.dtype}: it has {' and '.join(_PNG_DTYPES)}",
                hints=[Hint.of("give {}", dtype="uint16"), Hint("or write .tif")],
            )
        if codec is not None and (codec.name not in ("png", "zlib", "deflate") or codec.options):
            raise InvalidArgumentError(
                f"PNG has its own compression, with a level as in 'png:6'; got {codec.name!r}"
            )
        spec = replace(settled(replace(spec, codec=None), grid=False), codec=codec or Codec("png", 1))
    elif path.lower().endswith((".tif", ".tiff")):
        spec = settled(spec, grid=False)
    else:
        raise UnsupportedFormatError(f"slices are written as .tif or .png, not as {path!r}")
    ones = (1,) * (len(spec.shape) - 2)
    spec = replace(spec, chunks=(*ones, *spec.shape[-2:]))
    SliceNames(path, spec)
    return spec


class NewSlices(ChunkedFileSource):
    """Slices that are being made: each is written whole, and gets its name when it is complete."""

    kind = "stack"
    writable = True

    def __init__(self, path: str, spec: ArraySpec) -> None:
        super().__init__(cache_bytes=0)
        self._slices = names = SliceNames(path, spec)
        self.path, self.key, self.mode = names.folder, names.pattern, "r+"
        self.shape, self.dtype = spec.shape, spec.dtype
        self.chunks = spec.chunks or spec.shape
        is_png = path.lower().endswith(".png")
        self.format = f"stack of {'png' if is_png else 'tiff'} slices"
        self.codec = "" if spec.codec is None else spec.codec.name
        self.fill_value = spec.fill_value or 0
        self._spec = spec
        self._encode: Callable[[AnyArray], bytes] = _png(spec.codec) if is_png else encoded_plane(spec)
        self._folder = FileFolder(names.folder)
        self._written: set[tuple[int, ...]] = set()
        self._lock = threading.Lock()

    @property
    def metadata(self) -> ImageMetadata:
        return self._spec.metadata

    def to_spec(self) -> dict[str, Any]:
        return {**super().to_spec(), "mode": "r"}

    def files(self) -> list[str]:
        return [self._folder.path(self._slices.of(position)) for position in sorted(self._written)]

    def for_run(self, threads: int, cache_bytes: int) -> Source:
        del cache_bytes  # chunks that are kept would be old ones
        return super().for_run(threads, 0)

    def _decode_chunk(self, position: tuple[int, ...], box: Box) -> AnyArray | None:
        if position[:-2] not in self._written:
            return None
        found = family_of("stack" if self.format == "stack of png slices" else "tiff")
        with found.open_path(self._folder.path(self._slices.of(position[:-2])), None, "r") as plane:
            return np.asarray(plane[...]).reshape(box.shape)

    def _encode_chunk(self, position: tuple[int, ...], box: Box, values: AnyArray) -> None:
        plane = np.ascontiguousarray(values.reshape(box.shape[-2:]))
        self._store(position[:-2], self._encode(plane))

    def _store(self, outer: tuple[int, ...], data: bytes) -> None:
        name = self._slices.of(outer)
        if not self._folder.write_small(name, data):
            with self._folder.new(name) as new:
                new.append(data)
        with self._lock:
            self._written.add(outer)

    def finish(self) -> None:
        """Write the slices that were left out, with the fill value."""
        missing = [one for one in self._slices.positions() if one not in self._written]
        if missing:
            data = self._encode(np.full(self.shape[-2:], self.fill_value, self.dtype))
            for position in missing:
                self._store(position, data)


def _png(codec: Codec | None) -> Callable[[AnyArray], bytes]:
    level = None if codec is None else codec.level
    return lambda plane: bytes(imagecodecs.png_encode(plane, level=level))


def made_slices(path: str, spec: ArraySpec) -> NewSlices:
    metadata, is_png = spec.metadata, path.lower().endswith(".png")
    kept = () if is_png else ("y", "x")
    sizes = dict(zip(metadata.axes or (), metadata.voxel_size or (), strict=False))
    lost = [f"voxel size along {axis}" for axis, size in sizes.items() if axis not in kept and size != 1]
    lost += ["channel_names"] if metadata.channel_names else []
    lost += sorted(set(metadata.attributes) - {"tiff_description"})
    if lost:
        warnings.warn(
            BioimagePyWarning(
                f"slices have no place for {', '.join(lost)} of the input: they will not be in {path!r}"
            ),
            stacklevel=4,
        )
    made = NewSlices(path, spec)
    Path(made.path).mkdir(exist_ok=True)
    return made
