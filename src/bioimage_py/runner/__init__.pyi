from .backends import (
    Backend as Backend,
    all_backends as all_backends,
    find_backend as find_backend,
    get_runner as get_runner,
    look_at_run as look_at_run,
    restored_runner as restored_runner,
)
from .base import (
    Runner as Runner,
    RunnerError as RunnerError,
    checked_workers as checked_workers,
    raise_failures as raise_failures,
)
from .config import (
    TASKS_AT_ONCE as TASKS_AT_ONCE,
    Resources as Resources,
    RunnerConfig as RunnerConfig,
)
from .dask.config import DaskConfig as DaskConfig
from .dask.runner import DaskRunner as DaskRunner
from .environment import describe_environment as describe_environment
from .folder_runner import FolderRunner as FolderRunner, Watch as Watch
from .journal import BlockJournal as BlockJournal, Journal as Journal, Progress as Progress, Report as Report
from .kept_run import interrupted as interrupted, new_run_folder as new_run_folder
from .local import LocalRunner as LocalRunner, run_twin as run_twin
from .progress import (
    ProgressBar as ProgressBar,
    bars_are_wanted as bars_are_wanted,
    bars_in_file as bars_in_file,
    progress_text as progress_text,
    reporting as reporting,
)
from .rounds import (
    FIRST_NEEDS as FIRST_NEEDS,
    TaskEnd as TaskEnd,
    begin_round as begin_round,
    portion_sizes as portion_sizes,
)
from .slurm.config import (
    SlurmConfig as SlurmConfig,
    config_file_path as config_file_path,
    write_slurm_config as write_slurm_config,
)
from .slurm.runner import SlurmRunner as SlurmRunner
from .subprocess_runner import SubprocessRunner as SubprocessRunner
from .task import run_task as run_task
from .work.items import ids_from as ids_from
from .work.work import Work as Work
from .worker import leave as leave, part_from_worker as part_from_worker
