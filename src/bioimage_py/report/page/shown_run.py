"""What the page of a run shows, as plain values: blocks in their place, speed over time, stages, tasks, errors, the plan."""

from __future__ import annotations

import itertools
import math
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bioimage_py.geometry import Blocking, IdSet
from bioimage_py.planning import format_bytes, times
from bioimage_py.runner.run import (
    BlockError,
    RunAccount,
    RunStatus,
    StatusReader,
    account_of_attempts,
    attempt_state,
    place_text,
    without_credentials,
)
from bioimage_py.runner.work import BlockGroups, CompositeWork, DeferredWork, stored_blocks
from bioimage_py.storage import this_process
from bioimage_py.system import peak_memory
from bioimage_py.text import counted, duration, ids_text, rate, shortened

if TYPE_CHECKING:
    from bioimage_py.runner import Journal, Work

_MOST_CELLS = 10_000
"""Cells of one map of one array, and of all maps of a page three times as many."""
_LONGEST_STRIP = 240
_MOST_MAPS = 24
_MOST_ARRAYS = 200
_MOST_TASKS = 200
_MOST_COUNTED = 2**20
"""Blocks that are all looked at; of more, as many are taken evenly, one at random of each stretch."""
_MOST_MARKED = 100_000
"""Blocks that failed, or are in work, and are marked in the maps."""
_MOST_MOMENTS = 120
_LONGEST_TEXT, _LONGEST_TRACEBACK = 600, 4000
_TEMPORARY = "temporary store"
_WORDS = {"moving_in": "reading chunks", "moving_out": "storing chunks"}

Rows = list[tuple[str, str]]


@dataclass(frozen=True)
class Part:
    """One array of a run: its blocks, and where their numbers begin among all."""

    name: str
    axes: tuple[str, ...]
    groups: BlockGroups
    offset: int = 0

    @property
    def blocking(self) -> Blocking:
        return self.groups.blocking

    def own(self, ids: IdSet) -> IdSet:
        """Return which of the run's blocks, or groups, are of this array, in its numbering."""
        return (ids & IdSet.from_range(self.offset + self.blocking.n_blocks, self.offset)).shifted(
            -self.offset
        )


@dataclass(frozen=True)
class ShownRun:
    """All that a page shows."""

    title: str
    state: str  # "running", "finished" or "stopped"
    state_text: str
    made: str
    counts: Mapping[str, int]
    tiles: Sequence[tuple[str, str, str]]  # label, value, and what is said below it
    arrays: Sequence[Mapping[str, Any]]
    more_arrays: int
    pace: Mapping[str, Any] | None
    stages: Mapping[str, Any] | None
    tasks: Sequence[Rows]
    more_tasks: str
    errors: Sequence[Mapping[str, str]]
    more_errors: str
    plan: Rows
    live: bool = False

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class _Blocks:
    """The blocks of a run by their state."""

    wanted: IdSet
    done: IdSet
    failed: IdSet
    running: IdSet

    def counts(self) -> dict[str, int]:
        sets = {"total": self.wanted, "done": self.done, "failed": self.failed, "running": self.running}
        return {name: len(ids) for name, ids in sets.items()}

    def of(self, part: Part) -> _Blocks:
        return _Blocks(*(part.own(ids) for ids in (self.wanted, self.done, self.failed, self.running)))


