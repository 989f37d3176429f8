"""Making a pyramid: its plan, its run, and the image that the levels belong to."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from bioimage_py.errors import BioimagePyWarning, Hint, InvalidArgumentError
from bioimage_py.geometry import Box, IdSet, check_block_shape
from bioimage_py.kernels import PyramidKernel, check_casting, mover_for
from bioimage_py.metadata import Level, axes_for_ngff
from bioimage_py.operations.array_copy import (
    cast_text,
    check_digest,
    check_portable,
    find_input,
    keep_digest,
    match_of,
    warn_of_casting,
)
from bioimage_py.operations.job import (
    Job,
    carry_out,
    in_archive,
    input_identity,
    warn_caller,
    warn_of_assumed,
)
from bioimage_py.operations.options import CopyOptions, PyramidOptions
from bioimage_py.operations.target import NewPathTarget, Target, first_missing
from bioimage_py.operations.two_passes import TwoPassRun
from bioimage_py.planning import ArrayLayout, PyramidPart, PyramidPlan, choose_levels, plan_pyramid
from bioimage_py.runner import Journal, Resources
from bioimage_py.runner.work import CompositeWork, PyramidWork
from bioimage_py.sources import PlannedOutput, Source, as_source, coarser_levels, finish_images, open_source
from bioimage_py.sources.ome_zarr import GrowingImage, levels_for_labels, steps_between
from bioimage_py.sources.stores import NewMarks
from bioimage_py.storage import StoreFolder
from bioimage_py.wrapper.resampling import (
    KINDS,
    are_said_labels,
    check_method,
    chosen_method,
    warn_if_labels_are_mixed,
)

_LEVELS = "levels.json"
"""In the side folder of the first level that was added to an image: how it is made."""
_NOT_UPDATED = (
    "{} was updated, and the smaller levels of its image were not: what made them is not known. Make them again "
    "with pyramid(…, overwrite=True)"
)


class PyramidJob(Job):
    verb = "making levels"
    follows = False
    """Whether the levels are there, and are brought up to date with the full-size one."""
    changed: Sequence[Box] | None = None
    """The voxels of the full-size level from which others are made; None for all."""
    options: PyramidOptions
    plan: PyramidPlan

    def __init__(self, input: Any, output: Any, options: PyramidOptions, *, quiet: bool = False) -> None:
        """Check and plan; with `quiet`, without warnings."""
        if options.block_ids is not None:
            raise InvalidArgumentError(
                "block_ids cannot be given for a pyramid: levels are computed from whole levels"
            )
        self._given = input, output
        output, options, self.archive = in_archive(input, output, options)
        self.options, runner = options, options.runner
        self.target: _NewImage | _AddedLevels
        if output is None:
            self.target = added = _AddedLevels(input, options)
            self.source = added.source
        else:
            self.source, _ = find_input(input, None, output, options)
            if not isinstance(output, (str, os.PathLike)):
                raise InvalidArgumentError(
                    f"a pyramid is written to a path that ends in .ome.zarr, .precomputed or .ome.tif, got {type(output).__name__}"
                )
            self.target = _NewImage.plan(output, self.source, options)
        if options.in_other_processes:
            check_portable(self.source, runner)
        self.target.check_apart(self.source)
        if options.in_other_processes:
            self.target.check_shared(runner.job_type)
        layout = self.target.layout
        check_casting(options.casting, self.source.dtype, layout.dtype)
        if not quiet:
            warn_of_casting(self.source, layout, options.casting)
        self._method = self._chosen_method(quiet=quiet)
        assumed = self.target.assumed(self.source) if options.folder is None else ()
        kind = self._assumed_kind()
        if not quiet:
            # Most integers are images, as their users know.
            warn_of_assumed(self.source, (*assumed, *(kind if self._method == "mode" else ())))
        digest = "levels are written in parts" if options.digest else ""
        check_digest(self.target, digest, options)
        casts = cast_text(self.source, layout)
        self.plan = replace(self._planned(), casts=casts, assumed=(*assumed, *kind), digest=digest)
        if self.archive is not None:
            self.plan = replace(self.plan, output=replace(self.plan.output, name=self.archive.path))
        match = match_of(self.source, self.target, verify_encoded=bool(options.verify_encoded))
        self._road = "recode" if match is None else match.road

    def _planned(self) -> PyramidPlan:
        options, target, layout = self.options, self.target, self.target.layout
        count, factors, block = options.levels, options.scale_factors, options.block_shape
        like_image = target.steps_of_image() if factors is None else None
        if like_image is not None and count in (None, *range(1, len(like_image) + 2)):
            factors = like_image if count is None else like_image[: count - 1]
        levels = choose_levels(
            layout.shape,
            layout.chunks or layout.shape,
            target.axes,
            target.voxel_size,
            levels=count,
            scale_factors=factors,
            reduced=target.reduced,
        )
        return plan_pyramid(
            ArrayLayout.of(self.source),
            layout,
            levels,
            self._method,
            num_workers=options.threads,
            memory_limit=options.memory_bytes,
            block_shape=None if block is None else check_block_shape(block, self.source.shape),  # type: ignore[arg-type]
            in_place=target.in_place,
        )

    def _chosen_method(self, *, quiet: bool) -> str:
        """Return how voxels are reduced; labels are recognised by the input, and by the place of the output."""
        method, kind = self.options.method, self.options.kind
        if kind is not None and kind not in KINDS:
            raise InvalidArgumentError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
        if kind is None and self.target.is_labels:
            kind = "labels"
        found = chosen_method(self.source, kind) if method == "auto" else method
        check_method(found, self.target.layout.dtype)
        if isinstance(self.target, _NewImage) and (kind is not None or found == "mode"):
            self.target.say_kind(labels=kind != "image")
        if found in ("mean", "median") and not quiet:
            warn_if_labels_are_mixed(self.source, kind, f"method={found!r}")
        return str(found)

    def _assumed_kind(self) -> tuple[Hint, ...]:
        """Return what integers are taken for where only their data type tells."""
        options, dtype = self.options, self.source.dtype
        said = options.method != "auto" or options.kind is not None or self.target.is_labels
        said = said or are_said_labels(self.source)
        labels = self._method == "mode"
        if said or options.folder is not None or dtype.kind not in "iu" or (labels and dtype.itemsize < 4):
            return ()
        what, other = ("labels", "image") if labels else ("an image", "labels")
        return (
            Hint.of(f"its voxels are {dtype} and taken for {what}; if they are not, give {{}}", kind=other),
        )

    def _coarser(self) -> list[Level]:
        """Return the levels below the full-size one as OME-Zarr describes them."""
        stride = self._method == "stride"
        return [
            Level(
                self.target.path_of(level.number),
                tuple(map(float, level.factors)),
                (0.0,) * len(level.factors) if stride else None,
            )
            for level in self.plan.levels[1:]
        ]

    def again(self, **changes: Any) -> PyramidJob:
        changes.pop("block_ids", None)
        return PyramidJob(*self._given, replace(self.options, **changes), quiet=True)

    def input(self) -> Any:
        return input_identity(voxels=self.source)

    def places(self) -> list[StoreFolder]:
        return self.target.folders_of(self._coarser())

    def check_free(self) -> None:
        self.target.check_free_for(self._coarser(), overwrite=self.options.overwrite)

    def open(self, marks: NewMarks) -> None:
        del marks  # all blocks are missing, as marks say by default
        resume = self.options.folder is not None or self.follows
        self._made = self.target.open_levels(self._coarser(), overwrite=self.options.overwrite, resume=resume)
        if self.follows:
            levels = zip(self._made, self.plan.levels, strict=True)
            self._made = [
                made if made.shape == level.shape else made.grown(level.shape) for made, level in levels
            ]

    def result(self) -> list[Source]:
        return self._made

    def finish(self, *, complete: bool) -> None:
        self.target.finish()
        if not complete:
            return
        finish_images(self._made)
        side = self._made[1].side_folder() if self.target.in_place and len(self._made) > 1 else None
        if side is not None and not self.follows:
            steps = [list(level.step) for level in self.plan.levels[1:]]
            side.write_json(_LEVELS, {"method": self._method, "steps": steps})

    def keep_digests(self) -> None:
        for level in self._made:
            keep_digest(level, self.plan, self.options)

    def discard(self) -> None:
        self.target.discard()

    def name(self, journal: Journal, passes: TwoPassRun | None) -> str:
        del journal, passes
        return f"pyramid of {self.source.name}"

    @property
    def is_empty(self) -> bool:
        return not self.plan.n_blocks

    def _asked(self, part: PyramidPart) -> IdSet:
        """Return the blocks of a part that are made: those that read what has changed."""
        if self.changed is None:
            return IdSet.from_range(part.blocking.n_blocks)
        factors = self.plan.levels[part.reads or 0].factors
        boxes = (
            Box(
                tuple(b // f for b, f in zip(box.begin, factors, strict=True)),
                tuple(-(-e // f) for e, f in zip(box.end, factors, strict=True)),
            )
            for box in self.changed
        )
        return IdSet.from_ids({number for box in boxes for number in part.blocking.ids_in(box)})

    def work(self, opened: ExitStack, passes: TwoPassRun | None, resources: Resources) -> CompositeWork:
        del passes
        options = self.options
        source = self.for_run(self.source, opened, resources.cache_bytes)
        made = [self.for_run(level, opened) for level in self._made]
        parts = []
        for part in self.plan.parts:
            outputs = tuple(made[level.number] for level in part.levels)
            read, mover = source, None
            if part.reads is None:
                how = {
                    "verify_encoded": bool(options.verify_encoded),
                    "output_is_new": options.folder is None,
                }
                mover = mover_for(source, outputs[0], self._road, **how)
            else:
                read = made[part.reads]
            kernel = PyramidKernel(
                read, outputs, part.steps, self._method, part.tile_shape, options.casting, mover
            )
            parts.append(PyramidWork(kernel, part.blocking, self._asked(part)))
        return CompositeWork(tuple(parts), tuple((n,) for n in range(len(parts))))


def follow_levels(full: Source, boxes: Sequence[Box] | None, options: CopyOptions) -> None:
    """Make those parts of an image's smaller levels again that show boxes of its full-size one, all if None; nothing where there are none.

    Levels that `pyramid` did not add to an image that was there are left, with a BioimagePyWarning.
    """
    try:
        image = GrowingImage.around(full)
    except InvalidArgumentError:
        levels = coarser_levels(full)
        for level in levels:
            level.close()
        if levels:
            warn_caller(BioimagePyWarning(_NOT_UPDATED.format(full.name)))
        return
    if not image.others:
        return
    with open_source(image.root.child(image.key).path, image.others[0]) as first:
        side = first.side_folder()
        told = None if side is None else side.read_json(_LEVELS)
    if told is None or len(told.get("steps", ())) != len(image.others):
        warn_caller(BioimagePyWarning(_NOT_UPDATED.format(full.name)))
        return
    names = ("job_type", "job_config", "num_workers", "memory_limit", "progress")
    asked = {name: getattr(options, name) for name in names}
    steps = [tuple(step) for step in told["steps"]]
    job = PyramidJob(
        full,
        None,
        PyramidOptions(**asked, method=told["method"], levels=len(steps) + 1, scale_factors=steps),
        quiet=True,
    )
    job.follows, job.changed = True, boxes
    carry_out(job)


def _steps_from(
    image: StoreFolder, axes: Sequence[str], shape: tuple[int, ...]
) -> list[tuple[int, ...]] | None:
    """Return how labels are reduced to have the levels of their image, from the one of their shape on; None if there is none."""
    levels = levels_for_labels(image, axes)
    first = next((n for n, (found, _) in enumerate(levels) if found == shape), None)
    return None if first is None else steps_between(levels[first:])


class _NewImage(NewPathTarget):
    """An image that is made with all its levels."""

    in_place = False

    def __init__(self, planned: PlannedOutput, codec: Any = None) -> None:
        super().__init__(planned, codec)
        self.reduced = "" if planned.spec.imagej else planned.family.level_axes
        if not self.reduced and planned.image_key is None:
            raise InvalidArgumentError(
                f"output {planned.name!r} is not a place for a pyramid: give a path that ends in .ome.zarr, such as 'out.ome.zarr', "
                "the labels in one, 'out.ome.zarr/labels/cells', a precomputed volume, 'out.precomputed', or an OME-TIFF, 'out.ome.tif'"
            )
        self.axes = planned.spec.metadata.axes or ()
        self.voxel_size = planned.spec.metadata.voxel_size
        self.is_labels = (planned.image_key or "").startswith("labels/")

    @property
    def keeps_digest(self) -> bool:
        return not self.reduced and super().keeps_digest  # the levels in a file would have one place for it

    def steps_of_image(self) -> list[tuple[int, ...]] | None:
        """Return how labels are reduced to have the levels of their image; None for other images, and where they cannot have them."""
        return (
            _steps_from(StoreFolder.at(self.path), self.axes, self.layout.shape) if self.is_labels else None
        )

    def say_kind(self, *, labels: bool) -> None:
        spec = self.planned.spec
        if spec.labels is None:
            self.planned = self.planned._replace(spec=replace(spec, labels=labels))

    def path_of(self, number: int) -> str:
        return str(number)

    def check_free_for(self, coarser: Sequence[Level], *, overwrite: bool) -> None:
        self.planned.check(coarser, overwrite=overwrite)

    def open_levels(self, coarser: Sequence[Level], *, overwrite: bool, resume: bool) -> list[Source]:
        """Make the levels, or open them, and return all, full size first."""
        if self.planned.image_key is None:
            specs = [self.planned.level_spec(level) for level in coarser]
            return self.open_specs(specs, overwrite=overwrite, resume=resume)
        if resume:
            return [open_source(self.path, key, mode="r+") for key in self._keys_of(coarser)]
        before = first_missing(self.planned.location)
        levels = self.planned.create_levels(coarser, overwrite=overwrite)
        self.made = before
        self.adopt(levels[0])
        return levels

    def folders_of(self, coarser: Sequence[Level]) -> list[StoreFolder]:
        if self.planned.image_key is None:
            return [] if self.folder is None else [self.folder]
        root = StoreFolder.at(self.path)
        return [root.child(key) for key in self._keys_of(coarser)]

    def _keys_of(self, coarser: Sequence[Level]) -> list[str]:
        key = self.planned.location.key or ""
        above = key.rpartition("/")[0]
        return [key, *(f"{above}/{level.path}".lstrip("/") for level in coarser)]


class _AddedLevels(Target):
    """An existing image to which smaller levels are added, beside the full-size one that is read."""

    in_place = True
    reduced = ""

    def __init__(self, input: Any, options: PyramidOptions) -> None:
        given = [name for name in (*options.layout, *options.said) if name != "zarr_format"]
        if given:
            raise InvalidArgumentError(
                f"{', '.join(given)} can be given for a new output only: without an output levels are added to the image that is "
                "there, and are stored as its full-size level"
            )
        self.source = as_source(input)
        self._image = GrowingImage.around(self.source)
        self._added: list[Level] = []
        self.layout = ArrayLayout.of(self.source)
        metadata = self.source.metadata
        self.axes = axes_for_ngff(metadata.axes, self.source.ndim, self.source.name)
        self.voxel_size = metadata.voxel_size
        self.is_labels = "image-label" in metadata.attributes or "labels" in (self._image.key or "").split(
            "/"
        )

    @property
    def keeps_digest(self) -> bool:
        return self.source.side_folder() is not None

    def steps_of_image(self) -> list[tuple[int, ...]] | None:
        above, _, labels = (self._image.key or "").rpartition("/")[0].rpartition("/")
        if labels != "labels":
            return None
        return _steps_from(self._image.root.child(above or None), self.axes, self.layout.shape)

    def path_of(self, number: int) -> str:
        return self._image.path_of(number)

    def check_free_for(self, coarser: Sequence[Level], *, overwrite: bool) -> None:
        self._image.check_free([level.path for level in coarser], overwrite=overwrite)

    def folders_of(self, coarser: Sequence[Level]) -> list[StoreFolder]:
        return [self._image.folder(level.path) for level in coarser]

    def open_levels(self, coarser: Sequence[Level], *, overwrite: bool, resume: bool) -> list[Source]:
        if resume:
            return [self.source, *self._image.opened(coarser)]
        made = self._image.add(coarser, overwrite=overwrite)
        self._added = list(coarser)
        return [self.source, *made]

    def discard(self) -> None:
        if self._added:
            self._image.remove(self._added)
