from .commands import (
    Slurm as Slurm,
    SlurmRefusalError as SlurmRefusalError,
    SlurmSilenceError as SlurmSilenceError,
)
from .config import SlurmConfig as SlurmConfig
from .jobs import ArrayJob as ArrayJob, RoundJobs as RoundJobs, next_array as next_array
from .quantities import array_indices as array_indices, mebibytes as mebibytes, minutes as minutes
from .round import SlurmRound as SlurmRound
from .rows import (
    Limits as Limits,
    Row as Row,
    parse_exits as parse_exits,
    parse_history as parse_history,
    parse_limits as parse_limits,
    parse_queue as parse_queue,
    parse_submitted as parse_submitted,
)
from .runner import SlurmRunner as SlurmRunner
from .settings import (
    check_names as check_names,
    config_file_path as config_file_path,
    read_slurm_table as read_slurm_table,
    write_slurm_config as write_slurm_config,
)
from .states import (
    LOST as LOST,
    Evidence as Evidence,
    end_of as end_of,
    has_ended as has_ended,
    hopeless as hopeless,
)
from .submission import (
    is_full as is_full,
    options as options,
    script as script,
    script_arguments as script_arguments,
)
