"""A copy in two passes: makes the temporary store, runs both passes as one run, and removes the store when nobody needs it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from bioimage_py.geometry import Blocking, IdSet
from bioimage_py.kernels import CopyKernel
from bioimage_py.operations.copy_request import CopyRequest
from bioimage_py.operations.temporary_store import (
    begun_place,
    kept_where_needed,
    make_temporary_store,
    remove_abandoned_stores,
    temporary_array,
)
from bioimage_py.planning import CopyPlan
from bioimage_py.runner import Journal, Progress, Resources, raise_failures, run_twin
from bioimage_py.runner.run import RunFolder
from bioimage_py.runner.work import CopyWork, TemporaryPlace, TwoPassWork, close_temporary_store
from bioimage_py.sources import FileSource, Source


@dataclass(frozen=True)
class TwoPassCopy:
    """A copy through a temporary store that is there.

    Attributes
    ----------
    request, planned, casting
        Of the copy.
    store, place
        The temporary store, and where it is.
    first
        The blocks of the first pass.
    first_ids
        Which of them are needed.
    resources
        For each worker.
    """

    request: CopyRequest
    planned: CopyPlan
    casting: str
    store: FileSource
    place: TemporaryPlace
    first: Blocking
    first_ids: IdSet
    resources: Resources

    @classmethod
    def begin(
        cls, request: CopyRequest, planned: CopyPlan, casting: str, output: str, *, replaces: bool
    ) -> TwoPassCopy | None:
        """Make the temporary store, or open that of the run to resume; None if the copy goes in one pass."""
        if request.resume_from is not None:
            return cls._begun(request, planned, casting)
        passes = planned.passes
        if passes is None:
            return None
        remove_abandoned_stores(passes, output, replaces=replaces)
        keeps = not request.runner.in_process or request.runner.config.asks_for_folder
        store = make_temporary_store(passes, output, resumable=keeps)
        return cls(
            request,
            planned,
            casting,
            store,
            TemporaryPlace(store.path, passes.options),
            Blocking(passes.shape, passes.block_shape),
            passes.block_ids,
            Resources(planned.in_flight, planned.cache_bytes),
        )

    @classmethod
    def _begun(cls, request: CopyRequest, planned: CopyPlan, casting: str) -> TwoPassCopy | None:
        """Return the copy that a run folder holds: how much room there is by now does not matter to it."""
        assert request.resume_from is not None
        folder = RunFolder.open(request.resume_from)
        place = begun_place(folder)
        if place is None:
            return None
        run = folder.read_run()
        part = run["work"]["parts"][1]
        return cls(
            request,
            planned,
            casting,
            temporary_array(place, None),
            place,
            Blocking(tuple(part["shape"]), tuple(part["block_shape"])),
            IdSet.from_json(part["block_ids"]),
            Resources(run["threads"], run["cache_bytes"]),
        )

    def run(self, sink: Source, progress: Callable[[Progress], None] | None) -> Journal:
        """Run both passes; the temporary store stays only where a run folder needs it.

        Raises
        ------
        RunnerError
            If blocks failed; `failed_block_ids` are those of the output that are not done.
        """
        with kept_where_needed(self.place, self.request.runner, resumes=self.request.resume_from is not None):
            journal = self._run(sink, progress)
            if journal.has_failures:
                name = f"copy of {self.request.source.name} into {sink.name}"
                raise_failures(journal, self.planned.block_ids, name, kept_too=self.place.path)
        return journal

    def _run(self, sink: Source, progress: Callable[[Progress], None] | None) -> Journal:
        request, threads = self.request, self.planned.threads
        if not request.runner.in_process:
            work = self._work(request.source, sink, request.mask, self.store, self.store)
            return self._executed(work, request.num_workers, progress)
        cache_bytes = self.resources.cache_bytes
        with ExitStack() as stack:
            source = stack.enter_context(run_twin(request.source, threads, cache_bytes))
            output = stack.enter_context(run_twin(sink, threads))
            mask = request.mask
            if mask is not None:
                mask = stack.enter_context(run_twin(mask, threads))
            # No run twins: the store is gone when a run that keeps a folder has ended.
            writer, reader = self.store.for_run(threads, 0), self.store.for_run(threads, cache_bytes)
            work = self._work(source, output, mask, writer, reader)
            journal = self._executed(work, self.resources.threads, progress)
            if journal.folder is None and not journal.has_failures:
                close_temporary_store(work)
            return journal

    def _work(
        self, source: Source, sink: Source, mask: Source | None, writer: Source, reader: Source
    ) -> TwoPassWork:
        """Return both passes as one work; what is masked out goes through neither."""
        planned = self.planned
        into = CopyWork(
            CopyKernel(source, writer, mask, self.casting), self.first, self.first.block_shape, self.first_ids
        )
        out = CopyWork(
            CopyKernel(reader, sink, mask, self.casting),
            planned.blocking,
            planned.group_shape,
            planned.block_ids,
        )
        return TwoPassWork.of([out], {0: into}, self.place)

    def _executed(self, work: Any, num_workers: int, progress: Callable[[Progress], None] | None) -> Journal:
        # What each pass writes counts: the second begins in the middle of the progress.
        n_bytes = self.planned.bytes_out + self.store.nbytes * len(self.first_ids) // self.first.n_blocks
        return self.request.runner.execute(
            work,
            num_workers,
            resources=self.resources,
            n_bytes=n_bytes,
            progress=progress,
            resume_from=self.request.resume_from,
        )
