"""What a copy writes into: an existing array, a path at which one is made, or a new numpy array."""

from __future__ import annotations

import os
import posixpath
import shutil
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Self
from urllib.parse import urlsplit

import numpy as np

from bioimage_py.chunks import ChunkEncoding, UnknownEncoding
from bioimage_py.errors import Hint, InvalidArgumentError, OutputExistsError, ReadOnlyError
from bioimage_py.kernels import encoding_to_move, moving_origin
from bioimage_py.metadata import assumptions
from bioimage_py.operations.options import NewArray
from bioimage_py.planning import ArrayLayout
from bioimage_py.runner import find_backend
from bioimage_py.sources import (
    ArraySpec,
    Codec,
    Family,
    FileSource,
    Location,
    PlannedOutput,
    Source,
    as_source,
    checked_fill,
    checked_new_dtype,
    families,
    family_entry,
    is_file_of,
    leaves,
    open_source,
    plan_output,
    planned_encoding,
    same_voxels,
)
from bioimage_py.sources.stores import holds_metadata_only, place_of
from bioimage_py.storage import (
    StoreFolder,
    StorePlace,
    UnfinishedFile,
    absolute_path,
    is_url,
    meet,
    url_decoded,
)


class Target:
    """The output of a copy before anything is made or touched."""

    layout: ArrayLayout
    """How it stores, or will store, its voxels."""
    path: str | None = None
    """Of the file, folder or container that is written; None for an array in memory."""
    codec: Codec | None = None
    """What the caller asked for."""
    is_new = True
    """Whether the copy makes it."""
    is_shared = True
    """Whether several processes can write it."""
    drops_axes = False
    """Whether it has fewer axes when it is opened again."""

    def assumed(self, source: Source) -> tuple[Hint, ...]:
        """Return what its metadata will say because it is assumed of the input."""
        del source
        return ()

    def encoding(self) -> ChunkEncoding | UnknownEncoding:
        """Return how its chunks are or will be encoded, or why encoded chunks cannot be moved into it."""
        return UnknownEncoding("the output is held in memory")

    @property
    def place(self) -> StorePlace | None:
        """Its place in an object store; None if it is not in one."""
        return StoreFolder.at(self.path).place if self.path is not None and is_url(self.path) else None

    @property
    def keeps_digest(self) -> bool:
        """Whether there is a place beside it for what is kept."""
        return self.path is not None and not self.path.startswith("memory:")

    @property
    def folder(self) -> StoreFolder | None:
        """The folder of the array of a store that is made; None where none is."""
        return None

    @property
    def url_options(self) -> Mapping[str, Any] | None:
        """Options for opening URLs beside this one; None if they are not known."""
        return {}

    def check_shared(self, job_type: str) -> None:
        """Raise InvalidArgumentError if several processes cannot write here."""
        if self.is_shared:
            return
        here, name = find_backend(job_type).runner_class.in_process, self.layout.format
        title = next((family.title for family in families() if family.kind == name), name)
        needs = "a resumable run" if here else f"job_type {job_type!r}"
        raise InvalidArgumentError(
            f"{needs} needs an output that several processes can write, such as Zarr or N5: output {self.layout.name} "
            f"cannot be, {title} takes one writing process"
        )

    def check_blockwise(self, n_blocks: int) -> None:
        """Raise InvalidArgumentError if two of so many blocks could meet in a write unit."""

    def check_apart(self, source: Source, role: str = "input") -> None:
        """Raise InvalidArgumentError if writing could change what an input or mask reads, ReadOnlyError if it is not writable."""

    def check_free(self, *, overwrite: bool) -> None:
        """Raise what `open` would raise before it makes anything."""

    def finish(self, *, goes_on: bool = False) -> None:
        """Give a new file its final name after the run, also if blocks failed: the user goes on with it, unless the same call `goes_on`."""

    def discard(self) -> None:
        """Remove what `open` made, unless something was written into it."""


class SingleTarget(Target, ABC):
    """The output of a copy of one array, which the target opens itself."""

    @abstractmethod
    def open(self, *, overwrite: bool, resume: bool) -> tuple[Any, Source]:
        """Return what the caller gets, and the source to write into."""


