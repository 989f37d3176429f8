"""Only the room `system` names what Windows or macOS lacks."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import bioimage_py
from tests.system.lacking import lacking, lacking_modules

ROOT = Path(bioimage_py.__file__).parent
ROOM = ROOT / "system"
SYSTEMS = ("windows", "macos")
GONE = {
    f"{module}.{name}" for system in SYSTEMS for module, names in lacking(system).items() for name in names
}
MODULES = {module for system in SYSTEMS for module in lacking_modules(system)} | {
    "msvcrt",
    "winreg",
    "psutil",
}
# Windows spells these differently, or does something else when they are called.
OURS = {
    "os.O_RDONLY",
    "os.O_WRONLY",
    "os.O_RDWR",
    "os.O_CREAT",
    "os.O_EXCL",
    "os.kill",
    "os.replace",
    "os.link",
    "os.name",
}


def offences(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        said: set[str] = set()
        match node:
            case ast.Attribute(value=ast.Name(id=module), attr=name):
                said = {f"{module}.{name}"} & (GONE | OURS)
            case ast.ImportFrom(module=str(module)):
                said = {f"{module}.{alias.name}" for alias in node.names} & (GONE | OURS) | {module} & MODULES
            case ast.Import():
                said = {alias.name for alias in node.names} & MODULES
            case ast.Constant(value=str(text)) if text.startswith(("/proc/", "/sys/", "/dev/")):
                said = {text}
            case ast.keyword(arg="start_new_session" | "preexec_fn" | "process_group" | "dir_fd" as name):
                said = {name}
        for one in sorted(said):
            yield f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', '')} {one}"


def test_no_other_room_names_what_a_system_lacks() -> None:
    found = [one for path in ROOT.rglob("*.py") if ROOM not in path.parents for one in offences(path)]
    assert not found, "the room bioimage_py.system offers these for every system: " + "; ".join(found)


def test_the_test_finds_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    bad = tmp_path / "bad.py"
    bad.write_text(
        "import fcntl\nimport os\nimport signal\nos.pread(0, 1, 2)\nopen('/proc/meminfo')\nsignal.SIGKILL\n"
        "from os import geteuid\nrun(start_new_session=True)\nos.open('a', os.O_RDONLY | os.O_CLOEXEC)\n"
    )
    told = " ".join(offences(bad))
    for name in (
        "fcntl",
        "os.pread",
        "/proc/",
        "SIGKILL",
        "geteuid",
        "start_new_session",
        "O_RDONLY",
        "O_CLOEXEC",
    ):
        assert name in told


def test_what_is_lacking_is_read_from_the_stubs() -> None:
    assert {"pread", "pwrite", "geteuid", "O_CLOEXEC", "killpg", "posix_fadvise"} <= lacking("windows")["os"]
    assert {"posix_fadvise", "posix_fallocate", "fdatasync", "copy_file_range"} <= lacking("macos")["os"]
    assert not {"pread", "geteuid", "killpg", "O_CLOEXEC"} & lacking("macos")["os"]
    assert {"fcntl", "resource", "pwd"} <= lacking_modules("windows")
    assert not lacking_modules("macos")