class RunLook:
    """Says what a page shows of a run that keeps a folder, look after look."""

    def __init__(self, reader: StatusReader) -> None:
        self.reader = reader
        work, folder = reader.run["work"], reader.folder
        self._wanted = folder.stored_ids(work["block_ids"])
        self._parts = _parts_of_run(reader, work, self._wanted)
        self._status: RunStatus | None = None

    def shown(self, status: RunStatus) -> ShownRun:
        """Return what a page shows at a status that the reader has just given."""
        self._status, recorded = status, self.reader.recorded
        done, failed = recorded.done & self._wanted, recorded.raised & self._wanted
        running = IdSet.union(self._in_work(status, done)) if status.working else IdSet()
        return self._shown(status, _Blocks(self._wanted, done, failed - running, running))

    def ended(self) -> ShownRun:
        """Return what a page shows of a run whose folder was removed since the last look: all is done."""
        assert self._status is not None
        n_blocks, n_bytes = self._status.blocks_total, self._status.bytes_total
        done = replace(self._status, working=False, blocks_done=n_blocks, bytes_done=n_bytes)
        status = replace(done, blocks_failed=0, errors=())
        return self._shown(status, _Blocks(self._wanted, self._wanted, IdSet(), IdSet()))

    def _shown(self, status: RunStatus, blocks: _Blocks) -> ShownRun:
        recorded, run, over = self.reader.recorded, self.reader.run, status.state == "finished"
        states = [
            {
                **one.state,
                "round": one.files.round,
                "task": one.files.task,
                "state": "finished" if over else attempt_state(one, status.working),
            }
            for one in recorded.attempts
        ]
        rows = dict(status.rows())
        plan = [
            *((label, rows[label]) for label in ("run", "backend") if label == "backend" or not over),
            *_planned(run),
            *((label, rows[label]) for label in ("tasks", "to finish") if label in rows),
        ]
        return _shown(status, self._parts, blocks, states, account_of_attempts(None, states), plan)

    def _in_work(self, status: RunStatus, done: IdSet) -> Iterator[IdSet]:
        """Yield the blocks that tasks have in hand: of each open portion the first groups that are not done, one for each thread."""
        folder, number = self.reader.folder, status.rounds - 1
        latest = [one for one in self.reader.recorded.attempts if one.files.round == number]
        alive = {one.files.stem: one for one in latest if attempt_state(one, True) == "running"}
        settled = done | IdSet(run for one in latest for run in one.failed)
        if not alive:
            return
        with folder.orders(number) as orders:
            claimed = [
                (orders[portion].groups, alive.get(holder.stem))
                for portion, holder in folder.open_portions(number)
            ]
            # Threads of one process share the one portion of their round, which nobody claims.
            claimed = claimed or [
                (orders[0].groups, attempt) for attempt in alive.values() if len(orders) == 1
            ]
        for groups, attempt in claimed:
            left = 0 if attempt is None else int(attempt.state.get("threads", 1))
            for part in self._parts if left else ():
                missing = part.groups.blocks_of(part.own(groups), part.own(self._wanted) - part.own(settled))
                begun = IdSet.from_ids(itertools.islice(part.groups.group_ids(missing), left))
                left -= len(begun)
                yield part.groups.blocks_of(begun, missing).shifted(part.offset)


def shown_journal(
    parts: Sequence[Part], journal: Journal, wanted: IdSet, what: str, plan: Iterable[tuple[str, str]], job_type: str
) -> ShownRun:  # fmt: skip
    """Return what a page shows of a run that has ended, from what this process knows of it."""
    done, account, states, now = journal.done_ids() & wanted, journal.account, journal.states, time.time()
    if not states:
        threads = round(account.worker_seconds / account.seconds) if account and account.seconds else 1
        n_bytes = journal.progress().bytes_done
        journal.pace.add(journal.seconds, n_bytes)
        states = [{
            **this_process(), "round": 0, "task": 0, "bytes": n_bytes, "blocks": len(done), "threads": threads, "memory": peak_memory(),
            "began": now - journal.seconds, "seen": now, "pace": journal.pace.moments,
        }]  # fmt: skip
    failed, errors = IdSet(), []
    if journal.first_error is not None:
        block_id, error = journal.first_error
        errors = [
            BlockError(
                IdSet.from_ids([block_id]), type(error).__name__, without_credentials(str(error)), "", 0
            )
        ]
        # Of others that failed only the number is kept; where it is not that of all that are missing, some were never tried.
        missing = wanted - done
        failed = missing if journal.progress().failed >= len(missing) else errors[0].block_ids
    n_bytes = sum(int(state["bytes"]) for state in states)
    status = RunStatus(
        Path(), job_type, what, min(float(state["began"]) for state in states), 1, False, len(wanted), len(done), len(failed),
        n_bytes, n_bytes, errors=errors,
    )  # fmt: skip
    states = [{"state": "finished", **state} for state in states]
    return _shown(
        status, parts, _Blocks(wanted, done, failed, IdSet()), states, account, [("backend", job_type), *plan]
    )


