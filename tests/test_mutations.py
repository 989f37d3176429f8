"""Damaged files of every format, always the same ones: they read, or are refused with an error of ours that says so."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import EXPLORE
from tests.mutations import FORMATS
from tests.waiting import PATIENCE

COUNT = 10 * max(1, EXPLORE)
FIRST = random.randrange(10**9) if EXPLORE else 0


@pytest.mark.parametrize("part", range(4))
def test_damaged_files_read_or_are_refused(tmp_path: Path, part: int) -> None:
    names = list(FORMATS)[part::4]
    words = [sys.executable, "-m", "tests.mutations", ",".join(names), str(FIRST), str(COUNT), str(tmp_path)]
    root = Path(__file__).resolve().parents[1]
    timeout = len(names) * PATIENCE * max(1, EXPLORE)
    done = subprocess.run(words, cwd=root, capture_output=True, text=True, timeout=timeout, check=False)
    at = (tmp_path / "now").read_text() if (tmp_path / "now").exists() else "nowhere"
    assert done.returncode == 0, f"{at}{done.stdout[-6000:]}{done.stderr[-3000:]}"
    assert done.stderr == "", "a library wrote to the user's terminal"
    assert done.stdout == f"{len(names) * COUNT} tried, 0 failed\n"
