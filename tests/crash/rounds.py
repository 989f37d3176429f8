"""One round of a crash test: a run in a process of its own, a bad moment, and all that must hold after it."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil

import bioimage_py as bp
from bioimage_py.geometry import IdSet
from bioimage_py.runner.run import RunFolder, read_recorded
from tests.crash.program import BLOCK, GRID, MOST, N_BLOCKS
from tests.waiting import PATIENCE, eventually

PROGRAM = Path(__file__).with_name("program.py")


def numbered_image() -> np.ndarray:
    """An image whose blocks begin with their number, so that a function of voxels alone knows its block."""
    image = np.random.default_rng(0).integers(0, 9999, (GRID[0] * BLOCK, GRID[1] * BLOCK)).astype("uint16")
    image[::BLOCK, ::BLOCK] = np.arange(N_BLOCKS).reshape(GRID)
    return image


def files_in(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by its path in there."""
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and "copied" not in p.name
    }


class Reference:
    """The input, and what an uninterrupted run makes of it."""

    def __init__(self, folder: Path) -> None:
        self.image = numbered_image()
        self.input = folder / "in.zarr"
        source = bp.create_output(self.input, shape=self.image.shape, dtype="uint16", chunks=(BLOCK, BLOCK))
        source[...] = self.image
        bp.copy(self.image + 1, folder / "out.zarr", chunks=(BLOCK, BLOCK), block_shape=(BLOCK, BLOCK))
        self.files = files_in(folder / "out.zarr")
        blocks = self.image.reshape(GRID[0], BLOCK, GRID[1], BLOCK).swapaxes(1, 2).reshape(N_BLOCKS, -1)
        self.values = [[n, int(block.sum())] for n, block in enumerate(blocks)]


