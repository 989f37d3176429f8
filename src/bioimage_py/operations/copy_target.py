"""What a copy writes into: an array that is there, a path that is not yet, or a new numpy array."""

from __future__ import annotations

import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bioimage_py.chunks import ChunkEncoding, UnknownEncoding
from bioimage_py.errors import InvalidArgumentError, ReadOnlyError
from bioimage_py.kernels import encoding_to_move, moving_origin
from bioimage_py.metadata import Level
from bioimage_py.operations.array_place import first_missing, place_parts
from bioimage_py.planning import ArrayLayout
from bioimage_py.runner import find_backend
from bioimage_py.sources import (
    Codec,
    FileSource,
    Source,
    as_source,
    family_entry,
    is_file_of,
    leaves,
    open_source,
    planned_encoding,
    same_voxels,
)
from bioimage_py.sources.new import PlannedOutput, checked_fill, checked_new_dtype, plan_output
from bioimage_py.sources.stores import holds_metadata_only, place_of
from bioimage_py.storage import StoreFolder, StorePlace, is_url, meet


class Target(ABC):
    """The output of a copy before anything is made or touched.

    Attributes
    ----------
    layout
        How it stores, or will store, its voxels.
    """

    layout: ArrayLayout

    def encoding(self) -> ChunkEncoding | UnknownEncoding:
        """Return how chunks are, or will be, encoded, or why encoded chunks cannot be moved here."""
        return UnknownEncoding("the output is held in memory")

    @property
    def place(self) -> StorePlace | None:
        """Where in an object store its file, folder or container is, or will be; None for all else."""
        return StoreFolder.at(self.path).place if self.path is not None and is_url(self.path) else None

    @property
    def codec(self) -> Codec | None:
        """The codec that the caller asked for, None where none was."""
        return None

    @property
    def is_new(self) -> bool:
        """Whether the copy makes it."""
        return True

    @property
    def path(self) -> str | None:
        """Path or URL of the file, folder or container that is written; None in memory."""
        return None

    @property
    def url_options(self) -> Mapping[str, Any] | None:
        """How a URL is reached, for others beside it; None where that is not known."""
        return {}

    @abstractmethod
    def check_shared(self, job_type: str) -> None:
        """Raise InvalidArgumentError if several processes cannot write here."""

    @abstractmethod
    def check_apart(self, source: Source) -> None:
        """Raise InvalidArgumentError if writing here could touch what `source` reads, ReadOnlyError if it cannot be."""

    @abstractmethod
    def check_mask_apart(self, mask: Source) -> None:
        """Raise InvalidArgumentError if writing here could touch what `mask` reads."""


class SingleTarget(Target):
    """A target that is made or opened by itself, not as a part of an image."""

    @abstractmethod
    def open(self, *, overwrite: bool, resume: bool) -> tuple[Any, Source]:
        """Return what the caller gets back, and the source to write into."""

    def check_free(self, *, overwrite: bool) -> None:
        """Raise what `open` would raise before it makes anything."""

    def finish(self) -> None:
        """Give what `open` made its name at the end of a run, also of one that failed: its user goes on with it."""

    def discard(self) -> None:
        """Remove what `open` made, if nothing was written into it: nothing stays of a copy that could not begin."""


class ExistingTarget(SingleTarget):
    """An array, a handle or a source that the caller gave: returned as it is."""

    def __init__(self, given: Any, new_array: Mapping[str, Any]) -> None:
        options = [name for name, value in new_array.items() if value is not None and name != "zarr_format"]
        if options:
            raise InvalidArgumentError(
                f"{', '.join(options)} can be given for a new output only; this output exists already"
            )
        self._given = given
        self._sink = as_source(given)
        self.layout = ArrayLayout.of(self._sink)

    def encoding(self) -> ChunkEncoding | UnknownEncoding:
        """Return how it encodes its chunks."""
        return encoding_to_move(self._sink)

    @property
    def place(self) -> StorePlace | None:
        """Where in an object store it is."""
        return place_of(self._sink)

    @property
    def is_new(self) -> bool:
        """It was there before."""
        return False

    @property
    def path(self) -> str | None:
        """Path or URL of what the caller gave, if it is stored somewhere."""
        return self._sink.path if isinstance(self._sink, FileSource) else None

    @property
    def url_options(self) -> Mapping[str, Any] | None:
        """How the caller has reached it."""
        if self.path is None or not is_url(self.path):
            return {}
        from bioimage_py.sources.stores import options_of

        return options_of(self._sink)

    def open(self, *, overwrite: bool, resume: bool) -> tuple[Any, Source]:
        """Return the caller's object and its source."""
        del overwrite, resume
        return self._given, self._sink

    def check_shared(self, job_type: str) -> None:
        """Refuse arrays in memory and files that take one writer."""
        _check_shared(self._sink.concurrent_writes, self.layout, job_type)
        self._sink.to_spec()

    def check_apart(self, source: Source) -> None:
        """Refuse an output that leads to the stored array, or the memory, that the input reads, or that is read-only."""
        if same_voxels(source, self._sink):
            raise InvalidArgumentError(
                f"copy needs 'output' to differ from 'input': {source.name} and {self._sink.name} lead to the same voxels"
            )
        if not self._sink.writable:
            why = self._sink.read_only_because
            raise ReadOnlyError(
                f"output {self._sink.name} is read-only; "
                + (why or "open it for writing, for example with open_source(path, mode='r+')")
            )

    def check_mask_apart(self, mask: Source) -> None:
        """Refuse an output that leads to the voxels of the mask: blocks written early would change it for later ones."""
        if same_voxels(mask, self._sink):
            raise InvalidArgumentError(
                f"copy needs 'output' to differ from 'mask': {mask.name} and {self._sink.name} lead to the same voxels"
            )


