"""The page "Write your own source": its package is installed, its files are opened by their name, and broken packages are named."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

import bioimage_py as bp
from tests.toy_distribution import ROOT, install, run

FOLDER = ROOT / "examples" / "own_source"
MODULE, PROJECT = ((FOLDER / name).read_text() for name in ("toy_scan.py", "pyproject.toml"))
VOXELS = np.arange(20 * 30 * 40, dtype="uint16").reshape(20, 30, 40)
COMMAND = ("-m", "bioimage_py")


@pytest.fixture
def site(tmp_path: Path) -> Path:
    header = b'{"shape": [20, 30, 40], "dtype": "uint16", "pixel_um": 0.5}\n'
    (tmp_path / "scan.toy").write_bytes(header + VOXELS.tobytes())
    (tmp_path / "cut.toy").write_bytes(header + VOXELS[1:].tobytes())
    bp.copy(VOXELS, tmp_path / "in.zarr", chunks=(8, 8, 8))
    return tmp_path / "site"


def lines(done: subprocess.CompletedProcess[str]) -> list[str]:
    return done.stderr.splitlines()


def test_the_page_shows_the_package() -> None:
    page = (ROOT / "docs" / "tutorials" / "own-format.md").read_text(encoding="utf-8")
    assert f"```python\n{MODULE}```" in page
    assert f"```toml\n{PROJECT}```" in page


def test_its_files_are_opened_by_their_name(site: Path) -> None:
    install(site, PROJECT, [("toy_scan", MODULE)])
    info = run(site, *COMMAND, "info", "scan.toy")
    assert (info.returncode, "toy" in info.stdout, "0.5" in info.stdout) == (0, True, True), info.stderr
    copied = run(
        site, *COMMAND, "copy", "scan.toy", "out.ome.zarr", "--job-type", "subprocess", "--workers", "2"
    )
    assert copied.returncode == 0, copied.stderr
    with bp.open_source(site.parent / "out.ome.zarr") as made:
        np.testing.assert_array_equal(made[...], VOXELS)
        assert made.metadata.voxel_size == (0.5, 0.5, 0.5)
    (site.parent / "a.unknown").write_bytes(b"?")
    assert "Toy scan (.toy)" in run(site, *COMMAND, "info", "a.unknown").stderr
    cut = run(site, *COMMAND, "copy", "cut.toy", "cut.zarr")
    assert (cut.returncode, len(lines(cut))) == (4, 1)
    assert "cut.toy is not a whole toy scan" in cut.stderr
    assert (
        "toy scans are only read"
        in run(site, "-c", "import bioimage_py as bp; bp.open_source('scan.toy', mode='r+')").stderr
    )


def test_broken_packages_are_named_and_left_out(site: Path) -> None:
    project = PROJECT.replace(
        'toy = "toy_scan:FORMAT"', '"a b" = "lists:FORMAT"\ntaken = "taken:FORMAT"\ntoy = "toy_scan:FORMAT"'
    )
    entry = 'from bioimage_py.sources import FamilyEntry\nFORMAT = FamilyEntry("{}", "nowhere:Family", "Nowhere", {})\n'
    modules = [
        ("lists", entry.format("lists", 'suffixes=[".nil"]')),
        ("taken", entry.format("zarr", 'suffixes=(".nil",)')),
        ("toy_scan", entry.format("toy", 'suffixes=(".toy",), markers=("toy.json",)')),
    ]
    install(site, project, modules)
    done = run(site, *COMMAND, "info", "scan.toy")
    assert done.returncode == 2
    listed, taken, error = lines(done)[:3]
    assert "'a b' is left out: the entry point 'lists:FORMAT' of toy-scan leads to TypeError" in listed
    assert (
        "'taken' is left out: the entry point 'taken:FORMAT' of toy-scan has the kind 'zarr' of another format"
        in taken
    )
    assert (
        "Nowhere files cannot be opened: 'nowhere:Family' of toy-scan fails with ModuleNotFoundError" in error
    )
    checked = run(site, *COMMAND, "check", "in.zarr")
    assert checked.returncode == 0, checked.stderr
    assert "'nowhere:Family' of toy-scan fails" in checked.stderr
    assert run(site, *COMMAND, "copy", "in.zarr", "out.zarr").returncode == 0
