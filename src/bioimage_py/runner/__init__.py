"""The backends and what they share: `get_runner`, configuration, progress."""

from bioimage_py.runner.base import Resources, Runner, check_num_workers, raise_failures
from bioimage_py.runner.config import RunnerConfig
from bioimage_py.runner.dask_config import DaskConfig
from bioimage_py.runner.dask_runner import DaskRunner
from bioimage_py.runner.function_work import ids_from
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
