"""`bioimage-py preview`, and the picture of `bioimage-py info --picture`."""

from __future__ import annotations

import argparse
from typing import Any

from bioimage_py.cli.console import Console
from bioimage_py.cli.failure import OK
from bioimage_py.cli.options import open_given
from bioimage_py.report.preview import Picture, preview

_LOOK = (
    "position", "projection", "time", "channels", "kind", "contrast", "percentiles", "size", "read_limit", "overwrite"
)  # fmt: skip


def run_preview(args: argparse.Namespace, console: Console) -> int:
    said = {name: getattr(args, name) for name in ("axes", "voxel_size", "units")}
    with open_given(args.path, args, **said) as source:
        picture = preview(
            source,
            args.output,
            **{name: getattr(args, name) for name in _LOOK},
        )
    height, width = picture.pixels.shape[:2]
    console.line(f"{picture.path}  ({width} × {height} pixels, from {picture.level})")
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
        "scale_bar": None if bar is None else {"pixels": bar.pixels, "text": bar.text},
        "panels": [
            {
                **{name: getattr(panel, name) for name in ("title", "axes", "left", "top")},
                "width": panel.size[1],
                "height": panel.size[0],
            }
            for panel in picture.panels
        ],
    }
