"""What every test may use."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

# How long an example takes says more about the machine than about the code.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture
def shared_data() -> Path:
    """The folder of files made by other people's programs; skips where it is absent."""
    if not DATA.is_dir():
        pytest.skip(f"the folder of shared test files {DATA} is absent")
    return DATA
