"""A folder of slices as one volume, and single PNG and JPEG pictures."""

from __future__ import annotations

import hashlib
import math
import os
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any

import numpy as np

from bioimage_py.chunks import AnyArray, number_in
from bioimage_py.errors import (
    BioimagePyError,
    BioimagePyWarning,
    Hint,
    InvalidArgumentError,
    ReadOnlyError,
    SourceNotFoundError,
    StorageError,
    UnsupportedFormatError,
)
from bioimage_py.geometry import Box
from bioimage_py.metadata import ImageMetadata
from bioimage_py.sources.array_spec import ArraySpec
from bioimage_py.sources.base import FileSource, Source, SourceSpec, StoredSize
from bioimage_py.sources.chunked import ChunkedFileSource
from bioimage_py.sources.family import Family
from bioimage_py.sources.location import family_by_content
from bioimage_py.sources.registry import family_of
from bioimage_py.sources.slices.names import (
    FILL_HINT,
    Arrangement,
    arrange,
    is_preview,
    list_slices,
    take_apart,
)
from bioimage_py.sources.slices.pattern import NamePattern
from bioimage_py.sources.slices.pictures import Pictures, PictureSource
from bioimage_py.sources.tiff import TiffSlices, set_names
from bioimage_py.storage import (
    Identity,
    OpenFiles,
    PartStamps,
    Recent,
    file_identity,
    is_url,
    stamp_of_files,
    stat_stamp,
)

_CHECK_ALL = 2000
"""Of up to so many slices all headers are compared when the stack is opened, of more some."""
_CHECK_SOME = 64
_WHOLE_SLICE = 4 * 2**20
"""Slices up to so many bytes are decoded whole; larger ones by their own tiles or strips."""
_BAND = 2**20
_SLICES_KNOWN = 1024
_FILES_OPEN = 32


class StackFamily(Family):
    """Folders of slices, one file each, and single PNG and JPEG pictures; new folders of TIFF and PNG slices."""

    chunked = True
    time_first = True

    def open_path(
        self, path: str, key: str | None = None, mode: str = "r", *, missing_planes: str = "error"
    ) -> Source:
        """Open the slices in a folder that match a pattern as one volume, or one picture.

        The slices are stacked along a new first axis, in the order of their numbers (`s2` before `s10`), or along the axes
        t, c and z as far as the names state them (`C0_Z3`). A pattern with fields (`pos{c}/img_{z}.tif`) states them itself. Slices that are volumes themselves, such as multi-page
        TIFFs, are stacked the same way. A folder that is one set of OME-TIFFs is the series that the set says it is.

        With `missing_planes="fill"`, slices that are missing according to the numbers in the names read as 0. A number that is left
        out along an axis is a warning only. All slices are compared when there are at most 2000; of more, the first, the last
        and 62 between, and the others when they are read.
        """
        return _open(path, key, mode, None, missing_planes)

    def open_spec(self, spec: SourceSpec) -> Source:
        """Reopen a stack; raises StorageError if its folder holds other slices than then."""
        missing = spec.get("missing_planes", "error")
        return _open(spec["path"], spec.get("key"), spec.get("mode", "r"), spec.get("slices"), missing)

    # New slices

    def settled(self, spec: ArraySpec, path: str, *, grid: bool) -> ArraySpec:
        from bioimage_py.sources.slices.new_slices import settled_slices

        return settled_slices(super().settled(spec, path, grid=grid), path, grid=grid)

    def check_create(self, path: str, key: str | None, spec: ArraySpec, overwrite: bool = False) -> None:
        from bioimage_py.sources.slices.new_slices import SliceNames

        if is_url(path) or key:
            raise InvalidArgumentError(
                f"slices are written into a local folder, got {path!r} and key {key!r}"
            )
        SliceNames(path, spec).check_free(overwrite=overwrite)

    def create(
        self, path: str, key: str | None, spec: ArraySpec, overwrite: bool = False, *args: Any, **options: Any
    ) -> FileSource:
        """Make a folder of slices; those that are not written have their files when the source is finished."""
        from bioimage_py.sources.slices.new_slices import made_slices

        del args, options
        self.check_create(path, key, spec, overwrite)
        return made_slices(path, spec)

    def identities_at(self, path: str, key: str | None) -> frozenset[Identity]:
        """Return the identities of all files in the folder: some of them may be replaced."""
        del key
        folder = os.path.dirname(os.path.abspath(path))  # noqa: PTH100, PTH120 - follows no links
        names = os.listdir(folder) if os.path.isdir(folder) else []  # noqa: PTH112, PTH208
        return frozenset(file_identity(os.path.join(folder, name)) for name in names)  # noqa: PTH118


