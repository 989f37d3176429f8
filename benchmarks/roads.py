"""Every row of what the roads promise, beside its references, in one run.

    python benchmarks/roads.py                     all rows, 5 rounds, about half an hour
    python benchmarks/roads.py --only pack mask    some rows; the others keep the figures that they have
    python benchmarks/roads.py --quick             256³ (large ones 512³), one round: for a look, not for claims

Each engine is a process of its own that has copied a small volume before. Engines take turns; a round runs each once, in an
order that moves on from round to round. Inputs are in the page cache, outputs are made anew and emptied, nothing syncs inside
the clock, and `sync` empties the queue of writes before it starts. Block shapes and ways of looping are tried first, and each
reference is measured with its fastest. Each way's output is compared with the input once. Results go to `roads.json` and
`roads.md` in the folder of `--out`; `fill.py` puts them into the documentation.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from data import fit
from road_checks import check_output
from road_inputs import stored_input
from road_pages import TITLE as PAGES_TITLE, measured_pages
from road_rows import LOOPS, ROWS, Row
from road_table import table, verdicts
from run import environment, machine

HERE = Path(__file__).resolve().parent
CACHE = HERE / ".cache" / "data"
LEFT = CACHE / "left"
ENVIRONMENTS = {"peer": "bioimage-py[io,hdf5,imagestack]==0.2.2", "zarrs": "zarrs==0.2.3"}
WARM_EDGE = 64
GROWN = (1000, 2000, 4000)


class Engine:
    """A process that copies when it is told to, and says how long that took."""

    def __init__(self, name: str, *flags: str) -> None:
        python = environment(name, ENVIRONMENTS[name]) if name in ENVIRONMENTS else Path(sys.executable)
        self.name = name
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - read when the process has failed
        self._process = subprocess.Popen(
            [python, HERE / "road_engines.py", name, *flags],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True,
        )  # fmt: skip

    def copy(self, job: dict[str, Any]) -> dict[str, Any]:
        """Run one copy and return what the process measured."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            self._errors.seek(0)
            raise SystemExit(f"{self.name} failed on {job}:\n{self._errors.read()[-4000:]}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        self._process.communicate()


class CopyCommand:
    """`cp -r` of the stored array, started from here."""

    def copy(self, job: dict[str, Any]) -> dict[str, Any]:
        os.sync()
        start = time.perf_counter()
        subprocess.run(["cp", "-r", job["source"], job["out"]], check=True)
        return {"seconds": time.perf_counter() - start}

    def close(self) -> None:
        """Nothing runs on."""


def job_for(row: Row, edge: int, out: Path, way: dict[str, Any]) -> dict[str, Any]:
    mask = None if row.mask is None else stored_input(row.mask, edge, CACHE)
    return {
        "source": str(stored_input(row.input, edge, CACHE)),
        "key": row.key,
        "shape": [edge] * 3,
        "out": str(out),
        "mask": None if mask is None else str(mask),
        "codec": row.codec,
        "chunks": row.chunks,
        "shards": row.shards,
        "ours": cut(row.ours, edge),
        "block": None if way.get("block") is None else whole_units(way["block"], row, edge),
        "style": way.get("style", ""),
    }


def whole_units(block: tuple[int, ...], row: Row, edge: int) -> tuple[int, ...]:
    """Cut a block down to a smaller volume, as whole write units of the output: the peer takes no others."""
    units = fit(row.shards or row.chunks, edge)
    return tuple(min(b, -(-edge // u) * u) for b, u in zip(block, units, strict=True))


def cut(options: dict[str, Any], edge: int) -> dict[str, Any]:
    """Cut shapes among the arguments of a copy down to a smaller volume."""
    return {name: fit(v, edge) if isinstance(v, tuple) else v for name, v in options.items()}


def ways(row: Row, engine: str) -> list[dict[str, Any]]:
    """Return the ways to try for an engine."""
    shapes = [{"block": block} for block in row.blocks]
    if engine == "peer":
        large = row.edge > 512
        return [*([{}] if row.peer_default else []), *(shapes[:1] if large else shapes)]
    if engine == "tensorstore":
        several = [{"style": style, **shape} for style in ("threads", "ahead") for shape in shapes]
        return [*several, {"style": "whole"}]
    if engine == "zarrs":
        return [{"style": style, **shape} for style in ("one thread", "two threads") for shape in shapes]
    if engine == "files":
        return [{"style": "one thread"}, {"style": "two threads"}]
    return [{}]


def once(engine: Any, row: Row, edge: int, way: dict[str, Any], *, check: bool) -> dict[str, Any]:
    """Copy once into a new place, whose files are emptied, and return the measurement.

    They are removed when all is measured: where many files were removed in the last minutes, ext4 searches long for room for a
    new one, whichever engine asks for it.
    """
    LEFT.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=LEFT))
    try:
        answer: dict[str, Any] = engine.copy(job_for(row, edge, folder / "out.zarr", way))
        if check:
            check_output(row, edge, folder / "out.zarr", CACHE)
        return answer
    finally:
        for path in folder.rglob("*"):
            if path.is_file():
                os.truncate(path, 0)


def best_way(
    engine: Any, row: Row, edge: int, tried: list[dict[str, Any]], *, check: bool, slow: bool
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the fastest way, those near it tried twice unless they are slow, and the seconds of all."""
    found = []
    for way in tried:
        try:
            found.append((once(engine, row, edge, way, check=check)["seconds"], way))
        except SystemExit as error:
            raise SystemExit(f"{row.title}, {way}: {error}") from error
    if len(found) > 1 and not slow:
        near = 1.3 * min(seconds for seconds, _ in found)
        found = [
            (min(s, once(engine, row, edge, way, check=False)["seconds"]) if s < near else s, way)
            for s, way in found
        ]
    best = min(found, key=lambda one: one[0])[1]
    return best, [{**way, "seconds": seconds} for seconds, way in found]


def measured(row: Row, edge: int, rounds: int) -> dict[str, Any]:
    """Measure one row: all engines in turn."""
    engines: dict[str, Any] = {e: CopyCommand() if e == "cp" else Engine(e) for e in row.engines}
    best: dict[str, Any] = {}
    tried: dict[str, Any] = {}
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in engines}
    try:
        for name, engine in engines.items():
            if name != "cp" and row.mask is None:
                once(engine, row, WARM_EDGE, ways(row, name)[0], check=False)
            check = name not in ("cp", "files", "floor")
            slow = name in row.slow
            best[name], tried[name] = best_way(engine, row, edge, ways(row, name), check=check, slow=slow)
            if slow:
                runs[name].append({"seconds": min(way["seconds"] for way in tried[name])})
        names = list(engines)
        for number in range(rounds):
            for name in names[number % len(names) :] + names[: number % len(names)]:
                if name not in row.slow:
                    runs[name].append(once(engines[name], row, edge, best[name], check=False))
        grown = growth(row, engines["ours"], rounds) if row.input == "sparse" else None
    finally:
        for engine in engines.values():
            engine.close()
    result = {
        "title": row.title,
        "edge": edge,
        "limits": [{"engines": limit.engines, "most": limit.most} for limit in row.limits],
        "ways": best,
        "tried": tried,
        "seconds": {name: [run["seconds"] for run in some] for name, some in runs.items()},
        "peak_bytes": max(run["peak_bytes"] for run in runs["ours"]),
    }
    if row.mask is not None:
        stored = sum(p.stat().st_size for p in stored_input(row.input, edge, CACHE).rglob("*") if p.is_file())
        result |= {"bytes_read": max(r["bytes_read"] for r in runs["ours"]), "bytes_stored": stored}
    if grown is not None:
        result["growth"] = grown
    return result


def growth(row: Row, engine: Engine, rounds: int) -> dict[str, float]:
    """Return ours for the same number of chunks in grids of growing extent, in turn."""
    grown = dataclasses.replace(row, input="same-count")
    seconds: dict[int, list[float]] = {edge: [] for edge in GROWN}
    for number in range(rounds + 1):
        for edge, some in seconds.items():
            taken = once(engine, grown, edge, {}, check=number == 0)["seconds"]
            if number:
                some.append(taken)
    return {f"{edge}³": statistics.median(some) for edge, some in seconds.items()}


def others_at_work() -> float:
    """Return how many processors other work kept busy in the last second, in which this one did nothing."""

    def busy_and_all() -> tuple[int, int]:
        ticks = [int(part) for part in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
        return sum(ticks) - ticks[3] - ticks[4], sum(ticks)

    busy, every = busy_and_all()
    time.sleep(1)
    now_busy, now_every = busy_and_all()
    return (os.cpu_count() or 1) * (now_busy - busy) / max(1, now_every - every)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [*ROWS, "pages"]
    parser.add_argument("--only", nargs="+", choices=names, metavar="ROW", help=", ".join(names))
    parser.add_argument(
        "--rounds",
        type=int,
        help="measurements per engine (default 5; for the peer on 2,000³ the best of what is tried)",
    )
    parser.add_argument("--quick", action="store_true", help="small volumes and one round")
    parser.add_argument("--pages", type=int, default=512, help="pages of 4,096² in the TIFF (2048 is 64 GiB)")
    parser.add_argument(
        "--out", type=Path, default=HERE / "results", help="folder for roads.json and roads.md"
    )
    return parser.parse_args()


def main() -> None:
    args = parse()
    rounds = args.rounds or (1 if args.quick else 5)
    args.out.mkdir(parents=True, exist_ok=True)
    CACHE.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(LEFT, ignore_errors=True)
    path = args.out / "roads.json"
    results: dict[str, Any] = json.loads(path.read_text())["rows"] if path.exists() and args.only else {}
    for name in args.only or (*ROWS, "pages"):
        load = others_at_work()
        began = time.perf_counter()
        if name == "pages":
            result = {"title": PAGES_TITLE, **measured_pages(Engine, 32 if args.quick else args.pages, CACHE)}
        else:
            row = ROWS[name]
            small = min(row.edge, 512 if row.edge > 512 else 256)
            result = measured(row, small if args.quick else row.edge, rounds)
        results[name] = {**result, "rounds": rounds, "load": load, "took": time.perf_counter() - began}
        for text in verdicts(results[name]):
            print(f"{name}: {text}", flush=True)
        facts = {"machine": machine(None), "loops": LOOPS, "rows": results}
        path.write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n")
        (args.out / "roads.md").write_text(table(facts))
    shutil.rmtree(LEFT, ignore_errors=True)


if __name__ == "__main__":
    main()
