"""A copy in two passes: makes the temporary store, runs both passes as one run, and removes the store when nobody needs it."""

from __future__ import annotations

import atexit
import contextlib
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bioimage_py.copy_request import CopyRequest
from bioimage_py.errors import BioimagePyError, InvalidArgumentError, SourceNotFoundError
from bioimage_py.geometry import Blocking, IdSet
from bioimage_py.kernels import CopyKernel
from bioimage_py.planning import CopyPlan
from bioimage_py.runner import Journal, Progress, Resources, raise_failures
from bioimage_py.runner.copy_work import CopyWork
from bioimage_py.runner.run_folder import RunFolder, default_root
from bioimage_py.runner.run_search import find_runs
from bioimage_py.runner.twins import run_twin
from bioimage_py.runner.two_pass_work import (
    TwoPassWork,
    close_temporary_store,
    ended_without_folder,
    remove_temporary_store,
    two_pass_waves,
)
from bioimage_py.sources import FileSource, Source, open_source
from bioimage_py.temporary_store import make_temporary_store, remove_abandoned_stores

__all__ = ["TwoPassCopy"]


@dataclass(frozen=True)
class TwoPassCopy:
    """A copy through a temporary store that is there.

    Attributes
    ----------
    request, planned, casting
        Of the copy.
    store
        The temporary store.
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
    first: Blocking
    first_ids: IdSet
    resources: Resources

    @classmethod
    def begin(cls, request: CopyRequest, planned: CopyPlan, casting: str) -> TwoPassCopy | None:
        """Make the temporary store, or open that of the run to resume; None if the copy goes in one pass."""
        if request.resume_from is not None:
            return cls._begun(request, planned, casting)
        passes = planned.passes
        if passes is None:
            return None
        remove_abandoned_stores(passes.place)
        keeps = not request.runner.in_process or request.runner.config.tmp_root is not None
        return cls(
            request,
            planned,
            casting,
            make_temporary_store(passes, resumable=keeps),
            Blocking(passes.shape, passes.block_shape),
            passes.block_ids,
            Resources(planned.in_flight, planned.cache_bytes),
        )

    @classmethod
    def _begun(cls, request: CopyRequest, planned: CopyPlan, casting: str) -> TwoPassCopy | None:
        """Return the copy that a run folder holds: how much room there is by now does not matter to it."""
        assert request.resume_from is not None
        folder = RunFolder.open(request.resume_from)
        run = folder.read_run()
        stored = run["work"]
        if stored.get("temporary") is None:
            return None
        if ended_without_folder(folder, stored):
            raise InvalidArgumentError(
                f"the run {str(folder.path)!r} has done all its blocks: remove the folder, or call bioimage_py.resume on it"
            )
        store = open_source(stored["temporary"], mode="r+")
        assert isinstance(store, FileSource)
        part = stored["parts"][1]
        return cls(
            request,
            planned,
            casting,
            store,
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
        path = self.store.path
        try:
            journal = self._run(sink, progress)
        except BaseException as error:
            self._discard()
            if isinstance(error, KeyboardInterrupt) and not Path(path).exists():
                # Threads that it has found in mid-block may write for a moment yet.
                atexit.register(remove_temporary_store, path)
            raise
        if journal.has_failures:
            if journal.folder is None:
                self._discard()
            name = f"copy of {self.request.source.name} into {sink.name}"
            raise_failures(journal, self.planned.block_ids, name, kept_too=path)
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
        return TwoPassWork((out, into), two_pass_waves(), self.store.path)

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

    def _discard(self) -> None:
        """Remove the temporary store, unless a run folder is left from which the run can be finished."""
        path = self.store.path
        if self.request.resume_from is not None or _is_needed(path, self.request):
            return
        remove_temporary_store(path)


def _is_needed(path: str, request: CopyRequest) -> bool:
    """Whether a run folder is left whose run goes through a temporary store."""
    with contextlib.suppress(SourceNotFoundError), warnings.catch_warnings(action="ignore"):
        for found in find_runs([default_root(request.runner.config.tmp_root)]):
            with contextlib.suppress(BioimagePyError):  # a run folder that cannot be read is not this run's
                if RunFolder.open(found).read_run()["work"].get("temporary") == path:
                    return True
    return False
