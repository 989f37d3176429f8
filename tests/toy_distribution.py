"""Running Python where a distribution outside of the package is installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


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