def _open(path: str, key: str | None, mode: str, known: Sequence[Any] | None, missing_planes: str) -> Source:
    if mode != "r":
        raise ReadOnlyError(
            f"slices in {path!r} can only be read; open them with mode='r' and copy them to write"
        )
    if missing_planes not in ("error", "fill"):
        raise InvalidArgumentError(f"missing_planes must be 'error' or 'fill', got {missing_planes!r}")
    if key is None:
        return _open_picture(path)
    pattern = NamePattern(key)
    parsed = list_slices(path, pattern)
    names = list(parsed)
    files = OpenFiles(_FILES_OPEN)
    opener = _slice_opener(os.path.join(path, names[0]), files, missing_planes)  # noqa: PTH118
    names = _without_previews(path, names, opener)
    if known is not None and list(known) != _fingerprint(names):
        raise StorageError(
            f"folder {path!r} has changed: there were {known[0]} slices that match {key!r} when it was opened first, "
            f"now there are {len(names)}, or they have other names"
        )
    if _is_one_set(path, key, names, missing_planes):
        first = os.path.join(path, names[0])  # noqa: PTH118
        return family_of("tiff").open_path(first, None, "r", missing_planes=missing_planes)
    try:
        if len(names) < len(parsed):
            parsed = {name: parsed[name] for name in names} if pattern.fields else take_apart(names)
        arranged = arrange(parsed, pattern.fields, fill=missing_planes == "fill")
    except BioimagePyError as error:
        raise type(error)(f"folder {path!r}: {error.message}", hints=error.hints) from error
    source = StackSource(path, key, names, arranged, opener, missing_planes)
    if known is None:
        source.compare_slices()
        for remark in arranged.remarks:
            warnings.warn(
                BioimagePyWarning(f"folder {path!r}: {remark.message}", hints=remark.hints), stacklevel=4
            )
    return source


def _slice_opener(path: str, files: OpenFiles, missing_planes: str) -> TiffSlices | Pictures:
    """Return what opens slices like this one; raises UnsupportedFormatError if it is neither TIFF, PNG nor JPEG."""
    found = family_by_content(path)
    if found is None or found.kind not in ("tiff", "stack"):
        size = files.get(path).size
        what = "is empty" if size == 0 else f"is not a TIFF, PNG or JPEG file ({size} bytes)"
        raise UnsupportedFormatError(
            f"slice {path!r} {what}; give a pattern that matches the image files only"
        )
    return TiffSlices(files, missing_planes) if found.kind == "tiff" else Pictures(files)


def _without_previews(folder: str, names: list[str], opener: TiffSlices | Pictures) -> list[str]:
    """Return the names without files named preview or overview whose shape differs from that of the slices."""
    slices = [name for name in names if not is_preview(name)]
    if not slices or len(slices) == len(names):
        return names
    first = opener.open(os.path.join(folder, slices[0]))  # noqa: PTH118

    def is_slice(name: str) -> bool:
        try:
            found = opener.open(os.path.join(folder, name))  # noqa: PTH118
        except BioimagePyError:  # of another kind
            return False
        return found.shape == first.shape and found.dtype == first.dtype

    return [name for name in names if not is_preview(name) or is_slice(name)]


