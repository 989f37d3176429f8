"""A user's function over blocks as work for a backend."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from bioimage_py.errors import InvalidArgumentError
from bioimage_py.geometry import Blocking, Box, IdSet, basic_index, check_block_shape
from bioimage_py.runner.run import load_function, store_function
from bioimage_py.runner.work.block_work import BlockWork, stored_blocks
from bioimage_py.runner.work.items import ids_in_order, process_singly, stored_order
from bioimage_py.runner.work.stored_sources import input_fingerprint, opened_sources, output_fingerprint
from bioimage_py.sources import Source, as_source, leaves

if TYPE_CHECKING:
    from bioimage_py.runner.journal import BlockJournal
    from bioimage_py.runner.run import RunFolder

_DEFAULT_BUDGET = 2**27


@dataclass(frozen=True)
class BlockFunctionWork(BlockWork):
    """`function(block, inputs, outputs, mask)` for each block."""

    function: Callable[..., Any]
    inputs: list[Source]
    outputs: Sequence[Source]
    mask: Source | None
    blocking: Blocking
    group_shape: tuple[int, ...]
    halo: tuple[int, ...] | None
    block_ids: IdSet
    keep_results: bool
    order: tuple[int, ...] | None = None
    kind = "function"

    @classmethod
    def prepare(
        cls,
        function: Callable[..., Any],
        inputs: Sequence[Any],
        outputs: Sequence[Any],
        mask: Any,
        *,
        block_shape: Sequence[int] | None,
        halo: int | Iterable[int] | None,
        roi: Box | tuple[slice, ...] | None,
        block_ids: Iterable[int] | None,
        keep_results: bool,
    ) -> Self:
        """Check that shapes fit and decide blocks and groups."""
        if not callable(function):
            raise InvalidArgumentError(f"function must be callable, got {function!r}")
        read, written = _sources(inputs, "inputs"), _sources(outputs, "outputs")
        if not read:
            raise InvalidArgumentError("run needs at least one input: it gives the shape of the domain")
        masked = None if mask is None else as_source(mask)
        shape = _domain(read, written, masked)
        # An output may have leading axes of its own.
        grids = [o.write_unit[o.ndim - len(shape) :] for o in written if o.write_unit is not None]
        blocks = (
            _planned(shape, read, grids) if block_shape is None else check_block_shape(block_shape, shape)  # type: ignore[arg-type]
        )
        box = roi if roi is None or isinstance(roi, Box) else basic_index(roi, shape).box
        blocking = Blocking(shape, blocks, roi=box)
        for output in written:
            output.check_blockwise(blocking.n_blocks)
        group = blocks
        for grid in grids:
            group = tuple(g if g >= n else math.lcm(g, u) for g, u, n in zip(group, grid, shape, strict=True))
        ids, order = ids_in_order(block_ids, blocking.n_blocks, "block_ids")
        extents = _halo(halo, shape)
        return cls(function, read, written, masked, blocking, group, extents, ids, keep_results, order)

    def process(self, blocks: tuple[int, ...], journal: BlockJournal) -> None:
        process_singly(self._call, blocks, journal, keep_results=self.keep_results)

    def _call(self, block_id: int) -> Any:
        blocking, halo = self.blocking, self.halo
        block = blocking[block_id] if halo is None else blocking.block_with_halo(block_id, halo)
        return self.function(block, self.inputs, self.outputs, self.mask)

    def settle_marks(self, done: IdSet, *, keep: bool = False) -> None:
        """Leave marks as they are: what a function has written is not known."""

    def to_json(self, folder: RunFolder) -> dict[str, Any]:
        return self._to_json(
            folder,
            self.inputs,
            self.mask,
            function_check=store_function(self.function, folder),
            halo=None if self.halo is None else list(self.halo),
            keep_results=self.keep_results,
            order=None if self.order is None else list(self.order),
        )

    @classmethod
    def from_json(
        cls, stored: dict[str, Any], folder: RunFolder, threads: int, cache_bytes: int
    ) -> BlockFunctionWork:
        inputs, outputs, mask = opened_sources(stored, threads, cache_bytes)
        blocking, group_shape, ids = stored_blocks(stored, folder)
        halo = None if stored["halo"] is None else tuple(stored["halo"])
        function = load_function(stored["function_check"], folder)
        keep, order = stored["keep_results"], stored_order(stored)
        return cls(function, inputs, outputs, mask, blocking, group_shape, halo, ids, keep, order)

    def fingerprint(self) -> dict[str, Any]:
        written = {
            identity for output in self.outputs for leaf in leaves(output) for identity in leaf.identities()
        }
        return {
            **super().fingerprint(),
            **{f"input {n}": input_fingerprint(source, written) for n, source in enumerate(self.inputs)},
            **{f"output {n}": output_fingerprint(source) for n, source in enumerate(self.outputs)},
            "mask": input_fingerprint(self.mask, written),
            "halo": None if self.halo is None else list(self.halo),
        }


def _sources(given: Any, what: str) -> list[Source]:
    if hasattr(given, "dtype") or isinstance(given, str):
        raise InvalidArgumentError(
            f"{what} must be a list of arrays, sources or paths, got one {type(given).__name__}"
        )
    return [as_source(item) for item in given]


def _domain(inputs: list[Source], outputs: list[Source], mask: Source | None) -> tuple[int, ...]:
    shape = inputs[0].shape
    for source in inputs[1:]:
        if source.shape != shape:
            raise InvalidArgumentError(
                f"inputs must have one shape, got {shape} for {inputs[0].name} and {source.shape} for {source.name}"
            )
    if mask is not None and mask.shape != shape:
        raise InvalidArgumentError(f"the mask must have the inputs' shape {shape}, got {mask.shape}")
    for source in outputs:
        if source.shape[max(0, source.ndim - len(shape)) :] != shape:
            raise InvalidArgumentError(
                f"the trailing axes of an output must match the inputs' shape {shape}, got {source.shape} for {source.name}"
            )
        if not source.writable:
            raise InvalidArgumentError(f"output {source.name} is not writable")
    return shape


def _planned(shape: tuple[int, ...], inputs: list[Source], grids: list[tuple[int, ...]]) -> tuple[int, ...]:
    # Workers, which find the blocks planned, do without.
    from bioimage_py.planning import ArrayLayout, MemoryModel, choose_block_shape

    unit = tuple(map(math.lcm, (1,) * len(shape), *grids))
    first = ArrayLayout.of(inputs[0])
    target = ArrayLayout(
        "outputs", "", shape, first.dtype, unit if any(u > 1 for u in unit) else first.chunks
    )
    memory = MemoryModel(first, target, None, 1)
    return choose_block_shape(first, target, memory.block, _DEFAULT_BUDGET)


def _halo(halo: int | Iterable[int] | None, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    if halo is None:
        return None
    try:
        given = np.asarray(halo)
    except ValueError:  # a list of lists
        given = np.empty(0)
    if given.dtype.kind not in "iu" or given.shape not in ((), (len(shape),)) or (given < 0).any():
        raise InvalidArgumentError(
            f"halo must be a non-negative integer, or one per axis of {shape}, got {halo!r}"
        )
    return tuple(np.broadcast_to(given, len(shape)).tolist())
