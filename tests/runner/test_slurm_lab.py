"""The cluster for tests itself: it is never missing without a word where it was asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.runner import slurm_lab
from tests.runner.slurm_lab import REQUIRE, SlurmLab, shared


def test_without_root_tests_skip_or_fail_as_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm_lab.os, "geteuid", lambda: 1000)
    monkeypatch.delenv(REQUIRE, raising=False)
    with pytest.raises(pytest.skip.Exception, match="needs root"), shared(SlurmLab(tmp_path)):
        pass
    monkeypatch.setenv(REQUIRE, "1")
    with (
        pytest.raises(pytest.fail.Exception, match=f"needs root, and {REQUIRE} is set"),
        shared(SlurmLab(tmp_path)),
    ):
        pass


def test_a_cluster_with_a_user_is_not_stopped_by_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    monkeypatch.setattr(slurm_lab, "why_not", lambda: "")
    monkeypatch.setattr(SlurmLab, "start", lambda self: done.append("start"))
    monkeypatch.setattr(SlurmLab, "stop", lambda self: done.append("stop"))
    monkeypatch.delenv("SLURMLAB_KEEP", raising=False)
    with shared(SlurmLab(tmp_path / "lab")):
        with shared(SlurmLab(tmp_path / "lab")):
            pass
        assert done == ["start", "start"]
    assert done == ["start", "start", "stop"]
