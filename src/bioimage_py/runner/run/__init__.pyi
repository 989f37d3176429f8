from .attempt import AttemptJournal as AttemptJournal, Failures as Failures
from .block_log import (
    BlockLog as BlockLog,
    BlockLogReader as BlockLogReader,
    UnitLog as UnitLog,
    blocks_of_units as blocks_of_units,
    read_block_logs as read_block_logs,
    read_units as read_units,
    units_of_blocks as units_of_blocks,
)
from .claims import Claim as Claim, Claims as Claims, has_left as has_left, new_task as new_task
from .driver import driving as driving, interrupt_driver as interrupt_driver
from .orders import Orders as Orders, Portion as Portion
from .output_marks import (
    check_outputs as check_outputs,
    finish_outputs as finish_outputs,
    mark_outputs as mark_outputs,
    unmark_outputs as unmark_outputs,
)
from .own_files import (
    end_of_log as end_of_log,
    read_json as read_json,
    remove_in_the_end as remove_in_the_end,
    write_json as write_json,
    write_whole as write_whole,
)
from .pickled_function import load_function as load_function, store_function as store_function
from .recorded import (
    BlockError as BlockError,
    Recorded as Recorded,
    read_recorded as read_recorded,
)
from .run_account import (
    RunAccount as RunAccount,
    account_of_attempts as account_of_attempts,
    account_of_run as account_of_run,
    log_account as log_account,
)
from .run_folder import (
    AttemptFiles as AttemptFiles,
    RunFolder as RunFolder,
    default_root as default_root,
    finish_hint as finish_hint,
    is_beside_data as is_beside_data,
    n_stored_ids as n_stored_ids,
    remove_remains as remove_remains,
)
from .state_file import Pace as Pace
from .status import (
    RunStatus as RunStatus,
    StatusReader as StatusReader,
    attempt_state as attempt_state,
    find_runs as find_runs,
    place_text as place_text,
    what_is_run as what_is_run,
    without_credentials as without_credentials,
)
from .value_log import ValueLog as ValueLog, read_value_log as read_value_log, valued_blocks as valued_blocks
