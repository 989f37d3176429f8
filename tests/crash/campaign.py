"""A campaign of kills over all backends and roads: `python -m tests.crash.campaign --kills 100 --seed 0`.

Each kill is a copy in processes of their own, killed at a random moment: before some change of a file, where it is held first, or some time after it
began. Some resumes are killed as well. Then what a user does: `resume` if there is a run folder, else the same call again, which continues where the run kept a
journal by itself (`by-itself`: threads, and no run folder asked for) and must do nothing that was recorded again. After that, voxels and files must be those of an
uninterrupted run, nothing may be left beside them, and no process. A line per kill and a table at the end. `--only` takes
words that a kill's backend, road or number is: `--only slurm dask`, `--only two-passes`, `--only 17` repeats that of the same seed.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

import bioimage_py as bp
from bioimage_py.runner.run import RunFolder, StatusReader, read_recorded
from tests.crash.campaign_roads import FILES, ROADS, expected, make_inputs, stored
from tests.runner.slurm_lab import SlurmLab, shared
from tests.waiting import PATIENCE, eventually

LAB = SlurmLab(
    Path("/tmp/bioimage-slurm-kills"),
    {"SLURMLAB_DB": "no", "SLURMLAB_NODES": "2", "SLURMLAB_NODE_PREFIX": "bpkill", "SLURMLAB_PORT": "28217"},
)
BACKENDS = ("by-itself", "local", "subprocess", "dask", "slurm")
CALL = """
import json, logging, sys
logging.basicConfig(level=logging.INFO, format="%(message)s")
import bioimage_py as bp
verb, source, output, job_type, config, options = json.loads(sys.argv[1])
if options.pop("plus_one", False):
    source = bp.wrapper.SimpleTransformationSource(bp.open_source(source), lambda voxels: voxels + 1)