def _is_one_set(folder: str, pattern: str, names: Sequence[str], missing_planes: str) -> bool:
    """Whether files are the whole set of OME-TIFFs that the first of them describes; False if they are a part of it."""
    described = set_names(os.path.join(folder, names[0]), fill=missing_planes == "fill")  # noqa: PTH118
    found = described & set(names)
    if not found:
        return False
    gone = sorted(n for n in described if not os.path.exists(os.path.join(folder, n)))  # noqa: PTH110, PTH118
    if gone and missing_planes != "fill":
        raise SourceNotFoundError(
            f"{names[0]!r} in folder {folder!r} describes a set of {len(described)} OME-TIFFs, of which {len(gone)} are gone, such as "
            f"{gone[0]!r}",
            hints=[Hint("bring them back"), FILL_HINT],
        )
    if len(found) < len(names):
        other = next(n for n in names if n not in described)
        raise InvalidArgumentError(
            f"{pattern!r} matches a set of {len(described)} OME-TIFFs in folder {folder!r} and others, such as {other!r}: open the set by "
            f"one of its files, such as {os.path.join(folder, names[0])!r}, or give a pattern that matches what belongs together"  # noqa: PTH118
        )
    return found | set(gone) == described


def _open_picture(path: str) -> PictureSource:
    if os.path.isdir(path):  # noqa: PTH112
        raise InvalidArgumentError(f"{path!r} is a folder: give a pattern for its slices, such as '*.tif'")
    opener = _slice_opener(path, OpenFiles(1), "error")
    if not isinstance(opener, Pictures):
        raise InvalidArgumentError(f"{path!r} is a TIFF, not a PNG or JPEG: rename it to end in .tif")
    return opener.open(path)


def _fingerprint(names: Sequence[str]) -> list[Any]:
    digest = hashlib.sha256("\0".join(names).encode("utf-8", "surrogateescape"))
    return [len(names), digest.hexdigest()[:16]]


