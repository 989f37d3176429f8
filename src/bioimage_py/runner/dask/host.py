"""The process that hosts a Dask cluster on this machine: `python -m bioimage_py.runner.dask.host SCRATCH`.

It reads one line of JSON (number of workers, certificate and key), writes the address of its scheduler as one line, and ends
when its input does: so it never outlives the process that started it. Then it removes the folder SCRATCH, in which its
temporary files are. Its workers are children of this module, hence a user's script needs no guard around its main part.
"""

from __future__ import annotations

import importlib
import json
import shutil
import sys

from bioimage_py.runner.dask.config import distributed_library
from bioimage_py.runner.dask.local import security_from


def main() -> int:
    """Host a cluster until the input ends; return the exit code."""
    scratch = sys.argv[1]
    try:
        _host(scratch)
    except BrokenPipeError:
        return 1  # whoever started this has died meanwhile
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return 0


def _host(scratch: str) -> None:
    order = sys.stdin.readline()
    if not order:
        return
    wanted = json.loads(order)
    library = distributed_library()
    # The scheduler has a folder too, for which LocalCluster takes no argument.
    importlib.import_module("dask").config.set({"temporary-directory": scratch})
    with library.LocalCluster(
        n_workers=wanted["workers"],
        threads_per_worker=1,
        processes=True,
        # The plan keeps to its own limit; Dask would otherwise kill workers at a share of the machine's memory.
        memory_limit=0,
        # Any free port, and nothing to look at: two runs on one machine do not get in each other's way.
        dashboard_address="127.0.0.1:0",
        scheduler_kwargs={"dashboard": False},
        local_directory=scratch,
        security=security_from(wanted["secret"]),
    ) as cluster:
        sys.stdout.write(f"{cluster.scheduler_address}\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    sys.exit(main())
