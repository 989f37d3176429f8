"""The arguments of a copy, checked before anything is made."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bioimage_py.chunks import ChunkEncoding, EncodingMatch, UnknownEncoding, why_all_bytes
from bioimage_py.errors import BioimagePyWarning, InvalidArgumentError
from bioimage_py.geometry import check_block_shape
from bioimage_py.kernels import can_hold, check_casting, encoding_to_move, moving_origin
from bioimage_py.operations.copy_input import find_input
from bioimage_py.operations.copy_target import Target
from bioimage_py.operations.temporary_store import room_beside
from bioimage_py.planning import (
    ArrayLayout,
    CopyPlan,
    PlanOptions,
    choose_road,
    in_one_or_two_passes,
    parse_bytes,
    plan_copy,
)
from bioimage_py.runner import Runner, RunnerConfig, check_num_workers, get_runner
from bioimage_py.runner.work import begun_ids, ids_from
from bioimage_py.sources import Source
from bioimage_py.sources.stores import NOT_INSTALLED, place_of, unfinished_text, why_fetched
from bioimage_py.storage import StorePlace

_STORE_COPY_HINT = (
    "with obstore the store would copy the chunks by itself: pip install 'bioimage-py[objects]'"
)


def check_progress(progress: object) -> None:
    """Raise InvalidArgumentError unless it can be called, or is None: found at the first call it would cost a run."""
    if progress is not None and not callable(progress):
        raise InvalidArgumentError(
            f"progress must be a function that takes a Progress, got {type(progress).__name__} {progress!r}"
        )


def check_portable(source: Source, runner: Runner) -> None:
    """Raise InvalidArgumentError if other processes cannot read what a run reads."""
    try:
        source.to_spec()
    except InvalidArgumentError as error:
        if not runner.in_process:
            raise
        raise InvalidArgumentError(
            f"a resumable run needs an input that other processes can open: {error}"
        ) from error


def warn_of_unfinished(source: Source) -> None:
    """Warn of an input that a copy has not finished."""
    if unfinished := unfinished_text(source):
        warnings.warn(f"the input {source.name} is {unfinished}", BioimagePyWarning, stacklevel=6)


def checked_runner(
    job_type: str,
    job_config: RunnerConfig | None,
    num_workers: int,
    block_ids: Sequence[int] | None,
    resume_from: str | os.PathLike[str] | None,
    memory_limit: int | str | None,
) -> tuple[Runner, int | None]:
    """Return the backend of a copy and its memory limit in bytes, or raise InvalidArgumentError."""
    check_num_workers(num_workers)
    runner = get_runner(job_type, job_config)
    runner.check_resume(resume_from, block_ids)
    return runner, runner.config.memory_limit_bytes if memory_limit is None else parse_bytes(memory_limit)


@dataclass(frozen=True)
class CopyRequest:
    """The arguments of a copy, checked as far as they can be without the output.

    Attributes
    ----------
    source, mask
        What is read.
    block_shape, num_workers, block_ids, resume_from, memory_limit, verify_encoded
        As for `copy`; the limit in bytes.
    runner
        The backend.
    """

    source: Source
    mask: Source | None
    block_shape: tuple[int, ...] | None
    runner: Runner
    num_workers: int
    block_ids: Sequence[int] | None
    resume_from: str | None
    memory_limit: int | None
    verify_encoded: bool

    @classmethod
    def check(
        cls,
        input: Any,
        output: Any,
        mask: Any,
        block_shape: Sequence[int] | None,
        job_type: str,
        job_config: RunnerConfig | None,
        num_workers: int,
        block_ids: Sequence[int] | None,
        resume_from: str | os.PathLike[str] | None,
        memory_limit: int | str | None,
        verify_encoded: bool,
        said: Mapping[str, Any],
    ) -> CopyRequest:
        """Take the arguments of `copy`, or raise InvalidArgumentError that says what is wrong with them."""
        runner, limit = checked_runner(
            job_type, job_config, num_workers, block_ids, resume_from, memory_limit
        )
        if output is None and not runner.in_process:
            raise InvalidArgumentError(
                f"job_type {job_type!r} needs a writable, file-backed output such as a Zarr or N5 path: other processes cannot "
                "write into an array of this one"
            )
        source, masked = find_input(input, mask, output, said)
        if source is not output:
            warn_of_unfinished(source)
        shape = None if block_shape is None else check_block_shape(block_shape, source.shape)  # type: ignore[arg-type]
        folder = None if resume_from is None else os.fspath(resume_from)
        return cls(source, masked, shape, runner, num_workers, block_ids, folder, limit, bool(verify_encoded))

    def check_apart(self, target: Target, *, same_mask: bool) -> None:
        """Refuse a target that leads to what the input or the mask reads.

        The very array that is written may be the mask: each block reads its part before it writes there.
        """
        target.check_apart(self.source)
        if not self.runner.in_process or self.runner.config.resumable:
            target.check_shared(self.runner.job_type)
            for source in (self.source, self.mask):
                if source is not None:
                    check_portable(source, self.runner)
        if self.mask is not None and not same_mask:
            target.check_mask_apart(self.mask)

    def plan(self, output: Target, casting: str, *, quiet: bool = False, in_pieces: bool = False) -> CopyPlan:
        """Plan the copy into a target; warn where the target's dtype cannot hold the input's values.

        With `in_pieces` it goes block by block, also where the whole array would fit.
        """
        target = output.layout
        check_casting(casting, self.source.dtype, target.dtype)
        if casting == "unsafe" and not quiet and not can_hold(self.source.dtype, target.dtype):
            warnings.warn(
                f"{self.source.dtype} voxels are cast to {target.dtype}, which cannot hold all their values; "
                "casting='check' stops at the first voxel that would change",
                BioimagePyWarning,
                stacklevel=3,
            )
        ids = None
        if self.block_ids is not None:
            ids = ids_from(self.block_ids, None, "block_ids")
        options = PlanOptions(
            block_shape=self.block_shape,
            memory_limit=self.memory_limit,
            num_workers=self.num_workers if self.runner.in_process else self.runner.config.threads_per_worker,
            block_ids=ids,
            direct=not in_pieces
            and self.runner.in_process
            and not self.runner.config.asks_for_folder
            and not self.runner.config.durable
            and self.resume_from is None
            and self.num_workers == 1
            and self.block_shape is None
            and self.mask is None
            and ids is None,
            match=self._match(output),
        )
        mask = None if self.mask is None else ArrayLayout.of(self.mask)
        planned = plan_copy(ArrayLayout.of(self.source), target, mask, options)
        # An image of many arrays has one run of its own, and its blocks one numbering.
        if in_pieces:
            return planned
        if self.resume_from is not None:
            # Of a run that was begun with some blocks, only those are missing.
            planned = replace(planned, block_ids=planned.block_ids & begun_ids(self.resume_from))
        return in_one_or_two_passes(planned, options, casting, room_beside(output))

    def _match(self, output: Target) -> EncodingMatch | None:
        """Return how the chunks of both sides match, None where the input's voxels are not stored as they are."""
        origin = moving_origin(self.source)
        if origin is None:
            return None
        stored = encoding_to_move(origin.source)
        match = choose_road(
            stored,
            output.encoding(),
            origin.offset,
            codec=output.codec,
            is_new=output.is_new,
        )
        if match.road == "recode" or isinstance(stored, UnknownEncoding):
            return match
        place, into = place_of(origin.source), output.place
        if place is None or into is None:
            return match
        return self._carried(match, stored, place, into)

    def _carried(
        self, match: EncodingMatch, stored: ChunkEncoding, place: StorePlace, into: StorePlace
    ) -> EncodingMatch:
        """Return a match that says how chunks get from one place in an object store to another."""
        why = why_fetched(place, into) if match.whole_files else "they do not stay objects of their own"
        if why in (None, NOT_INSTALLED) and not self.verify_encoded:
            why = why_all_bytes(stored.codecs) or why
        if why is not None:
            hint = _STORE_COPY_HINT if why == NOT_INSTALLED else ""
            return replace(match, carried=f"they are fetched and put, because {why}", hint=hint)
        how = "fetched and decoded" if self.verify_encoded else "checked by its length and header"
        return replace(match, carried=f"the store copies them by itself, after each was {how}")
