"""The recipe "Adding a backend" of CONTRIBUTING.md, followed by a distribution outside of this package."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import bioimage_py as bp
from bioimage_py.sources import open_source
from tests.toy_distribution import ROOT, install, run


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder with the distribution `toy-backend` in it, as pip would install it."""
    recipe = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## Adding a backend")[2]
    code = re.search(r"```python\n(.*?)```", recipe, re.DOTALL)
    lines = re.search(r"```toml\n(.*?)```", recipe, re.DOTALL)
    assert code is not None
    assert lines is not None
    project = f'[project]\nname = "toy-backend"\nversion = "1.0"\n{lines[1]}'
    install(tmp_path / "site", project, [("toy_backend", code[1])])
    bp.copy(np.arange(4096).reshape(16, 16, 16), tmp_path / "in.zarr", chunks=(8, 8, 8))
    return tmp_path / "site"


def logs(site: Path) -> list[str]:
    return [log.read_text().strip() for log in sorted(site.parent.glob("bioimage-run-*/logs/*"))]


def is_copied(site: Path) -> bool:
    with open_source(site.parent / "in.zarr") as a, open_source(site.parent / "out.zarr") as b:
        return np.array_equal(a[...], b[...])


def test_a_copy_runs_on_a_backend_of_another_distribution(site: Path) -> None:
    code = (
        "import bioimage_py as bp, toy_backend as toy\n"
        "config = toy.ToyConfig(label='hello', tasks_per_worker=2, keep_run_folder=True)\n"
        "bp.copy('in.zarr', 'out.zarr', job_type='toy', job_config=config, block_shape=(8, 8, 8))\n"
    )
    done = run(site, "-c", code)
    assert (done.returncode, done.stderr) == (0, "")
    assert is_copied(site)
    assert logs(site) == ["hello", "hello"]


def test_what_is_missing_is_done_on_that_backend_too(site: Path) -> None:
    code = (
        "import bioimage_py as bp\n"
        "from bioimage_py.runner import RunnerConfig\n"
        "def double(item):\n"
        "    if not open('in.zarr/ready'): pass\n"
        "    return 2 * item\n"
        "try:\n"
        "    bp.get_runner('toy', RunnerConfig(retries=0)).map(double, 3)\n"
        "except bp.RunnerError as error:\n"
        "    open('in.zarr/ready', 'w').close()\n"
        "    print(len(error.failed_block_ids), bp.resume(error.tmp_folder))\n"
    )
    done = run(site, "-c", code)
    assert (done.stdout, done.stderr) == ("3 [0, 2, 4]\n", "")


def test_the_command_has_the_backend_and_its_options(site: Path) -> None:
    words = ["copy", "in.zarr", "out.zarr", "--job-type", "toy", "--workers", "1", "--tasks-per-worker", "3"]
    done = run(site, "-m", "bioimage_py", *words, "--toy-label", "hi", "--keep-run-folder", "--quiet")
    assert (done.returncode, done.stderr) == (0, "")
    assert is_copied(site)
    assert set(logs(site)) == {"hi"}
    shown = run(site, "-m", "bioimage_py", "copy", "--help").stdout
    assert "'toy': from toy-backend" in " ".join(shown.split())
    assert "--toy-label WORD" in shown
    refused = run(site, "-m", "bioimage_py", "copy", "in.zarr", "b.zarr", "--toy-label", "hi")
    assert (refused.returncode, "--toy-label needs --job-type toy" in refused.stderr) == (2, True)


def test_a_backend_that_cannot_be_imported_costs_nobody_else_a_copy(site: Path) -> None:
    (site / "toy_backend.py").write_text("import no_such_library\n")
    done = run(site, "-m", "bioimage_py", "copy", "in.zarr", "out.zarr", "--quiet")
    assert (done.returncode, done.stderr) == (0, "")
    assert is_copied(site)
    failed = run(site, "-m", "bioimage_py", "copy", "in.zarr", "b.zarr", "--job-type", "toy")
    assert failed.returncode != 0
    assert "the backend 'toy' cannot be imported from toy_backend:ToyRunner" in failed.stderr
    assert "no_such_library" in failed.stderr


def test_a_name_that_nobody_has_is_refused_with_those_that_there_are(site: Path) -> None:
    done = run(site, "-c", "import bioimage_py as bp; bp.get_runner('tyo')")
    assert (
        "job_type must be one of 'local', 'subprocess', 'slurm', 'dask', 'external', 'toy', got 'tyo'"
        in done.stderr
    )
