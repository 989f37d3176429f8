"""Settings for Slurm: values, their errors, and the user's file."""

from __future__ import annotations

import datetime as dt
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from bioimage_py.errors import InvalidArgumentError, ReadOnlyError
from bioimage_py.runner import RunnerConfig, restored_runner
from bioimage_py.runner.slurm import SlurmConfig, SlurmRunner, config_file_path, write_slurm_config


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    monkeypatch.delenv("BIOIMAGE_PY_CONFIG", raising=False)
    monkeypatch.delenv("BIOIMAGE_PY_NO_CONFIG", raising=False)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"partition": 3}, "partition must be a text, got 3"),
        ({"partition": " "}, "partition must be a text"),
        ({"account": "a\n--wrap=x"}, "account must be one line"),
        ({"qos": "a\0b"}, "qos must be one line"),
        ({"time": "soon"}, "time must be minutes or a text such as '90', .*, got 'soon'"),
        ({"time": 0}, "time must be"),
        ({"time": -5}, "time must be"),
        ({"time": 1.5}, "time must be"),
        ({"time": True}, "time must be"),
        ({"mem": "lots"}, "mem must be MiB or a text such as '4G'"),
        ({"mem": -1}, "mem must be"),
        ({"mem": True}, "mem must be"),
        ({"cpus_per_task": 0}, "cpus_per_task must be an integer of at least 1"),
        ({"cpus_per_task": "2"}, "cpus_per_task must be"),
        ({"gpus": -1}, "gpus must be"),
        ({"gpus": 1.5}, "gpus must be"),
        ({"max_array_size": 0}, "max_array_size"),
        ({"latency_wait": -1}, "latency_wait must be a number of seconds"),
        ({"signal_lead": "60"}, "signal_lead"),
        ({"controller_timeout": float("inf")}, "controller_timeout"),
        ({"shebang": "/bin/bash"}, "shebang must be one line that names"),
        ({"shebang": "#!/bin/bash\nrm"}, "shebang must be one line"),
        ({"shebang": "#!/usr/bin/python"}, "names a POSIX shell"),
        ({"shebang": "#!/usr/bin/env fish"}, "names a POSIX shell"),
        ({"shebang": "#!/bin/notbash"}, "names a POSIX shell"),
        ({"setup": "module load x"}, "setup must be a list"),
        ({"setup": [1]}, "setup must be a list of texts"),
        ({"extra": ["mail"]}, "extra must be options of sbatch such as"),
        ({"extra": ["--mail-type FAIL"]}, "such as '--mail-type=FAIL'"),
        ({"extra": ["--array=0-3"]}, "the runner sets that itself"),
        ({"extra": ["--arr=0-3"]}, "the runner sets that itself"),
        ({"extra": ["-olog"]}, "the runner sets that itself"),
        ({"extra": ["--requeue"]}, "the runner sets that itself"),
        ({"exclude": 7}, "exclude must be a text"),
        ({"poll_interval": 0}, "poll_interval"),
    ],
)
def test_refuses_with_one_clear_error(fields: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidArgumentError, match=text):
        SlurmConfig(**fields)


def test_takes_what_users_of_slurm_write() -> None:
    config = SlurmConfig(
        time=dt.timedelta(hours=1, seconds=1),
        mem="4GiB",
        cpus_per_task=4,
        gpus="a100:1",
        nodelist=["n1", "n[3-5]"],
        shebang="#!/usr/bin/env -S bash -l",
        setup=["module load x", "if true\nthen :\nfi"],
        extra=["--mail-type=FAIL", "-Cx", "--exclusive"],
    )
    assert (config.time, config.nodelist, config.threads_per_worker) == (61, "n1,n[3-5]", 4)
    assert SlurmConfig(cpus_per_task=4, threads_per_worker=2).threads_per_worker == 2
    # A run folder keeps the settings as JSON and makes them again.
    again = restored_runner("slurm", {**config.given(), "setup": list(config.setup)}).config
    assert again == config


def test_memory_of_a_small_task_limits_the_plan() -> None:
    assert SlurmConfig().memory_limit_bytes is None
    assert SlurmConfig(mem="64G").memory_limit_bytes is None
    assert SlurmConfig(mem="1G").memory_limit_bytes == 512 * 2**20
    assert SlurmConfig(mem="400M").memory_limit_bytes == 200 * 2**20
    assert SlurmConfig(mem="400M", memory_limit="1G").memory_limit_bytes == 2**30


