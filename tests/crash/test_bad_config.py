"""Settings that cannot work: one clear error each, before anything is made."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bioimage_py as bp
from bioimage_py.errors import InvalidArgumentError, RunnerError
from bioimage_py.runner import LocalRunner, Runner, RunnerConfig, SubprocessRunner

WRONG: list[Any] = [
    ("poll_interval", True),
    ("poll_interval", "1"),
    ("poll_interval", 0),
    ("poll_interval", float("nan")),
    ("tmp_root", 5),
    ("tmp_root", ""),
    ("tmp_root", b"runs"),
    ("python_executable", 5),
    ("python_executable", ""),
    ("python_executable", ["python"]),
    ("tasks_per_worker", "4"),
    ("tasks_per_worker", 0),
    ("tasks_per_worker", 2.0),
    ("task_timeout", -1),
    ("task_timeout", "10"),
    ("memory_limit", "lots"),
    ("memory_limit", -5),
    ("memory_limit", True),
    ("memory_limit", 1.5),
    ("retries", "2"),
    ("retries", -1),
    ("retries", True),
    ("keep_run_folder", "no"),
    ("keep_run_folder", 1),
    ("durable", "yes"),
    ("durable", None),
    ("threads_per_worker", None),
    ("threads_per_worker", 0),
]


@pytest.mark.parametrize(("field", "value"), WRONG)
def test_wrong_values_name_their_field(field: str, value: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=field):
        RunnerConfig(**{field: value})


def test_unknown_fields_are_named() -> None:
    with pytest.raises(TypeError, match="num_retries"):
        RunnerConfig(num_retries=3)  # type: ignore[call-arg]


def square(item: int) -> int:
    """Return the square."""
    return item * item


@pytest.fixture(params=[LocalRunner, SubprocessRunner])
def backend(request: pytest.FixtureRequest) -> type[Runner]:
    found: type[Runner] = request.param
    return found


def refused(backend: type[Runner], place: Path, **fields: Any) -> str:
    """Return what is said of settings that cannot work; nothing may be left behind."""
    before = sorted(place.rglob("*"))
    with pytest.raises(InvalidArgumentError) as caught:
        backend(RunnerConfig(**fields)).map(square, 3)
    assert sorted(place.rglob("*")) == before
    return str(caught.value)


def test_a_root_that_is_a_file(backend: type[Runner], tmp_path: Path) -> None:
    root = tmp_path / "runs"
    root.write_text("")
    for place in (root, root / "below"):
        said = refused(backend, tmp_path, tmp_root=place)
        assert f"no run folder can be made in {str(place)!r}" in said


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A folder that not even root can write into."""
    folder = tmp_path / "read-only"
    folder.mkdir()
    if os.geteuid() != 0:
        folder.chmod(0o500)
        yield folder
        folder.chmod(0o700)
        return
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", folder], capture_output=True, check=False
    )
    if done.returncode != 0:
        pytest.skip(f"root can write everywhere, and nothing can be mounted: {done.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_root_that_cannot_be_written(backend: type[Runner], read_only: Path, tmp_path: Path) -> None:
    for place in (read_only, read_only / "below"):
        said = refused(backend, tmp_path, tmp_root=place)
        assert f"no run folder can be made in {str(place)!r}" in said
        assert "Read-only file system" in said or "Permission denied" in said


def script(place: Path, text: str) -> str:
    place.write_text(f"#!/bin/sh\n{text}\n")
    place.chmod(0o700)
    return str(place)


@pytest.fixture
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Python without any package."""
    place = tmp_path_factory.mktemp("bare") / "python"
    # Isolated from the site's packages, and from the folder that the tests run in.
    return script(place, f'exec "{sys.executable}" -I -S "$@"')


def test_pythons_that_cannot_be_workers(tmp_path: Path, bare_python: str) -> None:
    root = tmp_path / "runs"
    missing = tmp_path / "nowhere" / "python"
    for python, expected in (
        (str(missing), "cannot be started: No such file or directory"),
        (str(tmp_path), "cannot be started: Permission denied"),
        (shutil.which("true"), "is not a Python interpreter"),
        (shutil.which("echo"), "is not a Python interpreter"),
        (shutil.which("false"), "exit code 1"),
        (bare_python, "ModuleNotFoundError: No module named 'bioimage_py'"),
    ):
        said = refused(SubprocessRunner, tmp_path, tmp_root=root, python_executable=python)
        assert repr(python) in said
        assert expected in said
        assert "python_executable=" in said


def test_a_python_of_another_version(tmp_path: Path) -> None:
    """What a worker sees that was started with another Python than the run was submitted with."""
    from bioimage_py.runner.run import read_json, write_json

    def fail(item: int) -> None:
        raise ValueError("no")

    with pytest.raises(RunnerError) as caught:
        SubprocessRunner(RunnerConfig(tmp_root=tmp_path / "runs", retries=2)).map(fail, 2)
    plan = Path(str(caught.value.tmp_folder)) / "run.json"
    for name, version in (("python", "3.7.1"), ("numpy", "0.9"), ("tensorstore", "99.1")):
        run = read_json(plan)
        here = dict(run["environment"])
        run["environment"][name] = version
        write_json(plan, run)
        with pytest.raises(
            RunnerError, match=f"the worker has {name} .*, the run was submitted with {version}"
        ):
            bp.resume(plan.parent)
        run["environment"] = here
        write_json(plan, run)


@pytest.mark.parametrize("fields", [{"python_executable": "/nowhere/python"}, {"tmp_root": __file__}])
def test_the_output_of_a_copy_is_not_left_behind(tmp_path: Path, fields: dict[str, Any]) -> None:
    bp.create_output(tmp_path / "in.zarr", shape=(4, 4), dtype="u1", chunks=(2, 2))[...] = np.ones(
        (4, 4), "u1"
    )
    config = RunnerConfig(**{"tmp_root": tmp_path / "runs", **fields})
    with pytest.raises(InvalidArgumentError):
        bp.copy(tmp_path / "in.zarr", tmp_path / "out.zarr", job_type="subprocess", job_config=config)
    assert [p.name for p in tmp_path.iterdir()] == ["in.zarr"]
