"""`python -m bioimage_py`: the `bioimage-py` command."""

import sys

from bioimage_py.cli import main

if __name__ == "__main__":
    sys.exit(main())
