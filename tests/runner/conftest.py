"""Fixtures of the backends' tests."""

from __future__ import annotations

from tests.runner.slurm_fixtures import _plain_cluster, _slurm_cluster, plain_slurm, slurm, slurm_config

__all__ = ["_plain_cluster", "_slurm_cluster", "plain_slurm", "slurm", "slurm_config"]