config = {"slurm": bp.SlurmConfig, "dask": bp.DaskConfig}.get(job_type, bp.RunnerConfig)(**config)
getattr(bp, verb)(source, output, job_type=job_type, job_config=config, num_workers=2, **options)
"""
RESUME = "import sys, bioimage_py as bp; bp.resume(sys.argv[1])"


def files_in(folder: Path) -> dict[str, int]:
    """Return what is below a folder, with checksums."""
    files = sorted(p for p in folder.rglob("*") if "copied" not in p.name and p.name != ".bioimage-py")
    return {str(p.relative_to(folder)): zlib.crc32(p.read_bytes()) if p.is_file() else 0 for p in files}


class Run:
    """One call, in a folder of its own, and the processes that belong to it."""

    def __init__(self, folder: Path, inputs: Path, backend: str, road: str, chance: random.Random) -> None:
        self.folder, self.inputs, self.backend, self.road, self.chance = folder, inputs, backend, road, chance
        self.verb, self.source, output, self.options = ROADS[road]
        self.top, self.output, self.runs = folder / output.split("/")[0], folder / output, folder / "runs"
        self.starts = 0
        by_itself = backend == "by-itself"
        # With `overwrite` the same call begins anew.
        self.replaces = chance.random() < 0.3 and not by_itself
        self.config: dict[str, Any] = {} if by_itself else {"tmp_root": str(self.runs), "poll_interval": 0.3}
        if backend == "slurm":
            self.config |= {"latency_wait": 2, "mem": "800M", "time": 10}
        if backend not in ("local", "by-itself"):
            self.config["retries"] = chance.choice([0, 2])
        for name in ("runs", "marks", "tmp", *(["files"] if road in FILES else [])):
            (folder / name).mkdir(parents=True)
        if self.replaces:
            older = np.full((40, 100, 100), 7, "uint16")
            image = self.top.name == "out.ome.zarr"
            bp.pyramid(older, self.top, axes="zyx") if image else bp.copy(older, self.output)
        self.process: subprocess.Popen[bytes]
        self.all_died = False

    def start(self, program: str, argument: str, whom: str = "", step: int = 0) -> None:
        """Start a process, in which, or in whose workers, one is held before some change."""
        self.starts += 1
        self.held, self.go = (Path(f"{self.folder}-{self.starts}.{name}") for name in ("held", "go"))
        path = [str(Path(__file__).with_name("held")), str(Path(bp.__file__).parents[1])]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path), "TMPDIR": str(self.folder / "tmp")}
        environment["BIOIMAGE_PY_HELD"] = json.dumps(
            [str(self.folder), whom, step, f"{self.folder}-{self.starts}"]
        )
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", program, argument], env=environment, stdout=log, stderr=log, start_new_session=True, cwd=self.folder / "tmp"
            )  # fmt: skip

    @property
    def log(self) -> Path:
        """What the processes say."""
        return self.folder.with_name(f"{self.folder.name}.log")

    def is_held(self) -> bool:
        """Wait until a process is held before its change, or all has ended; return whether one is."""
        eventually(lambda: self.process.poll() is not None or self.held.exists(), pause=0.01)
        if self.held.exists():
            eventually(lambda: self.held.read_text().endswith("\n"))
            held = psutil.Process(int(self.held.read_text().split()[0]))
            eventually(lambda: held.status() == psutil.STATUS_STOPPED)
        return self.held.exists()

    def call(self, *, overwrite: bool, whom: str = "", step: int = 0) -> None:
        """Start the call."""
        options = {**self.options, **({"overwrite": True} if overwrite else {})}
        if "mask" in options:
            options["mask"] = str(self.inputs / options["mask"])
        places = [str(self.inputs / self.source), str(self.output)]
        job_type = "local" if self.backend == "by-itself" else self.backend
        self.start(CALL, json.dumps([self.verb, *places, job_type, self.config, options]), whom, step)

    def ended(self, begun_at: int = 0) -> str:
        """Wait for the end of the process; return what it said if it failed."""
        if self.process.wait(2 * PATIENCE) == 0:
            return ""
        said = self.log.read_bytes()[begun_at:].decode(errors="replace").strip()
        return f"exit code {self.process.returncode}: {said[-600:]}"

    def others(self) -> list[psutil.Process]:
        """Return the processes of this run besides the one that was started, whoever their parent is now."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                told = process.environ().get("BIOIMAGE_PY_HELD")
                if told and json.loads(told)[0] == str(self.folder) and process.pid != self.process.pid:
                    found.append(process)
        return [p for p in found if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]

    def journal(self) -> tuple[int, int, dict[Path, tuple[int, int]]] | None:
        """Return how many blocks the journal beside the voxels has, of how many, and all files with their times; None if there is none."""
        found = list(self.top.rglob(".bioimage-py/bioimage-run-*"))
        if not found or not (found[0] / "run.json").exists() or self.road == "wrapper":
            return None
        folder = RunFolder.open(found[0])
        every = folder.stored_ids(folder.read_run()["work"]["block_ids"])
        files = {p: p.stat() for p in self.top.rglob("*") if p.is_file() and ".bioimage-py" not in p.parts}
        known = {path: (stat.st_ino, stat.st_mtime_ns) for path, stat in files.items()}
        return len(read_recorded(folder).done & every), len(every), known

    def done_twice(self, before: tuple[int, int, dict[Path, tuple[int, int]]], at: int) -> Iterator[str]:
        """Yield what the same call has done again besides the blocks that two threads had in hand."""
        done, every, files = before
        said = self.log.read_bytes()[at:].decode(errors="replace")
        # Where all were recorded only what was left over is removed; the files tell whether more was done.
        if 0 < done < every and f"continued: {done} of {every} blocks were done" not in said:
            yield f"COUNT: {done} of {every} blocks were recorded, and it said {said[-300:]}"
        again = [
            p for p, known in files.items() if p.exists() and (p.stat().st_ino, p.stat().st_mtime_ns) != known
        ]
        chunks = [p for p in again if not p.name.startswith(("zarr.json", ".z", "attributes", "info"))]
        most = 2 * -(-2 * len(list(self.top.rglob("*"))) // every)
        if len(chunks) > max(most, 2 * 8) or (done == every and chunks):
            yield f"TWICE: {len(chunks)} files were written again, as {chunks[0]}"

    def has_begun(self) -> bool:
        """Whether the output is there, or a file that gets its name later, or all has ended."""
        return self.output.exists() or any(self.folder.glob("files/.*")) or self.process.poll() is not None

    def changes(self, role: str) -> list[int]:
        """Return how many changes each process of a role has made."""
        return [path.stat().st_size for path in (self.folder / "marks").glob(f"{role}-*")]

    def faults(self, files: dict[str, int]) -> Iterator[str]:
        """Yield what is not as after an uninterrupted run, whose files these are, if any."""
        for path, voxels in expected(self.road, self.output).items():
            try:
                found = stored(path)
                wrong = -1 if found.shape != voxels.shape else int((found != voxels).sum())
            except Exception as error:
                yield f"WRONG: {path.name} cannot be read: {str(error)[:200]}"
            else:
                if wrong:
                    yield f"WRONG: {wrong} voxels of {path.name}"
        with contextlib.suppress(AssertionError):
            eventually(lambda: not self.others(), pause=0.2)
        yield from (f"PROCESS: {' '.join(p.cmdline())[:200]}" for p in self.others())
        if self.backend == "slurm" and (jobs := LAB.command("squeue", "-h")):
            yield f"PROCESS: jobs {jobs}"
        there = {p.name for p in self.folder.iterdir()} - {"runs", "marks", "tmp", self.top.name}
        there |= {f"{part}/{p.name}" for part in ("runs", "tmp") for p in (self.folder / part).iterdir()}
        now = files_in(self.top)
        there |= {f"{self.top.name}/{name}" for name in now.keys() - (files or now).keys()}
        if self.all_died:  # nobody lives who could remove the folder of Dask's workers in the system's one
            there = {name for name in there if not name.startswith("tmp/bioimage-dask-")}
        if there:
            yield f"LEFT: {', '.join(sorted(there)[:5])}"
        if missing := [
            name for name in files if name in now and now[name] != files[name] and name != "out.h5"
        ]:
            yield f"BYTES: {', '.join(missing[:3])} differ"


class Campaign:
    """Kills, one after the other, and what became of them."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.inputs, self.seed = folder, folder / "inputs", seed
        self.known: dict[tuple[str, str], tuple[dict[str, int], int, int, float]] = {}
        make_inputs(self.inputs)

    def uninterrupted(self, backend: str, road: str) -> tuple[dict[str, int], int, int, float]:
        """Return the files that a run makes which nobody kills, the changes of submitter and worker, and how long it took."""
        if (backend, road) not in self.known:
            run = Run(self.folder / f"whole-{backend}-{road}", self.inputs, backend, road, random.Random(0))
            run.replaces = False
            run.call(overwrite=True)
            eventually(run.has_begun, pause=0.002)
            began = time.monotonic()
            said = run.ended()
            took = time.monotonic() - began
            assert not said, said
            assert not (faults := list(run.faults({}))), faults
            changes = max(run.changes("submitter")), max(run.changes("worker"), default=0)
            self.known[backend, road] = files_in(run.top), *changes, took
            shutil.rmtree(run.folder)
        return self.known[backend, road]

    def kill(self, number: int, backend: str, road: str) -> tuple[str, list[str]]:
        """Kill a run and finish it; print a line, and return what was killed and the faults."""
        chance = random.Random(f"{self.seed} {number}")
        files, *changes, took = self.uninterrupted(backend, road)
        for attempt in itertools.count():
            run = Run(self.folder / f"{number}-{attempt}", self.inputs, backend, road, chance)
            moment = self.bad_moment(run, changes, took)
            if moment:
                break
            shutil.rmtree(run.folder)  # it had ended before
        victims = ["the submitter", "everything", "a worker" if run.others() else "everything"]
        victim, orphans = self.strike(run, chance.choice(victims))
        folders = list(run.runs.glob("[!.]*"))
        if folders and chance.random() < 0.3:
            step = chance.randint(1, 60)
            run.start(RESUME, str(folders[0]), "submitter", step)
            if run.is_held():
                self.strike(run, "everything")
                orphans += f", then all of the resume before its change {step}"
        done = "no run folder"
        with contextlib.suppress(bp.BioimagePyError, StopIteration):
            status = StatusReader(RunFolder.open(next(run.runs.glob("[!.]*")))).look()
            done = f"{status.blocks_done} of {status.blocks_total} blocks done"
        what, faults = self.finish(run, victim)
        faults += run.faults(files)
        print(
            f"{number:3} {backend} {road}{' over another' if run.replaces else ''} | {moment} | killed {victim}{orphans}; {done} | {what} | "
            + ("; ".join(faults) or "right"),
            flush=True,
        )
        if not faults:
            shutil.rmtree(run.folder)
            for file in (run.log, *self.folder.glob(f"{run.folder.name}-*")):
                file.unlink()
        return victim, faults

    def bad_moment(self, run: Run, changes: list[int], took: float) -> str:
        """Start a run and wait for a random moment; return which that is, empty if the run has ended before."""
        chance = run.chance
        whom = chance.choice(["submitter", "worker"]) if changes[1] else "submitter"
        of = changes[whom == "worker"]
        kind = chance.choice(["early", "late", "any", "any", "time"])
        early, late = min(30, of), max(1, of - 15)
        step = {"early": chance.randint(1, early), "late": chance.randint(late, of), "time": 0}.get(
            kind, chance.randint(1, of)
        )
        run.call(overwrite=run.replaces, whom=whom, step=step)
        if kind != "time":
            if not run.is_held():
                return ""
            _, event, name = run.held.read_text().rstrip("\n").split(" ", 2)
            return f"before change {step} of ~{of} of a {whom}: {event} {name}"
        eventually(run.has_begun, pause=0.002)
        wait = chance.uniform(0, took)
        time.sleep(wait)
        return "" if run.process.poll() is not None else f"after {wait:.2f} s of ~{took:.2f} s"

    def strike(self, run: Run, victim: str) -> tuple[str, str]:
        """Kill something; return what, and what becomes of the others."""
        workers = run.others()
        if victim == "a worker" and not workers:
            victim = "the submitter"
        held = [int(run.held.read_text().split()[0])] if run.held.exists() else []
        run.all_died |= victim == "everything"
        if victim == "everything":
            struck = [psutil.Process(run.process.pid), *workers]
            for sent in (signal.SIGSTOP, signal.SIGKILL):
                for process in struck:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        process.send_signal(sent)
        elif victim == "the submitter":
            run.process.kill()
        else:
            chosen = [p for p in workers if p.pid in held] or workers
            with contextlib.suppress(psutil.NoSuchProcess):
                run.chance.choice(chosen).kill()
        run.go.touch()
        for pid in held:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        if victim == "a worker":
            return victim, f", the run {'went on' if not run.ended() else 'failed'}"
        run.process.wait()
        if victim == "the submitter" and workers and run.chance.random() < 0.5 and run.backend != "slurm":
            eventually(lambda: not run.others(), pause=0.1)
            return victim, ", and its workers have gone"
        return victim, ""

    def finish(self, run: Run, victim: str) -> tuple[str, list[str]]:
        """Do what a user does, once; return what that was, and the faults in it. Once more must say that there is nothing to do."""
        faults: list[str] = []
        folders = sorted(run.runs.glob("[!.]*"))
        at = run.log.stat().st_size
        marked = bool(list(run.top.rglob(".bioimage-py/unfinished.json")))
        if folders:
            what = "resumed"
            run.start(RESUME, str(folders[0]))
            faults += [f"RESUME: {said}" for said in [run.ended(at)] if said]
            at = run.log.stat().st_size
            run.start(RESUME, str(folders[0]))
            nothing = "there is no run folder"
        else:
            what = "was done"
            wrong = [fault for fault in run.faults({}) if fault.startswith("WRONG")]
            if any("voxels of" in fault for fault in wrong) and not marked and not run.replaces:
                faults.append("UNMARKED: nothing says that the output is not finished")
            if wrong or marked:
                what = f"called again{' with overwrite' if run.top.exists() and run.backend != 'by-itself' else ''}"
                if victim == "a worker" and not run.process.returncode:
                    faults.append("the run said that it had succeeded")
                by_itself = run.backend == "by-itself"
                before = run.journal() if by_itself else None
                run.call(overwrite=not by_itself and (run.top.exists() or run.replaces))
                faults += [f"AGAIN: {said}" for said in [run.ended(at)] if said]
                if before is not None:
                    what = f"called again, {before[0]:,} of {before[1]:,} blocks were done"
                    faults += run.done_twice(before, at)
                at = run.log.stat().st_size
            run.call(overwrite=False)
            nothing = "OutputExistsError"
        if nothing not in (said := run.ended(at)):
            faults.append(f"SECOND: {said or 'it went through'}")
        return what, faults


def main() -> int:
    """Run a campaign."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=[], metavar="WORD")
    parser.add_argument("--folder", type=Path, help="where all of it is, which others must not use")
    given = parser.parse_args()
    every = itertools.product(BACKENDS, ROADS)
    pairs = [pair for pair in every if pair[0] == "by-itself" or pair[1] not in FILES]
    random.Random(given.seed).shuffle(pairs)
    kills = [(n, *pairs[n % len(pairs)]) for n in range(given.kills)]
    kills = [k for k in kills if not given.only or {str(k[0]), *k[1:]} & set(given.only)]
    folder = Path(tempfile.mkdtemp(prefix="kills-", dir=given.folder)).resolve()
    with contextlib.ExitStack() as stack:
        if any(backend == "slurm" for _, backend, _ in kills):
            try:
                stack.enter_context(shared(LAB))
                os.environ |= {"SLURM_CONF": LAB.conf, "BIOIMAGE_PY_NO_CONFIG": "1"}
            except pytest.skip.Exception as reason:
                print(f"without slurm: {reason}")
                kills = [k for k in kills if k[1] != "slurm"]
        campaign = Campaign(folder, given.seed)
        found = [(backend, road, *campaign.kill(n, backend, road)) for n, backend, road in kills]
    for column, title in enumerate(("backend", "road", "killed")):
        total, bad = Counter(f[column] for f in found), Counter(f[column] for f in found if f[3])
        print(
            f"\n{title:20} kills  faults\n"
            + "\n".join(f"{name:20} {total[name]:5} {bad[name]:7}" for name in sorted(total))
        )
    kinds = Counter(fault.split(":")[0] for *_, faults in found for fault in faults)
    print(
        f"\n{len(found)} kills, {sum(bool(f[3]) for f in found)} with faults {dict(kinds)}; {folder} keeps what was found"
    )
    return bool(kinds)


if __name__ == "__main__":
    sys.exit(main())
