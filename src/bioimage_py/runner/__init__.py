"""The backends and what they share: `get_runner`, configuration, progress.

A name is imported when it is first used: a worker, which is a module of this package, needs none of the backends.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bioimage_py.runner.base import Resources, Runner, check_num_workers, raise_failures
    from bioimage_py.runner.config import RunnerConfig
    from bioimage_py.runner.dask_config import DaskConfig
    from bioimage_py.runner.dask_runner import DaskRunner
    from bioimage_py.runner.given_ids import ids_from
    from bioimage_py.runner.journal import BlockJournal, Journal, Progress
    from bioimage_py.runner.local import LocalRunner
    from bioimage_py.runner.selection import JOB_TYPES, get_runner
    from bioimage_py.runner.slurm_config import SlurmConfig
    from bioimage_py.runner.slurm_runner import SlurmRunner
    from bioimage_py.runner.slurm_settings import config_file_path, write_slurm_config
    from bioimage_py.runner.subprocess_runner import SubprocessRunner
    from bioimage_py.runner.work import BlockGroups, Work

__all__ = [
    "JOB_TYPES",
    "BlockGroups",
    "BlockJournal",
    "DaskConfig",
    "DaskRunner",
    "Journal",
    "LocalRunner",
    "Progress",
    "Resources",
    "Runner",
    "RunnerConfig",
    "SlurmConfig",
    "SlurmRunner",
    "SubprocessRunner",
    "Work",
    "check_num_workers",
    "config_file_path",
    "get_runner",
    "ids_from",
    "raise_failures",
    "write_slurm_config",
]

_HOMES = {
    "base": ("Resources", "Runner", "check_num_workers", "raise_failures"),
    "config": ("RunnerConfig",),
    "dask_config": ("DaskConfig",),
    "dask_runner": ("DaskRunner",),
    "given_ids": ("ids_from",),
    "journal": ("BlockJournal", "Journal", "Progress"),
    "local": ("LocalRunner",),
    "selection": ("JOB_TYPES", "get_runner"),
    "slurm_config": ("SlurmConfig",),
    "slurm_runner": ("SlurmRunner",),
    "slurm_settings": ("config_file_path", "write_slurm_config"),
    "subprocess_runner": ("SubprocessRunner",),
    "work": ("BlockGroups", "Work"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a name when it is first used."""
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
