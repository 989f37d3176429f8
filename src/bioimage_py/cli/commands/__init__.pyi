from .config import run_config as run_config
from .copy import (
    run_copy as run_copy,
    run_downsample as run_downsample,
    run_plan as run_plan,
    run_pyramid as run_pyramid,
)
from .info import run_info as run_info
from .pictures import run_preview as run_preview, run_view as run_view
from .runs import run_cancel as run_cancel, run_resume as run_resume, run_runs as run_runs
from .status import run_page as run_page, run_status as run_status
from .verify import (
    run_bench as run_bench,
    run_check as run_check,
    run_digest as run_digest,
    run_repair as run_repair,
    run_verify as run_verify,
)
from .worker import run_worker as run_worker
