"""`bioimage-py preview`, the picture of `bioimage-py info --picture`, and `bioimage-py view`."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from typing import Any

from bioimage_py.cli.console import Console
from bioimage_py.cli.failure import INTERRUPTED, OK, TERMINATED, Terminated, UsageError
from bioimage_py.cli.options import given_values, open_given, opening
from bioimage_py.operations import InputMetadata
from bioimage_py.report import Look
from bioimage_py.report.preview import Picture, preview
from bioimage_py.report.view import view
from bioimage_py.sources import open_source


def run_preview(args: argparse.Namespace, console: Console) -> int:
    with open_given(args.path, args, console, **given_values(args, InputMetadata)) as source:
        picture = preview(source, args.output, overwrite=args.overwrite, **given_values(args, Look))
    height, width = picture.pixels.shape[:2]
    console.remark(f"{picture.path}  ({width} × {height} pixels, from {picture.level})")
    console.document({"command": "preview", "source": source.name, **described_picture(picture)})
    return OK


def described_picture(picture: Picture) -> dict[str, Any]:
    bar = picture.scale_bar
    return {
        "picture": picture.path,
        "width": picture.pixels.shape[1],
        "height": picture.pixels.shape[0],
        "level": picture.level,
        "read_bytes": picture.read_bytes,
        "scale_bar": None if bar is None else bar._asdict(),
        "panels": [
            {
                **{name: getattr(panel, name) for name in ("title", "axes", "left", "top")},
                "width": panel.size[1],
                "height": panel.size[0],
            }
            for panel in picture.panels
        ],
    }


def run_view(args: argparse.Namespace, console: Console) -> int:
    """Serve images, print their address, and return when the user has seen enough."""
    given = [name for name in ("key", "pattern") if getattr(args, name) is not None] + [*opening(args)]
    if given and len(args.paths) > 1:
        raise UsageError(
            f"--{given[0].replace('_', '-')} applies to a single SOURCE, but {len(args.paths)} are given: name arrays in the paths, such as "
            "data.n5/raw, or view them one at a time"
        )
    said = given_values(args, InputMetadata)
    with ExitStack() as opened:
        sources = [opened.enter_context(open_given(path, args, console, **said)) for path in args.paths]
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
