"""Which names Windows and macOS lack, as mypy's copy of typeshed says for each system."""

from __future__ import annotations

import ast
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

PLATFORMS = {"windows": "win32", "macos": "darwin"}
MODULES = ("os", "signal", "fcntl", "resource", "pwd", "grp", "time", "mmap")


def names(module: str, platform: str) -> frozenset[str]:
    """Return the names that a module has on a platform."""
    # `find_spec("mypy")` loads no part of it.
    place = Path(find_spec("mypy").origin).parent / "typeshed" / "stdlib" / module
    stub = place / "__init__.pyi" if place.is_dir() else place.with_suffix(".pyi")
    there = SimpleNamespace(platform=platform, version_info=sys.version_info[:2])
    found: set[str] = set()

    def collect(body: list[ast.stmt]) -> None:
        for node in body:
            match node:
                case ast.If():
                    says = eval(compile(ast.Expression(node.test), str(stub), "eval"), {"sys": there})
                    collect(node.body if says else node.orelse)
                case ast.ClassDef(name="Signals"):
                    collect(node.body)
                case ast.FunctionDef() | ast.ClassDef():
                    found.add(node.name)
                case ast.Assign():
                    found.update(target.id for target in node.targets if isinstance(target, ast.Name))
                case ast.AnnAssign(target=ast.Name()):
                    found.add(node.target.id)

    collect(ast.parse(stub.read_text()).body)
    return frozenset(found)


@cache
def lacking(system: str) -> dict[str, frozenset[str]]:
    """Return by module what Linux has and a system has not."""
    return {module: names(module, "linux") - names(module, PLATFORMS[system]) for module in MODULES}


@cache
def lacking_modules(system: str) -> frozenset[str]:
    """Return the modules that a system has nothing of."""
    return frozenset(module for module in MODULES if not names(module, PLATFORMS[system]))
