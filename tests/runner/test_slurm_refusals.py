"""What the cluster will not do: one clear error each, and nothing is left behind that helps nobody."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bioimage_py.errors import InvalidArgumentError, MissingDependencyError, RunnerError
from bioimage_py.runner.slurm import SlurmConfig, SlurmRunner
from tests.runner.slurm_lab import SlurmLab

Configure = Callable[..., SlurmConfig]


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"partition": "nosuch"}, r"(?i)invalid partition.* \(partition='nosuch'\)\. 'sinfo -s' lists"),
        ({"account": "nosuch"}, r"Invalid account.* \(account='nosuch'\)"),
        ({"qos": "nosuch"}, r"Invalid qos.* \(qos='nosuch'\)"),
        ({"constraint": "nosuch"}, r"Invalid feature.* \(constraint='nosuch'\)"),
        ({"reservation": "nosuch"}, r"reservation is invalid.* \(reservation='nosuch'\)"),
        ({"nodelist": "nosuch"}, r"Invalid node name.*nodelist='nosuch'"),
        ({"gpus": 1}, r"generic resource.* \(gpus=1\)"),
        ({"mem": "900G"}, r"(?i)memory specification.*mem='900G'.*no node of the partition has that much"),
        ({"cpus_per_task": 99}, r"no node of the partition has that many processors"),
        (
            {"partition": "short", "time": "1:00:00"},
            r"time='1:00:00' is more than the partition allows, which is 1 minutes",
        ),
        ({"extra": ["--bogus=1"]}, r"unrecognized option '--bogus=1'.*sbatch --help"),
        ({"extra": ["--begin=nonsense"]}, r"Slurm refuses the run: .*--begin"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_configuration_that_cannot_run(
    slurm: SlurmLab, slurm_config: Configure, tmp_path: Path, fields: dict[str, Any], text: str
) -> None:
    with pytest.raises(InvalidArgumentError, match=text):
        SlurmRunner(slurm_config(**fields)).map(abs, 2)
    assert not list((tmp_path / "runs").iterdir())


def test_a_python_that_the_nodes_do_not_have(slurm: SlurmLab, slurm_config: Configure) -> None:
    runner = SlurmRunner(slurm_config(python_executable="/nosuch/python"))
    with pytest.raises(
        RunnerError, match=r"could not start Python: python_executable=.*/nosuch/python"
    ) as caught:
        runner.map(abs, 2)
    assert list(caught.value.failed_block_ids) == [0, 1]
    assert caught.value.tmp_folder is not None


def test_setup_lines_that_fail_are_in_the_message(slurm: SlurmLab, slurm_config: Configure) -> None:
    runner = SlurmRunner(slurm_config(setup=["echo no such module >&2", "exit 4"]))
    with pytest.raises(RunnerError, match=r"exit code 4 before it could begin.*no such module"):
        runner.map(abs, 1)


def test_a_run_folder_that_the_nodes_do_not_see(slurm: SlurmLab, slurm_config: Configure) -> None:
    with pytest.raises(RunnerError, match="run folders must be on a disk that all nodes share"):
        SlurmRunner(slurm_config(tmp_root=slurm.hidden)).map(abs, 2)


def test_slurm_that_is_not_there(
    slurm_config: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingDependencyError, match="'sbatch' is not on PATH"):
        SlurmRunner(slurm_config()).map(abs, 2)
    assert not (tmp_path / "runs").exists()


def test_slurm_that_does_not_answer(
    slurm_config: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stands in for a controller that is down from the beginning, whose real commands take 9 s each."""
    for command in ("sbatch", "squeue", "scancel", "scontrol"):
        script = tmp_path / "bin" / command
        script.parent.mkdir(exist_ok=True)
        script.write_text(
            "#!/bin/sh\necho 'error: Unable to contact slurm controller (connect failure)' >&2\nexit 1\n"
        )
        script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    with pytest.raises(RunnerError, match=r"Slurm has not answered .*Unable to contact.*resume\(") as caught:
        SlurmRunner(slurm_config(controller_timeout=0.5)).map(abs, 2)
    assert list(caught.value.failed_block_ids) == [0, 1]