def _shown(
    status: RunStatus, parts: Sequence[Part], blocks: _Blocks, states: Sequence[Mapping[str, Any]], account: RunAccount | None,
    plan: Sequence[tuple[str, str]],
) -> ShownRun:  # fmt: skip
    maps = max(1, min(len(parts), _MOST_MAPS))
    # Where something failed or is being done comes first, else they stay in their order.
    by_part = [(part, blocks.of(part)) for part in parts]
    by_part.sort(key=lambda one: (not one[1].failed, not one[1].running))
    tasks, counts = _tasks(states), blocks.counts()
    more_tasks = len(tasks) - _MOST_TASKS
    more_errors = counts["failed"] - sum(len(error.block_ids) for error in status.errors)
    account_rows = (
        [] if account is None else [row for row in account.rows() if row[0] in ("chunks", "in", "out")]
    )
    started = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(status.created))
    return ShownRun(
        title=shortened(status.what, 240),
        state=status.state.replace("unfinished", "stopped"),
        state_text=status.state_text,
        made=time.strftime("%Y-%m-%d %H:%M:%S"),
        counts=counts,
        tiles=_tiles(status, account),
        arrays=[
            _array(part, own, maps if n < maps else 0) for n, (part, own) in enumerate(by_part[:_MOST_ARRAYS])
        ],
        more_arrays=max(0, len(parts) - _MOST_ARRAYS),
        pace=_pace(states),
        stages=_stages(account),
        tasks=tasks[:_MOST_TASKS],
        more_tasks=f"and {counted(more_tasks, 'more task')}" if more_tasks > 0 else "",
        errors=[_error(error, parts) for error in status.errors],
        more_errors=f"{counted(more_errors, 'more block')} failed" if more_errors > 0 else "",
        plan=[("started", started), *plan, *account_rows],
    )


# -- the arrays of a run


def parts_of_work(work: Work) -> list[Part]:
    """Return the arrays of work in this process, whose sources are open."""
    found, offset = [], 0
    several: Sequence[Any] = work.parts if isinstance(work, CompositeWork) else (work,)
    for n, part in enumerate(several):
        blocking, axes, deferred = part.blocking, None, isinstance(part, DeferredWork)
        name = "" if not deferred or part.place is None else part.place.path
        if not deferred or n < _MOST_MAPS:  # the run finds them open
            output = (part.shelf.get(part.open, part.meter) if deferred else part).outputs[0]
            name, axes = name or output.name, output.metadata.axes
        name = without_credentials(name) if n < getattr(work, "n_asked", n + 1) else _TEMPORARY
        groups = BlockGroups(blocking, part.group_shape)
        found.append(Part(name, _axes(axes, len(blocking.shape)), groups, offset))
        offset += blocking.n_blocks
    return _named_shortly(found)


def _parts_of_run(reader: StatusReader, work: Mapping[str, Any], wanted: IdSet) -> list[Part]:
    """Return the arrays of the work in a run folder."""
    if work["kind"] == "map":
        n = wanted[-1] + 1 if wanted else 0
        return [Part("items", ("item",), BlockGroups(Blocking((n,), (1,)), (1,)))]
    found, offset = [], 0
    for n, part in enumerate(work.get("parts", [work])):
        blocking, group_shape, _ = stored_blocks({**part, "block_ids": []}, reader.folder)
        places = [*part["outputs"], *part["inputs"]]
        name = place_text(places[0]) if n < work.get("n_asked", n + 1) and places else _TEMPORARY
        axes = _axes(part.get("axes"), len(blocking.shape))
        found.append(Part(name, axes, BlockGroups(blocking, group_shape), offset))
        offset += blocking.n_blocks
    return _named_shortly(found)


def _axes(names: Sequence[str] | None, ndim: int) -> tuple[str, ...]:
    return tuple(names) if names and len(names) == ndim else tuple(f"axis {n}" for n in range(ndim))


