"""OME-TIFF out beside `tifffile.imwrite` of the same array, with the same tiles and codec, in rounds that take turns.

`python benchmarks/tiff_out.py [--edge 512] [--rounds 3]` prints one line per codec.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from data import volume

import bioimage_py as bp

CODECS: dict[str, tuple[Any, dict[str, Any]]] = {
    "deflate": ("deflate:1", {"compression": "zlib", "compressionargs": {"level": 1}, "predictor": True}),
    "zstd": ("zstd:3", {"compression": "zstd", "compressionargs": {"level": 3}, "predictor": True}),
    "lzw": ("lzw", {"compression": "lzw", "predictor": True}),
    "none": ("none", {}),
}


def seconds(step: Callable[[], Any]) -> float:
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--edge", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    voxels = np.array(volume(args.edge, Path(__file__).resolve().parents[1] / ".cache" / "data"))
    with tempfile.TemporaryDirectory() as folder:
        out = f"{folder}/a.ome.tif"
        for name, (codec, arguments) in CODECS.items():

            def ours(codec: Any = codec) -> None:
                bp.copy(voxels, out, codec=codec, num_workers=2, overwrite=True, axes="zyx").close()

            def theirs(arguments: dict[str, Any] = arguments) -> None:
                options = {"tile": (512, 512), "metadata": {"axes": "ZYX"}, "photometric": "minisblack"}
                tifffile.imwrite(out, voxels, maxworkers=2, **options, **arguments)

            ours(), theirs()
            times = [(seconds(ours), seconds(theirs)) for _ in range(args.rounds)]
            mine, other = (statistics.median(column) for column in zip(*times, strict=True))
            print(f"{name:8} copy {mine:6.2f} s  imwrite {other:6.2f} s  ratio {mine / other:.2f}")


if __name__ == "__main__":
    main()
