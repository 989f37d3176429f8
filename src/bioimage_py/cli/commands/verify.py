"""`bioimage-py verify` and `digest`: whether images are equal; `check`, `repair`: what is wrong with what is stored; and `bench`: how fast one can be copied here."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

from bioimage_py.cli.console import Console
from bioimage_py.cli.failure import DIFFERENT, OK
from bioimage_py.cli.options import describe, image_at, open_given, opening
from bioimage_py.cli.progress import ProgressLine
from bioimage_py.cli.values import for_axes
from bioimage_py.runner import find_backend
from bioimage_py.sources import Source
from bioimage_py.text import duration

if TYPE_CHECKING:
    from bioimage_py.check import CheckResult


def run_verify(args: argparse.Namespace, console: Console) -> int:
    """Compare two images, or one with its digest, and return 0 if they are equal, 1 if not."""
    a: Source | str | None = None
    b: Source | str | None = None
    with ExitStack() as stack:
        alone = args.b is None
        if not any((args.pattern_a, args.pattern_b, opening(args, "_a"), opening(args, "_b"))):
            a = image_at(args.a, args.key_a)
            b = None if alone else image_at(args.b, args.key_b)
        if a is None or (b is None and not alone):
            a = stack.enter_context(open_given(args.a, args, console, "_a"))
            b = None if alone else stack.enter_context(open_given(args.b, args, console, "_b"))
        started = time.perf_counter()
        result = compare(a, b, args, console)
        seconds = time.perf_counter() - started
        names = {name: getattr(one, "name", one) for name, one in (("a", a), ("b", b)) if one is not None}
    console.remark(f"{result} ({duration(seconds)})")
    console.document({"command": "verify", **names, **result.to_json(), "seconds": seconds})
    return OK if result.equal else DIFFERENT


def compare(a: Source | str, b: Source | str | None, args: argparse.Namespace, console: Console) -> Any:
    """Return the result of comparing two sources, or two OME-Zarrs at their paths, in threads of this process, with a progress line."""
    from bioimage_py.verify import verify

    here = find_backend(getattr(args, "job_type", "local")).runner_class.in_process
    threads = args.workers if here else None
    with ProgressLine("comparing", console) as progress:
        # `copy --verify` has neither.
        how: Any = {name: getattr(args, name, False) for name in ("by_digest", "decode")}
        return verify(a, b, num_workers=threads, memory_limit=args.memory_limit, progress=progress, **how)


def run_digest(args: argparse.Namespace, console: Console) -> int:
    """Print the digest and the name of each image."""
    from bioimage_py.digest import digest

    found = []
    for path in args.paths:
        with open_given(path, args, console) as source:
            with ProgressLine("hashing", console) as progress:
                root = digest(
                    source, num_workers=args.workers, memory_limit=args.memory_limit, progress=progress
                )
            console.line(f"{root}  {source.name}")
            found.append({**describe(source), "digest": root})
    console.document({"command": "digest", "images": found})
    return OK


def run_check(args: argparse.Namespace, console: Console) -> int:
    """Check what is stored below a path and return 0 if nothing is wrong, else 1."""
    from bioimage_py.check import check

    return _checked("check", "checking", args, console, partial(check, args.path, sample=args.sample))


def run_repair(args: argparse.Namespace, console: Console) -> int:
    """Write what is damaged again, and return as `run_check` what is found then."""
    from bioimage_py.check import repair

    source = image_at(args.source, args.key)
    with ExitStack() as stack:
        found = (
            source
            if source is not None and not opening(args)
            else stack.enter_context(open_given(args.source, args, console))
        )
        return _checked("repair", "repairing", args, console, partial(repair, args.path, found))


def _checked(
    verb: str, doing: str, args: argparse.Namespace, console: Console, call: Callable[..., CheckResult]
) -> int:
    started = time.perf_counter()
    with ProgressLine(doing, console) as progress:
        result = call(num_workers=args.workers, memory_limit=args.memory_limit, progress=progress)
    told = console.remark if result else console.line
    told(str(result))
    console.document({"command": verb, **result.to_json(), "seconds": time.perf_counter() - started})
    return OK if result else DIFFERENT


def run_bench(args: argparse.Namespace, console: Console) -> int:
    from bioimage_py.bench import bench

    with open_given(args.input, args, console) as source:
        layout = {name: for_axes(getattr(args, name), source.ndim) for name in ("chunks", "shards")}
        result = bench(
            source, args.output, num_workers=args.workers, sample=args.sample, codec=args.codec, **layout
        )
        console.line(str(result))
        console.document({"command": "bench", "input": describe(source), **result.to_json()})
    return OK
