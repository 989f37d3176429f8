"""Copies in two passes: into a temporary store, and from there into the outputs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from bioimage_py.errors import InvalidArgumentError, StorageError
from bioimage_py.geometry import IdSet
from bioimage_py.runner.run import RunFolder, read_recorded, remove_in_the_end
from bioimage_py.runner.work.block_work import BlockWork, stored_blocks
from bioimage_py.runner.work.composite import CompositeWork
from bioimage_py.runner.work.work import Work
from bioimage_py.storage import is_url

if TYPE_CHECKING:
    from bioimage_py.kernels import Tally
    from bioimage_py.sources import Source


@dataclass(frozen=True)
class TwoPassWork(CompositeWork):
    """Copies into the outputs, whose blocks have the numbers that the caller knows, after copies into a temporary store.

    The first `n_asked` parts are the copies that the caller asked for; the others fill the temporary store, in a wave before
    those that read it. The store is removed when all is done.
    """

    temporary: TemporaryPlace
    n_asked: int = 1
    kind = "two passes"
    how_to_finish = Work.how_to_finish

    @classmethod
    def of(
        cls, asked: Sequence[BlockWork], filling: Mapping[int, BlockWork], temporary: TemporaryPlace
    ) -> TwoPassWork:
        """Put both passes together; `filling` has, by their places in `asked`, what fills the store for those that read it."""
        n = len(asked)
        first = [place for place in range(n) if place not in filling]
        waves = ((*first, *range(n, n + len(filling))), tuple(filling))
        return cls((*asked, *filling.values()), waves, temporary, n)

    @property
    def asked_parts(self) -> tuple[BlockWork, ...]:
        return self.parts[: self.n_asked]

    def asked(self, block_ids: IdSet) -> IdSet:
        return block_ids & IdSet.from_range(self.offsets[self.n_asked])

    def tally(self) -> Tally | None:
        """Return what was done so far: what came from the inputs and went into the outputs, and the time of both passes."""
        total, counted = super().tally(), [part.tally() for part in self.parts]
        # What fills the temporary store is not for the caller, and what is read from there was counted before.
        second = self.waves[-1]
        bytes_in = sum(tally.bytes_in for n, tally in enumerate(counted) if tally and n not in second)
        bytes_out = sum(tally.bytes_out for tally in counted[: self.n_asked] if tally)
        return None if total is None else replace(total, bytes_in=bytes_in, bytes_out=bytes_out)

    def to_json(self, folder: RunFolder) -> dict[str, Any]:
        more = {"temporary": self.temporary.to_json(), "n_asked": self.n_asked}
        return {**super().to_json(folder), **more}

    @classmethod
    def from_json(
        cls, stored: dict[str, Any], folder: RunFolder, threads: int, cache_bytes: int, **more: Any
    ) -> Self:
        more |= {"temporary": place_of_run(stored), "n_asked": stored["n_asked"]}
        return super().from_json(stored, folder, threads, cache_bytes, **more)

    def image(self) -> tuple[Source, ...]:
        return tuple(self.parts[0].image()) if self.n_asked == 1 else ()

    @property
    def also_kept(self) -> str:
        return self.temporary.path

    def close(self, results: Mapping[int, Any]) -> None:
        """Remove the temporary store; raises StorageError if it is gone: its voxels were read as the fill value."""
        if not self.temporary.exists():
            raise StorageError(
                f"the temporary store {self.temporary.path!r} was removed while it was read: voxels written since are wrong. Copy again"
            )
        super().close(results)
        self.temporary.remove()


def place_of_run(stored: Mapping[str, Any]) -> TemporaryPlace | None:
    """Return where the temporary store of a stored work is; None if it has none."""
    found = stored.get("temporary")
    return None if found is None else TemporaryPlace.from_json(found)


def begun_ids(path: str) -> IdSet:
    """Return which blocks the caller of the run in a folder has asked for."""
    folder = RunFolder.open(path)
    stored = folder.read_run()["work"]
    ids = folder.stored_ids(stored["block_ids"])
    if place_of_run(stored) is None:
        return ids
    asked = stored["parts"][: stored["n_asked"]]
    return ids & IdSet.from_range(sum(stored_blocks(part, folder)[0].n_blocks for part in asked))


def begun_with_hashes(path: str) -> bool:
    """Whether the run in a folder records the hashes of the tiles that it writes."""
    stored = RunFolder.open(path).read_run()["work"]
    parts = stored.get("parts")
    return any(part.get("hashes_tiles") for part in (parts if isinstance(parts, list) else [stored]))


def ended_without_folder(folder: RunFolder, stored: Mapping[str, Any]) -> bool:
    """Whether a stored run has done all and died while it removed its temporary store, or before it removed its run folder.

    Raises InvalidArgumentError if the temporary store is gone and blocks are missing.
    """
    temporary = place_of_run(stored)
    if temporary is None or temporary.exists():
        return False
    if not folder.stored_ids(stored["block_ids"]) - read_recorded(folder).done:
        return True
    raise InvalidArgumentError(
        f"this run cannot be continued: its temporary store {temporary.path!r} is gone. Copy again, and remove {str(folder.path)!r}"
    )


TEMPORARY_MARK = ".rechunk-"
"""In the name of every temporary store: nothing else is removed as one."""

_METADATA = "zarr.json"


@dataclass(frozen=True)
class TemporaryPlace:
    """Where a temporary store is: its folder or URL, and how a URL is reached, as in `StoreFolder`, without secrets."""

    path: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> TemporaryPlace:
        return cls(stored["path"], stored["options"])

    def to_json(self) -> dict[str, Any]:
        return {"path": self.path, "options": dict(self.options)}

    def metadata(self) -> dict[str, Any] | None:
        """Return what the array or group at the place says of itself, None where the store is not there."""
        from bioimage_py.storage import StoreFolder

        return StoreFolder.at(self.path, self.options).read_json(_METADATA)

    def exists(self) -> bool:
        """Whether the temporary store is there, or its metadata at least; raises StorageError if its place cannot be reached."""
        if is_url(self.path):
            return self.metadata() is not None
        return Path(self.path, _METADATA).exists()

    def remove(self) -> None:
        """Remove the temporary store, if it is there; warns of what cannot be removed."""
        if TEMPORARY_MARK not in os.path.basename(self.path):  # noqa: PTH119 - a text stays a text
            raise ValueError(f"{self.path!r} is not a temporary store")
        remove_in_the_end(self.path, self._remove_once, "the temporary store")

    def _remove_once(self) -> None:
        if not is_url(self.path):
            shutil.rmtree(self.path)
            return
        from bioimage_py.storage import StoreFolder

        StoreFolder.at(self.path, self.options).delete_objects()
