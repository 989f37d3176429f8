from .config import DaskConfig as DaskConfig
from .runner import DaskRunner as DaskRunner
from .task import run_dask_task as run_dask_task
