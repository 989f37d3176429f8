"""`bioimage-py verify`: whether two images are equal."""

from __future__ import annotations

import argparse
import time
from contextlib import ExitStack
from typing import Any

from bioimage_py.cli.console import Console
from bioimage_py.cli.failure import DIFFERENT, OK
from bioimage_py.cli.options import image_at, open_given, opening
from bioimage_py.cli.progress import ProgressLine
from bioimage_py.cli.text import duration
from bioimage_py.cli.values import available_cores
from bioimage_py.runner import find_backend
from bioimage_py.sources import Source


def run_verify(args: argparse.Namespace, console: Console) -> int:
    """Compare two images and return 0 if they are equal, 1 if not."""
    a: Source | str
    b: Source | str
    with ExitStack() as stack:
        one_array = any((args.pattern_a, args.pattern_b, opening(args, "_a"), opening(args, "_b")))
        images = [] if one_array else [image_at(args.a, args.key_a), image_at(args.b, args.key_b)]
        names = [path for path in images if path is not None]
        if len(names) == 2:
            a, b = names
        else:
            a = stack.enter_context(open_given(args.a, args, "_a"))
            b = stack.enter_context(open_given(args.b, args, "_b"))
            names = [a.name, b.name]
        started = time.perf_counter()
        result = compare(a, b, args, console)
        seconds = time.perf_counter() - started
    console.remark(f"{result} ({duration(seconds)})")
    console.document(
        {"command": "verify", "a": names[0], "b": names[1], **result.to_json(), "seconds": seconds}
    )
    return OK if result.equal else DIFFERENT


def compare(a: Source | str, b: Source | str, args: argparse.Namespace, console: Console) -> Any:
    """Return the result of comparing two sources, or two OME-Zarrs at their paths, in threads of this process, with a progress line."""
    from bioimage_py.verify import verify

    here = find_backend(getattr(args, "job_type", "local")).runner_class.in_process
    threads = args.workers if here and args.workers is not None else available_cores()
    with ProgressLine("comparing", console) as progress:
        return verify(a, b, num_workers=threads, memory_limit=args.memory_limit, progress=progress)