class ExistingTarget(SingleTarget):
    """An array, a handle or a source given by the caller, who gets the same object back."""

    is_new = False

    def __init__(self, given: Any) -> None:
        self._given = given
        self._sink = as_source(given)
        self.path = self._sink.path if isinstance(self._sink, FileSource) else None
        self.layout = ArrayLayout.of_output(self._sink)
        self.is_shared = self._sink.concurrent_writes

    def encoding(self) -> ChunkEncoding | UnknownEncoding:
        return encoding_to_move(self._sink)

    @property
    def place(self) -> StorePlace | None:
        return place_of(self._sink)

    @property
    def keeps_digest(self) -> bool:
        return self._sink.side_folder() is not None

    @property
    def url_options(self) -> Mapping[str, Any] | None:
        if self.path is None or not is_url(self.path):
            return {}
        from bioimage_py.sources.stores import options_of

        return options_of(self._sink)

    def open(self, *, overwrite: bool, resume: bool) -> tuple[Any, Source]:
        del overwrite, resume
        return self._given, self._sink

    def check_shared(self, job_type: str) -> None:
        if self._sink.at_once_because:
            self._sink.check_blockwise(self.layout.n_units)
        super().check_shared(job_type)
        self._sink.to_spec()

    def check_blockwise(self, n_blocks: int) -> None:
        self._sink.check_blockwise(n_blocks)

    def check_apart(self, source: Source, role: str = "input") -> None:
        # Blocks that are written early would change a mask for later blocks.
        if same_voxels(source, self._sink):
            raise InvalidArgumentError(
                f"copy needs 'output' to differ from {role!r}: {source.name} and {self._sink.name} lead to the same voxels"
            )
        if not self._sink.writable:
            why = self._sink.read_only_because
            raise ReadOnlyError(
                f"output {self._sink.name} is read-only" + (f"; {why}" if why else ""),
                hints=[]
                if why
                else [Hint("open it for writing, for example with open_source(path, mode='r+')")],
            )


class NewArrayTarget(SingleTarget):
    """A numpy array to be allocated."""

    is_shared = False

    def __init__(self, source: Source, new: NewArray, *, keep_values: bool) -> None:
        dtype = source.dtype if new.dtype is None else checked_new_dtype(new.dtype)
        self._zeros = keep_values
        self._fill = None if new.fill_value is None else checked_fill(new.fill_value, dtype)
        self.layout = ArrayLayout("new array", "numpy", source.shape, dtype, in_memory=True)

    def open(self, *, overwrite: bool, resume: bool) -> tuple[Any, Source]:
        del overwrite, resume
        array = (np.zeros if self._zeros else np.empty)(self.layout.shape, self.layout.dtype)
        if self._zeros and self._fill is not None and self._fill != 0:
            array[...] = self._fill
        return array, as_source(array)


class NewPathTarget(SingleTarget):
    """A stored array to be made."""

    path: str

    def __init__(self, planned: PlannedOutput, codec: Any = None) -> None:
        self.planned = planned
        self.path = planned.location.path
        self.codec = None if codec is None else Codec.parse(codec)
        family = planned.family
        self.layout = ArrayLayout.of_spec(planned.name, self.path, family, planned.spec)
        self.is_shared = family.several_writers
        self.drops_axes = family.drops_axes and 1 in self.layout.shape[:-2]
        self.made: Path | None = None
        """The topmost folder that `open` has made."""
        self._sink: Source | None = None

    @classmethod
    def plan(cls, output: Any, source: Source, new: NewArray, *, keep_values: bool = False) -> Self:
        """Plan an array at a path, like the input except for what the options say."""
        origin = moving_origin(source)
        encoding = None if origin is None else encoding_to_move(origin.source)
        layout = {"fill_value": 0, **new.layout} if keep_values else new.layout
        return cls(plan_output(output, like=source, encoding=encoding, **layout), new.codec)

    def assumed(self, source: Source) -> tuple[Hint, ...]:
        family = self.planned.family
        # Whoever has an array in memory knows what it is, and a format that keeps no metadata says nothing.
        if not family.chunked or not any(isinstance(leaf, FileSource) for leaf in leaves(source)):
            return ()
        completed = self.planned.image_key is not None or family.states_size
        found = assumptions(source.metadata, source.shape, completed=completed)
        # OME-Zarr can leave out a unit, a format that has its sizes in one unit cannot.
        return tuple(
            hint
            for hint in found
            if family.states_size or hint.call is None or set(hint.call.options) != {"units"}
        )

    def encoding(self) -> ChunkEncoding | UnknownEncoding:
        if self.path.startswith("memory:"):
            return UnknownEncoding("chunks that are held in memory are not moved")
        return planned_encoding(self.planned.family, self.planned.spec)

    @property
    def folder(self) -> StoreFolder | None:
        path, key, *_ = self.planned.location
        if self.planned.family.continues:
            return StoreFolder.beside(path)
        place = self.planned.family.folder_of({"path": path, "key": key})
        # A spec without options says that there are none; this call may be given some.
        return None if place is None else StoreFolder.at(path).child(key)

    def open(self, *, overwrite: bool, resume: bool) -> tuple[Any, Source]:
        if resume:
            sink = self.begun()
        else:
            before = first_missing(self.planned.location)
            try:
                sink = self.planned.create(overwrite=overwrite, unfinished=True)
            except OutputExistsError:
                UnfinishedFile(self.path, replaces=False).drop_if_named()
                raise
            self.made = before
        self._sink = sink
        return sink, sink

    def begun(self) -> Source:
        """Open what an earlier call has begun to write."""
        family, (path, key, *_) = self.planned.family, self.planned.location
        if family.continues:
            return family.reopen_unfinished(path, key, self.planned.spec)
        return open_source(path, key, mode="r+")

    def adopt(self, sink: Source) -> None:
        """Finish, or discard, what was made otherwise than by `open`."""
        self._sink = sink

    def open_specs(self, coarser: Sequence[ArraySpec], *, overwrite: bool, resume: bool) -> list[Source]:
        """Make an image with smaller levels where the family keeps them by itself, or open it; full size first."""
        if resume:
            keys = [None, *self.planned.family.list_arrays(self.path)[1:]]
            return [open_source(self.path, key, mode="r+") for key in keys]
        before = first_missing(self.planned.location)
        made = self.planned.create_specs(coarser, overwrite=overwrite)
        self.made = before
        self.adopt(made[0])
        return made

    def finish(self, *, goes_on: bool = False) -> None:
        if isinstance(self._sink, FileSource):
            if goes_on and self._sink.unfinished is not None:
                self._sink.close()  # which others could not write as long as it is open
            else:
                self._sink.finish()

    def check_free(self, *, overwrite: bool) -> None:
        self.planned.check((), overwrite=overwrite)

    def discard(self) -> None:
        if isinstance(self._sink, FileSource) and self._sink.unfinished is not None:
            self._sink.abandon()
        discard_folder(self.made, self.planned.family)

    def check_apart(self, source: Source, role: str = "input") -> None:
        path, key, _ = self.planned.location
        target, shown = place_parts(path, key), self.planned.name
        ours = self.planned.family.identities_at(path, key)
        for leaf in leaves(source):
            stored = None
            if isinstance(leaf, FileSource):
                stored = place_parts(leaf.path, None if family_entry(leaf.kind).patterns else leaf.key)
            same_file = key is None and not is_url(path) and is_file_of(path, leaf)
            if meet(ours, leaf.identities()) or same_file or stored == target:
                raise InvalidArgumentError(
                    f"copy needs 'output' to differ from {role!r}: {shown!r} and {leaf.name!r} are the same array",
                    hints=[Hint("choose another path")],
                )
            if stored is None:
                continue
            if self._replaces(stored):
                raise InvalidArgumentError(
                    f"{role} {leaf.name!r} is a level of the image {path!r} that the output replaces: choose another path"
                )
            more = f", or name an array in it, for example {path.rstrip('/') + '/copy'!r}"
            check_outside(target, stored, shown, f"{role} {leaf.name!r}", more)

    def _replaces(self, stored: tuple[str, ...]) -> bool:
        """Whether an array is a level of the image that is replaced; labels of an image are kept."""
        if self.planned.image_key is None:
            return False
        image = place_parts(self.path, self.planned.image_key)
        below = stored[len(image) :]
        return stored[: len(image)] == image and below[:1] not in ((), ("labels",))


