from . import errors as errors, wrapper as wrapper
from .bench import BenchResult as BenchResult, bench as bench
from .check import CheckResult as CheckResult, check as check, repair as repair
from .copy import copy as copy, plan as plan
from .digest import digest as digest
from .downsample import downsample as downsample
from .errors import BioimagePyError as BioimagePyError, RunnerError as RunnerError
from .geometry import Block as Block, Blocking as Blocking, BlockWithHalo as BlockWithHalo, to_roi as to_roi
from .pyramid import pyramid as pyramid, pyramid_plan as pyramid_plan
from .report.page import run_page as run_page
from .report.preview import Picture as Picture, preview as preview
from .report.view import View as View, view as view
from .resume import resume as resume
from .runner import (
    DaskConfig as DaskConfig,
    DaskRunner as DaskRunner,
    LocalRunner as LocalRunner,
    Progress as Progress,
    Runner as Runner,
    RunnerConfig as RunnerConfig,
    SlurmConfig as SlurmConfig,
    SlurmRunner as SlurmRunner,
    SubprocessRunner as SubprocessRunner,
    config_file_path as config_file_path,
    get_runner as get_runner,
    write_slurm_config as write_slurm_config,
)
from .sources import (
    FileSource as FileSource,
    Source as Source,
    as_source as as_source,
    create_output as create_output,
    from_spec as from_spec,
    open_source as open_source,
    with_metadata as with_metadata,
)
from .status import status as status
from .verify import VerifyResult as VerifyResult, verify as verify

__version__: str
