"""A run in a process of its own, for the crash tests to end at a bad moment: `python program.py SETTINGS-AS-JSON`.

It is a script, so that its functions are of `__main__` and reach the workers by value. Each call of a function for a block
leaves a byte in a file of the block, which tells how often the block was done, whoever died in between. Once most blocks are begun
each further one waits until the test has disturbed the run, so that no run ends before, however busy the machine is.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

BLOCK = 8
GRID = (14, 16)
N_BLOCKS = GRID[0] * GRID[1]
HOG = 100
MOST = 0.85 * N_BLOCKS


def main(settings: dict[str, Any]) -> dict[str, Any]:
    """Make the run and say how it ended."""
    import bioimage_py as bp
    from bioimage_py.errors import BioimagePyError, RunnerError
    from bioimage_py.runner import get_runner

    config = config_of(settings["job_type"], settings["config"])
    try:
        if settings["kind"] == "copy":
            bp.copy(
                bp.wrapper.SimpleTransformationSource(
                    bp.open_source(settings["input"]), marking(settings), dtype="uint16"
                ),
                settings["output"],
                chunks=(BLOCK, BLOCK),
                block_shape=(BLOCK, BLOCK),
                job_type=settings["job_type"],
                job_config=config,
                num_workers=settings["num_workers"],
            )
            return {"end": "done", "values": None}
        output = bp.create_output(
            settings["output"], shape=[n * BLOCK for n in GRID], dtype="uint16", chunks=(BLOCK, BLOCK)
        )
        values = get_runner(settings["job_type"], config).run(
            kernel(settings),
            [settings["input"]],
            [output],
            block_shape=(BLOCK, BLOCK),
            num_workers=settings["num_workers"],
            has_return_val=True,
        )
    except RunnerError as error:
        failed = [list(run) for run in error.failed_block_ids.runs]
        return {"end": "RunnerError", "failed": failed, "folder": str(error.tmp_folder), "text": str(error)}
    except BioimagePyError as error:
        return {"end": type(error).__name__, "text": str(error)}
    return {"end": "done", "values": values}


def config_of(job_type: str, given: dict[str, Any]) -> Any:
    """Return the settings of a backend."""
    from bioimage_py import runner

    types = {"slurm": "SlurmConfig", "dask": "DaskConfig"}
    return getattr(runner, types.get(job_type, "RunnerConfig"))(**given)


def marking(settings: dict[str, Any]) -> Any:
    """Return a slow function of a block's voxels; the first of them is the block's number."""
    marks, seconds, hog, disturbed = (settings[name] for name in ("marks", "seconds", "hog", "disturbed"))

    def slow(voxels: Any) -> Any:
        file = os.open(f"{marks}/{voxels.flat[0]}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(file, b"x")
        os.close(file)
        if hog and voxels.flat[0] == HOG and not os.path.exists(hog):  # noqa: PTH110 - travels by value
            os.close(os.open(hog, os.O_CREAT))
            lump = bytearray(10**9)
            for at in range(0, 10**9, 4096):
                lump[at] = 1
            time.sleep(30)
        time.sleep(seconds)
        while len(os.listdir(marks)) > MOST and not os.path.exists(disturbed):  # noqa: PTH110, PTH208 - travels by value
            time.sleep(0.01)
        return voxels + 1

    return slow


def kernel(settings: dict[str, Any]) -> Any:
    """Return the same as a function over blocks, which also returns the block's number and the sum of its voxels."""
    slow = marking(settings)

    def write(block: Any, inputs: Any, outputs: Any, mask: Any) -> list[int]:
        region = tuple(slice(b, e) for b, e in zip(block.begin, block.end, strict=True))
        voxels = inputs[0][region]
        outputs[0][region] = slow(voxels)
        return [int(voxels.flat[0]), int(voxels.sum())]

    return write


if __name__ == "__main__":
    answer = json.dumps(main(json.loads(sys.argv[1])))
    sys.stdout.write(answer + "\n")
