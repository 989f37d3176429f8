"""`bioimage-py bench`: how fast an image can be copied here, and what is the bottleneck."""

from __future__ import annotations

import argparse
from contextlib import ExitStack

from bioimage_py.cli.console import Console
from bioimage_py.cli.failure import OK
from bioimage_py.cli.options import describe, open_input
from bioimage_py.cli.values import for_axes


def run_bench(args: argparse.Namespace, console: Console) -> int:
    from bioimage_py.bench import bench

    with ExitStack() as stack:
        source = stack.enter_context(open_input(args))
        result = bench(
            source,
            args.output,
            num_workers=args.workers,
            sample=args.sample,
            chunks=for_axes(args.chunks, source.ndim),
            shards=for_axes(args.shards, source.ndim),
            codec=args.codec,
        )
        console.line(str(result))
        console.document({"command": "bench", "input": describe(source), **result.to_json()})
    return OK
