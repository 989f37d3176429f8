"""`python -m bioimage_py`: the `bioimage-py` command."""

import os
import sys

if __name__ == "__main__":
    # Python puts the working directory first, where a user's queue.py would be taken for the one of the standard library.
    if not sys.flags.safe_path and sys.path and sys.path[0] == os.getcwd():  # noqa: PTH109 - as early as can be
        sys.path.append(sys.path.pop(0))
    from bioimage_py.cli import main

    sys.exit(main())