class Round:
    """A run that is going to be disturbed.

    Parameters
    ----------
    reference
        The input, and what must come out.
    folder
        An empty folder for this round.
    seed
        Decides what is run and when it is disturbed; a text that names the round.
    job_type, config
        The backend.
    seconds
        What each block takes.
    runs, marks
        The `tmp_root`, and where the blocks leave their marks. Default: in the folder.
    hog
        Whether a block in the middle takes a gigabyte when it is done for the first time.
    """

    def __init__(
        self,
        reference: Reference,
        folder: Path,
        seed: str,
        job_type: str,
        *,
        seconds: float = 0.006,
        num_workers: int = 2,
        runs: Path | None = None,
        marks: Path | None = None,
        hog: bool = False,
        **config: Any,
    ) -> None:
        self.reference = reference
        self.random = random.Random(seed)
        self.kind = self.random.choice(["copy", "function"])
        self.output, self.runs, self.marks = (
            folder / "out.zarr",
            runs or folder / "runs",
            marks or folder / "marks",
        )
        self.marks.mkdir(parents=True)
        self.disturbed = self.marks.parent / "disturbed"
        self.settings = {
            "kind": self.kind,
            "input": str(reference.input),
            "output": str(self.output),
            "marks": str(self.marks),
            "seconds": seconds,
            "disturbed": str(self.disturbed),
            "hog": str(self.marks.parent / "hog") if hog else None,
            "job_type": job_type,
            "num_workers": num_workers,
            "config": {"tmp_root": str(self.runs), **config},
        }
        self._log = (self.marks.parent / "program.err").open("w+")
        self.process = self._start(str(PROGRAM), json.dumps(self.settings))

    def _start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, *arguments],
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            start_new_session=True,
        )

    # -- what goes on

    @property
    def folder(self) -> Path:
        """The run folder."""
        (found,) = self.runs.iterdir()
        return found

    def done(self) -> IdSet:
        """The blocks in the journals."""
        return read_recorded(RunFolder.open(self.folder)).done

    def workers(self) -> list[psutil.Process]:
        """The worker processes of this round, whoever their parent is now."""
        found = []
        for process in psutil.process_iter():
            try:
                words = process.cmdline()
            except psutil.Error:
                continue
            if "bioimage_py.runner.worker" in words and any(w.startswith(str(self.runs)) for w in words):
                found.append(process)
        return found

    def wait(self, condition: Callable[[], Any], what: str) -> None:
        """Wait until something is true; what the program printed is in the error if it never is."""

        def met() -> bool:
            assert self.process.poll() in (None, -9, -15), f"it ended before {what}: {self.printed()}"
            return bool(condition())

        eventually(met, lambda: f"waited for {what} in vain: {self.printed()}", pause=0.003)

    def bad_moment(self, most: float = 0.8) -> None:
        """Wait until a random number of blocks is begun, and then until the middle of some block."""
        begun = sum(1 for _ in self.marks.iterdir())
        n = self.random.randrange(begun + 1, begun + 2 + int(most * (N_BLOCKS - begun)))
        n = min(n, int(MOST))
        self.wait(lambda: sum(1 for _ in self.marks.iterdir()) >= n, f"{n} blocks")
        time.sleep(self.random.uniform(0, 0.008))

    def printed(self) -> str:
        """What the program wrote to its standard error."""
        self._log.seek(0)
        return self._log.read()

    # -- the end, and after it

    def kill_submitter(self) -> None:
        """Kill the process that made the run."""
        self.process.kill()
        self.process.communicate()
        self.disturbed.touch()

    def resume_elsewhere(self) -> None:
        """Begin to resume in a process of its own, which can then be disturbed like the first one."""
        self.disturbed.unlink()
        self.process = self._start("-c", f"import bioimage_py as bp; bp.resume({str(self.folder)!r})")

    def end(self, *, orphans: bool = False) -> dict[str, Any]:
        """Wait until the program ends by itself; return how its run ended, which is checked.

        `orphans` says that workers may still go on then, which are waited for.
        """
        self.disturbed.touch()
        text, _ = self.process.communicate(timeout=PATIENCE)
        assert self.process.returncode == 0, self.printed()
        if orphans:
            eventually(lambda: not self.workers(), "workers that nobody waits for do not end")
        said: dict[str, Any] = json.loads(text)
        self.check_nothing_torn(leftovers=True)
        if said["end"] == "RunnerError":
            failed = IdSet.from_json(said["failed"])
            assert failed == IdSet.from_range(N_BLOCKS) - self.done()
            assert failed
        elif said["end"] == "done":
            self.check_result(said["values"])
        return said

    def check_journal(self) -> IdSet:
        """Return the blocks in the journals; each of them must be in the output, right."""
        done = self.done()
        files = files_in(self.output)
        for block in done:
            name = f"c/{block // GRID[1]}/{block % GRID[1]}"
            assert files.get(name) == self.reference.files[name], (
                f"block {block} is recorded and is not there"
            )
        return done

    def check_nothing_torn(self, *, leftovers: bool) -> None:
        """Every file of the output must be as in the reference; `leftovers` tolerates unfinished ones by their names."""
        for name, content in files_in(self.output).items():
            if leftovers and (name.endswith((".__lock", ".partial")) or name.startswith(".bioimage-py/")):
                continue
            assert self.reference.files.get(name) == content, f"{name} is torn or does not belong there"

    def times_done(self) -> list[int]:
        """How often each block was done so far."""
        sizes = {int(p.name): p.stat().st_size for p in self.marks.iterdir()}
        return [sizes.get(n, 0) for n in range(N_BLOCKS)]

    def resume(self, *, orphans: bool = False) -> None:
        """Finish the run with one call and check all that must hold then; `orphans` says that old workers may go on."""
        self.disturbed.touch()
        done, before = self.check_journal(), self.times_done()
        values = bp.resume(self.folder)
        after = self.times_done()
        self.check_result(values)
        assert [n for n in done if after[n] != before[n]] == [], "blocks that were recorded were done again"
        missing = IdSet.from_range(N_BLOCKS) - done
        assert all(after)
        if not orphans:
            assert [n for n in missing if after[n] != before[n] + 1] == [], "blocks were done not once"

    def check_result(self, values: Any) -> None:
        """The output must be byte-identical, the values complete and in order, and nothing left besides."""
        self.check_nothing_torn(leftovers=False)
        assert files_in(self.output).keys() == self.reference.files.keys()
        if self.kind == "function":
            assert values == self.reference.values
        else:
            assert values is None
        assert list(self.runs.iterdir()) == [], "the run folder is still there"

    def close(self) -> None:
        """End whatever still runs."""
        for process in [*self.workers(), self.process]:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        if self.process.stdout is not None and not self.process.stdout.closed:
            self.process.communicate()
        self._log.close()
