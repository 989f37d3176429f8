"""OME-Zarr containers made by zarr-python with metadata written by hand: an image with labels, a plate, several images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tests.sources import ome_groups
from tests.sources.contract import textured

SHAPES = ((6, 40, 48), (6, 20, 24), (6, 10, 12))
CHUNKS = (3, 8, 16)


def image_with_labels(path: Path, version: str = "0.5", shards: tuple[int, ...] | None = None) -> None:
    """An image of three levels with channels, and labels, which have none."""
    entry: dict[str, Any] = {
        "name": "by hand",
        "axes": [{"name": "c", "type": "channel"}, *ome_groups.AXES],
        "datasets": [
            {
                "path": str(n),
                "coordinateTransformations": [{"type": "scale", "scale": [1.0, 2.0, 0.5 * 2**n, 0.5 * 2**n]}],
            }
            for n in range(3)
        ],
        **({"version": "0.4"} if version == "0.4" else {}),
    }
    look = [
        {"label": name, "color": "0000FF", "window": {"min": 0, "max": 255, "start": 5, "end": 9}}
        for name in ("dna", "actin")
    ]
    made = ome_groups.group(path, version, {"multiscales": [entry], "omero": {"channels": look}})
    made.attrs["sample"] = {"id": 3}
    for n, shape in enumerate(SHAPES):
        _array(made, str(n), version, textured((2, *shape), "uint16") + n, (1, *CHUNKS), shards, "czyx")
    cells = {"multiscales": [{**entry, "axes": ome_groups.AXES, "datasets": ome_groups.datasets(3)}]}
    own = {"version": "0.4"} if version == "0.4" else {}
    ome_groups.group(path / "labels", version, {"labels": ["cells"]})
    made = ome_groups.group(
        path / "labels/cells", version, {**cells, "image-label": {**own, "source": {"image": "../../"}}}
    )
    for n, shape in enumerate(SHAPES):
        _array(made, str(n), version, textured(shape, "uint32") % 7, CHUNKS, None, "zyx")


def _array(made: Any, key: str, version: str, data: np.ndarray, chunks: Any, shards: Any, names: str) -> None:
    options: dict[str, Any] = {"dimension_names": tuple(names)} if version == "0.5" else {}
    if version == "0.4":
        options["chunk_key_encoding"] = {"name": "v2", "separator": "/"}
    made.create_array(key, data=data, chunks=chunks, shards=shards, **options)


def plate(path: Path, version: str = "0.5", wells: int = 2, fields: int = 2, levels: int = 2) -> None:
    """A plate of one row; full-size voxels of a field are 10 times its well's number, and its own number."""
    own = {"version": "0.4"} if version == "0.4" else {}
    content = {
        "name": "hand",
        "rows": [{"name": "A"}],
        "columns": [{"name": str(w + 1)} for w in range(wells)],
        "wells": [{"path": f"A/{w + 1}", "rowIndex": 0, "columnIndex": w} for w in range(wells)],
        "field_count": fields,
        "version": version,
    }
    ome_groups.group(path, version, {"plate": content})
    for w in range(wells):
        images = [{"path": str(f), "acquisition": 0} for f in range(fields)]
        ome_groups.group(path / f"A/{w + 1}", version, {"well": {"images": images, **own}})
        for f in range(fields):
            ome_groups.image(
                path / f"A/{w + 1}/{f}", version, levels=levels, value=10 * (w + 1) + f, dtype="u2"
            )


def several_images(path: Path, version: str = "0.5") -> None:
    """What bioformats2raw makes of a file with two images: numbered groups, their order, and the OME-XML."""
    ome_groups.group(path, version, {"bioformats2raw.layout": 3})
    ome_groups.group(path / "OME", version, {"series": ["1", "0"]})
    (path / "OME/METADATA.ome.xml").write_text("<OME>by hand</OME>")
    for n in range(2):
        ome_groups.image(path / str(n), version, value=10 * n)


def files_in(folder: Path) -> dict[str, bytes]:
    """The files below a folder."""
    return {
        str(f.relative_to(folder)): f.read_bytes()
        for f in sorted(folder.rglob("*"))
        if f.is_file() and "copied" not in f.name
    }


def chunks_in(folder: Path) -> dict[str, bytes]:
    """The files of chunks below a folder, by names that do not depend on the version of Zarr."""
    names = ("zarr.json", ".zarray", ".zgroup", ".zattrs")
    return {
        name.replace("/c/", "/").replace(".", "/"): data
        for name, data in files_in(folder).items()
        if Path(name).name not in names
    }
