"""`bioimage-py verify`: whether two images are equal."""

from __future__ import annotations

import argparse
import time
from contextlib import ExitStack
from typing import Any

from bioimage_py.cli.console import Console
from bioimage_py.cli.failure import DIFFERENT, OK
from bioimage_py.cli.progress import ProgressLine
from bioimage_py.cli.text import duration
from bioimage_py.cli.values import available_cores
from bioimage_py.sources import Source, open_source

__all__ = ["compare", "run_verify"]


def run_verify(args: argparse.Namespace, console: Console) -> int:
    """Compare two images and return 0 if they are equal, 1 if not."""
    with ExitStack() as stack:
        a = stack.enter_context(open_source(args.a, args.key_a))
        b = stack.enter_context(open_source(args.b, args.key_b))
        started = time.perf_counter()
        result = compare(a, b, args, console)
        seconds = time.perf_counter() - started
    console.remark(f"{result} ({duration(seconds)})")
    console.document({"command": "verify", "a": a.name, "b": b.name, **result.to_json(), "seconds": seconds})
    return OK if result.equal else DIFFERENT


def compare(a: Source, b: Source, args: argparse.Namespace, console: Console) -> Any:
    """Return the result of comparing two sources, in threads of this process, with a progress line."""
    from bioimage_py.verify import verify

    here = getattr(args, "job_type", "local") == "local"
    threads = args.workers if here and args.workers is not None else available_cores()
    with ProgressLine("comparing", console) as progress:
        return verify(a, b, num_workers=threads, memory_limit=args.memory_limit, progress=progress)
