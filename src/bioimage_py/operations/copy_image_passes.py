"""The arrays of an OME-Zarr that go through a temporary store: one store for all of them, as long as their run needs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bioimage_py.geometry import Blocking, IdSet
from bioimage_py.operations.temporary_store import (
    begun_place,
    make_temporary_stores,
    remove_abandoned_stores,
    temporary_array,
)
from bioimage_py.planning import ImagePlan
from bioimage_py.runner import Resources, Runner
from bioimage_py.runner.run import RunFolder
from bioimage_py.runner.work import CopyWork, DeferredWork, TemporaryPlace, TwoPassWork, WorkShelf
from bioimage_py.sources import FileSource


@dataclass(frozen=True)
class FirstPass:
    """How one array comes into the temporary store.

    Attributes
    ----------
    key
        Of the array, in the new OME-Zarr and in the temporary store.
    blocking, block_ids
        Its blocks, and those that are needed.
    """

    key: str
    blocking: Blocking
    block_ids: IdSet


@dataclass(frozen=True)
class ImagePasses:
    """The two passes of those arrays that need them, with a temporary store that is there.

    Attributes
    ----------
    place
        Where the temporary store is.
    first
        The first passes, by the places of the arrays in the plan.
    resources
        For each worker.
    """

    place: TemporaryPlace
    first: Mapping[int, FirstPass]
    resources: Resources

    @classmethod
    def begin(
        cls, plan: ImagePlan, runner: Runner, resume_from: str | None, *, replaces: bool
    ) -> ImagePasses | None:
        """Make the temporary store, or find that of the run to resume; None if all arrays go in one pass."""
        if resume_from is not None:
            return cls._begun(RunFolder.open(resume_from))
        found = {n: array for n, array in enumerate(plan.arrays) if array.plan.passes is not None}
        passes = {array.key: array.plan.passes for array in found.values() if array.plan.passes is not None}
        if not passes:
            return None
        remove_abandoned_stores(next(iter(passes.values())), plan.output, replaces=replaces)
        keeps = not runner.in_process or runner.config.asks_for_folder
        place = make_temporary_stores(passes, plan.output, resumable=keeps)
        first = {
            n: FirstPass(array.key, Blocking(one.shape, one.block_shape), one.block_ids)
            for (n, array), one in zip(found.items(), passes.values(), strict=True)
        }
        return cls(place, first, Resources(plan.in_flight, plan.cache_bytes))

    @classmethod
    def _begun(cls, folder: RunFolder) -> ImagePasses | None:
        """Return the passes that a run folder holds: how much room there is by now does not matter to it."""
        place = begun_place(folder)
        if place is None:
            return None
        run = folder.read_run()
        work = run["work"]
        filling = zip(work["waves"][-1], work["parts"][work["n_asked"] :], strict=True)
        first = {
            n: FirstPass(
                part["outputs"][0]["key"],
                Blocking(tuple(part["shape"]), tuple(part["block_shape"])),
                IdSet.from_json(part["block_ids"]),
            )
            for n, part in filling
        }
        return cls(place, first, Resources(run["threads"], run["cache_bytes"]))

    def array(self, number: int) -> FileSource:
        """Return the array of the temporary store through which one of the plan goes, opened for writing."""
        return temporary_array(self.place, self.first[number].key)

    def work(
        self,
        asked: Sequence[DeferredWork],
        opening: Callable[[int], Callable[[], CopyWork]],
        shelf: WorkShelf,
    ) -> TwoPassWork:
        """Return both passes as one work.

        Parameters
        ----------
        asked
            The copies into the new OME-Zarr.
        opening
            Gives what opens the copy of an array into the temporary store.
        shelf
            Where that is kept.
        """
        filling = {
            n: DeferredWork(one.blocking, one.blocking.block_shape, one.block_ids, opening(n), shelf)
            for n, one in self.first.items()
        }
        return TwoPassWork.of(asked, filling, self.place)

    def array_of(self, block_id: int) -> str:
        """Return the key of the array that a block of the first passes is of, these numbered through from 0."""
        for one in self.first.values():
            if block_id < one.blocking.n_blocks:
                return one.key
            block_id -= one.blocking.n_blocks
        raise IndexError(f"the first passes have no block with {block_id} behind their last")
