"""What has changed in an input since an output was copied from it, as the blocks of a copy into that output."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from bioimage_py.chunks import ChunkEncoding, UnknownEncoding
from bioimage_py.errors import Hint, InvalidArgumentError, ReadOnlyError, SourceNotFoundError
from bioimage_py.geometry import Blocking, Box, IdSet, tile_shape
from bioimage_py.kernels import TileDigest
from bioimage_py.operations.beside.copied import (
    COPIED,
    UNKNOWN,
    Copied,
    folder_number,
    is_in_store,
    layout_told,
    notes_of,
    options_told,
    output_stamp,
)
from bioimage_py.operations.options import CopyOptions, RunOptions
from bioimage_py.operations.target import ExistingTarget
from bioimage_py.operations.tile_digests import digest_of
from bioimage_py.planning import ArrayLayout, times
from bioimage_py.sources import FileSource, OverriddenSource, Source, as_source, leaves, open_source
from bioimage_py.sources.stores import unfinished_text
from bioimage_py.storage import PartStamps
from bioimage_py.wrapper import RoiSource, TransposeSource

_log = logging.getLogger(__name__)
_MOST_BLOCK = 2**28
"""Bytes of voxels in a block that is as large as parts of the input make it."""
_Shape = tuple[int, ...]


@dataclass(frozen=True)
class Update:
    """What an output lacks to be equal to its input as it is now; `boxes` is None where that cannot be told, so that all is copied."""

    output: Source | None
    shape: _Shape
    itemsize: int
    record: Copied | None
    after: Copied | None
    parts: Sequence[PartStamps | None]
    boxes: Sequence[Box] | None
    extents: _Shape | None
    text: str
    digest: TileDigest | None = None  # of the input, where all voxels were compared

    @property
    def target(self) -> ExistingTarget:
        assert self.output is not None
        grows = self.output.shape != self.shape
        return _GrownTarget(self.output, self.shape) if grows else ExistingTarget(self.output)

    def options(self, options: CopyOptions, layout: ArrayLayout) -> CopyOptions:
        """Return the options of the copy of what has changed, in blocks as small as whole parts of the input allow."""
        if self.boxes is None:
            return options
        block = options.block_shape or self._block_shape(layout, options)
        blocking = Blocking(layout.shape, tuple(block))
        ids = IdSet.from_ids({number for box in self.boxes for number in blocking.ids_in(box)})
        return replace(options, block_shape=block, block_ids=ids)

    def _block_shape(self, layout: ArrayLayout, options: CopyOptions) -> _Shape:
        unit, extents = layout.write_unit, self.extents or layout.write_unit
        whole = tuple(-(-max(1, n) // u) * u for n, u in zip(layout.shape, unit, strict=True))
        both = tuple(map(min, map(math.lcm, unit, extents), whole))
        cover = tuple(min(-(-e // u) * u, n) for e, u, n in zip(extents, unit, whole, strict=True))
        limit = options.memory_bytes
        most = _MOST_BLOCK if limit is None else limit // 4
        held = max(self.itemsize, layout.itemsize)
        return next((b for b in (both, cover) if math.prod(b) * held <= most), unit)

    def begin(self) -> None:
        """Note that the parts which changed are about to be copied: what is left half done is copied again, whatever they become."""
        if self.record is None or self.boxes == []:
            return
        old = self.record.about
        # Of an input that has grown, what is noted stays that of the part which is copied.
        if self.after is None or not self.after.is_of({**old, "shape": self.after.about["shape"]}):
            self.record.side.delete(COPIED)  # the voxels of another input are written
            return
        tables = [
            None if table is None else _with_unknown(table, None if self.boxes is None else now)
            for table, now in zip(self.record.tables, self.parts, strict=True)
        ]
        if any(table is not None for table in tables):
            replace(self.record, tables=tables).write()

    def finish(self, output: Source | None) -> None:
        """Note the input as it was before this update read it; the output is needed where there is a digest to keep."""
        known = () if self.record is None else self.record.tables
        if self.after is not None and (self.boxes != [] or not _equal(self.after.tables, known)):
            self.after.with_stamp(output).write()
        if self.digest is not None and output is not None and output.side_folder() is not None:
            self.digest.store(output)


class _GrownTarget(ExistingTarget):
    """An array that gets a larger extent along an axis when it is opened."""

    def __init__(self, output: Source, shape: _Shape) -> None:
        super().__init__(output)
        self._shape = shape
        self.layout = replace(self.layout, shape=shape)

    def encoding(self) -> ChunkEncoding | UnknownEncoding:
        found = super().encoding()
        return replace(found, shape=self._shape) if isinstance(found, ChunkEncoding) else found

    def open(self, *, overwrite: bool, resume: bool) -> tuple[Any, Source]:
        self._given = self._sink = self._sink.grown(self._shape)
        return super().open(overwrite=overwrite, resume=resume)


def find_update(source: Source, output: Any, options: CopyOptions) -> Update | None:
    """Return what has changed since the output was copied; None if there is no output yet. InvalidArgumentError if that cannot be an update."""
    check_update(options)
    if not isinstance(output, (str, os.PathLike)):
        return None if output is None else changes(source, as_source(output), options)
    try:
        there = open_source(output, mode="r+")
    except SourceNotFoundError:
        return None
    except ReadOnlyError as error:
        again = Hint.of("to replace it, give {}", overwrite=True)
        raise InvalidArgumentError(
            f"{output} cannot be updated: it cannot be written in place", hints=[again]
        ) from error
    return changes(source, there, options)


def check_update(options: CopyOptions) -> None:
    if options.update not in (True, "content"):
        raise InvalidArgumentError(f"update must be True, False or 'content', got {options.update!r}")
    given = [name for name in ("mask", "block_ids", "resume_from") if getattr(options, name) is not None]
    if given or options.overwrite:
        raise InvalidArgumentError(
            f"update copies what has changed into an output that is there: leave out {', '.join(given or ['overwrite'])}"
        )


def changes(source: Source, output: Source, options: CopyOptions) -> Update:
    """Return what has changed in a source since an output was copied from it; InvalidArgumentError where that is not what happened."""
    again = Hint.of("or, to replace it, give {}", overwrite=True)
    if text := unfinished_text(output):
        raise InvalidArgumentError(f"{output.name} cannot be updated: it is {text}", hints=[again])
    record = Copied.read(output.side_folder())
    if options.update == "content":
        return _by_content(source, output, record, options)
    if record is None:
        raise InvalidArgumentError(
            f"{output.name} cannot be updated: nothing beside it says that it was copied from a stored input",
            hints=[Hint.of("compare all voxels with {}", update="content"), again],
        )
    if record.about["finished"] is False:
        raise InvalidArgumentError(f"{output.name} cannot be updated: its copy did not finish", hints=[again])
    _check_same(source, output, record, options)
    parts = [leaf.part_stamps() for leaf in leaves(source)]
    known = zip(leaves(source), parts, record.tables, record.about["parts"], strict=True)
    boxes, extents = _Known(known, output).changed(source)
    text = _told(parts, boxes, record)
    if record.about["computed"] and boxes is not None:
        boxes, text = None, f"{text}, and what its functions are now is not known"
    if record.about.get("output") not in (None, output_stamp(output)):
        boxes, text = None, f"{text}, and the output was written since"
    old, new = tuple(record.about["shape"]), source.shape
    if boxes is not None and old != new:
        axis = next(n for n, (a, b) in enumerate(zip(old, new, strict=True)) if a != b)
        boxes = [*boxes, Box.whole(new).with_axis(axis, old[axis], new[axis])]
        text += f"; axis {axis} has grown from {old[axis]:,} to {new[axis]:,}"
    after = Copied.of(source, record.side, options, parts)
    return Update(output, source.shape, source.dtype.itemsize, record, after, parts, boxes, extents, text)


def has_changed(source: Source, output: Source, begun: tuple[Blocking, IdSet] | None) -> bool:
    """Whether an input is known to have changed since a copy that did not finish began to read it: in these blocks, or None for anywhere."""
    record = Copied.read(notes_of(output) or output.side_folder())
    if record is None or not record.is_from(source):
        return False
    parts = [leaf.part_stamps() for leaf in leaves(source)]
    known = zip(leaves(source), parts, record.tables, record.about["parts"], strict=True)
    boxes = _Known(known, output).changed(source)[0] or ()
    return any(begun is None or begun[1] & IdSet.from_ids(begun[0].ids_in(box)) for box in boxes)


def _by_content(source: Source, output: Source, record: Copied | None, options: CopyOptions) -> Update:
    """Return which tiles of a source differ from those of an output; both are read, the output only where no digest of it is kept."""
    old, new = output.shape, source.shape
    _check_grown(source, output, old)
    if source.dtype.name != output.dtype.name:
        raise InvalidArgumentError(
            f"update='content' compares voxels as they are stored: {source.name} has the dtype {source.dtype}, and {output.name} {output.dtype}"
        )
    parts = [leaf.part_stamps() for leaf in leaves(source)]
    run = RunOptions(memory_limit=options.memory_limit, num_workers=options.num_workers)
    theirs, kept = digest_of(source, run), TileDigest.stored(output)
    ours = digest_of(output, run) if kept is None or kept.shape != old else kept
    extents = tile_shape(len(new))
    tables = [
        np.frombuffer(one.hashes, "V32").reshape(
            [-(-n // e) for n, e in zip(one.shape, extents, strict=True)]
        )
        for one in (ours, theirs)
    ]
    cells = np.ones(tables[1].shape, bool)
    common = tuple(map(slice, tables[0].shape))
    cells[common] = tables[0] != tables[1][common]
    boxes = _boxes_of(cells, extents, new)
    text = f"{len(boxes):,} of {cells.size:,} tiles of {times(extents)} voxels differ"
    side = output.side_folder()
    after = (
        None
        if side is None or not (record or is_in_store(output))
        else Copied.of(source, side, options, parts)
    )
    return Update(output, new, source.dtype.itemsize, record, after, parts, boxes, extents, text, theirs)


def _check_same(source: Source, output: Source, record: Copied, options: CopyOptions) -> None:
    about, told = record.about, options_told(options)
    again = Hint.of("to replace it, give {}", overwrite=True)
    for name, value in told.items():
        if value != about["options"].get(name):
            was = about["options"].get(name)
            raise InvalidArgumentError(
                f"{output.name} was copied {f'with {name}={was}' if was else f'without {name}'}, and an update changes voxels only, got {name}={value}",
                hints=[again],
            )
    if missing := [
        f"{name}={about['options'][name]}"
        for name in ("axes", "voxel_size", "units")
        if name in set(about["options"]) - set(told)
    ]:
        raise InvalidArgumentError(
            f"{output.name} was copied with {', '.join(missing)}",
            hints=[Hint("give it for the update too"), again],
        )
    if not record.is_from(source):
        raise InvalidArgumentError(
            f"{output.name} was copied from another input, called {about['name']!r}: {source.name} is not at the same place, or is opened in another way",
            hints=[Hint.of("compare all voxels with {}", update="content"), again],
        )
    if source.dtype.str != record.about["dtype"]:
        was = np.dtype(record.about["dtype"])
        raise InvalidArgumentError(
            f"{source.name} has the dtype {source.dtype} now, and had {was} when it was copied", hints=[again]
        )
    _check_grown(source, output, tuple(record.about["shape"]))


def _check_grown(source: Source, output: Source, old: _Shape) -> None:
    """Raise InvalidArgumentError unless a source has the shape that it had, or is longer along one axis and the output can be so too."""
    again, new = Hint.of("to replace it, give {}", overwrite=True), source.shape
    grown = [n for n, (a, b) in enumerate(zip(old, new, strict=False)) if a != b]
    if (
        len(old) != len(new)
        or len(grown) > 1
        or len(output.shape) != len(new)
        or not all(a <= n <= b for a, n, b in zip(old, output.shape, new, strict=True))
    ):
        raise InvalidArgumentError(
            f"{source.name} has shape {new}, had {old} when it was copied, and {output.name} has {output.shape}: an update can make one "
            "axis longer only",
            hints=[again],
        )
    if output.shape != new and not output.grows:
        raise InvalidArgumentError(
            f"{output.name} cannot get the shape {new}: {output.format} keeps the extents that it was made with",
            hints=[again],
        )


class _Known(NamedTuple):
    """What is known of the stored inputs of a source, one after the other."""

    leaves: Iterator[tuple[Source, PartStamps | None, Any, dict[str, Any]]]
    output: Source

    def changed(self, source: Source) -> tuple[list[Box] | None, _Shape | None]:
        """Return the boxes of a source that have changed, and the extents of its parts; None where that cannot be told."""
        if isinstance(source, OverriddenSource):
            return self.changed(source.inputs[0])
        if isinstance(source, TransposeSource):
            boxes, extents = self.changed(source.inputs[0])
            if boxes is None or extents is None:
                return None, None
            turned = [Box(_turned(b.begin, source.axes), _turned(b.end, source.axes)) for b in boxes]
            return turned, _turned(extents, source.axes)
        if isinstance(source, RoiSource) and len(source.kept) == source.inputs[0].ndim:
            boxes, extents = self.changed(source.inputs[0])
            offset = tuple(-n for n in source.box.begin)
            cut = None if boxes is None else [b.intersect(source.box) for b in boxes]
            return None if cut is None else [b.shift(offset) for b in cut if not b.is_empty()], extents
        below = getattr(source, "inputs", ())
        if below:
            found = [self.changed(one)[0] for one in below]
            return ([], None) if all(boxes == [] for boxes in found) else (None, None)
        return self._of_leaf(*next(self.leaves))

    def _of_leaf(
        self, leaf: Source, now: PartStamps | None, table: Any, about: dict[str, Any]
    ) -> tuple[list[Box] | None, _Shape | None]:
        if now is None or folder_number(leaf) != about.get("folder") or layout_told(leaf) != about["layout"]:
            return None, None
        since = about.get("since")
        if table is not None and about["extents"] == list(now.extents):
            cells = _changed_cells(table, now)
        elif since is not None and now.times is not None:
            cells = now.times >= since
            if now.removed >= since:
                cells |= (now.stamps == 0) & self._stored(now)
        else:
            return None, None
        return _boxes_of(cells, now.extents, leaf.shape), now.extents

    def _stored(self, now: PartStamps) -> Any:
        """Return where the output stores something, as far as its parts are those of the input: what is missing in both has not changed."""
        found = self.output.part_stamps() if isinstance(self.output, FileSource) else None
        if found is None or found.extents != now.extents or found.stamps.shape != now.stamps.shape:
            return True
        return found.stamps != 0


def _boxes_of(cells: Any, extents: _Shape, shape: _Shape) -> list[Box]:
    """Return the voxels of the cells of a grid that are set."""
    begins = np.argwhere(cells) * np.array(extents)
    ends: list[list[int]] = np.minimum(begins + np.array(extents), np.array(shape)).tolist()
    return [Box(tuple(begin), tuple(end)) for begin, end in zip(begins.tolist(), ends, strict=True)]


def _changed_cells(table: Any, now: PartStamps | None) -> Any:
    if now is None or table.ndim != now.stamps.ndim:
        return np.ones(table.shape, bool)
    cells = np.ones(now.stamps.shape, bool)
    common = tuple(map(slice, np.minimum(table.shape, cells.shape).tolist()))
    cells[common] = table[common] != now.stamps[common]
    return cells


def _with_unknown(table: Any, now: PartStamps | None) -> Any:
    """Return a table with all parts unknown that have other stamps now."""
    changed = _changed_cells(table, now)[tuple(map(slice, table.shape))]
    found = table.copy()
    found[tuple(map(slice, changed.shape))][changed] = UNKNOWN
    return found


def _equal(tables: Sequence[Any], others: Sequence[Any]) -> bool:
    if len(tables) != len(others):
        return False
    pairs = zip(tables, others, strict=True)
    return all(a is b or (a is not None and b is not None and np.array_equal(a, b)) for a, b in pairs)


def _turned(extents: Sequence[int], axes: Sequence[int]) -> _Shape:
    return tuple(extents[axis] for axis in axes)


def _told(parts: Sequence[PartStamps | None], boxes: Sequence[Box] | None, record: Copied) -> str:
    since = f"since the copy of {record.about['began']}"
    if len(parts) != 1 or parts[0] is None:
        what = "what has changed is not known" if boxes is None else "nothing has changed"
        return f"{what} {since}"
    part = parts[0]
    if boxes is None:
        return f"which {part.what}s have changed {since} is not known".replace("ss ", "s ")
    if part.what == "file":
        return f"the file has {'' if boxes else 'not '}changed {since}" + (
            ", and which of its voxels is not known" if boxes else ""
        )
    return f"{len(boxes):,} of {part.stamps.size:,} {part.what} have changed {since}"