def find_target(output: Any, source: Source, new: NewArray, *, keep_values: bool) -> SingleTarget:
    """Return the target for an output of `copy`; nothing is made.

    With `keep_values` some voxels are not copied: in a new output they get the fill value, by default 0.
    """
    if output is None:
        return NewArrayTarget(source, new, keep_values=keep_values)
    if isinstance(output, (str, os.PathLike)):
        return NewPathTarget.plan(output, source, new, keep_values=keep_values)
    given = [name for name in new.layout if name != "zarr_format"]
    if given:
        raise InvalidArgumentError(
            f"{', '.join(given)} can be given for a new output only; this output exists already"
        )
    return ExistingTarget(output)


def first_missing(location: Location) -> Path | None:
    """Return the topmost missing folder on the path of an array; None if there is none, or for a URL."""
    if is_url(location.path):
        return None
    found = None
    place = absolute_path(Path(location.path, (location.key or "").strip("/")))
    while not place.exists() and place != place.parent:
        found, place = place, place.parent
    return found


def discard_folder(made: Path | None, family: Family) -> None:
    """Remove a folder that was made for a copy that could not begin, if it holds only metadata."""
    if made is not None and made.is_dir() and holds_metadata_only(str(made)):
        shutil.rmtree(made)
        family.removed(StoreFolder(str(made)))


def check_outside(
    target: tuple[str, ...], stored: tuple[str, ...], shown: str, other: str, more: str = ""
) -> None:
    """Raise InvalidArgumentError if an output lies inside an input or mask, or the other way round."""
    if target[: len(stored)] == stored:
        raise InvalidArgumentError(f"output {shown!r} lies inside the {other}; choose a place beside it")
    if stored[: len(target)] == target:
        raise InvalidArgumentError(f"{other} lies inside the output {shown!r}; choose another place{more}")


def place_parts(path: str, key: str | None) -> tuple[str, ...]:
    """Return the parts of the path of an array from the root, with links resolved."""
    if is_url(path):
        url = urlsplit(path)
        inside = posixpath.normpath(
            posixpath.join("/", url_decoded(url.path).lstrip("/"), (key or "").strip("/"))
        )
        return (url.scheme.lower(), url.netloc.lower(), *PurePosixPath(inside).parts)
    return ("file", "", *absolute_path(Path(path, (key or "").strip("/"))).resolve().parts)
