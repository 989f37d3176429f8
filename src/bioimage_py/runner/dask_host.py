"""The process that hosts a Dask cluster on this machine: `python -m bioimage_py.runner.dask_host`.

It reads one line of JSON (number of workers, folder for their scratch files, certificate and key), writes the address of its
scheduler as one line, and ends when its input does: so it never outlives the process that started it. Its workers are
children of this module, hence a user's script needs no guard around its main part.
"""

from __future__ import annotations

import importlib
import json
import shutil
import sys

from bioimage_py.runner.dask_config import distributed_library
from bioimage_py.runner.dask_local import security_from

__all__ = ["main"]


def main() -> int:
    """Host a cluster until the input ends; return the exit code."""
    wanted = json.loads(sys.stdin.readline())
    library = distributed_library()
    # The scheduler has a folder too, for which LocalCluster takes no argument.
    importlib.import_module("dask").config.set({"temporary-directory": wanted["scratch"]})
    with library.LocalCluster(
        n_workers=wanted["workers"],
        threads_per_worker=1,
        processes=True,
        # The plan keeps to its own limit; Dask would otherwise kill workers at a share of the machine's memory.
        memory_limit=0,
        # Any free port, and nothing to look at: two runs on one machine do not get in each other's way.
        dashboard_address="127.0.0.1:0",
        scheduler_kwargs={"dashboard": False},
        local_directory=wanted["scratch"],
        security=security_from(wanted["secret"]),
    ) as cluster:
        sys.stdout.write(f"{cluster.scheduler_address}\n")
        sys.stdout.flush()
        sys.stdin.read()
    # Whoever started this may have died and not tidy up.
    shutil.rmtree(wanted["scratch"], ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
