"""What the project promises about itself: a quick import, doors that open one way, small modules with honest names."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from functools import cache
from importlib.resources import files
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted((ROOT / "src" / "bioimage_py").rglob("*.py"))
HEAVY = (
    "h5py", "imagecodecs", "mrcfile", "nibabel", "numcodecs", "tensorstore", "tifffile", "z5py", "zarr", "dask", "xarray",
    "distributed", "scipy", "skimage", "PIL", "tomlkit", "google_crc32c",
    "neuroglancer", "tornado", "bioio", "obstore", "napari", "qtpy",
)  # fmt: skip
LONGEST_MODULE = 600
MOST_MODULES = 15
MOST_PRIVATE_IMPORTS_OF_TESTS = 30
EMPTY_NAMES = {"util", "utils", "common", "helper", "helpers", "manager", "misc"}


def _name_of(path: Path) -> str:
    parts = path.relative_to(ROOT / "src").with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(path: Path) -> list[tuple[str, str]]:
    """Return from which module of the package a file imports which names, also in functions; not those for the type checker."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    return [
        (f"{node.module}.{alias.name}", "")
        if f"{node.module}.{alias.name}" in PACKAGE_OF
        else (node.module, alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module and id(node) not in for_types
        for alias in node.names
        if node.module.split(".")[0] == "bioimage_py"
    ]


def _dependencies() -> dict[str, set[str]]:
    """Return which module imports from which one, with doors looked through."""
    behind = {
        (_name_of(door), alias.name): f"{_name_of(door)}.{node.module}"
        for door in (ROOT / "src" / "bioimage_py").rglob("__init__.pyi")
        for node in ast.parse(door.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    return {
        module: {behind.get(one, one[0]) for one in imported if one[0] in PACKAGE_OF} - {module}
        for module, imported in _all_imports().items()
    }


PACKAGE_OF = {
    _name_of(module): _name_of(module)
    if module.name == "__init__.py"
    else _name_of(module.parent / "__init__.py")
    for module in MODULES
}


@cache
def _all_imports() -> dict[str, list[tuple[str, str]]]:
    return {_name_of(module): _imports(module) for module in MODULES}


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_import_is_quick_because_it_loads_one_module() -> None:
    code = "import sys, bioimage_py; print(*(name for name in sys.modules if name.startswith('bioimage_py')))"
    assert set(run_python(code).split()) == {"bioimage_py"}


def test_import_loads_no_storage_library() -> None:
    loaded = set(run_python("import sys, bioimage_py; print(*sys.modules)").split())
    assert "bioimage_py" in loaded
    assert loaded.isdisjoint(HEAVY)


def test_every_public_name_is_found_by_dir_and_getattr() -> None:
    code = (
        "import bioimage_py as b; print([n for n in b.__all__ if n not in dir(b) or getattr(b, n) is None])"
    )
    assert run_python(code) == "[]"


def test_rooms_open_one_way() -> None:
    command = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([command, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_modules_were_found() -> None:
    assert len(MODULES) > 20


@pytest.mark.parametrize("module", MODULES, ids=lambda p: str(p.relative_to(ROOT / "src")))
def test_module_is_one_concept_with_a_telling_name(module: Path) -> None:
    lines = len(module.read_text(encoding="utf-8").splitlines())
    assert lines <= LONGEST_MODULE
    assert EMPTY_NAMES.isdisjoint(module.stem.split("_"))
    assert EMPTY_NAMES.isdisjoint(module.parent.name.split("_"))


def test_no_folder_has_too_many_modules() -> None:
    folders = Counter(str(module.parent.relative_to(ROOT)) for module in MODULES)
    assert {folder: n for folder, n in folders.items() if n > MOST_MODULES} == {}


def test_rooms_are_entered_by_their_doors() -> None:
    """A module is imported inside its own package, and in those below it; everybody else imports from the package."""
    broken = [
        f"{module} imports {name} from {found}"
        for module, imported in _all_imports().items()
        for found, name in imported
        if found in PACKAGE_OF
        and PACKAGE_OF[found] != found
        and PACKAGE_OF[found] != "bioimage_py"
        and not f"{PACKAGE_OF[module]}.".startswith(f"{PACKAGE_OF[found]}.")
    ]
    assert broken == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    reached = {module: set(found) for module, found in _dependencies().items()}
    for _ in reached:
        grown = {module: found.union(*(reached[one] for one in found)) for module, found in reached.items()}
        if grown == reached:
            break
        reached = grown
    assert [module for module, found in reached.items() if module in found] == []


def test_tests_open_few_private_modules() -> None:
    """Tests of behaviour go through the doors, so that what is private can move."""
    private = [
        f"{path.relative_to(ROOT)}: {found}"
        for path in sorted((ROOT / "tests").rglob("*.py"))
        for found, name in _imports(path)
        if found in PACKAGE_OF and PACKAGE_OF[found] not in (found, "bioimage_py")
    ]
    assert len(private) <= MOST_PRIVATE_IMPORTS_OF_TESTS, "\n".join(private)


def test_types_are_shipped() -> None:
    assert files("bioimage_py").joinpath("py.typed").is_file()


@pytest.mark.parametrize("name", ["Makefile", ".ci/run", "README.md"])
def test_project_files_are_there(name: str) -> None:
    assert (ROOT / name).stat().st_size > 100


def test_ci_script_reports_failure(tmp_path: Path) -> None:
    """A `make` that fails, or that runs no test, must not look green."""
    project = tmp_path / "project"
    (project / ".ci").mkdir(parents=True)
    script = project / ".ci" / "run"
    script.write_text((ROOT / ".ci" / "run").read_text())
    newest = project / ".ci" / "newest"
    for recipe, again, code in (
        ("@echo '== 3 passed in 0.10s =='", "true", 0),
        ("@echo '== 3 passed in 0.10s =='", "false", 1),
        ("@echo '== 1 failed, 2 passed in 0.10s =='; false", "true", 2),
        ("@echo '== no tests ran in 0.01s =='", "true", 1),
    ):
        (project / "Makefile").write_text(f"test:\n\t{recipe}\n")
        newest.write_text(f"#!/bin/sh\n{again}\n")
        newest.chmod(0o755)
        done = subprocess.run(["bash", script], capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stdout + done.stderr
        if "passed" in recipe:
            assert done.stdout.strip().splitlines()[-1].startswith("==")
