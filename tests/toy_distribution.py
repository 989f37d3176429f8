"""Distributions outside of the package: installed as pip does it, and Python that finds them."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def install(site: Path, project: str, modules: Iterable[tuple[str, str]]) -> None:
    """Put what a `pyproject.toml` describes, and its modules by name and text, into a folder as pip does with `--target`."""
    about = tomllib.loads(project)["project"]
    folder = site / f"{about['name'].replace('-', '_')}-{about['version']}.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {about['name']}\nVersion: {about['version']}\n"
    )
    lines = [
        line
        for group, points in about["entry-points"].items()
        for line in (f"[{group}]", *(f"{name} = {value}" for name, value in points.items()))
    ]
    (folder / "entry_points.txt").write_text("\n".join(lines))
    for name, text in modules:
        (site / f"{name}.py").write_text(text)


def run(site: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run Python beside a folder of installed distributions, with that folder on its path."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), str(ROOT / "src")])}
    return subprocess.run(
        [sys.executable, *words],
        cwd=site.parent,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
