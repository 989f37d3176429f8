"""Run the workloads: ours with the default call, the peer with its best block shape, and a plain TensorStore loop.

    python benchmarks/run.py [--quick] [--only NAME …] [--repeats N] [--out FOLDER]

Engines take turns (ours, peer, loop, ours, …) on the same stored inputs, every measurement in a process of its own
that times only the call, opening included, imports not. The first output of each engine is compared with the input
voxel by voxel. The table and the raw numbers are written to the folder given by `--out`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from data import prepare
from measure import WARM_EDGE
from workloads import WORKLOADS

HERE = Path(__file__).resolve().parent
CACHE = HERE / ".cache"
PEER = "bioimage-py[io,hdf5,imagestack]==0.2.2"
OURS_PACKAGES = ("bioimage-py", "numpy", "tensorstore", "zarr", "tifffile", "imagecodecs", "h5py")
PEER_PACKAGES = ("bioimage_py", "numpy", "zarr", "numcodecs", "z5py", "tifffile", "h5py")


def peer_python(given: Path | None) -> Path:
    """Return the Python of the peer's environment; without one, make it with pip."""
    return environment("peer", PEER) if given is None else given


def environment(name: str, requirement: str) -> Path:
    """Return the Python of an environment that holds one requirement, made on first use."""
    folder = CACHE / name
    python = folder / "bin" / "python"
    if not (folder / ".ready").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", requirement], check=True)
        (folder / ".ready").touch()
    return python


def measure(
    python: Path, engine: str, name: str, edge: int, block: tuple[int, ...] | None, *, check: bool
) -> dict[str, float]:
    """Run one measurement in a new process and return what it printed."""
    command = [python, HERE / "measure.py", engine, name, "--edge", str(edge), "--cache", CACHE / "data"]
    if block is not None:
        command += ["--block", ",".join(map(str, block))]
    if check:
        command.append("--check")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{engine} failed on {name}:\n{done.stderr[-4000:]}")
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def best_block(python: Path, engine: str, name: str, edge: int) -> tuple[tuple[int, ...], dict[str, float]]:
    """Try each block shape, checked, those near the best once more, and return the fastest with the seconds of all."""

    def seconds(block: tuple[int, ...]) -> float:
        return measure(python, engine, name, edge, block, check=True)["seconds"]

    tried = {block: seconds(block) for block in WORKLOADS[name].peer_blocks}
    near = 1.3 * min(tried.values())
    tried = {b: min(s, seconds(b)) if s < near and len(tried) > 1 else s for b, s in tried.items()}
    best = min(tried, key=lambda b: tried[b])
    return best, {"×".join(map(str, b)): s for b, s in tried.items()}


def run_workload(name: str, pythons: dict[str, Path], edge: int, repeats: int) -> dict[str, Any]:
    """Measure one workload with every engine in turn."""
    work = WORKLOADS[name]
    for needed in filter(None, (work.input, work.mask)):
        for size in (WARM_EDGE, edge):
            prepare(needed, size, CACHE / "data")
    engines = [e for e in pythons if e != "loop" or work.loop]
    blocks: dict[str, tuple[int, ...] | None] = {"ours": None}
    tried: dict[str, dict[str, float]] = {}
    measure(pythons["ours"], "ours", name, edge, None, check=True)
    for engine in engines:
        if engine != "ours":
            blocks[engine], tried[engine] = best_block(pythons[engine], engine, name, edge)
    runs: dict[str, list[dict[str, float]]] = {engine: [] for engine in engines}
    for _ in range(repeats):
        for engine in engines:
            runs[engine].append(measure(pythons[engine], engine, name, edge, blocks[engine], check=False))
    return {
        "title": work.title,
        "promised": work.promised,
        "edge": edge,
        "block_shapes": {e: b for e, b in blocks.items() if b is not None},
        "tried_seconds": tried,
        "seconds": {e: [r["seconds"] for r in rs] for e, rs in runs.items()},
        "peak_bytes": {e: max(r["peak_bytes"] for r in rs) for e, rs in runs.items()},
    }


def medians(result: dict[str, Any]) -> dict[str, float]:
    return {engine: statistics.median(seconds) for engine, seconds in result["seconds"].items()}


def table(results: dict[str, dict[str, Any]]) -> str:
    """Return the markdown table of medians."""
    lines = [
        "| work | ours (s) | bioimage-py 0.2.2 (s) | its block shape | times faster | TensorStore loop (s) |",
        "| --- | ---: | ---: | --- | ---: | ---: |",
    ]
    for result in results.values():
        mid = medians(result)
        loop = f"{mid['loop']:.2f}" if "loop" in mid else ""
        peer, block, ratio = "", "", ""
        if "peer" in mid:
            factor = mid["peer"] / mid["ours"]
            peer, ratio = f"{mid['peer']:.2f}", f"**{factor:.1f}**"
            block = "×".join(map(str, result["block_shapes"]["peer"]))
        lines.append(f"| {result['title']} | {mid['ours']:.2f} | {peer} | {block} | {ratio} | {loop} |")
    return "\n".join(lines) + "\n"


def machine(python: Path | None) -> dict[str, Any]:
    """Return what the numbers depend on: processor, cores, system, versions."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    facts: dict[str, Any] = {
        "processor": model,
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "ours": {name: version(name) for name in OURS_PACKAGES},
    }
    if python is not None:
        ask = f"import json; from importlib.metadata import version; print(json.dumps({{n: version(n) for n in {PEER_PACKAGES}}}))"
        facts["peer"] = json.loads(
            subprocess.run([python, "-c", ask], capture_output=True, check=True).stdout
        )
    return facts


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="256³ voxels and 3 repeats: for a look, not for claims"
    )
    parser.add_argument("--only", nargs="+", choices=WORKLOADS, metavar="NAME", help=", ".join(WORKLOADS))
    parser.add_argument("--repeats", type=int, help="measurements per engine (default 5)")
    parser.add_argument(
        "--out", type=Path, default=HERE / "results", help="folder for speed.md and speed.json"
    )
    parser.add_argument("--peer-python", type=Path, help="Python of an environment that has the peer already")
    parser.add_argument("--no-peer", action="store_true", help="measure ours and the loop only")
    return parser.parse_args()


def main() -> None:
    args = parse()
    edge, repeats = (256, args.repeats or 3) if args.quick else (512, args.repeats or 5)
    pythons = {"ours": Path(sys.executable)}
    if not args.no_peer:
        pythons["peer"] = peer_python(args.peer_python)
    pythons["loop"] = Path(sys.executable)
    results: dict[str, dict[str, Any]] = {}
    args.out.mkdir(parents=True, exist_ok=True)
    for name in args.only or WORKLOADS:
        results[name] = run_workload(name, pythons, edge, repeats)
        mid = medians(results[name])
        print(
            f"{name}: " + ", ".join(f"{engine} {seconds:.2f} s" for engine, seconds in mid.items()),
            flush=True,
        )
        facts = {"machine": machine(pythons.get("peer")), "repeats": repeats, "workloads": results}
        (args.out / "speed.json").write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n")
        (args.out / "speed.md").write_text(table(results))
    print(table(results))


if __name__ == "__main__":
    main()
