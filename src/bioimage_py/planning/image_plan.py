"""What copying an OME-Zarr whole would do: the plans of all its arrays as one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from typing import Any

from bioimage_py.errors import Hint, InvalidArgumentError
from bioimage_py.geometry import IdSet
from bioimage_py.planning.bill import Bill
from bioimage_py.planning.byte_size import Plan, at_most_files, counted, format_bytes, times
from bioimage_py.planning.copy_plan import CopyPlan, PlanOptions, digest_text, hints_about_files
from bioimage_py.planning.memory import MemoryModel
from bioimage_py.planning.passes import RoomBeside, in_one_or_two_passes

_MOST_LISTED = 20


@dataclass(frozen=True)
class PlannedArray:
    """The copy of one array of an image."""

    key: str  # of the array, below the group that is copied
    shared: CopyPlan  # of all arrays that are stored alike; layouts have the names of the first of them, blocks the array's own numbers
    names: tuple[str, str] | None = None  # of the array and its copy, where they are not those

    @property
    def plan(self) -> CopyPlan:
        """The plan of this array."""
        if self.names is None:
            return self.shared
        layouts = (self.shared.input, self.shared.output)
        a, b = (replace(layout, name=name) for layout, name in zip(layouts, self.names, strict=True))
        return replace(self.shared, input=a, output=b)


@dataclass(frozen=True)
class ImagePlan(Plan):
    """What copying an OME-Zarr whole would do; `str(plan)` explains it.

    Blocks are numbered through all arrays: image by image, of each the levels, full size first, then those of its labels.
    """

    _told = (
        "input", "output", "what", "road", "roads", "n_blocks", "in_flight", "threads", "cache_bytes", "memory_limit", "peak_memory",
        "bytes_in", "bytes_out", "n_files", "bill", "block_ids", "hints", "update", "left_out", "damaged", "casts", "assumed",
    )  # fmt: skip

    input: str
    output: str
    what: str  # what is copied, in words
    arrays: tuple[PlannedArray, ...]  # the plans of all arrays
    block_ids: IdSet  # the blocks to be processed
    # Threads that decode and encode inside the libraries, and blocks at the same time where memory allows
    threads: int
    left_out: tuple[str, ...] = ()  # what is in the input and will not be in the output
    update: str = ""  # what has changed since an earlier copy
    damaged: tuple[str, ...] = ()  # images that cannot be read, with the reason: the others are copied
    casts: str = ""
    assumed: tuple[Hint, ...] = ()

    @classmethod
    def of(
        cls,
        names: tuple[str, str],
        what: str,
        arrays: Sequence[PlannedArray],
        block_ids: IdSet | None,
        threads: int,
        left_out: Sequence[str] = (),
        damaged: Sequence[str] = (),
    ) -> ImagePlan:
        """Put plans of arrays together; InvalidArgumentError if a block id is out of range."""
        whole = cls(*names, what, tuple(arrays), IdSet(), threads, tuple(left_out), damaged=tuple(damaged))
        every = IdSet.from_range(whole.n_blocks)
        if block_ids is not None and block_ids - every:
            ranges = [
                f"{array.key} has {first} … {first + array.shared.n_blocks - 1}"
                for array, first in zip(whole.arrays[:5], whole.offsets, strict=False)
                if array.shared.n_blocks
            ]
            raise InvalidArgumentError(
                f"block_ids out of range: {(block_ids - every)[0]} is not in 0 … {whole.n_blocks - 1}. Blocks are numbered through "
                f"all arrays: {', '.join(ranges)}{', …' if len(whole.arrays) > 5 else ''}"
            )
        return replace(whole, block_ids=every if block_ids is None else block_ids)

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """The number of each array's first block; and the number of all blocks."""
        return tuple(accumulate((array.shared.n_blocks for array in self.arrays), initial=0))

    @property
    def n_blocks(self) -> int:
        """Blocks of all arrays."""
        return self.offsets[-1]

    @cached_property
    def in_flight(self) -> int:
        """How many blocks can be processed at the same time, whichever arrays they are of."""
        return min(map(_most_in_flight, self._kinds), default=1)

    @property
    def cache_bytes(self) -> int:
        """Decoded input chunks kept between blocks, in bytes, for each array that is open."""
        wanted = [plan.cache_bytes for plan in self._plans if plan.cache_bytes]
        if not wanted:
            return 0
        # Those arrays that want none hold more than the others, or read nothing twice.
        spare = max(0, self.memory_limit - self._held) // (2 * self.in_flight)
        return min(min(wanted) // min(len(wanted), 2 * self.in_flight), spare)

    @property
    def memory_limit(self) -> int:
        """In bytes; what the sources and the interpreter take up anyway is not counted."""
        return max((plan.memory_limit for plan in self._kinds), default=0)

    @property
    def peak_memory(self) -> int:
        """In bytes, at most."""
        return self._held + 2 * self.in_flight * self.cache_bytes

    @cached_property
    def _held(self) -> int:
        held = (base + self.in_flight * block for plan in self._kinds for base, block in _held(plan))
        return max(held, default=0)

    @property
    def roads(self) -> dict[str, int]:
        """How many arrays go each road."""
        return dict(Counter(plan.road for plan in self._plans))

    @property
    def road(self) -> str:
        """The road of all arrays, or all roads with commas between them, the most frequent first."""
        return ", ".join(sorted(self.roads, key=lambda road: -self.roads[road]))

    @property
    def bytes_in(self) -> int:
        """Voxels to be read, in bytes, decoded."""
        return self._share(sum(plan.bytes_in for plan in self._plans))

    @property
    def bytes_out(self) -> int:
        """Voxels to be written, in bytes, decoded."""
        return self._share(sum(plan.bytes_out for plan in self._plans))

    @property
    def n_files(self) -> int:
        """The most files that will be written, metadata not counted."""
        return self._share(sum(plan.n_files for plan in self._plans))

    @cached_property
    def bill(self) -> Bill:
        return sum((plan.bill for plan in self._plans), Bill()).part(len(self.block_ids), self.n_blocks)

    @property
    def hints(self) -> tuple[Hint, ...]:
        """What would make this copy better."""
        found = {str(hint): hint for plan in self._kinds for hint in plan.hints}
        return tuple(found.values()) or hints_about_files([plan.output for plan in self._plans])

    @property
    def _plans(self) -> list[CopyPlan]:
        return [array.shared for array in self.arrays]

    @cached_property
    def _kinds(self) -> list[CopyPlan]:
        """The plans of arrays that are not stored alike."""
        return list({id(plan): plan for plan in self._plans}.values())

    def _share(self, total: int) -> int:
        asked = len(self.block_ids)
        return total if asked == self.n_blocks else -(-total * asked // self.n_blocks)

    def array_of(self, block_id: int) -> str:
        """Return the key of the array that a block is of."""
        ends = zip(self.arrays, self.offsets[1:], strict=True)
        return next(array.key for array, end in ends if block_id < end)

    def to_json(self) -> dict[str, Any]:
        return {
            **super().to_json(),
            "passes": max((1 if plan.passes is None else 2 for plan in self._plans), default=1),
            "arrays": [
                {"key": array.key, "first_block": first, **array.plan.to_json()}
                for array, first in zip(self.arrays, self.offsets, strict=False)
            ],
        }

    def _rows(self) -> list[tuple[str, str]]:
        roads = dict.fromkeys(f"{plan.road}: {plan.reason}" for plan in self._kinds[:_MOST_LISTED])
        return [
            ("input", f"{self.input}: {self.what}"),
            ("output", f"{self.output}: {self.arrays[0].shared.output.format}"),
            *(("array", self._array_text(n)) for n in range(min(len(self.arrays), _MOST_LISTED))),
            *self._rest(),
            *(("road", road) for road in roads),
            *([("update", self.update)] if self.update else []),
            ("blocks", self._blocks_text()),
            *self._passes_texts(),
            *(
                ("digest", digest_text(said))
                for said in dict.fromkeys(plan.digest for plan in self._kinds)
                if said
            ),
            *self._amounts(),
            *([("without", ", ".join(self.left_out))] if self.left_out else []),
            *(("damaged", text) for text in self.damaged),
        ]

    def _array_text(self, n: int) -> str:
        array, first = self.arrays[n], self.offsets[n]
        width = max(len(one.key) for one in self.arrays[:_MOST_LISTED])
        layout = array.shared.output
        grid = "" if layout.chunks is None else f", chunks {layout.grid_text}"
        last = first + array.shared.n_blocks - 1
        numbers = f"blocks {first:,} to {last:,}" if array.shared.n_blocks else "no blocks"
        return (
            f"{array.key:{width}}  {times(layout.shape)} {layout.dtype}{grid}; {numbers}; {array.shared.road}"
        )

    def _rest(self) -> list[tuple[str, str]]:
        left = self.arrays[_MOST_LISTED:]
        if not left:
            return []
        counts = Counter(array.shared.road for array in left).items()
        roads = ", ".join(f"{count:,} {road}" for road, count in counts)
        return [("", f"… and {len(left):,} more arrays ({roads})")]

    def _blocks_text(self) -> str:
        text = f"{self.n_blocks:,} in {counted(len(self.arrays), 'array')}"
        if len(self.block_ids) != self.n_blocks:
            text += f", {len(self.block_ids):,} of them asked for"
        return text

    def _passes_texts(self) -> list[tuple[str, str]]:
        twice = [(one.key, one.shared.passes) for one in self.arrays if one.shared.passes is not None]
        if not twice:
            return []
        keys = ", ".join(key for key, _ in twice[:_MOST_LISTED])
        more = f" and {len(twice) - _MOST_LISTED:,} more" if len(twice) > _MOST_LISTED else ""
        passes = [one for _, one in twice]
        least, most = (f"{f(one.one_pass_reads for one in passes):.3g}" for f in (min, max))
        often = most if least == most else f"{least} to {most}"
        n_bytes, n_files = sum(one.n_bytes for one in passes), sum(one.n_files for one in passes)
        why = (
            f"2 for {keys}{more}, because one would decode each chunk of the input {often} times on average: the first goes into a "
            "temporary store, the second writes the output from there"
        )
        size = f"at most {format_bytes(n_bytes)} before compression, in {at_most_files(n_files)}"
        return [("passes", why), ("temp", f"{passes[0].place}: {size}; removed at the end")]


def _held(plan: CopyPlan) -> tuple[tuple[int, int], ...]:
    """Return, for each pass of a copy, what it holds whatever its blocks, and for a block, or group of blocks, in flight."""
    if plan.passes is not None:
        return plan.passes.held
    memory = MemoryModel(plan.input, plan.output, plan.mask, plan.threads)
    at_once = plan.block_shape if plan.block_shape == plan.group_shape else plan.output.write_unit
    return ((memory.base(), memory.block(at_once)),)


def _most_in_flight(plan: CopyPlan) -> int:
    fitting = ((plan.memory_limit - base) // max(1, block) for base, block in _held(plan))
    return max(1, min(plan.threads, *fitting))


def image_in_passes(
    plan: ImagePlan, asked: Sequence[PlanOptions], casting: str, room: RoomBeside
) -> ImagePlan:
    """Return the plan with those arrays in two passes for which one would read too much; blocks and their numbers stay the same."""
    arrays: list[PlannedArray] = []
    through_store = 0
    in_one = dict[int, CopyPlan]()
    all_asked = len(plan.block_ids) == plan.n_blocks
    for number, (array, options) in enumerate(zip(plan.arrays, asked, strict=True)):
        alone = array.shared
        if all_asked and id(alone) in in_one:
            arrays.append(replace(array, shared=in_one[id(alone)]))
            continue
        # What others of the run hold, and whether it is to be read at all, decides how often its chunks are decoded.
        in_run = replace(
            alone,
            block_ids=_ids_of(plan, number),
            in_flight=plan.in_flight,
            cache_bytes=min(alone.cache_bytes, plan.cache_bytes),
        )
        promised = max(0, plan.bytes_out - in_run.bytes_out) + through_store
        found = in_one_or_two_passes(in_run, options, casting, replace(room, promised_bytes=promised))
        if found.passes is None:
            in_one[id(alone)] = replace(alone, hints=found.hints)
            arrays.append(replace(array, shared=in_one[id(alone)]))
            continue
        through_store += found.passes.n_bytes
        arrays.append(replace(array, shared=replace(found, block_ids=alone.block_ids)))
    return replace(plan, arrays=tuple(arrays))


def _ids_of(plan: ImagePlan, number: int) -> IdSet:
    """Return which blocks of an array are asked for, in its own numbers."""
    array, first = plan.arrays[number].shared, plan.offsets[number]
    if len(plan.block_ids) == plan.n_blocks:
        return array.block_ids
    inside = plan.block_ids & IdSet.from_range(first + array.n_blocks, first)
    return inside.shifted(-first)
