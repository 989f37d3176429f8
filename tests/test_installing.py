"""What messages and documents say about packages that are missing."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import pytest

from bioimage_py.errors import MissingDependencyError
from bioimage_py.runner.dask.config import DASK_PACKAGES

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src").rglob("*.py"))


@pytest.mark.parametrize(
    "path", [*SOURCES, ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))], ids=str
)
def test_nobody_is_sent_to_another_project_of_the_same_name(path: Path) -> None:
    assert not re.search(r"install[^\n]*bioimage[-_]py\b", path.read_text())


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
