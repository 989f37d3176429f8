"""The copy of an image with its levels into a file or volume that can hold them: an OME-TIFF, a precomputed volume."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from bioimage_py.errors import BioimagePyError, BioimagePyWarning
from bioimage_py.kernels import CopyKernel
from bioimage_py.operations.array_copy import (
    cast_text,
    check_portable,
    find_input,
    keep_digest,
    plan_array,
    planned_work,
    warn_of_casting,
)
from bioimage_py.operations.job import Job, input_identity, warn_caller, warn_of_assumed
from bioimage_py.operations.options import CopyOptions
from bioimage_py.operations.target import NewPathTarget
from bioimage_py.operations.two_passes import TwoPassRun, room_beside
from bioimage_py.planning import ImagePlan, PlannedArray, image_in_passes
from bioimage_py.runner import Journal, Resources
from bioimage_py.runner.work import CompositeWork, CopyWork, TwoPassWork
from bioimage_py.sources import FileSource, Source, as_source, coarser_levels, locate, place_of_level
from bioimage_py.sources.ome_zarr import labels_beside
from bioimage_py.sources.stores import NewMarks
from bioimage_py.storage import StoreFolder
from bioimage_py.text import counted

_FOR_ONE_ARRAY = ("mask", "block_ids", "block_shape", "imagej")
_OF_ONE_ARRAY = ("digest", "update", "record")
"""Options that are for one array: with one of them the full-size array alone is copied. Levels in one file have no digests."""


def levels_to_copy(input: Any, output: Any, options: CopyOptions, *, quiet: bool = False) -> list[Source]:
    """Return an image with its smaller levels, full size first, where the output can hold them; else nothing."""
    if not isinstance(input, (str, os.PathLike)) or not isinstance(output, (str, os.PathLike)):
        return []
    family = locate(output).family
    if family is None or not family.writes or not family.load().level_axes:
        return []
    if any(getattr(options, name) is not None for name in _FOR_ONE_ARRAY):
        return []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an array that is copied alone is opened again
            source = as_source(input)
    except BioimagePyError:
        return []
    levels = coarser_levels(source)
    given = [name for name in _OF_ONE_ARRAY if getattr(options, name)]
    if given == ["digest"] and family.load().several_writers:
        given = []
    if levels and given and not quiet:
        text = f"{' and '.join(given)} can be applied to one array only: the smaller levels of {source.name} are left out"
        warn_caller(BioimagePyWarning(text))
    return [source, *levels] if levels and not given else []


class LevelsCopy(Job):
    """The copies of the levels of an image as one run; those that are reduced along other axes than the output's levels can be are left out."""

    options: CopyOptions
    plan: ImagePlan

    def __init__(
        self, levels: Sequence[Source], output: Any, options: CopyOptions, *, quiet: bool = False
    ) -> None:
        self.options, self._given = options, (levels, output)
        labels = [] if quiet or not isinstance(levels[0], FileSource) else labels_beside(levels[0])
        for label in labels:
            label.close()
        unsaid = replace(options, voxel_size=None, units=None)
        stored = [find_input(one, None, output, unsaid)[0] for one in levels]
        levels = [find_input(one, None, output, options)[0] for one in levels]
        self.source = levels[0]
        self.target = NewPathTarget.plan(output, self.source, options)
        self.target.check_apart(self.source)
        if options.in_other_processes:
            self.target.check_shared(options.runner.job_type)
            for level in levels:
                check_portable(level, options.runner)
        planned, arrays, asked = self.target.planned, [], []
        kept = len(self.source.shape) - len(planned.family.level_axes)
        self._levels = [one for one in levels if one.shape[:kept] == self.source.shape[:kept]]
        places = [place_of_level(stored[0], one) for one in stored]
        self._specs = [
            planned.level_spec(place, level.shape) if number else planned.spec
            for number, (level, place) in enumerate(zip(levels, places, strict=True))
            if level in self._levels
        ]
        assumed = self.target.assumed(self.source) if options.folder is None else ()
        for number, (level, spec) in enumerate(zip(self._levels, self._specs, strict=True)):
            target = NewPathTarget(planned._replace(spec=spec), options.codec)
            plan, how = plan_array(level, target, options, None, alone=False)
            asked.append(how)
            arrays.append(PlannedArray(str(number), plan, (level.name, f"{self.target.path} level {number}")))
        what = f"1 image, {counted(len(arrays), 'level')}"
        names = self.source.name, self.target.planned.name
        whole = ImagePlan.of(names, what, arrays, None, options.threads)
        if options.folder is None:
            whole = image_in_passes(whole, asked, options.casting, room_beside(self.target))
        self.plan = replace(whole, casts=cast_text(self.source, self.target.layout), assumed=assumed)
        if not quiet:
            warn_of_casting(self.source, self.target.layout, options.casting)
            warn_of_assumed(self.source, assumed)
            if left_out := [str(one.shape) for one in levels if one not in self._levels]:
                warn_caller(
                    BioimagePyWarning(
                        f"the levels of shape {', '.join(left_out)} are left out of {self.target.path}, which has levels that are reduced along "
                        f"{' and '.join(planned.family.level_axes)} only: make others with pyramid()"
                    )
                )
            if labels:
                warn_caller(
                    BioimagePyWarning(
                        f"labels of {self.source.name} are left out: copy {', '.join(one.name for one in labels)} by themselves"
                    )
                )

    def again(self, **changes: Any) -> LevelsCopy:
        return LevelsCopy(*self._given, replace(self.options, **changes), quiet=True)

    def input(self) -> Any:
        return input_identity(**{f"level {n}": level for n, level in enumerate(self._levels)})

    def places(self) -> list[StoreFolder]:
        return [] if self.target.folder is None else [self.target.folder]

    def check_free(self) -> None:
        if self.options.folder is None:
            self.target.check_free(overwrite=self.options.overwrite)

    def open(self, marks: NewMarks) -> None:
        del marks
        options = self.options
        how = {"overwrite": options.overwrite, "resume": options.folder is not None}
        self._made = self.target.open_specs(self._specs[1:], **how)

    def passes(self, resources: Resources) -> TwoPassRun | None:
        arrays = [(array.key, array.shared) for array in self.plan.arrays]
        how = {"replaces": self.options.folder is None, "goes_on": self.beside is not None}
        return TwoPassRun.begin(arrays, self.target.planned.name, self.options, resources, **how)

    def work(self, opened: ExitStack, passes: TwoPassRun | None, resources: Resources) -> CompositeWork:
        parts, filling, options = [], {}, self.options
        for n, (level, made, array) in enumerate(
            zip(self._levels, self._made, self.plan.arrays, strict=True)
        ):
            plan, fresh = array.shared, options.folder is None
            source, sink = (
                self.for_run(level, opened, resources.cache_bytes),
                self.for_run(made, opened),
            )
            if passes is not None and n in passes.first:
                writer: Source = passes.array(n)
                reader = writer
                if options.runner.in_process:
                    # No run twins: after a run that keeps a folder the store is gone.
                    writer, reader = (
                        writer.for_run(plan.threads, size) for size in (0, resources.cache_bytes)
                    )
                kernel = CopyKernel(source, writer, None, options.casting)
                filling[n] = CopyWork(kernel, *passes.first[n].blocks)
                source, plan, fresh = reader, replace(plan, road="recode"), False
            kernel = CopyKernel(source, sink, None, options.casting)
            parts.append(planned_work(kernel, plan, options, output_is_new=fresh))
        if passes is not None:
            return TwoPassWork.of(parts, filling, passes.place)
        return CompositeWork(tuple(parts), (tuple(range(len(parts))),))

    def name(self, journal: Journal, passes: TwoPassRun | None) -> str:
        del journal, passes
        return f"copy of {self.source.name} with its levels into {self.target.path}"

    def result(self) -> Source:
        return self._made[0]

    @property
    def is_empty(self) -> bool:
        return not self.plan.n_blocks

    def keep_digests(self) -> None:
        for made, array in zip(self._made, self.plan.arrays, strict=True):
            keep_digest(made, array.shared, self.options)

    def finish(self, *, complete: bool) -> None:
        del complete
        self.target.finish()

    def discard(self) -> None:
        self.target.discard()