class NewArrayTarget(SingleTarget):
    """A numpy array to be allocated."""

    def __init__(self, source: Source, new_array: Mapping[str, Any], *, keep_values: bool) -> None:
        dtype, fill_value = new_array.get("dtype"), new_array.get("fill_value")
        self._dtype = source.dtype if dtype is None else checked_new_dtype(dtype)
        self._source = source
        self._zeros = keep_values
        self._fill = None if fill_value is None else checked_fill(fill_value, self._dtype)
        self.layout = ArrayLayout("new array", "numpy", source.shape, self._dtype, in_memory=True)

    def open(self, *, overwrite: bool, resume: bool) -> tuple[Any, Source]:
        """Allocate it; voxels that will not be copied have the fill value."""
        del overwrite, resume
        make = np.zeros if self._zeros else np.empty
        array = make(self._source.shape, self._dtype)
        if self._zeros and self._fill is not None and self._fill != 0:
            array[...] = self._fill
        return array, as_source(array)

    def check_shared(self, job_type: str) -> None:
        """Refuse: other processes cannot write into an array of this one."""
        _check_shared(False, self.layout, job_type)

    def check_apart(self, source: Source) -> None:
        """Accept every input: a new array is apart from all."""

    def check_mask_apart(self, mask: Source) -> None:
        """Accept every mask: a new array is apart from all."""


