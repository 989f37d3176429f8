"""The copy of one array: its plan, and its run in one pass or two."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime
from typing import Any

import numpy as np

from bioimage_py.chunks import ChunkEncoding, EncodingMatch, UnknownEncoding, why_all_bytes
from bioimage_py.errors import BioimagePyWarning, Hint, InvalidArgumentError
from bioimage_py.geometry import Box, IdSet, check_block_shape
from bioimage_py.kernels import (
    CopyKernel,
    TileDigest,
    can_hold,
    check_casting,
    encoding_to_move,
    kernel_for_road,
    moving_origin,
)
from bioimage_py.operations.beside import Copied, check_record, find_update, has_changed, write_record
from bioimage_py.operations.job import (
    Job,
    in_archive,
    input_identity,
    journal_at,
    warn_caller,
    warn_of_assumed,
)
from bioimage_py.operations.options import CopyOptions, InputMetadata, RunOptions
from bioimage_py.operations.target import NewPathTarget, SingleTarget, Target, find_target
from bioimage_py.operations.tile_digests import digest_of, plan_digest
from bioimage_py.operations.two_passes import TwoPassRun, room_beside
from bioimage_py.planning import (
    WHILE_WRITTEN,
    ArrayLayout,
    CopyPlan,
    PlanOptions,
    PyramidPlan,
    changes_voxels,
    choose_road,
    in_one_or_two_passes,
    plan_copy,
)
from bioimage_py.runner import Journal, Resources, Runner, interrupted
from bioimage_py.runner.run import account_of_run, is_beside_data
from bioimage_py.runner.work import CopyWork, TwoPassWork, begun_ids, begun_with_hashes
from bioimage_py.sources import (
    FileSource,
    Source,
    as_source,
    finish_images,
    leaves,
    open_source,
    wanted_order,
    with_metadata,
)
from bioimage_py.sources.stores import (
    NOT_INSTALLED,
    NewMarks,
    forget_runs_into,
    place_of,
    unfinished_text,
    why_fetched,
)
from bioimage_py.storage import StoreFolder, StorePlace
from bioimage_py.wrapper.shape import TransposeSource

_log = logging.getLogger(__name__)
_AT_ONCE = 2**26
"""Bytes up to which a stored array is made at once: a kill costs no more than that. Of larger ones each block is recorded."""
_STORE_COPY_HINT = "with obstore the store would copy the chunks by itself: pip install obstore"


class ArrayCopy(Job):
    options: CopyOptions
    plan: CopyPlan
    follow: Callable[[Source, Sequence[Box] | None, CopyOptions], None] | None = None
    """What is done with the output of an update and its boxes that were copied, before the update counts as made."""

    def __init__(self, input: Any, output: Any, options: CopyOptions, *, quiet: bool = False) -> None:
        """Check and plan the copy; with `quiet`, do not warn of values that the output cannot hold."""
        self._given = input, output
        output, options, self.archive = in_archive(input, output, options)
        self.options = options
        check_record(output, options)
        self.source, self.mask = find_input(input, options.mask, output, options)
        if self.source is not output and not isinstance(input, (str, os.PathLike)):
            warn_of_unfinished(self.source)
        self.update = find_update(self.source, output, options) if options.update else None
        if self.update is not None:
            self.target: SingleTarget = self.update.target
            options = self.options = self.update.options(options, self.target.layout)
        block = options.block_shape
        block = None if block is None else check_block_shape(block, self.source.shape)  # type: ignore[arg-type]
        some_only = options.mask is not None or options.block_ids is not None
        if self.update is None:
            self.target = find_target(output, self.source, options, keep_values=some_only)
        self._check_apart(output)
        if not quiet:
            warn_of_casting(self.source, self.target.layout, options.casting)
        assumed = self.target.assumed(self.source) if options.folder is None else ()
        if not quiet:
            warn_of_assumed(self.source, assumed)
        text = "" if self.update is None else self.update.text
        casts = cast_text(self.source, self.target.layout)
        self.plan = replace(self._planned(block), casts=casts, assumed=assumed, update=text)
        if self.archive is not None:
            self.plan = replace(self.plan, output=replace(self.plan.output, name=self.archive.path))
        self._is_fresh = self.target.is_new and options.folder is None
        self._replaces = options.folder is None and (self.target.is_new or not some_only)

    def _check_apart(self, output: Any) -> None:
        """Refuse a target that overlaps with the input or the mask.

        The output itself may be the mask: each block reads its part before it is written.
        """
        self.target.check_apart(self.source)
        if self.options.in_other_processes:
            self.target.check_shared(self.options.runner.job_type)
            for source in (self.source, self.mask):
                if source is not None:
                    check_portable(source, self.options.runner)
        same = self.options.mask is output and not isinstance(output, (str, os.PathLike))
        if self.mask is not None and not same:
            self.target.check_apart(self.mask, "mask")

    def _planned(self, block_shape: tuple[int, ...] | None) -> CopyPlan:
        options = self.options
        plan, asked = plan_array(self.source, self.target, options, block_shape, self.mask)
        if options.folder is not None:
            # A run that was begun with some blocks lacks only these.
            plan = replace(plan, block_ids=plan.block_ids & begun_ids(options.folder))
        return in_one_or_two_passes(plan, asked, options.casting, room_beside(self.target))

    def again(self, **changes: Any) -> ArrayCopy:
        return ArrayCopy(*self._given, replace(self.options, **changes), quiet=True)

    def input(self) -> Any:
        return input_identity(voxels=self.source, mask=self.mask)

    def input_has_changed(self, begun: IdSet) -> bool:
        assert isinstance(self.target, NewPathTarget)
        with self.target.begun() as written:
            return has_changed(
                self.source, written, None if self.plan.passes else (self.plan.blocking, begun)
            )

    def places(self) -> list[StoreFolder]:
        place = self.target.folder
        return [] if place is None else [place]

    def check_free(self) -> None:
        if self.options.folder is None:
            self.target.check_free(overwrite=self.options.overwrite)

    def open(self, marks: NewMarks) -> None:
        resume = self.options.folder is not None
        marks.describe(self.plan.blocking, self.plan.block_ids)
        self._result, self._sink = self.target.open(overwrite=self.options.overwrite, resume=resume)
        if self._replaces and not self.target.is_new:
            forget_runs_into(self._sink)
        if self.update is not None:
            _log.info("update of %s: %s", self._sink.name, self.update.text)
            self.update.begin()
        else:
            self._copied = Copied.begin(self.source, self._sink, self.options, is_new=self.target.is_new)

    def result(self) -> Any:
        return self._result

    def finish(self, *, complete: bool) -> None:
        self.target.finish(goes_on=not complete and any(map(journal_at, self.places())))
        if complete and self.update is not None:
            if self.follow is not None and self.update.boxes != []:
                self.follow(self._sink, self.update.boxes, self.options)
            self.update.finish(self._sink)
        elif complete:
            finish_images([self._sink])
            if self._copied is not None:
                self._copied.finish()

    def keep_record(self, began: datetime, journal: Journal) -> None:
        if self.options.record:
            write_record(
                self.source,
                self._sink,
                (self.source.name, self._sink.name),
                self.plan,
                self.options,
                began,
                journal,
            )

    def keep_digests(self) -> None:
        if self.target.drops_axes and self.options.digest:
            assert isinstance(self.target, NewPathTarget)
            with open_source(self.target.path, self.target.planned.location.key) as written:
                keep_digest(written, self.plan, self.options)
        else:
            keep_digest(self._sink, self.plan, self.options)

    def discard(self) -> None:
        self.target.discard()

    def name(self, journal: Journal, passes: TwoPassRun | None) -> str:
        del journal, passes
        return f"copy of {self.source.name} into {self._sink.name}"

    @property
    def is_empty(self) -> bool:
        return not self.plan.block_ids or 0 in self._sink.shape

    def passes(self, resources: Resources) -> TwoPassRun | None:
        arrays = [(None, self.plan)]
        how = {"replaces": self._replaces, "goes_on": self.beside is not None}
        return TwoPassRun.begin(arrays, self._sink.name, self.options, resources, **how)

    def work(
        self, opened: ExitStack, passes: TwoPassRun | None, resources: Resources
    ) -> CopyWork | TwoPassWork:
        """Return the copy as work; in two passes, masked voxels are skipped in both."""
        source = self.for_run(self.source, opened, resources.cache_bytes)
        sink = self.for_run(self._sink, opened)
        mask = None if self.mask is None else self.for_run(self.mask, opened)
        plan, options = self.plan, self.options
        if passes is None:
            kernel = CopyKernel(source, sink, mask, options.casting)
            return planned_work(kernel, plan, options, output_is_new=self._is_fresh)
        store = passes.array(0)
        writer: Source = store
        reader: Source = store
        if options.runner.in_process:
            # No run twins: after a run that keeps a folder the store is gone.
            writer, reader = (store.for_run(plan.threads, size) for size in (0, resources.cache_bytes))
        into = CopyWork(CopyKernel(source, writer, mask, options.casting), *passes.first[0].blocks)
        kernel = CopyKernel(reader, sink, mask, options.casting)
        out_of = planned_work(kernel, replace(plan, road="recode"), options, output_is_new=False)
        return TwoPassWork.of([out_of], {0: into}, passes.place)

    def execute(self, work: Any, resources: Resources, n_bytes: int) -> Journal:
        if not self.plan.direct:
            return super().execute(work, resources, n_bytes)
        # What a failed attempt has counted does not count.
        return self._copied_at_once(work) or super().execute(work.with_new_counts(), resources, n_bytes)

    def _copied_at_once(self, work: CopyWork) -> Journal | None:
        """Copy the whole array at once; None if that failed: block by block, it is known which blocks fail."""
        plan = self.plan
        journal = Journal(plan.n_blocks, plan.bytes_out)
        try:
            written = work.kernel.copy_box(Box.whole(work.kernel.output.shape))
            for leaf in leaves(work.kernel.output):
                leaf.flush()
        except KeyboardInterrupt as error:
            raise interrupted(work, IdSet(), [Hint("call again to copy them")]) from error
        except BaseException as error:  # noqa: BLE001 - the blocks will meet it again, and their run reports it
            _log.info("copying the whole array at once failed (%s); going block by block", error)
            return None
        journal.done(plan.block_ids, written)
        journal.account = account_of_run(work, journal.seconds, 1)
        try:
            if self.report is not None:
                self.report(journal.progress())
            self._end()
        except KeyboardInterrupt as error:
            raise interrupted(work, plan.block_ids, []) from error
        finally:
            work.settle_marks(plan.block_ids)
        return journal


def find_input(input: Any, mask: Any, output: Any, metadata: InputMetadata) -> tuple[Source, Source | None]:
    """Return input and mask as sources, with the metadata that the user gives and the order of axes that the output needs."""
    source = as_source(input)
    masked = None if mask is None else as_source(mask)
    said, to_path = metadata.said, isinstance(output, (str, os.PathLike))
    if said and not to_path:
        raise InvalidArgumentError(
            f"{', '.join(said)} can be given for a new output only: an existing array keeps its metadata"
        )
    if said:
        source = with_metadata(source, **said)
    order = None
    if to_path:
        order = wanted_order(output, source)
    elif isinstance(output, FileSource):
        # The rest of an unfinished copy goes into the array that the first part has made.
        order = wanted_order(output.path, source)
        if order is not None and not _is_turned(source, order, output):
            order = None
    if order is None:
        return source, masked
    # Readers of these formats expect time, channels and space in this order.
    return TransposeSource(source, order), None if masked is None else TransposeSource(masked, order)


def _is_turned(source: Source, order: tuple[int, ...], output: Source) -> bool:
    """Whether an existing array has the axes of the input in this order, by its shape and the names of its axes."""
    if output.shape != tuple(source.shape[n] for n in order):
        return False
    axes = source.metadata.axes or ()
    named = output.metadata.axes
    return output.shape != source.shape or (named is not None and named == tuple(axes[n] for n in order))


def check_portable(source: Source, runner: Runner) -> None:
    """Raise InvalidArgumentError if other processes cannot open a source."""
    try:
        source.to_spec()
    except InvalidArgumentError as error:
        if not runner.in_process:
            raise
        raise InvalidArgumentError(
            f"a resumable run needs an input that other processes can open: {error}"
        ) from error


def warn_of_unfinished(source: Source) -> None:
    if unfinished := unfinished_text(source):
        warn_caller(BioimagePyWarning(f"the input {source.name} is {unfinished}"))


def warn_of_casting(source: Source, target: ArrayLayout, casting: str) -> None:
    if casting == "unsafe" and not can_hold(source.dtype, target.dtype):
        warn_caller(
            BioimagePyWarning(
                f"{source.dtype} voxels are cast to {target.dtype}, which cannot hold all their values",
                hints=[
                    Hint.of("to stop at the first voxel that would change, give {}", casting="check"),
                    Hint.of("to saturate instead of wrapping, give {}", casting="clip"),
                ],
            )
        )


def cast_text(source: Source, target: ArrayLayout) -> str:
    """Return what is known of the values of an input that the output cannot hold all, or not as they are."""
    if changes_voxels(target.codec):
        return f"the codec {target.codec} may change voxels: what is read back is not what was written"
    if source.dtype.kind not in "iuf" or can_hold(source.dtype, target.dtype):
        return ""
    info = None if source.dtype.kind == "f" else np.iinfo(source.dtype)
    known = [] if info is None else [f"they are {info.min} to {info.max} at most"]
    if limits := source.metadata.contrast_limits:
        low, high = min(low for low, _ in limits), max(high for _, high in limits)
        known.append(f"the metadata show {low:g} to {high:g}")
    text = f"{target.dtype} cannot hold all values of {source.dtype}"
    return f"{text}: {'; '.join(known) or 'the range of the input is not known'}"


def plan_array(
    source: Source,
    target: Target,
    options: CopyOptions,
    block_shape: tuple[int, ...] | None,
    mask: Source | None = None,
    *,
    alone: bool = True,
) -> tuple[CopyPlan, PlanOptions]:
    """Plan the copy of one array in one pass; return the plan and the options it was made from.

    `alone` is False if the run has other arrays: block ids then are those of the run.
    """
    check_casting(options.casting, source.dtype, target.layout.dtype)
    config = options.runner.config
    goes_on = target.is_new and (
        target.path is not None
        if target.is_shared
        else target.folder is not None and any(isinstance(leaf, FileSource) for leaf in leaves(source))
    )
    at_once = (
        alone
        and (target.layout.nbytes <= _AT_ONCE or not goes_on)
        and options.runner.in_process
        and not config.asks_for_folder
        and not config.durable
        and options.num_workers == 1
        and all(one is None for one in (options.folder, block_shape, mask, options.ids))
    )
    asked = PlanOptions(
        block_shape=block_shape,
        memory_limit=options.memory_bytes,
        num_workers=options.threads,
        block_ids=options.ids if alone else None,
        direct=at_once,
        match=match_of(source, target, verify_encoded=bool(options.verify_encoded)),
        digest=options.digest,
        # A run that was begun without hashes has none of its first blocks.
        partial=options.ids is not None
        or (options.folder is not None and not begun_with_hashes(options.folder)),
    )
    layout = None if mask is None else ArrayLayout.of(mask)
    plan = plan_copy(ArrayLayout.of(source), target.layout, layout, asked)
    if plan.digest and target.drops_axes:
        plan = replace(plan, digest=f"{target.layout.format} has no axes of extent 1 when it is read")
    target.check_blockwise(1 if plan.direct else plan.n_blocks)
    check_digest(target, plan.digest, options)
    return plan, asked


def check_digest(target: Target, when: str, options: RunOptions) -> None:
    """Raise InvalidArgumentError where a digest that is asked for cannot be kept, or computed as a plan says."""
    if options.digest and not target.keeps_digest:
        raise InvalidArgumentError(
            f"digest=True needs an output on a disk or in a bucket, beside which a digest can be kept; {target.layout.name} is not"
        )
    if when not in ("", WHILE_WRITTEN):
        if options.keeps_folder or (options.folder is not None and not is_beside_data(options.folder)):
            raise InvalidArgumentError(
                f"a run that others may finish computes a digest only while it writes, and that is not possible because {when}",
                hints=[
                    Hint("leave out digest, and call bioimage_py.digest on the output when it is finished")
                ],
            )
        plan_digest(target.layout, options)


def keep_digest(source: Source, plan: CopyPlan | PyramidPlan, options: RunOptions) -> None:
    """Compute and keep the digest of an output that could not be had while it was written, unless nothing was."""
    if plan.digest not in ("", WHILE_WRITTEN) and TileDigest.stored(source) is None:
        digest_of(source, replace(options, progress=None)).store(source)


def planned_work(kernel: CopyKernel, plan: CopyPlan, options: RunOptions, *, output_is_new: bool) -> CopyWork:
    """Return the copy of one array as work, on the planned road."""
    on_road = kernel_for_road(
        kernel, plan.road, verify_encoded=bool(options.verify_encoded), output_is_new=output_is_new
    )
    return CopyWork(on_road, plan.blocking, plan.group_shape, plan.block_ids, plan.digest == WHILE_WRITTEN)


def match_of(source: Source, target: Target, *, verify_encoded: bool) -> EncodingMatch | None:
    """Return how the chunks of both sides match; None if the input does not give stored voxels unchanged."""
    origin = moving_origin(source)
    if origin is None:
        return None
    stored = encoding_to_move(origin.source)
    match = choose_road(stored, target.encoding(), origin.offset, codec=target.codec, is_new=target.is_new)
    if match.road == "recode" or isinstance(stored, UnknownEncoding):
        return match
    place, into = place_of(origin.source), target.place
    if place is None or into is None:
        return match
    return _carried(match, stored, (place, into), verify_encoded)


def _carried(
    match: EncodingMatch, stored: ChunkEncoding, places: tuple[StorePlace, StorePlace], verify_encoded: bool
) -> EncodingMatch:
    """Return the match with how chunks are moved between places in object stores, and what would be faster."""
    why = why_fetched(*places) if match.whole_files else "they do not stay objects of their own"
    if why in (None, NOT_INSTALLED) and not verify_encoded:
        why = why_all_bytes(stored.codecs) or why
    if why is not None:
        hint = _STORE_COPY_HINT if why == NOT_INSTALLED else ""
        return replace(match, carried=f"they are fetched and put, because {why}", hint=hint)
    how = "fetched and decoded" if verify_encoded else "checked by its length and header"
    return replace(match, carried=f"the store copies them by itself, after each was {how}")
