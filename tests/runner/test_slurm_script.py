"""The batch script and the options of sbatch: whatever a name holds, no shell and no Slurm reads it as something else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import bioimage_py as bp
from bioimage_py.geometry import IdSet
from bioimage_py.runner.run import RunFolder
from bioimage_py.runner.slurm import ArrayJob, SlurmConfig, SlurmRunner, options, script, script_arguments
from tests.runner.slurm_lab import SlurmLab

NASTY = {
    "space": "two  words",
    "quotes": 'it\'s "quoted"',
    "command": "$(touch PWNED)`touch PWNED`",
    "semicolon": ";touch PWNED;#",
    "newline": "a\ntouch PWNED\n#SBATCH --nodes=9\nb",
    "crlf": "a\r\nb",
    "dash": "--wrap=touch PWNED",
    "percent": "%j %a %% %5a",
    "backslash": "back\\slash %a",
    "variable": "$HOME ${IFS} !! ~",
    "glob": "*?[a]{b,c} umläut",
}


@pytest.mark.parametrize("shell", ["#!/bin/bash", "#!/bin/sh"])
@pytest.mark.parametrize("name", NASTY.values(), ids=NASTY.keys())
def test_words_reach_the_worker_as_they_are(tmp_path: Path, name: str, shell: str) -> None:
    root, here = tmp_path / name, tmp_path / f"cwd {name}"
    root.mkdir()
    here.mkdir()
    folder = RunFolder.make(root)
    python = tmp_path / f"python {name}"
    python.write_text(
        f"#!{sys.executable}\nimport json, os, sys\nprint(json.dumps([os.getcwd(), *sys.argv[1:]]))\n"
    )
    python.chmod(0o755)
    config = SlurmConfig(python_executable=str(python), shebang=shell, setup=['export SEEN="$*"', "true"])
    job = ArrayJob("name", IdSet.from_range(3), 1000, 2, 0.0)
    folder.script(0).write_text(script(config))
    words = script_arguments(config, folder, 0, job)
    words[4] = str(here)
    done = subprocess.run(
        [shell[2:], str(folder.script(0)), *words],
        cwd=tmp_path,
        env={"SLURM_ARRAY_TASK_ID": "7", "PATH": os.environ["PATH"]},
        capture_output=True,
        check=True,
    )
    want = [str(here), "-P", "-m", "bioimage_py.runner.worker", "--", str(folder.path), "0", "1007"]
    assert json.loads(done.stdout) == want
    assert not list(tmp_path.rglob("PWNED"))


def test_every_field_is_one_word_of_its_option(tmp_path: Path) -> None:
    value = "-x $(touch PWNED) 'a' \"b\""
    config = SlurmConfig(
        partition=value,
        account=value,
        qos=value,
        constraint=value,
        reservation=value,
        nodelist=value,
        exclude=value,
        gpus=value,
        extra=[f"--comment={value}"],
    )
    folder = RunFolder.make(tmp_path)
    job = ArrayJob("name", IdSet.from_range(3), 0, 2, 0.0)
    words = options(config, folder, 0, job, {"time": 5, "mebibytes": 100, "lead": 10})
    named = (
        "partition",
        "account",
        "qos",
        "constraint",
        "reservation",
        "nodelist",
        "exclude",
        "gpus",
        "comment",
    )
    assert {f"--{name}={value}" for name in named} <= set(words)
    assert {"--time=5", "--mem=100M", "--signal=B:USR1@10", "--array=0-2%2", "--no-requeue"} <= set(words)
    assert all(word.startswith("--") for word in words)


TOGETHER = "".join(value for key, value in NASTY.items() if key not in ("percent", "backslash"))


@pytest.mark.parametrize(
    "name", [TOGETHER, NASTY["percent"], NASTY["backslash"]], ids=["together", "percent", "backslash"]
)
def test_real_jobs_in_folders_of_any_name(
    tmp_path: Path,
    name: str,
    slurm: SlurmLab,
    slurm_config: Callable[..., SlurmConfig],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here = tmp_path / name
    here.mkdir()
    monkeypatch.chdir(here)
    image = np.arange(64, dtype="uint8").reshape(8, 8)
    bp.copy(image, tmp_path / "in.zarr", chunks=(4, 4))
    config = slurm_config(tmp_root=here, keep_run_folder=True, tasks_per_worker=1)
    out = bp.copy(
        tmp_path / "in.zarr",
        tmp_path / "out.zarr",
        job_type="slurm",
        job_config=config,
        num_workers=1,
        chunks=(4, 4),
    )
    np.testing.assert_array_equal(out[...], image)
    (run,) = here.glob("bioimage-run-*")
    assert len(list((run / "logs").iterdir())) == 1
    assert not list(tmp_path.rglob("PWNED"))


def test_secrets_of_the_environment_are_written_nowhere(
    slurm: SlurmLab, slurm_config: Callable[..., SlurmConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2-hunter2")
    monkeypatch.setenv("SLURM_JOB_ID", "1")  # as inside of another job
    monkeypatch.setenv("SQUEUE_FORMAT", "%j")

    def seen(_: int) -> tuple[int, bool]:
        return len(os.environ["AWS_SECRET_ACCESS_KEY"]), os.environ["SLURM_JOB_ID"] == "1"

    runner = SlurmRunner(slurm_config(keep_run_folder=True))
    assert runner.map(seen, 1) == [(15, False)]
    assert list((tmp_path / "runs").rglob("*.out"))  # a busy machine may need more than one task
    assert all(
        b"hunter2-hunter2" not in p.read_bytes() for p in (tmp_path / "runs").rglob("*") if p.is_file()
    )
