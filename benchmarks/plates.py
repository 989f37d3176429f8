"""A plate as one command: seconds to plan and to copy it, memory, and how often its files are opened.

    python benchmarks/plates.py [--wells N] [--fields N] [--labels] [--version 0.4|0.5] [--workers N] [--plan-only]

The fields are small (two levels, 10 chunks), so that what is measured is what an image costs besides its voxels. Files that
Python opens in the plate while the copy is planned are counted by an audit hook, listings of folders too.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import zarr

import bioimage_py as bp

AXES = [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]
LABELS = "labels/cells"


def group(path: Path, version: str, content: dict[str, Any]) -> Any:
    attributes = {"ome": {"version": version, **content}} if version == "0.5" else content
    zarr_format: Any = 3 if version == "0.5" else 2
    return zarr.open_group(path, mode="a", zarr_format=zarr_format, attributes=attributes)


def image(path: Path, version: str, **content: Any) -> None:
    scales = [[2.0, 0.5 * 2**n, 0.5 * 2**n] for n in range(2)]
    steps = [[{"type": "scale", "scale": scale}] for scale in scales]
    datasets = [{"path": str(n), "coordinateTransformations": step} for n, step in enumerate(steps)]
    own = {"version": "0.4"} if version == "0.4" else {}
    made = group(path, version, {"multiscales": [{"axes": AXES, "datasets": datasets, **own}], **content})
    for n in range(2):
        made.create_array(str(n), data=np.full((4, 8 >> n, 8 >> n), n + 1, "u2"), chunks=(2, 4, 4))


def plate(path: Path, version: str, wells: int, fields: int, *, labels: bool) -> None:
    """Make a plate whose fields are all alike."""
    own = {"version": "0.4"} if version == "0.4" else {}
    rows, columns = [chr(ord("A") + n) for n in range(16)], [str(n + 1) for n in range(24)]
    places = [(r, c) for r in range(len(rows)) for c in range(len(columns))][:wells]
    listed = [{"path": f"{rows[r]}/{columns[c]}", "rowIndex": r, "columnIndex": c} for r, c in places]
    names = {"rows": [{"name": row} for row in rows], "columns": [{"name": column} for column in columns]}
    group(path, version, {"plate": {**names, "wells": listed, "field_count": fields, "version": version}})
    field = path.with_name("field")
    image(field, version)
    if labels:
        group(field / "labels", version, {"labels": ["cells"]})
        image(field / LABELS, version, **{"image-label": own})
    for well in listed:
        said = {"well": {"images": [{"path": str(n)} for n in range(fields)], **own}}
        group(path / str(well["path"]), version, said)
        for n in range(fields):
            shutil.copytree(field, path / str(well["path"]) / str(n))
    shutil.rmtree(field)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--wells", type=int, default=384)
    parser.add_argument("--fields", type=int, default=9)
    parser.add_argument("--labels", action="store_true")
    parser.add_argument("--version", choices=("0.4", "0.5"), default="0.5")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--plan-only", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path, copied = Path(folder, "plate.zarr"), Path(folder, "other.zarr")
        plate(path, args.version, args.wells, args.fields, labels=args.labels)
        opened = [0]

        def hear(event: str, given: tuple[Any, ...]) -> None:
            if event in ("open", "os.scandir") and str(given[0]).startswith(str(path)):
                opened[0] += 1

        sys.addaudithook(hear)
        began = time.perf_counter()
        planned = bp.plan(path, copied, num_workers=args.workers)
        seconds = time.perf_counter() - began
        found = {
            "images": args.wells * args.fields,
            "arrays": len(planned.to_json()["arrays"]),
            "seconds to plan": round(seconds, 2),
            "opens per image to plan": round(opened[0] / (args.wells * args.fields), 2),
        }
        if not args.plan_only:
            began = time.perf_counter()
            bp.copy(path, copied, num_workers=args.workers, progress=False)
            found["seconds to copy"] = round(time.perf_counter() - began, 2)
        found["MB at most"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        print(json.dumps(found))


if __name__ == "__main__":
    main()
