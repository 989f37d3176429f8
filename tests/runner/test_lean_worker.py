"""What a worker imports: many start at once on few processors, so that each waits for what all of them import."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

import bioimage_py as bp
from bioimage_py.runner import RunnerConfig, describe_environment

NOT_FOR_ITEMS = {"numpy", "cloudpickle", "argparse", "dataclasses", "importlib.metadata", "logging"}
NOT_FOR_COPIES = {
    "h5py", "tifffile", "zarr", "dask", "distributed", "scipy", "cloudpickle", "bioimage_py.cli", "bioimage_py.planning",
    "bioimage_py.runner.base", "bioimage_py.runner.slurm.runner", "bioimage_py.runner.dask.runner",
}  # fmt: skip


@pytest.fixture
def listing_python(tmp_path: Path) -> Path:
    """An interpreter that writes which modules it has imported, into a file per process, when it ends."""
    (tmp_path / "imported").mkdir()
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(
        "import atexit, os, sys\n"
        "def write():\n"
        f"    with open(f'{tmp_path}/imported/{{os.getpid()}}', 'w') as file:\n"
        "        file.write(' '.join([*sys.orig_argv[3:4], *sys.modules]))\n"
        "atexit.register(write)\n"
    )
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={site} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    return python


def imported_by_workers(folder: Path) -> list[set[str]]:
    texts = [path.read_text().split() for path in (folder / "imported").iterdir()]
    return [set(names) for first, *names in texts if first == "bioimage_py.runner.worker"]


def test_a_worker_of_items_imports_no_array_library(tmp_path: Path, listing_python: Path) -> None:
    config = RunnerConfig(tmp_root=tmp_path / "runs", python_executable=str(listing_python))
    assert bp.get_runner("subprocess", config).map(abs, 20, num_workers=2) == list(range(20))
    workers = imported_by_workers(tmp_path)
    assert len(workers) == 2
    for imported in workers:
        assert "bioimage_py.runner.work.items" in imported
        assert not imported & NOT_FOR_ITEMS
        rooms = {name.split(".")[1] for name in imported if name.startswith("bioimage_py.")}
        assert rooms == {"errors", "geometry", "runner", "storage", "system"}


def test_a_worker_of_a_copy_imports_what_the_copy_needs(tmp_path: Path, listing_python: Path) -> None:
    bp.copy(np.arange(4096).reshape(16, 16, 16), tmp_path / "in.zarr", chunks=(8, 8, 8))
    config = RunnerConfig(tmp_root=tmp_path / "runs", python_executable=str(listing_python))
    bp.copy(tmp_path / "in.zarr", tmp_path / "out.zarr", job_type="subprocess", job_config=config)
    workers = imported_by_workers(tmp_path)
    assert len(workers) == 1
    assert "bioimage_py.runner.work.copying" in workers[0]
    assert not workers[0] & NOT_FOR_COPIES


def test_the_module_of_the_worker_needs_no_array_library() -> None:
    code = "import sys, bioimage_py.runner.worker; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported = set(done.stdout.split())
    assert "bioimage_py.runner.task" in imported
    assert not imported & NOT_FOR_ITEMS


def test_versions_are_those_of_the_metadata() -> None:
    found = describe_environment()
    assert found.pop("python") == sys.version.split()[0]
    assert {"bioimage-py", "numpy"} <= set(found)
    assert found == {name: metadata.version(name) for name in found}


def test_versions_that_names_of_folders_do_not_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an update left behind does not hide what is there, and another form of metadata is read as well."""
    for name in ("numpy-1.0.dist-info", "zarr-7.0.egg-info", "h5py-8.0.dist-info", "h5py-9.0.dist-info"):
        (tmp_path / name).mkdir()
        (tmp_path / name / ("PKG-INFO" if "egg" in name else "METADATA")).write_text(
            "Metadata-Version: 2.1\nName: {}\nVersion: {}\n".format(*name.rsplit(".", 1)[0].split("-"))
        )
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    found = describe_environment()
    assert found.pop("h5py") in ("8.0", "9.0")
    assert found == {"python": sys.version.split()[0], "numpy": "1.0", "zarr": "7.0"}
