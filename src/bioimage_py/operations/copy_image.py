"""An OME-Zarr that is copied whole: all levels and labels of an image, or of all images of a container, in one run."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from bioimage_py.errors import InvalidArgumentError, MissingDependencyError
from bioimage_py.geometry import IdSet, check_block_shape
from bioimage_py.kernels import CopyKernel
from bioimage_py.operations.array_place import first_missing
from bioimage_py.operations.copy_image_input import check_present, is_image_copy, warn_of_rest, what_is_copied
from bioimage_py.operations.copy_image_passes import ImagePasses
from bioimage_py.operations.copy_image_target import (
    NewLevelTarget,
    check_apart,
    discard,
    is_there,
    opened_pairs,
)
from bioimage_py.operations.copy_request import CopyRequest, checked_runner, warn_of_unfinished
from bioimage_py.operations.options import CopyOptions
from bioimage_py.operations.planned_work import planned_work
from bioimage_py.operations.temporary_store import kept_where_needed, room_beside_path
from bioimage_py.planning import CopyPlan, ImagePlan, PlannedArray, PlanOptions, image_in_passes
from bioimage_py.runner import Journal, Progress, Resources, Runner, raise_failures
from bioimage_py.runner.run import RunAccount, log_account
from bioimage_py.runner.work import (
    CompositeWork,
    CopyWork,
    DeferredWork,
    WorkShelf,
    asked_of,
    begun_ids,
    close_temporary_store,
    ids_from,
)
from bioimage_py.sources import Location, Source, locate, open_source
from bioimage_py.sources.new import checked_overwrite
from bioimage_py.sources.ome_zarr import (
    ImageGroup,
    Mirror,
    MirroredLevel,
    check_mirror,
    extents_for,
    make_mirror,
    read_tree,
)
from bioimage_py.sources.stores import NewMarks, marking_new
from bioimage_py.storage import StoreFolder

_LAYOUT = ("chunks", "shards", "codec", "zarr_format", "fill_value")
_RUN = ("job_type", "job_config", "num_workers", "block_ids", "resume_from", "memory_limit")


@dataclass(frozen=True)
class ImageCopy:
    """A copy of a whole OME-Zarr, planned.

    Attributes
    ----------
    place
        Path or URL of the input's container, as it was given.
    mirror
        What will be made.
    plan
        What will be copied.
    levels
        The arrays to be made; none where they are there, for a run that is finished.
    runner, num_workers, resume_from, casting, verify_encoded
        As for `copy`.
    """

    place: str
    mirror: Mirror
    plan: ImagePlan
    levels: tuple[MirroredLevel, ...]
    runner: Runner
    num_workers: int
    resume_from: str | None
    casting: str
    verify_encoded: bool

    @property
    def _fresh(self) -> bool:
        return bool(self.levels) and self.resume_from is None

    def check_free(self, *, overwrite: bool) -> None:
        """Raise what `run` would raise before it makes anything."""
        if self._fresh:
            check_mirror(self.mirror, self.levels, overwrite=checked_overwrite(overwrite))

    def run(self, *, overwrite: bool, progress: Callable[[Progress], None] | None) -> Source:
        """Make the new OME-Zarr, copy all arrays, and return the full-size array of the first image.

        Raises
        ------
        OutputExistsError
            If something is there that may not, or must not, be replaced.
        RunnerError
            If blocks failed; all others are written.
        """
        replace_old = checked_overwrite(overwrite)
        group, made, marks = self.mirror.group, None, NewMarks()
        if self._fresh:
            made = first_missing(Location(group.path, group.key, None))
            with marking_new() as marks:
                make_mirror(self.mirror, self.levels, overwrite=replace_old)
            self._describe(marks)
            warn_of_rest(self.mirror.tree)
        try:
            if self.plan.block_ids:
                self._execute(progress)
            elif progress is not None:
                progress(replace(Journal(0).progress(), account=RunAccount()))
        except (InvalidArgumentError, MissingDependencyError):
            # The backend refused the run: the same call, put right, is not to find an output in its way.
            discard(made)
            raise
        marks.remove()
        first = next(key for _, _, _, key in self.mirror.arrays())
        return open_source(group.path, first, mode="r+")

    def _places(self) -> list[StoreFolder]:
        root = StoreFolder.at(self.mirror.group.path)
        return [root.child(key) for _, _, _, key in self.mirror.arrays()]

    def _describe(self, marks: NewMarks) -> None:
        """Say in the marks of the new arrays which of their blocks are missing."""
        offset = 0
        for place, array in zip(self._places(), self.plan.arrays, strict=True):
            end = offset + array.plan.n_blocks
            asked = self.plan.block_ids & IdSet([(offset, end)])
            if place.is_local:
                marks.add(
                    place.path, array.plan.blocking, IdSet((b - offset, e - offset) for b, e in asked.runs)
                )
            offset = end

    def _execute(self, progress: Callable[[Progress], None] | None) -> None:
        # A run that is resumed goes in as many passes as it was begun in.
        passes = ImagePasses.begin(self.plan, self.runner, self.resume_from, replaces=self._fresh)
        if passes is None:
            self._run(None, progress)
            return
        with kept_where_needed(passes.place, self.runner, resumes=self.resume_from is not None):
            self._run(passes, progress)

    def _run(self, passes: ImagePasses | None, progress: Callable[[Progress], None] | None) -> None:
        plan = self.plan
        resources = Resources(plan.in_flight, plan.cache_bytes) if passes is None else passes.resources
        work = self._work(passes, resources)
        n_bytes = plan.bytes_out + sum(
            array.plan.passes.n_bytes for array in plan.arrays if array.plan.passes
        )
        journal = self.runner.execute(
            work,
            resources.threads if self.runner.in_process else self.num_workers,
            resources=resources,
            n_bytes=n_bytes,
            progress=progress,
            resume_from=self.resume_from,
        )
        log_account(journal.account)
        check_present(self.mirror.tree)
        if journal.has_failures:
            where, kept_too = "", "" if passes is None else passes.place.path
            if journal.first_error is not None:
                where = f" (the first failure is in {self._array_of(journal.first_error[0], passes)})"
            name = f"copy of {plan.input} into {plan.output}{where}"
            raise_failures(journal, asked_of(work, work.block_ids), name, kept_too=kept_too)
        if journal.folder is None:
            close_temporary_store(work)

    def _array_of(self, block_id: int, passes: ImagePasses | None) -> str:
        if passes is None or block_id < self.plan.n_blocks:
            return self.plan.array_of(block_id)
        return passes.array_of(block_id - self.plan.n_blocks)

    def _work(self, passes: ImagePasses | None, resources: Resources) -> CompositeWork:
        """Return the copies of all arrays as one work; an array is opened when its first block is due."""
        shelf = WorkShelf()
        parts = []
        keys = [(source_key, key) for _, _, source_key, key in self.mirror.arrays()]
        places = self._places()
        twice: Collection[int] = () if passes is None else passes.first
        for n, (array, of) in enumerate(zip(self.plan.arrays, keys, strict=True)):
            plan, every = array.plan, IdSet.from_range(array.plan.n_blocks)
            store = partial(passes.array, n) if passes is not None and n in twice else None
            opening = partial(self._opened, of, plan, resources, store)
            parts.append(DeferredWork(plan.blocking, plan.group_shape, every, opening, shelf, places[n]))
        asked = self.plan.block_ids
        if passes is None:
            work = CompositeWork(tuple(parts), (tuple(range(len(parts))),))
            return work if len(asked) == work.n_blocks else work.narrowed(asked)
        through = passes

        def into(n: int) -> Callable[[], CopyWork]:
            return partial(self._opened_first, keys[n][0], resources, through, n)

        both = passes.work(parts, into, shelf)
        return both.narrowed(asked | (both.block_ids - both.asked(both.block_ids)))

    def _opened(
        self,
        keys: tuple[str, str],
        plan: CopyPlan,
        resources: Resources,
        store: Callable[[], Source] | None,
    ) -> CopyWork:
        source = open_source(self.place, keys[0]) if store is None else store()
        sink = open_source(self.mirror.group.path, keys[1], mode="r+")
        kernel = self._kernel(source, sink, resources)
        if store is None:
            return planned_work(kernel, plan, verify_encoded=self.verify_encoded, output_is_new=self._fresh)
        return CopyWork(kernel, plan.blocking, plan.group_shape, plan.block_ids)

    def _opened_first(
        self, source_key: str, resources: Resources, passes: ImagePasses, number: int
    ) -> CopyWork:
        """Return the copy of an array into the temporary store."""
        kernel = self._kernel(open_source(self.place, source_key), passes.array(number), resources)
        one = passes.first[number]
        return CopyWork(kernel, one.blocking, one.blocking.block_shape, one.block_ids)

    def _kernel(self, source: Source, sink: Source, resources: Resources) -> CopyKernel:
        if self.runner.in_process:
            source = source.for_run(self.plan.threads, resources.cache_bytes)
            sink = sink.for_run(self.plan.threads, 0)
        return CopyKernel(source, sink, None, self.casting)


def find_image_copy(input: Any, output: Any, said: Mapping[str, Any]) -> ImageCopy | None:
    """Return the copy of a whole OME-Zarr, planned as far as it can be without making anything; None if one array is meant.

    Parameters
    ----------
    input, output
        As for `copy`.
    said
        The other arguments of `copy`.

    Raises
    ------
    InvalidArgumentError
        If the arguments do not fit together.
    StorageError
        If the metadata of an image name what is not there, or do not fit its arrays.
    """
    if not is_image_copy(input, output, CopyOptions(**said)):
        return None
    runner, limit = checked_runner(*(said[name] for name in _RUN))
    tree, place = read_tree(input), locate(output)
    group = ImageGroup.for_copy(place.path, place.key)
    assert group is not None
    check_apart(tree, group)
    given = {name: said[name] for name in _LAYOUT if said[name] is not None}
    begun = said["block_ids"] is not None and not said["overwrite"] and is_there(group)
    if begun and given:
        raise InvalidArgumentError(
            f"{', '.join(given)} can be given for a new output only; {group.path} is there already, and block_ids are written into it"
        )
    if said["block_ids"] is not None and not begun:
        given.setdefault("fill_value", 0)  # what voxels are that no block writes, as in a copy of one array
    folder = None if said["resume_from"] is None else os.fspath(said["resume_from"])
    workers, verify = said["num_workers"], bool(said["verify_encoded"])
    mirror = Mirror.plan(tree, group, given.pop("zarr_format", None))
    container = locate(input).path
    arrays: list[PlannedArray] = []
    levels: list[MirroredLevel] = []
    options: list[PlanOptions] = []
    for key, source, full, target in opened_pairs(mirror, container, given, begun=begun):
        warn_of_unfinished(source)
        if not runner.in_process:
            source.to_spec()
        shape = said["block_shape"]
        if shape is not None:
            shape = check_block_shape(extents_for(source, full, shape, "block_shape"), source.shape)
        request = CopyRequest(source, None, shape, runner, workers, None, folder, limit, verify)
        options.append(PlanOptions(block_shape=shape, memory_limit=limit))
        arrays.append(PlannedArray(key, request.plan(target, said["casting"], quiet=True, in_pieces=True)))
        if isinstance(target, NewLevelTarget):
            levels.append(target.level)
    ids = None if said["block_ids"] is None else ids_from(said["block_ids"], None, "block_ids")
    if folder is not None:
        ids = begun_ids(folder) & IdSet.from_range(sum(array.plan.n_blocks for array in arrays))
    threads = workers if runner.in_process else runner.config.threads_per_worker
    shown = f"{group.path}/{group.key}" if group.key else group.path
    plan = ImagePlan.of((tree.name, shown), what_is_copied(tree), arrays, ids, threads, tree.left_out)
    if folder is None:
        plan = image_in_passes(plan, options, said["casting"], room_beside_path(group.path, {}))
    return ImageCopy(container, mirror, plan, tuple(levels), runner, workers, folder, said["casting"], verify)