def test_the_file_gives_the_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert config_file_path() == tmp_path / "xdg" / "bioimage-py" / "config.toml"
    assert SlurmConfig.load() == SlurmConfig()
    assert write_slurm_config(partition="fast", time="1:00:00", cpus_per_task=2) == config_file_path()
    assert SlurmConfig.load(time=5) == SlurmConfig(partition="fast", time=5, cpus_per_task=2)
    assert SlurmRunner().config.partition == "fast"
    plain = SlurmRunner(RunnerConfig(retries=7)).config
    assert (plain.partition, plain.retries, plain.threads_per_worker) == ("fast", 7, 2)
    assert SlurmRunner(SlurmConfig()).config.partition is None
    monkeypatch.setenv("BIOIMAGE_PY_NO_CONFIG", "1")
    assert SlurmConfig.load() == SlurmConfig()
    monkeypatch.delenv("BIOIMAGE_PY_NO_CONFIG")
    other = tmp_path / "other.toml"
    monkeypatch.setenv("BIOIMAGE_PY_CONFIG", str(other))
    with pytest.raises(InvalidArgumentError, match=r"BIOIMAGE_PY_CONFIG names .*other\.toml"):
        SlurmConfig.load()
    other.write_text("[slurm]\ntime = 01:30:00\n")
    assert SlurmConfig.load().time == "01:30:00"
    monkeypatch.delenv("BIOIMAGE_PY_CONFIG")
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")
    assert config_file_path() == Path("~/.config/bioimage-py/config.toml").expanduser()


def test_writing_keeps_the_rest_of_the_file() -> None:
    path = config_file_path()
    path.parent.mkdir(parents=True)
    target = path.with_name("dotfiles.toml")
    path.symlink_to(target)
    target.write_text(
        '# mine\nname = "x"  # y\n\n[slurm]\n# slow\npartition = "a" # b\nmem = "1G"\n\n[other]\nk = [1,\n 2]\n'
    )
    target.chmod(0o640)
    write_slurm_config(partition="new", mem=None, extra=["--x=1"], time=90)
    assert target.read_text() == (
        '# mine\nname = "x"  # y\n\n[slurm]\n# slow\npartition = "new" # b\nextra = ["--x=1"]\ntime = 90\n\n[other]\nk = [1,\n 2]\n'
    )
    assert path.is_symlink()
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert sorted(p.name for p in path.parent.iterdir()) == ["config.toml", "dotfiles.toml"]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("[slurm\n", "is not valid TOML"),
        ("slurm = 3\n", "must be a table"),
        ("[slurm]\npartitoin = 'x'\n", "has no setting 'partitoin': did you mean 'partition'"),
        ("[slurm]\nzzzzzz = 'x'\n", "has no setting 'zzzzzz': it has poll_interval"),
        ("[slurm]\nmem = [1]\n", r"config\.toml.: mem must be MiB"),
        ("\udcff", "is not valid TOML"),
    ],
)
def test_a_bad_file_is_one_clear_error_and_stays(content: str, text: str) -> None:
    path = config_file_path()
    path.parent.mkdir(parents=True)
    path.write_bytes(os.fsencode(content))
    with pytest.raises(InvalidArgumentError, match=text):
        SlurmRunner()
    before = path.read_bytes()
    if "no setting" not in text and "MiB" not in text:
        with pytest.raises(InvalidArgumentError, match=r"not valid TOML|must be a table|cannot be read"):
            write_slurm_config(partition="x")
    assert path.read_bytes() == before


def test_unknown_names_are_refused_with_the_nearest() -> None:
    with pytest.raises(
        InvalidArgumentError, match="SlurmConfig has no setting 'cpus-per-task': did you mean 'cpus_per_task'"
    ):
        SlurmConfig.load(**{"cpus-per-task": 2})
    with pytest.raises(InvalidArgumentError, match="did you mean 'account'"):
        write_slurm_config(acount="x")
    with pytest.raises(InvalidArgumentError, match="mem must be"):
        write_slurm_config(mem="x")
    assert not config_file_path().exists()


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("BIOIMAGE_PY_CONFIG", str(tmp_path / "file" / "config.toml"))
    with pytest.raises(ReadOnlyError, match=r"file/config\.toml"):
        write_slurm_config(partition="x")
