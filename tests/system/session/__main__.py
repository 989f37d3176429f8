"""Run pytest as on another system: `python -m tests.system.session windows|macos [arguments of pytest]`.

Unless tests are named: the core suite of `CORE`. See `sitecustomize.py` in this folder for what "as on" means.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.system.lacking import PLATFORMS, lacking, lacking_modules

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
CORE = (
    "tests/system/test_core.py",
    "tests/system/test_paths.py",
    "tests/sources/test_npy.py",
    "tests/sources/test_file_bytes.py",
)


def main(system: str, *arguments: str) -> int:
    if system not in PLATFORMS:
        sys.stderr.write(f"{__doc__}\n")
        return 2
    with tempfile.TemporaryDirectory() as scratch:
        chosen = any(Path(one.partition("::")[0]).exists() for one in arguments)
        told = Path(scratch, "lacking.json")
        names = {module: sorted(gone) for module, gone in lacking(system).items()}
        told.write_text(json.dumps({"names": names, "modules": sorted(lacking_modules(system))}))
        places = [str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {
            **os.environ,
            "BIOIMAGE_PY_AS_SYSTEM": system,
            "BIOIMAGE_PY_LACKING": str(told),
            "PYTHONPATH": os.pathsep.join(places),
        }
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:xdist",
            *(() if chosen else CORE),
            *arguments,
        ]
        return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(*(sys.argv[1:] or [""])))
