"""Making the run folder of a new run: what was called, as plain JSON, before anything is processed."""

from __future__ import annotations

import json
import shutil
import time
from typing import Any

from bioimage_py.runner.base import Resources
from bioimage_py.runner.config import RunnerConfig
from bioimage_py.runner.environment import describe_environment, import_path
from bioimage_py.runner.run import RunFolder, default_root, mark_outputs, unmark_outputs
from bioimage_py.runner.work import PortableWork, fingerprint_of, has_functions, store_work, with_functions_of


def new_run_folder(
    work: PortableWork,
    job_type: str,
    config: RunnerConfig,
    num_workers: int,
    resources: Resources,
    n_bytes: int,
) -> RunFolder:
    """Make a run folder that holds all that another process needs to do the work.

    Parameters
    ----------
    work
        Blocks, and what is done with them.
    job_type, config, num_workers
        What `resume` goes on with.
    resources
        What one worker process may use.
    n_bytes
        What will be written at most, for the progress.

    Raises
    ------
    InvalidArgumentError
        If a source exists in this process only, or the folder cannot be made.
    StorageError
        If there is no room for it; nothing is left then.
    """
    folder, outputs = RunFolder.make(default_root(config.tmp_root)), dict[str, Any]()
    try:
        stored = store_work(work, folder)
        identified = fingerprint_of(work)
        # Before the run can be found: what is found can be resumed.
        outputs = mark_outputs(work, str(folder.lasting_path))
        folder.write_run(
            {
                "created": time.time(),
                "job_type": job_type,
                "num_workers": num_workers,
                "threads": resources.threads,
                "cache_bytes": resources.cache_bytes,
                "durable": config.durable,
                "bytes": n_bytes,
                "environment": describe_environment(),
                "import_path": import_path(),
                "config": json.loads(json.dumps(config.given(), default=str)),
                "work": {**stored, "fingerprint": identified},
                "outputs": outputs,
            }
        )
        folder.appear()
    except BaseException:
        if outputs:
            unmark_outputs({"outputs": outputs})
        shutil.rmtree(folder.path)
        raise
    return folder


def take_given_functions(folder: RunFolder, work: PortableWork) -> None:
    """Let a run that is resumed go on with the functions that were given now; all else of it stays as it was begun.

    Raises
    ------
    NotPortableError
        If a function cannot be sent to other processes.
    """
    run = folder.read_run()
    if has_functions(run["work"]):
        renewed = with_functions_of(run["work"], store_work(work, folder))
        folder.write_run({**run, "work": renewed, "import_path": import_path()})