class StackSource(ChunkedFileSource):
    """Slices in the files of a folder, stacked along new first axes."""

    kind = "stack"

    def __init__(
        self,
        folder: str,
        pattern: str,
        names: Sequence[str],
        arranged: Arrangement,
        opener: TiffSlices | Pictures,
        missing_planes: str,
    ) -> None:
        super().__init__()
        self._names, self._arranged = names, arranged
        self._opener: TiffSlices | Pictures | None = opener
        self._recent = Recent[str, FileSource](_SLICES_KNOWN)
        self._first = first = opener.open(os.path.join(folder, names[0]))  # noqa: PTH118
        outer = arranged.shape
        self.path = folder
        self.key = pattern
        self.shape = (*outer, *first.shape)
        self.dtype = first.dtype
        self.chunks = (*(1 for _ in outer), *_slice_chunks(first))
        self.format = f"stack of {first.format} slices"
        self.codec = first.codec
        self._missing_planes = missing_planes

    def compare_slices(self) -> None:
        """Compare the headers of all slices, or of some if there are very many."""
        n = len(self._names)
        chosen: Sequence[int] = range(n)
        if n > _CHECK_ALL:
            chosen = sorted({i * (n - 1) // (_CHECK_SOME - 1) for i in range(_CHECK_SOME)})
        with ThreadPoolExecutor(min(8, len(chosen)), thread_name_prefix="bioimage-slices") as pool:
            list(pool.map(self._slice, [self._names[n] for n in chosen]))

    def _slice(self, name: str) -> FileSource:
        return self._recent.get(name, self._opened)

    def _opened(self, name: str) -> FileSource:
        """Open a slice; raises InvalidArgumentError if it is not like the first one."""
        if self._opener is None:
            raise StorageError(f"{self.name} is closed; open it again to read")
        first, found = self._first, self._opener.open(os.path.join(self.path, name))  # noqa: PTH118
        if found.shape != first.shape or found.dtype != first.dtype:
            raise InvalidArgumentError(
                f"slices must have one shape and dtype, but {first.path!r} has shape {first.shape} and dtype "
                f"{first.dtype}, and {found.path!r} has shape {found.shape} and dtype {found.dtype}; "
                "give a pattern that leaves out what does not belong to the stack"
            )
        return found

    @cached_property
    def metadata(self) -> ImageMetadata:
        """Axes and voxel size of the first slice, and of new first axes, the distances along which are not known."""
        inner = self._first.metadata
        axes = list(inner.axes or ())
        unnamed = None in self._arranged.axes and bool(axes)
        for name in reversed(self._arranged.axes):
            # An axis that names and slices both state, such as the channels of RGB slices, is not used twice.
            others = ("z", "t", "i", "j", "k") if name is None else (name, "i", "j", "k")
            taken = {*axes, *(n for n in self._arranged.axes if n != name)}
            axes.insert(0, next((n for n in others if n not in taken), "stack"))
        new = (None,) * (self.ndim - self._first.ndim)
        outer = inner.with_axes_selected((*new, *range(self._first.ndim)))
        has_channels = "c" in (inner.axes or ())
        return ImageMetadata(
            axes=tuple(axes) if inner.axes else None,
            voxel_size=outer.voxel_size,
            units=outer.units,
            channel_names=inner.channel_names,
            channel_colors=inner.channel_colors if has_channels else None,
            contrast_limits=inner.contrast_limits if has_channels else None,
            assumed=(*inner.assumed, *([_order_hint(axes)] if unnamed else ())),
        ).fitting(self.ndim)

    def _spec_options(self) -> Mapping[str, Any]:
        options: dict[str, Any] = {"slices": _fingerprint(self._names)}
        return options if self._missing_planes == "error" else options | {"missing_planes": "fill"}

    def identities(self) -> frozenset[tuple[Any, ...]]:
        return frozenset({file_identity(self.path, f"slices {self.key}")})

    def files(self) -> list[str]:
        return [os.path.join(self.path, name) for name in self._names]  # noqa: PTH118

    def stored_stamp(self) -> str | None:
        return stamp_of_files(self.files())

    def part_stamps(self, *, cheap: bool = False) -> PartStamps | None:
        """Return the stamp of each slice."""
        del cheap
        outer, names = self._arranged.shape, self._arranged.names
        stamps = [0 if n is None else stat_stamp(os.stat(os.path.join(self.path, n))) for n in names]  # noqa: PTH116, PTH118
        grid = (*outer, *(1 for _ in self._first.shape))
        extents = (*(1 for _ in outer), *(max(1, n) for n in self._first.shape))
        return PartStamps("slices", extents, np.array(stamps, np.uint64).reshape(grid))

    def stored_size(self) -> StoredSize:
        files = self.files()
        return StoredSize(sum(os.stat(path).st_size for path in files), len(files))  # noqa: PTH116

    def _slice_at(self, position: tuple[int, ...], box: Box) -> tuple[FileSource | None, Box]:
        """Return the slice at a position in the grid, None if there is none and it is filled, and the box in it."""
        outer = len(self._arranged.shape)
        name = self._arranged.names[number_in(self._arranged.shape, position[:outer])]
        return None if name is None else self._slice(name), Box(box.begin[outer:], box.end[outer:])

    def _decode_chunk(self, position: tuple[int, ...], box: Box) -> AnyArray | None:
        found, inner = self._slice_at(position, box)
        return None if found is None else found.read(inner).reshape(box.shape)

    def _decode_into(self, position: tuple[int, ...], box: Box, target: AnyArray) -> None:
        found, inner = self._slice_at(position, box)
        plane = target[(0,) * (self.ndim - len(inner.begin))]
        if found is None:
            plane[...] = self._fill()
            return
        buffer = plane if found.fills_buffers and plane.flags.c_contiguous else None
        voxels = found.read(inner, buffer)
        if buffer is None or not np.may_share_memory(voxels, buffer):
            plane[...] = voxels

    def close(self) -> None:
        super().close()
        self._opener = None
        self._recent = Recent(_SLICES_KNOWN)


def _order_hint(axes: Sequence[str]) -> Hint:
    given = "".join(axes) if all(len(axis) == 1 for axis in axes) else ...
    text = f"names of files do not say along which axis the slices lie; the axes are taken as {', '.join(axes)}: state them with {{}}"
    return Hint.of(text, axes=given)


def _slice_chunks(first: FileSource) -> tuple[int, ...]:
    """Return which part of a slice is decoded at once: all of it, its own chunks, or a band of about a mebibyte."""
    if first.nbytes <= _WHOLE_SLICE:
        return tuple(max(1, n) for n in first.shape)
    if first.chunks is not None:
        return first.chunks
    band: list[int] = []
    for n in reversed(first.shape):
        held = math.prod(band) * first.dtype.itemsize
        band.append(max(1, min(n, _BAND // held)))
    return tuple(reversed(band))
