"""The `bioimage-py` command: parses, calls an operation, prints."""

from bioimage_py.cli.command import main

__all__ = ["main"]