def _named_shortly(parts: list[Part]) -> list[Part]:
    """Return the parts with names below the folder that all of them share."""
    split = [part.name.split("/") for part in parts]
    shared = 0
    while len(parts) > 1 and all(len(one) > shared + 1 and one[shared] == split[0][shared] for one in split):
        shared += 1
    return [replace(part, name="/".join(words[shared:])) for part, words in zip(parts, split, strict=True)]


def _array(part: Part, blocks: _Blocks, maps: int) -> dict[str, Any]:
    """Return what is said of an array; with its map, if it has one of the `maps` of the page."""
    blocking = part.blocking
    text = f"{times(blocking.shape)} voxels in blocks of {times(blocking.block_shape)}"
    return {
        "name": shortened(part.name, 200),
        "text": text if part.axes != ("item",) else "one block each",
        **blocks.counts(),
        "sampled": maps > 0 and blocking.n_blocks > _MOST_COUNTED // maps,
        "panels": _panels(part, blocks, maps) if maps else None,
    }


def _panels(part: Part, blocks: _Blocks, maps: int) -> list[dict[str, Any]]:
    """Return projections of the grid of blocks, each with what its cells hold."""
    grid, n = part.blocking.grid_shape, part.blocking.n_blocks
    if not n:
        return []
    step = -(-n // (_MOST_COUNTED // maps))
    ids = np.arange(0, n, step)
    if step > 1:  # a fixed step could always meet the same column
        ids = np.minimum(ids + np.random.default_rng(0).integers(0, step, len(ids)), n - 1)
    every = np.unravel_index(ids, grid)
    inside = {name: _is_in(ids, own) for name, own in (("total", blocks.wanted), ("done", blocks.done))}
    marked = {
        name: np.unravel_index(np.fromiter(itertools.islice(own, _MOST_MARKED), np.int64), grid)
        for name, own in (("failed", blocks.failed), ("running", blocks.running))
    }
    found = []
    for rows, columns in _projections(grid):
        longest = math.isqrt(max(400, _MOST_CELLS // maps)) if rows and len(grid) > 1 else _LONGEST_STRIP
        sides = [_Side(part, axes, longest) for axes in (rows, columns)]
        n_cells = sides[0].n * sides[1].n
        cells = sides[0].cell(every) * sides[1].n + sides[1].cell(every)
        counts = {name: np.bincount(cells[mask], minlength=n_cells) * step for name, mask in inside.items()}
        panel: dict[str, Any] = {name: _short(values) for name, values in counts.items()}
        for name, positions in marked.items():
            at, many = np.unique(
                sides[0].cell(positions) * sides[1].n + sides[1].cell(positions), return_counts=True
            )
            panel[name] = dict(zip(map(str, at.tolist()), many.tolist(), strict=True))
        found.append({**panel, "rows": sides[0].to_json(), "columns": sides[1].to_json()})
    return found


class _Side:
    """The axes that go one way in a map, as cells of some blocks each."""

    def __init__(self, part: Part, axes: tuple[int, ...], longest: int) -> None:
        blocking = part.blocking
        self._axes, self._grid = axes, [blocking.grid_shape[axis] for axis in axes]
        length = math.prod(self._grid)
        self._each = -(-length // longest)  # blocks in a cell
        self.n = -(-length // self._each)
        self._name = " ".join(part.axes[axis] for axis in axes)
        one = axes[0] if len(axes) == 1 else None
        self._voxels = length if one is None else blocking.roi.shape[one]
        self._block = 1 if one is None else blocking.block_shape[one]
        self._begin = 0 if one is None else blocking.roi.begin[one]

    def cell(self, positions: Sequence[Any]) -> Any:
        if not self._axes:
            return np.zeros_like(positions[0])
        at = np.ravel_multi_index([positions[axis] for axis in self._axes], self._grid)
        return at // self._each

    def to_json(self) -> dict[str, Any]:
        voxels = {"extent": self._voxels, "block": self._block, "begin": self._begin}
        return {"name": self._name, "n": self.n, "each": self._each, **voxels}


def _projections(grid: Sequence[int]) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Yield which axes go down and to the right: the plane, for a volume the other two, and a map of the axes before these."""
    n = len(grid)
    z, y, x = n - 3, n - 2, n - 1
    yield ((y,) if n > 1 else ()), ((x,) if n else ())
    if n > 2 and grid[z] > 1:
        yield (y,), (z,)
        yield (z,), (x,)
    if math.prod(grid[: max(0, z)]) > 1:
        yield tuple(range(z - 1)), (z - 1,)


def _is_in(ids: Any, own: IdSet) -> Any:
    begins, ends = own.to_arrays()
    edges = np.empty(2 * len(begins), np.int64)
    edges[::2], edges[1::2] = begins, ends
    return np.searchsorted(edges, ids, "right") % 2 == 1


def _short(values: Any) -> int | list[int]:
    """Return numbers as a list, or as the one that all are."""
    return int(values[0]) if (values == values[0]).all() else values.tolist()


# -- what was done


def _pace(states: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return what was done per second, of all attempts together, in stretches of equal length."""
    unit = "bytes" if any(state.get("bytes") for state in states) else "blocks"
    lines = []
    for state in states:
        began, seen = float(state["began"]), float(state["seen"])
        moments = state.get("pace") or [(0.0, 0), (seen - began, state.get(unit, 0))]
        if moments[-1][1]:
            lines.append((began, *np.array(moments, float).T))
    if not lines:
        return None
    begin = min(began + seconds[0] for began, seconds, _ in lines)
    whole = max(1e-3, max(began + seconds[-1] for began, seconds, _ in lines) - begin)
    # No finer than what was told, or it would show when it was told.
    told = float(np.median(np.concatenate([np.diff(seconds) for _, seconds, _ in lines])))
    n = int(min(_MOST_MOMENTS, max(1, whole // max(told, 1e-3))))
    edges = np.linspace(0, whole, n + 1)
    amount = sum(np.interp(edges + begin, began + seconds, amounts) for began, seconds, amounts in lines)
    values = np.diff(amount) / (whole / n)
    return {
        "unit": unit,
        "step": whole / n,
        "values": [float(f"{value:.3g}") for value in np.maximum(0, values)],
    }


def _stages(account: RunAccount | None) -> dict[str, Any] | None:
    if account is None or not account.shares:
        return None
    parts = [
        (
            name,
            _WORDS.get(name, name),
            share,
            duration(share * max(account.worker_seconds, sum(account.stages.values()))),
        )
        for name, share in account.shares.items()
        if share >= 0.005
    ]
    limit = str(account.limit)
    return {
        "parts": parts,
        "limit": "most of it without work" if limit == "idle" else f"the limit is {_WORDS.get(limit, limit)}",
    }


def _tasks(states: Sequence[Mapping[str, Any]]) -> list[Rows]:
    """Return a row for each task: attempts at it together, those that are not finished first."""
    by_task: dict[tuple[int, int], list[Mapping[str, Any]]] = defaultdict(list)
    for state in states:
        by_task[int(state.get("round", 0)), int(state.get("task", 0))].append(state)
    order = {"error": 0, "died": 1, "running": 2, "stopped": 3}
    last_round = max((number for number, _ in by_task), default=0)
    found = []
    for (number, task), attempts in by_task.items():
        attempts.sort(key=lambda state: float(state["began"]))
        last, seconds = attempts[-1], sum(float(one["seen"]) - float(one["began"]) for one in attempts)
        n_bytes, memory = (
            sum(int(one["bytes"]) for one in attempts),
            [one.get("memory") or 0 for one in attempts],
        )
        row = [
            ("task", f"{task}" + (f" (round {number + 1})" if last_round else "")),
            ("state", str(last["state"])),
            ("node", str(last.get("host") or "")),
            ("blocks", f"{sum(int(one.get('blocks', 0)) for one in attempts):,}"),
            ("written", format_bytes(n_bytes) if n_bytes else "-"),
            ("speed", rate(n_bytes, seconds) if n_bytes else "-"),
            ("time", duration(seconds)),
            ("memory", format_bytes(max(memory)) if max(memory) else "-"),
            ("attempts", str(len(attempts))),
        ]
        found.append(((order.get(last["state"], 4), -number, task), row))
    return [row for _, row in sorted(found, key=lambda one: one[0])]


def _error(error: BlockError, parts: Sequence[Part]) -> dict[str, str]:
    place, where = "", f"task {error.task}"
    if error.block_ids:
        runs = error.block_ids.runs
        where = (
            f"{'blocks' if len(error.block_ids) > 1 else 'block'} {ids_text(runs[:5]).replace(',', ', ')}"
            + (" …" if len(runs) > 5 else "")
        )
        first = error.block_ids[0]
        part = next(
            (part for part in parts if part.offset <= first < part.offset + part.blocking.n_blocks), None
        )
        if part is not None and part.axes != ("item",):
            box = part.blocking[first - part.offset]
            place = ", ".join(
                f"{axis} {b:,}-{e - 1:,}" for axis, b, e in zip(part.axes, box.begin, box.end, strict=True)
            )
            place = f"{part.name}: {place}" if len(parts) > 1 else place
    return {
        "where": where,
        "place": place,
        "type": error.type,
        "text": error.text if len(error.text) <= _LONGEST_TEXT else f"{error.text[:_LONGEST_TEXT]}…",
        "traceback": error.traceback[-_LONGEST_TRACEBACK:],
    }


# -- in words


def _tiles(status: RunStatus, account: RunAccount | None) -> list[tuple[str, str, str]]:
    share = 100 * status.blocks_done // status.blocks_total if status.blocks_total else 100
    failed = f", {status.blocks_failed:,} failed" if status.blocks_failed else ""
    found = [("blocks", f"{status.blocks_done:,}", f"of {status.blocks_total:,} ({share} %){failed}")]
    seconds = account.seconds if account is not None else 0.0
    if status.bytes_done or status.bytes_total:
        of = (
            f"of {format_bytes(status.bytes_total)} at most"
            if status.bytes_total > status.bytes_done
            else "voxels, decoded"
        )
        found.append(("written", format_bytes(status.bytes_done), of))
    if status.working and status.blocks_per_second is not None:
        blocks = f"{status.blocks_per_second:,.3g} blocks/s"
        speed = (rate(status.bytes_per_second, 1), blocks) if status.bytes_per_second else (blocks, "")
        found.append(("speed now", *speed))
    elif seconds and status.blocks_done:
        blocks = f"{status.blocks_done / seconds:,.3g} blocks/s"
        speed = (rate(status.bytes_done, seconds), blocks) if status.bytes_done else (blocks, "")
        found.append(("speed", *speed))
    if status.working:
        left = status.seconds_left
        found.append(
            (
                "time left",
                "not known yet" if left is None else duration(left),
                "" if left is None else "at the present speed",
            )
        )
        found.append(("running for", duration(max(0.0, time.time() - status.created)), ""))
    elif seconds:
        workers = f"{duration(account.worker_seconds)} of all threads" if account else ""
        found.append(("time", duration(seconds), workers))
    return found


def _planned(run: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what the plan in a run folder says."""
    work = run["work"]
    parts = work.get("parts", [work])
    first, threads = parts[0], int(run["threads"])
    if len(parts) > 1:
        yield "arrays", f"{len(parts):,}" + (", in two passes" if work.get("temporary") else "")
    if "shape" in first:
        for label, specs in (("input", first["inputs"]), ("output", first["outputs"])):
            yield from ((label, place_text(spec)) for spec in specs[:1])
        yield "shape", f"{times(first['shape'])} voxels"
        yield "blocks", f"of {times(first['block_shape'])} voxels"
        if first["group_shape"] != first["block_shape"]:
            yield "groups", f"of {times(first['group_shape'])} voxels, so that each shard is written once"
        if first["kind"] == "copy":
            yield "road", str((first.get("moving") or {}).get("road", "recode"))
    each = counted(threads, "thread")
    yield "workers", each if run["job_type"] == "local" else f"{run['num_workers']:,} at once, {each} each"
