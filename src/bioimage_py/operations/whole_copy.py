"""The copy of several arrays into a new OME-Zarr as one run."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, nullcontext
from contextvars import Context, copy_context
from dataclasses import replace
from datetime import datetime
from functools import partial
from itertools import accumulate
from typing import Any, ParamSpec, TypeVar

from bioimage_py.errors import BioimagePyWarning, Hint, InvalidArgumentError, SourceNotFoundError
from bioimage_py.geometry import IdSet
from bioimage_py.kernels import CopyKernel
from bioimage_py.operations.array_copy import keep_digest, planned_work
from bioimage_py.operations.beside import (
    Copied,
    Update,
    changes,
    check_record,
    check_update,
    has_changed,
    write_record,
)
from bioimage_py.operations.job import Job, warn_caller
from bioimage_py.operations.options import CopyOptions
from bioimage_py.operations.target import ExistingTarget, Target, discard_folder, first_missing
from bioimage_py.operations.two_passes import TwoPassRun
from bioimage_py.planning import WHILE_WRITTEN, CopyPlan, ImagePlan, PlannedArray
from bioimage_py.runner import Journal, Resources
from bioimage_py.runner.work import (
    CompositeWork,
    CopyWork,
    DeferredWork,
    TwoPassWork,
    WorkShelf,
    begun_ids,
)
from bioimage_py.sources import Location, Source, checked_overwrite, family_of, open_source
from bioimage_py.sources.ome_zarr import ImageGroup, NewImage
from bioimage_py.sources.stores import NewMarks, group_attributes, image_paths, level_paths
from bioimage_py.sources.zarr import open_array, read_node
from bioimage_py.storage import StoreFolder
from bioimage_py.text import counted

P = ParamSpec("P")
R = TypeVar("R")
_REQUESTS = 16
"""At once, where arrays are in a bucket."""


class WholeCopy(Job):
    """The copies of several arrays into one OME-Zarr as one run, in which an array is opened when its first block is due."""

    options: CopyOptions
    plan: ImagePlan
    group: ImageGroup
    """What is made."""
    _keys: list[tuple[str, str]]
    """Of each array its key in the input, and in the new container."""
    _begun: bool
    """Whether blocks are written into a copy that is there."""
    _is_fresh: bool
    """Whether the output is made here."""
    _in_process: bool
    _made: Any = None
    _updates: dict[str, tuple[Update, IdSet | None]]
    """Of each array, by its key, what an update does, and which of its blocks have changed, None for all."""
    _copied: dict[int, Copied | None]

    @abstractmethod
    def _new(self) -> NewImage:
        """Return what is made before the first block."""

    @abstractmethod
    def _source(self, number: int) -> Source:
        """Open an array of the input for its voxels."""

    @abstractmethod
    def told(self) -> dict[str, Any]:
        """Return what identifies the input, as plain JSON."""

    def pairs(self, mode: str = "r") -> Iterator[tuple[str, Source, Source]]:
        """Open each array of the input with its copy, after the key of that."""
        for number, (_, key) in enumerate(self._keys):
            with self._source(number) as source, open_source(self.group.path, key, mode=mode) as written:
                yield key, source, written

    def input_has_changed(self, begun: IdSet) -> bool:
        arrays = zip(self.pairs("r+"), self.plan.arrays, self.plan.offsets, strict=False)
        for (_, source, written), array, first in arrays:
            plan = array.shared
            own = begun & IdSet.from_range(first + plan.n_blocks, first)
            if has_changed(source, written, None if plan.passes else (plan.blocking, own.shifted(-first))):
                return True
        return False

    def _find_begun(self, given: Mapping[str, Any]) -> bool:
        """Return whether blocks are written into a copy that is there; what is given for new arrays is refused then."""
        options, group = self.options, self.group
        is_there = self.archive is None and read_node(StoreFolder.at(group.path).child(group.key)) is not None
        self._updates = {}
        check_record(group.path, options)
        if options.update:
            check_update(options)
            return is_there
        begun = options.block_ids is not None and not options.overwrite and is_there
        if begun and given:
            raise InvalidArgumentError(
                f"{', '.join(given)} can be given for a new output only; {group.path} is there already, and block_ids are written "
                "into it"
            )
        return begun

    def _asked_ids(self, arrays: list[PlannedArray]) -> IdSet | None:
        """Return which blocks are to be done, numbered through all arrays; None for all."""
        folder = self.options.folder
        if self._updates:
            firsts = accumulate((array.shared.n_blocks for array in arrays), initial=0)
            every = (IdSet.from_range(array.shared.n_blocks) for array in arrays)
            found = (self._updates.get(array.key, (None, None))[1] for array in arrays)
            changed = (all_ids if ids is None else ids for ids, all_ids in zip(found, every, strict=True))
            return IdSet.union(ids.shifted(first) for ids, first in zip(changed, firsts, strict=False))
        if folder is None:
            return self.options.ids
        return begun_ids(folder) & IdSet.from_range(sum(array.shared.n_blocks for array in arrays))

    def _begun_target(self, key: str, source: Source) -> tuple[Target, CopyOptions]:
        """Return an array that is there already as a target, and the options of the copy into it: those of its update if that is asked for."""
        options = self.options
        if not options.update:
            return begun_target(self.group, key, source), options
        with _begun_array(self.group, key, "an update goes into") as sink:
            found = changes(source, sink, options)
            target = found.target
            options = found.options(options, target.layout)
        self._updates[key] = replace(found, output=None), options.ids
        return target, options

    def _update_text(self, n_asked: int, n_blocks: int) -> str:
        if not self._updates:
            return ""
        n_changed = sum(ids is None or bool(ids) for _, ids in self._updates.values())
        return f"{n_asked:,} of {n_blocks:,} blocks have changed since they were copied, in {n_changed:,} of {counted(len(self._updates), 'array')}"

    def places(self) -> list[StoreFolder]:
        return [] if self._begun else self._places()

    def check_free(self) -> None:
        if self._is_fresh:
            self._new().check(overwrite=checked_overwrite(self.options.overwrite))

    def open(self, marks: NewMarks) -> None:
        self._copied = {}
        for key, (update, _) in self._updates.items():
            update.begin()
            with open_source(self.group.path, key, mode="r+") as written:
                if written.shape != update.shape:
                    written.grown(update.shape).close()
        replace_old = checked_overwrite(self.options.overwrite)
        if not self._is_fresh:
            return
        group = self.group
        self._made = first_missing(Location(group.path, group.key, None))
        plan, offsets = self.plan, self.plan.offsets
        for place, array, first in zip(self._places(), plan.arrays, offsets, strict=False):
            asked = plan.block_ids & IdSet.from_range(first + array.shared.n_blocks, first)
            marks.expect(place.path, array.shared.blocking, asked.shifted(-first))
        self._new().make(overwrite=replace_old)

    def _places(self) -> list[StoreFolder]:
        root = StoreFolder.at(self.group.path)
        return [root.child(key) for _, key in self._keys]

    def keep_digests(self) -> None:
        for array, (_, key) in zip(self.plan.arrays, self._keys, strict=True):
            if array.shared.digest not in ("", WHILE_WRITTEN):
                with open_source(self.group.path, key) as written:
                    keep_digest(written, array.shared, self.options)

    def _not_in_input(self) -> list[str]:
        """Return what the output lists of images and levels, but not those that are copied."""
        folder, begin = (
            StoreFolder.at(self.group.path).child(self.group.key),
            f"{self.group.key or ''}/".lstrip("/"),
        )
        said = group_attributes(folder)
        ours = [f"{key.removeprefix(begin)}/" for _, key in self._keys]
        listed = (*image_paths(folder, said), *level_paths(said))
        return [name for name in listed if not any(key.startswith(f"{name}/") for key in ours)]

    def finish(self, *, complete: bool) -> None:
        if complete and self._updates and (left := self._not_in_input()):
            warn_caller(
                BioimagePyWarning(
                    f"{self.plan.output} also has {', '.join(left)}, which the input does not have: an update leaves that as it was"
                )
            )
        if complete:
            for key, (update, _) in self._updates.items():
                with (
                    open_source(self.group.path, key, mode="r+")
                    if update.digest
                    else nullcontext() as written
                ):
                    update.finish(written)
            with ThreadPoolExecutor(_REQUESTS, thread_name_prefix="bioimage-notes") as pool:
                list(pool.map(Copied.finish, filter(None, self._copied.values())))

    def packed(self) -> Any:
        made = super().packed()
        assert self.archive is not None
        self.group = replace(self.group, path=self.archive.path)
        return made

    def keep_record(self, began: datetime, journal: Journal) -> None:
        if self.options.record:
            names = self.plan.input, self.plan.output
            with self._source(0) as source, self.result() as written:
                write_record(source, written, names, self.plan, self.options, began, journal)

    def discard(self) -> None:
        discard_folder(self._made, family_of("zarr"))

    def name(self, journal: Journal, passes: TwoPassRun | None) -> str:
        name = f"copy of {self.plan.input} into {self.plan.output}"
        if journal.first_error is None:
            return name
        block_id, n_blocks = journal.first_error[0], self.plan.n_blocks
        if passes is not None and block_id >= n_blocks:
            key = passes.key_of(block_id - n_blocks)
        else:
            key = self.plan.array_of(block_id)
        return f"{name} (the first failure is in {key})"

    @property
    def is_empty(self) -> bool:
        return not self.plan.block_ids

    def passes(self, resources: Resources) -> TwoPassRun | None:
        arrays = [(array.key, array.shared) for array in self.plan.arrays]
        how = {"replaces": self._is_fresh, "goes_on": self.beside is not None}
        return TwoPassRun.begin(arrays, self.plan.output, self.options, resources, **how)

    def work(self, opened: ExitStack, passes: TwoPassRun | None, resources: Resources) -> CompositeWork:
        """Return the copies of all arrays as one work; an array is opened when its first block is due."""
        del opened
        shelf = WorkShelf()
        # Threads that open arrays reach stores as this one does.
        here = partial(_in_copy_of, copy_context())
        parts = []
        for n, (array, place) in enumerate(zip(self.plan.arrays, self._places(), strict=True)):
            plan, every = array.shared, IdSet.from_range(array.shared.n_blocks)
            through = passes if passes is not None and n in passes.first else None
            opening = partial(here, self._opened, n, plan, resources, through)
            hashed = plan.digest == WHILE_WRITTEN
            parts.append(
                DeferredWork(
                    plan.blocking, plan.group_shape, every, opening, shelf, place, keep_results=hashed
                )
            )
        asked = self.plan.block_ids
        if passes is None:
            work = CompositeWork(tuple(parts), (tuple(range(len(parts))),))
            return work if len(asked) == work.n_blocks else work.narrowed(asked)
        filling = {
            n: DeferredWork(*one.blocks, partial(here, self._opened_first, n, resources, passes), shelf)
            for n, one in passes.first.items()
        }
        both = TwoPassWork.of(parts, filling, passes.place)
        return both.narrowed(asked | (both.block_ids - both.asked(both.block_ids)))

    def _opened(
        self, number: int, plan: CopyPlan, resources: Resources, passes: TwoPassRun | None
    ) -> CopyWork:
        sink = open_array(StoreFolder.at(self.group.path), self._keys[number][1], mode="r+")
        if passes is None:
            source = self._source(number)
            self._note(number, source, sink)
            kernel = self._kernel(source, sink, resources)
            return planned_work(kernel, plan, self.options, output_is_new=self._is_fresh)
        kernel = self._kernel(passes.array(number), sink, resources)
        return planned_work(kernel, replace(plan, road="recode"), self.options, output_is_new=False)

    def _opened_first(self, number: int, resources: Resources, passes: TwoPassRun) -> CopyWork:
        source = self._source(number)
        with open_source(self.group.path, self._keys[number][1], mode="r+") as sink:
            self._note(number, source, sink)
        kernel = self._kernel(source, passes.array(number), resources)
        return CopyWork(kernel, *passes.first[number].blocks)

    def _note(self, number: int, source: Source, sink: Source) -> None:
        """Note what an array is copied from, before its first voxel is read."""
        if number not in self._copied and not self._updates:
            self._copied[number] = Copied.begin(source, sink, self.options, is_new=self._is_fresh)

    def _kernel(self, source: Source, sink: Source, resources: Resources) -> CopyKernel:
        if self._in_process:
            source = source.for_run(self.plan.threads, resources.cache_bytes)
            sink = sink.for_run(self.plan.threads, 0)
        return CopyKernel(source, sink, None, self.options.casting)

    def result(self) -> Source:
        """Return the full-size array of the first image."""
        return open_source(self.group.path, self._keys[0][1], mode="r+")


def _in_copy_of(context: Context, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    return context.copy().run(function, *args, **kwargs)


def begun_target(group: ImageGroup, key: str, source: Source) -> Target:
    """Return the array of an unfinished copy for the rest of its blocks; raise InvalidArgumentError if it does not fit the input."""
    sink = _begun_array(group, key, "block_ids are written into")
    if (sink.shape, sink.dtype) != (source.shape, source.dtype):
        raise InvalidArgumentError(
            f"block_ids are written into the copy that is there, but {sink.name} has shape {sink.shape} and dtype {sink.dtype}, and "
            f"{source.name} has {source.shape} and {source.dtype}",
            hints=[Hint("choose another path"), Hint.of("or, to replace it, give {}", overwrite=True)],
        )
    return ExistingTarget(sink)


def _begun_array(group: ImageGroup, key: str, what: str) -> Source:
    try:
        return open_source(group.path, key, mode="r+")
    except SourceNotFoundError as error:
        raise InvalidArgumentError(
            f"{what} the copy that is there, but {group.path} has no array {key!r}",
            hints=[Hint("copy that array by itself"), Hint.of("or, to replace all, give {}", overwrite=True)],
        ) from error