class NewPathTarget(SingleTarget):
    """A stored array to be made."""

    def __init__(self, planned: PlannedOutput, codec: Any = None) -> None:
        self._planned = planned
        self._codec = None if codec is None else Codec.parse(codec)
        self._made: Path | None = None
        self._sink: Source | None = None
        self.layout = ArrayLayout.of_spec(planned.name, planned.family.format_of(planned.spec), planned.spec)

    def encoding(self) -> ChunkEncoding | UnknownEncoding:
        """Return how it will encode its chunks."""
        if self._planned.location.path.startswith("memory:"):
            return UnknownEncoding("chunks that are held in memory are not moved")
        return planned_encoding(self._planned.family, self._planned.spec)

    @property
    def path(self) -> str:
        """Path or URL of the file, folder or container."""
        return self._planned.location.path

    @property
    def planned(self) -> PlannedOutput:
        """Where it is to be, and how it shall look."""
        return self._planned

    @property
    def codec(self) -> Codec | None:
        """The codec that the caller asked for."""
        return self._codec

    def open(self, *, overwrite: bool, resume: bool) -> tuple[Any, Source]:
        """Make it and return it opened."""
        if resume:
            path, key, *_ = self._planned.location
            sink = open_source(path, key, mode="r+")
        else:
            before = first_missing(self._planned.location)
            sink = self._planned.create(overwrite=overwrite, unfinished=True)
            self._made = before
        self._sink = sink
        return sink, sink

    def finish(self) -> None:
        """Give a file that was made under a temporary name its own."""
        if isinstance(self._sink, FileSource):
            self._sink.finish()

    def check_free(self, coarser: Sequence[Level] = (), *, overwrite: bool) -> None:
        """Refuse a place that is taken, cannot be written, or has too little room."""
        self._planned.check(coarser, overwrite=overwrite)

    def open_levels(self, coarser: Sequence[Level], *, overwrite: bool, resume: bool) -> list[Source]:
        """Make it as the full-size array of an OME-Zarr image, and coarser levels, and return all opened."""
        path, key, *_ = self._planned.location
        if resume:
            above = (key or "").rpartition("/")[0]
            keys = [key, *(f"{above}/{level.path}".lstrip("/") for level in coarser)]
            return [open_source(path, level_key, mode="r+") for level_key in keys]
        before = first_missing(self._planned.location)
        levels = self._planned.create_levels(coarser, overwrite=overwrite)
        self._made = before
        return levels

    def discard(self) -> None:
        """Remove the folders that were made for the array, as long as they hold metadata only, or the new file."""
        if isinstance(self._sink, FileSource) and self._sink.unfinished is not None:
            self._sink.abandon()
        if self._made is None or not self._made.is_dir():
            return
        if holds_metadata_only(str(self._made)):
            shutil.rmtree(self._made)
            self._planned.family.removed(StoreFolder(str(self._made)))

    def check_shared(self, job_type: str) -> None:
        """Refuse files that take one writer."""
        _check_shared(self._planned.family.several_writers, self.layout, job_type)

    def check_apart(self, source: Source) -> None:
        """Refuse a path that is the input, lies in the input's folder, or has the input in it."""
        self._check(source, "input")

    def check_mask_apart(self, mask: Source) -> None:
        """Refuse a path that is the mask, lies in its folder, or has it in it."""
        self._check(mask, "mask")

    def _replaces(self, stored: tuple[str, ...]) -> bool:
        """Whether an array is in the image that is made anew, all its levels with it; its labels stay."""
        if self._planned.image_key is None:
            return False
        image = place_parts(self._planned.location.path, self._planned.image_key)
        below = stored[len(image) :]
        return stored[: len(image)] == image and below[:1] not in ((), ("labels",))

    def _check(self, source: Source, role: str) -> None:
        path, key, _ = self._planned.location
        target, shown = place_parts(path, key), self._planned.name
        ours = self._planned.family.identities_at(path, key)
        for leaf in leaves(source):
            if meet(ours, leaf.identities()) or (key is None and not is_url(path) and is_file_of(path, leaf)):
                raise _same(leaf, shown, role)
            if not isinstance(leaf, FileSource):
                continue
            stored = place_parts(leaf.path, None if family_entry(leaf.kind).patterns else leaf.key)
            if stored == target:
                raise _same(leaf, shown, role)
            if self._replaces(stored):
                raise InvalidArgumentError(
                    f"{role} {leaf.name!r} is a level of the image {path!r} that the output replaces: choose another path"
                )
            if target[: len(stored)] == stored:
                raise InvalidArgumentError(
                    f"output {shown!r} lies inside the {role} {leaf.name!r}; choose a place beside it"
                )
            if stored[: len(target)] == target:
                raise InvalidArgumentError(
                    f"{role} {leaf.name!r} lies inside the output {shown!r}; choose another place, or name an array in it, "
                    f"for example {path.rstrip('/') + '/copy'!r}"
                )


def _same(leaf: Source, shown: str, role: str) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"copy needs 'output' to differ from {role!r}: {shown!r} and {leaf.name!r} are the same array"
    )


def _check_shared(shared: bool, layout: ArrayLayout, job_type: str) -> None:
    if not shared:
        here = find_backend(job_type).runner_class.in_process
        needs = "a resumable run" if here else f"job_type {job_type!r}"
        raise InvalidArgumentError(
            f"{needs} needs an output that several processes can write, such as Zarr or N5: output {layout.name} "
            f"cannot be, {layout.format} takes one writing process"
        )


def find_target(
    output: Any, source: Source, new_array: Mapping[str, Any], *, keep_values: bool
) -> SingleTarget:
    """Return the target that `output` names; nothing is made.

    Parameters
    ----------
    output
        None, a path, or anything that `as_source` takes.
    source
        The input, for the shape, dtype and metadata of a new array.
    new_array
        Options for `create_output`.
    keep_values
        Whether there are voxels that are not copied: in a new output they have the fill value that was given, else 0.
    """
    if output is None:
        return NewArrayTarget(source, new_array, keep_values=keep_values)
    if isinstance(output, (str, os.PathLike)):
        origin = moving_origin(source)
        encoding = None if origin is None else encoding_to_move(origin.source)
        if keep_values and new_array.get("fill_value") is None:
            new_array = {**new_array, "fill_value": 0}
        planned = plan_output(output, like=source, encoding=encoding, **new_array)
        return NewPathTarget(planned, new_array.get("codec"))
    return ExistingTarget(output, new_array)
