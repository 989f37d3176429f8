"""`bioimage-py view`: images in the browser, until Ctrl-C."""

from __future__ import annotations

import argparse
from contextlib import ExitStack

from bioimage_py.cli.console import Console
from bioimage_py.cli.failure import INTERRUPTED, PROGRAM, TERMINATED, Terminated, UsageError
from bioimage_py.cli.options import open_given, opening
from bioimage_py.report.view import view
from bioimage_py.sources import open_source


def run_view(args: argparse.Namespace, console: Console) -> int:
    """Serve images, print their address, and return when the user has seen enough."""
    given = [name for name in ("key", "pattern") if getattr(args, name) is not None]
    given += opening(args)
    if given and len(args.paths) > 1:
        raise UsageError(
            f"--{given[0].replace('_', '-')} applies to a single SOURCE, but {len(args.paths)} are given: name arrays in the paths, such as "
            "data.n5/raw, or view them one at a time",
            f"{PROGRAM} view",
        )
    said = {name: getattr(args, name) for name in ("axes", "voxel_size", "units")}
    with ExitStack() as opened:
        sources = [opened.enter_context(open_given(path, args, **said)) for path in args.paths]
        labels = [opened.enter_context(open_source(path)) for path in args.labels]
        shown = view(*sources, labels=labels, port=args.port, open_browser=not args.no_browser)
        try:
            console.line(f"{', '.join(shown.layers)}")
            console.line(f"shown at {shown.url} until you press Ctrl-C")
            console.document({"command": "view", "url": shown.url, "layers": shown.layers})
            shown.wait()
        except Terminated:
            return TERMINATED
        except KeyboardInterrupt:
            return INTERRUPTED
        finally:
            shown.close()
    return INTERRUPTED
