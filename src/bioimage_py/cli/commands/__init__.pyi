from .bench import run_bench as run_bench
from .cancel import run_cancel as run_cancel
from .config import run_config as run_config
from .copy import run_copy as run_copy, run_plan as run_plan
from .info import run_info as run_info
from .preview import run_preview as run_preview
from .pyramid import run_pyramid as run_pyramid
from .resume import run_resume as run_resume
from .runs import run_runs as run_runs
from .status import run_status as run_status
from .verify import run_verify as run_verify
from .view import run_view as run_view
