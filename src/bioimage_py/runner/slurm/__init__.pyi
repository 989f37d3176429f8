from .commands import (
    Limits as Limits,
    Slurm as Slurm,
    SlurmRefusalError as SlurmRefusalError,
    parse_submitted as parse_submitted,
)
from .config import (
    SlurmConfig as SlurmConfig,
    check_names as check_names,
    config_file_path as config_file_path,
    file_content as file_content,
    is_ignored as is_ignored,
    user_defaults as user_defaults,
    write_settings as write_settings,
    write_slurm_config as write_slurm_config,
)
from .jobs import ArrayJob as ArrayJob, RoundJobs as RoundJobs
from .pace import Pace as Pace
from .quantities import array_indices as array_indices, mebibytes as mebibytes, minutes as minutes
from .round import SlurmRound as SlurmRound
from .runner import SlurmRunner as SlurmRunner
from .states import (
    LOST as LOST,
    Row as Row,
    end_of as end_of,
    has_ended as has_ended,
    hopeless as hopeless,
    rows as rows,
)
from .submission import (
    is_full as is_full,
    options as options,
    script as script,
    script_arguments as script_arguments,
)
