"""The recipes "Adding a format" and "Adding a wrapper" of CONTRIBUTING.md, followed by distributions outside of this package."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

import bioimage_py as bp
from tests.toy_distribution import ROOT, install, run

VOXELS = np.arange(20 * 30 * 40, dtype="uint16").reshape(20, 30, 40)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder with the distribution `toy-formats` in it, as pip would install it; beside it a Toy file and a Zarr of the same voxels."""
    recipe = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## Adding a format")[2]
    recipe = recipe.partition("## Adding a backend")[0]
    lines = re.search(r"```toml\n(.*?)```", recipe, re.DOTALL)
    assert lines is not None
    place = tmp_path / "site"
    code = re.findall(r"```python\n(.*?)```", recipe, re.DOTALL)
    modules = zip(("toy_format", "toy_chunks", "toy_wrapper"), code, strict=True)
    install(place, f'[project]\nname = "toy-formats"\nversion = "1.0"\n{lines[1]}', modules)
    header = json.dumps({"shape": VOXELS.shape, "dtype": "uint16"}).encode()
    (tmp_path / "in.toy").write_bytes(header + b"\n" + VOXELS.tobytes())
    bp.copy(VOXELS, tmp_path / "in.zarr", chunks=(8, 8, 8))
    return place


def python(site: Path, *words: str) -> str:
    done = run(site, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def voxels(site: Path, name: str) -> np.ndarray:
    return np.asarray(bp.open_source(site.parent / name)[...])


def test_a_format_that_is_only_read(site: Path) -> None:
    code = (
        "import bioimage_py as bp; source = bp.open_source('in.toy'); bp.copy(source, 'a.zarr', chunks=(8, 8, 8)); "
        "print(type(source).__module__, source.format)"
    )
    assert python(site, "-c", code) == "toy_format toy"
    python(site, "-m", "bioimage_py", "copy", "in.toy", "b.n5", "--job-type", "subprocess", "--workers", "2")
    for name in ("a.zarr", "b.n5"):
        np.testing.assert_array_equal(voxels(site, name), VOXELS)
    refused = run(site, "-m", "bioimage_py", "copy", "in.zarr", "c.toy")
    assert refused.returncode == 2
    assert "ends as Toy, which cannot be written; formats that can be written" in refused.stderr
    assert "Toys (.toys)" in refused.stderr


def test_a_format_of_chunks_that_can_be_written(site: Path) -> None:
    code = (
        "import numpy as np, bioimage_py as bp; bp.copy('in.zarr', 'a.toys', chunks=(7, 9, 11)); "
        "out = bp.open_source('a.toys', mode='r+'); out[3:5, 2:, 7] = 1; bp.copy('a.toys', 'b.zarr')"
    )
    python(site, "-c", code)
    assert {one.name for one in (site.parent / "a.toys").glob("c.*.0.0")} == {"c.0.0.0", "c.1.0.0", "c.2.0.0"}
    expected = VOXELS.copy()
    expected[3:5, 2:, 7] = 1
    np.testing.assert_array_equal(voxels(site, "b.zarr"), expected)
    copy = ("-m", "bioimage_py", "copy", "in.zarr", "a.toys", "--job-type", "subprocess", "--workers", "2")
    assert "is there already" in run(site, *copy).stderr
    (site.parent / "a.toys" / "notes.txt").write_text("mine")
    assert "notes.txt" in run(site, *copy, "--overwrite").stderr
    (site.parent / "a.toys" / "notes.txt").unlink()
    python(site, *copy, "--overwrite")
    assert not (site.parent / "a.toys" / "c.2.3.3").exists()  # chunks as in the input
    python(site, "-m", "bioimage_py", "copy", "a.toys", "c.n5")
    np.testing.assert_array_equal(voxels(site, "c.n5"), VOXELS)


def test_a_wrapper(site: Path) -> None:
    code = (
        "import bioimage_py as bp, toy_wrapper as toy; "
        "bp.copy(toy.NegativeSource('in.zarr'), 'a.n5', job_type='subprocess', num_workers=2)"
    )
    python(site, "-c", code)
    np.testing.assert_array_equal(voxels(site, "a.n5"), -VOXELS)


def test_a_broken_entry_point_keeps_no_other_format_from_being_opened(site: Path) -> None:
    (site / "toy_chunks.py").write_text("import no_such_module")
    done = run(site, "-c", "import bioimage_py as bp; print(bp.open_source('in.toy').format)")
    assert done.stdout == "toy\n"
    assert "'toys' is left out: the entry point 'toy_chunks:FORMAT' of toy-formats" in done.stderr
