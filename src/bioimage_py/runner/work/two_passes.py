"""Copies in two passes: into a temporary store, and from there into the outputs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from bioimage_py.errors import InvalidArgumentError, StorageError
from bioimage_py.geometry import Blocking, IdSet
from bioimage_py.runner.account import read_account
from bioimage_py.runner.work.composite import CompositeWork
from bioimage_py.runner.work.temporary_place import TemporaryPlace

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bioimage_py.kernels import Tally
    from bioimage_py.runner.run import RunFolder
    from bioimage_py.runner.work.composite import NumberedWork
    from bioimage_py.runner.work.copying import CopyWork


@dataclass(frozen=True)
class TwoPassWork(CompositeWork):
    """Copies into the outputs, whose blocks have the numbers that the caller knows, after copies into a temporary store.

    Attributes
    ----------
    parts, waves
        The copies that the caller asked for, then those that fill the temporary store; these are in a wave before those that
        read it.
    temporary
        Where the temporary store is, which is removed when all is done.
    n_asked
        How many parts are what the caller asked for.
    """

    temporary: TemporaryPlace
    n_asked: int = 1

    @classmethod
    def of(
        cls, asked: Sequence[NumberedWork], filling: Mapping[int, NumberedWork], temporary: TemporaryPlace
    ) -> TwoPassWork:
        """Put both passes together.

        Parameters
        ----------
        asked
            The copies that the caller asked for.
        filling
            For those that read the temporary store, by their places in `asked`: what fills it for them.
        temporary
            Where the temporary store is.
        """
        n = len(asked)
        first = [place for place in range(n) if place not in filling]
        waves = ((*first, *range(n, n + len(filling))), tuple(filling))
        return cls((*asked, *filling.values()), waves, temporary, n)

    def narrowed(self, block_ids: IdSet) -> TwoPassWork:
        """Return the same work on fewer blocks."""
        return cast("TwoPassWork", super().narrowed(block_ids))

    def asked(self, block_ids: IdSet) -> IdSet:
        """Return those of the blocks that the caller has numbers for."""
        return block_ids & IdSet.from_range(self.offsets[self.n_asked])

    def tally(self) -> Tally:
        """Return what was done so far: what came from the inputs and went into the outputs, and the time of both passes."""
        counted = [cast("CopyWork", part).tally() for part in self.parts]
        total = sum(counted[1:], counted[0])
        # What fills the temporary store is not for the caller, and what is read from there was counted before.
        second = self.waves[-1]
        bytes_in = sum(tally.bytes_in for n, tally in enumerate(counted) if n not in second)
        bytes_out = sum(tally.bytes_out for tally in counted[: self.n_asked])
        return replace(total, bytes_in=bytes_in, bytes_out=bytes_out)


def asked_of(work: Any, block_ids: IdSet) -> IdSet:
    """Return those of the blocks that the caller has numbers for: in two passes those of the outputs."""
    return work.asked(block_ids) if isinstance(work, TwoPassWork) else block_ids


def begun_ids(path: str) -> IdSet:
    """Return which blocks the caller of the run in a folder has asked for."""
    # What makes folders is not needed by workers.
    from bioimage_py.runner.run import RunFolder

    stored = RunFolder.open(path).read_run()["work"]
    ids = IdSet.from_json(stored["block_ids"])
    if stored.get("temporary") is None:
        return ids
    asked = sum(
        Blocking(tuple(part["shape"]), tuple(part["block_shape"])).n_blocks
        for part in stored["parts"][: stored["n_asked"]]
    )
    return ids & IdSet.from_range(asked)


def close_temporary_store(work: Any) -> None:
    """Remove the temporary store of a run that has succeeded, if it has one.

    Raises
    ------
    StorageError
        If it is not there any more: its voxels would have been read as the fill value.
    """
    if not isinstance(work, TwoPassWork):
        return
    if not work.temporary.exists():
        raise StorageError(
            f"the temporary store {work.temporary.path!r} has gone while it was read: voxels written since are wrong. Copy again"
        )
    work.temporary.remove()


def place_of_run(stored: Mapping[str, Any]) -> TemporaryPlace | None:
    """Return where the temporary store of a stored work is; None if it has none."""
    found = stored.get("temporary")
    return None if found is None else TemporaryPlace.from_json(found)


def ended_without_folder(folder: RunFolder, stored: Mapping[str, Any]) -> bool:
    """Whether a stored run has done all and died while it removed its temporary store, or before it removed its run folder.

    Raises
    ------
    InvalidArgumentError
        If the temporary store is gone and blocks are missing.
    StorageError
        If the place of the temporary store cannot be reached.
    """
    temporary = place_of_run(stored)
    if temporary is None or temporary.exists():
        return False
    if not IdSet.from_json(stored["block_ids"]) - read_account(folder, errors=False).done:
        return True
    raise InvalidArgumentError(
        f"this run cannot be continued: its temporary store {temporary.path!r} is gone. Copy again, and remove {str(folder.path)!r}"
    )
