"""What the project promises about itself: a quick import, doors that open one way, small modules with honest names."""

from __future__ import annotations

import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted((ROOT / "src" / "bioimage_py").rglob("*.py"))
HEAVY = (
    "h5py", "imagecodecs", "mrcfile", "nibabel", "numcodecs", "tensorstore", "tifffile", "z5py", "zarr", "dask", "xarray",
    "distributed", "scipy", "skimage", "PIL", "tomlkit", "google_crc32c",
    "neuroglancer", "tornado", "bioio", "obstore",
)  # fmt: skip
LONGEST_MODULE = 600
EMPTY_NAMES = {"util", "utils", "common", "helper", "helpers", "manager", "misc"}


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
    for recipe, code in (
        ("@echo '== 3 passed in 0.10s =='", 0),
        ("@echo '== 1 failed, 2 passed in 0.10s =='; false", 2),
        ("@echo '== no tests ran in 0.01s =='", 1),
    ):
        (project / "Makefile").write_text(f"test:\n\t{recipe}\n")
        done = subprocess.run(["bash", script], capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stdout + done.stderr
        if "passed" in recipe:
            assert done.stdout.strip().splitlines()[-1].startswith("==")
