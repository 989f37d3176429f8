"""What a backend executes: blocks in groups, each group given whole to one worker.

Workers of functions over items import this module, and neither numpy nor a storage library: twenty workers that start at
once share the processors, and to import numpy alone takes longer than many a task.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Self

from bioimage_py.errors import Hint, InvalidArgumentError, NotPortableError
from bioimage_py.geometry import IdSet

if TYPE_CHECKING:
    from bioimage_py.kernels import Tally
    from bioimage_py.runner.journal import BlockJournal
    from bioimage_py.runner.run import RunFolder
    from bioimage_py.sources import Source
    from bioimage_py.storage import StoreFolder

_KINDS = {
    "copy": "CopyWork",
    "pyramid": "PyramidWork",
    "function": "BlockFunctionWork",
    "map": "ItemFunctionWork",
    "composite": "CompositeWork",
    "two passes": "TwoPassWork",
}
"""The kinds of work that other processes can do, as they are named in run folders; each is imported when there is such work."""


class Work(ABC):
    """The blocks of one run and what to do with them.

    By default blocks are done singly, in any order, in this process only, and are not counted.
    """

    kind: ClassVar[str] = ""
    keep_results: bool = False
    """Whether what a function returns, or what is counted block by block, is recorded."""
    returns_results: ClassVar[bool] = True
    """Whether the caller gets what is recorded."""
    order: tuple[int, ...] | None = None
    """The blocks as they were given, where that is not in ascending order, each once."""
    calls_are_short: bool = False
    """Whether blocks are many short calls of the system, so that threads hinder each other unless calls wait."""
    shares_image: ClassVar[bool] = False
    """Whether the outputs of several such works, done as one run, are levels of one image."""

    how_to_finish: ClassVar[Hint] = Hint(
        "to finish, call again with block_ids=error.failed_block_ids and the same block shape and output"
    )
    """What to do about blocks that are missing, where there is no run folder."""

    if TYPE_CHECKING:

        @property
        def block_ids(self) -> IdSet:
            """The blocks to process."""

        @property
        def n_blocks(self) -> int:
            """How many blocks there are, wanted or not, where groups are more than blocks."""

        @property
        def outputs(self) -> Sequence[Source]:
            """The sources that are written, as far as they are known."""

    @abstractmethod
    def process(self, blocks: tuple[int, ...], journal: BlockJournal) -> None:
        """Process one group and record each of its blocks, or raise and record none: then all of them have failed."""

    def group_ids(self) -> IdSet:
        """Return the numbers of the groups that hold the blocks."""
        return self.block_ids

    def blocks_in(self, group_id: int) -> tuple[int, ...]:
        """Return the blocks to process of one group; over all groups, every id of `block_ids` exactly once."""
        return (group_id,)

    def blocks_of(self, groups: IdSet) -> IdSet:
        """Return the blocks to process of many groups."""
        return groups & self.block_ids

    @property
    def groups_are_blocks(self) -> bool:
        """Whether each group is one block and has its number."""
        return True

    def narrowed(self, block_ids: IdSet) -> Self:
        """Return the same work on fewer blocks."""
        raise NotPortableError(f"{type(self).__name__} can only be run whole")

    def ready(self, missing: IdSet) -> IdSet:
        """Return those of the missing blocks that do not wait for others."""
        return missing

    def asked(self, block_ids: IdSet) -> IdSet:
        """Return those of the blocks that the caller has numbers for: in two passes those of the outputs."""
        return block_ids

    # -- what was done

    def with_new_counts(self) -> Self:
        """Return the same work with nothing counted yet."""
        return self

    def tally(self) -> Tally | None:
        """Return what was done so far, and how long it took; None where nothing is counted."""
        return None

    def encoded_sizes(self, tally: Tally) -> tuple[int | None, int | None]:
        """Return the encoded bytes that a run has read, and written; None for what is not known without a walk over many files."""
        moved = tally.chunks_moved and not tally.chunks_recoded
        return (tally.encoded_in, tally.encoded_out) if moved else (None, None)

    # -- other processes

    def to_json(self, folder: RunFolder) -> dict[str, Any]:
        """Return the work as plain JSON, from which `from_json` makes it again; a user's function goes into the folder.

        Raises NotPortableError if an input, an output, the mask or the function exists in this process only.
        """
        raise NotPortableError(f"{type(self).__name__} can be run locally only")

    def outline(self, folder: RunFolder) -> dict[str, Any] | None:
        """Return what the same call needs to go on, where `to_json` would take long; else None."""
        del folder
        return None

    @classmethod
    def from_json(cls, stored: dict[str, Any], folder: RunFolder, threads: int, cache_bytes: int) -> Work:
        """Make the work again; inputs are opened for reading only."""
        raise NotPortableError(f"{cls.__name__} can be run locally only")

    def fingerprint(self) -> dict[str, Any]:
        """Return everything of a call that must not change: sources as they are stored now, and parameters."""
        return {"kind": type(self).__name__}

    def check_fingerprint(self, then: dict[str, Any]) -> None:
        """Raise InvalidArgumentError if this is not the work that was begun, or the data have changed; the message says what differs."""
        found = list(differences(then, self.fingerprint(), ""))
        if found:
            raise InvalidArgumentError(
                "this run cannot be continued, because it is not the one that was begun: "
                + "; ".join(found[:5])
                + ". Copy again, or put back what was there, with its times"
            )

    # -- the outputs

    def output_leaves(self) -> list[Source]:
        """Return what is written, without wrappers around it."""
        if not self.outputs:
            return []
        from bioimage_py.sources import leaves

        return [leaf for source in self.outputs for leaf in leaves(source)]

    @property
    def concurrent_writes(self) -> bool:
        """Whether several processes may write the outputs at the same time."""
        return all(leaf.concurrent_writes for leaf in self.output_leaves())

    def flush(self) -> None:
        """Have all that libraries keep in memory written."""
        for leaf in self.output_leaves():
            leaf.flush()

    def settling(self) -> Callable[[], None]:
        """Return what forces the outputs to the disk."""
        outputs = self.output_leaves()

        def settle() -> None:
            for output in outputs:
                output.force_to_disk()

        return settle

    def image(self) -> Sequence[Source]:
        """Return the levels of the one new image that is written, whose metadata depend on the voxels."""
        return ()

    def marked_places(self) -> Iterator[StoreFolder]:
        """Yield the folders of the arrays that are written for the caller, which marks are put into."""
        for leaf in self.output_leaves():
            place = leaf.mark_place()
            if place is not None:
                yield place

    def settle_marks(self, done: IdSet, *, keep: bool = False) -> None:  # noqa: B027 - nothing to do for most works
        """Take the blocks that are done off the marks of unfinished outputs, and unless `keep` the marks away with the last of them."""

    # -- the end

    @property
    def also_kept(self) -> str:
        """Path of what else is kept until the run is finished."""
        return ""

    def close(self, results: Mapping[int, Any]) -> None:  # noqa: B027 - nothing to do for most works
        """Make use of what was recorded, and remove what only the run has needed, when all is done."""


def load_work(stored: dict[str, Any], folder: RunFolder, threads: int, cache_bytes: int) -> Work:
    """Make the work again, in the process that does it, from what its `to_json` returned."""
    kind: type[Work] = getattr(import_module(__package__), _KINDS[stored["kind"]])
    return kind.from_json(stored, folder, threads, cache_bytes)


def differences(then: Any, now: Any, where: str) -> Iterator[str]:
    """Yield what differs between two values of plain JSON, in words."""
    if isinstance(then, dict) and isinstance(now, dict):
        for key in sorted({*then, *now}):
            yield from differences(then.get(key), now.get(key), f"{where} {key}".strip())
    elif then != now:
        yield f"{where} was {then} and is {now}"
