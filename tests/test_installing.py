"""What messages and documents say about packages that are missing."""

from __future__ import annotations

import re
import shlex
import tomllib
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from bioimage_py.errors import MissingDependencyError
from bioimage_py.runner.dask.config import DASK_PACKAGES

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src").rglob("*.py"))


@pytest.mark.parametrize(
    "path", [*SOURCES, ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))], ids=str
)
def test_nobody_is_sent_to_another_project_of_the_same_name(path: Path) -> None:
    for line in re.findall(r"(?<!Not `)pip install ([^\n`]*)", path.read_text()):
        # By its name and an address it is this one.
        assert not re.search(r"(^|[\s'\"])bioimage[-_]py(\[[^\]]*\])?(?! @)(['\"\s]|$)", line), line


@pytest.mark.parametrize(
    "bad", ["bioimage-py", "'bioimage-py[view]'", "numpy bioimage_py", '"bioimage-py[dask]" x']
)
def test_the_search_finds_what_it_is_for(tmp_path: Path, bad: str) -> None:
    (tmp_path / "a.md").write_text(f"get it: pip install {bad}\n")
    with pytest.raises(AssertionError):
        test_nobody_is_sent_to_another_project_of_the_same_name(tmp_path / "a.md")


def test_an_error_names_the_packages_for_a_shell() -> None:
    error = MissingDependencyError.of("Dask is needed", "dask[array,distributed]", "cloudpickle")
    assert (
        str(error) == "Dask is needed. Install them with: pip install 'dask[array,distributed]' cloudpickle"
    )
    command = str(error).partition("with: ")[2]
    assert shlex.split(command) == ["pip", "install", "dask[array,distributed]", "cloudpickle"]


def test_dask_takes_what_its_extra_has() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert [re.split("[<>=]", package)[0] for package in extras["dask"]] == list(DASK_PACKAGES)


def _needed(name: str, found: dict[str, Distribution]) -> dict[str, Distribution]:
    """Return a distribution and all that it needs without extras."""
    if name not in found:
        found[name] = distribution(name)
        for text in found[name].requires or ():
            required = Requirement(text)
            if required.marker is None or required.marker.evaluate({"extra": ""}):
                _needed(re.sub("[-_.]+", "-", required.name).lower(), found)
    return found


def test_without_extras_it_stays_small() -> None:
    found = _needed("bioimage-py", {})
    files = [Path(str(file.locate())) for one in found.values() for file in one.files or ()]
    n_bytes = sum(file.stat().st_size for file in files if file.is_file())
    assert {"numpy", "tensorstore", "zarr", "tifffile"} <= set(found)
    assert "scipy" not in found
    assert 100 * 2**20 < n_bytes < 350 * 2**20
