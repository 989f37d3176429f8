"""Imaris and BigDataViewer files, written with h5py after the public descriptions of these formats."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np


def characters(text: str) -> np.ndarray:
    """Texts are arrays of single characters in Imaris."""
    return np.frombuffer(text.encode() or b"\0", "S1")


def write_ims(
    path: Path,
    levels: Sequence[np.ndarray],
    *,
    chunks: tuple[int, ...] = (4, 16, 16),
    extents: Sequence[tuple[float, float]] = ((0, 6), (0, 10), (0, 10)),
    compression: Any = "gzip",
    **image: str,
) -> Path:
    """Write levels of t, c, z, y, x, padded to whole chunks by a value that nobody may see; `extents` are along z, y, x in micrometers."""
    with h5py.File(path, "w") as file:
        file.attrs["DataSetDirectoryName"] = characters("DataSet")
        file.attrs["ImarisVersion"] = characters("5.5.0")
        for r, voxels in enumerate(levels):
            for t, c in np.ndindex(*voxels.shape[:2]):
                group = file.create_group(f"DataSet/ResolutionLevel {r}/TimePoint {t}/Channel {c}")
                size = voxels.shape[2:]
                for axis, n in zip("ZYX", size, strict=True):
                    group.attrs[f"ImageSize{axis}"] = characters(str(n))
                padding = [(0, -n % k) for n, k in zip(size, chunks, strict=True)]
                data = np.pad(voxels[t, c], padding, constant_values=77)
                group.create_dataset("Data", data=data, chunks=chunks, compression=compression)
                group.create_dataset("Histogram", data=np.zeros(256, "uint64"))
        about = file.create_group("DataSetInfo/Image")
        for number, (low, high) in enumerate(reversed(extents)):
            about.attrs[f"ExtMin{number}"] = characters(f"{low:.3f}")
            about.attrs[f"ExtMax{number}"] = characters(f"{high:.3f}")
        said = dict(zip("ZYX", map(str, levels[0].shape[2:]), strict=True))
        for name, text in {"Unit": "um", "Description": "by hand", **said, **image}.items():
            about.attrs[name] = characters(text)
        for c in range(levels[0].shape[1]):
            channel = file.create_group(f"DataSetInfo/Channel {c}")
            color = ("0.000 1.000 0.000", "1.000 0.000 0.502")[c % 2]
            for name, text in {"Name": f"dye {c}", "Color": color, "ColorRange": f"{c}.000 255.000"}.items():
                channel.attrs[name] = characters(text)
        times = file.create_group("DataSetInfo/TimeInfo")
        for t in range(len(levels[0])):
            times.attrs[f"TimePoint{t + 1}"] = characters(f"2026-11-29 01:{t // 2:02}:{t % 2 * 30:02}.500")
    return path


def halved(voxels: np.ndarray, times: int = 1) -> list[np.ndarray]:
    """Return voxels and levels of every other voxel, without the last one of an odd number."""
    levels = [voxels]
    for _ in range(times):
        last = levels[-1]
        z, y, x = (n // 2 for n in last.shape[2:])
        levels.append(last[:, :, ::2, ::2, ::2][:, :, :z, :y, :x])
    return levels


def write_bdv(
    path: Path,
    setups: Sequence[Sequence[np.ndarray | None]],
    kind: str = "hdf5",
    chunks: tuple[int, ...] = (4, 8, 8),
    data_type: str | bytes | None = None,
) -> Path:
    """Write for each setup a volume for each time point, with a level of every other voxel, and the XML file beside it."""
    views, missing, place = [], [], path.with_suffix({"hdf5": ".h5", "n5": ".n5"}[kind])
    for s, times in enumerate(setups):
        first = next(one for one in times if one is not None)
        size = " ".join(map(str, first.shape[::-1]))
        views.append(
            f"<ViewSetup><id>{s}</id><name>angle {s}</name><size>{size}</size><voxelSize><unit>µm</unit><size>0.5 0.5 2.0</size>"
            f"</voxelSize><attributes><channel>{s}</channel></attributes></ViewSetup>"
        )
        missing += [
            f'<MissingView timepoint="{t}" setup="{s}"/>' for t, one in enumerate(times) if one is None
        ]
    path.write_text(
        f'<?xml version="1.0" encoding="UTF-8"?><SpimData version="0.2"><BasePath type="relative">.</BasePath><SequenceDescription>'
        f'<ImageLoader format="bdv.{kind}"><{kind} type="relative">{place.name}</{kind}></ImageLoader>'
        f'<ViewSetups>{"".join(views)}</ViewSetups><Timepoints type="range"><first>0</first><last>{len(setups[0]) - 1}</last></Timepoints>'
        f'<MissingViews>{"".join(missing)}</MissingViews></SequenceDescription><ViewRegistrations><ViewRegistration timepoint="0" setup="0">'
        '<ViewTransform type="affine"><affine>1 0 0 5 0 1 0 0 0 0 4 0</affine></ViewTransform></ViewRegistration></ViewRegistrations>'
        "</SpimData>",
        encoding="utf-8",
    )
    (_write_h5 if kind == "hdf5" else _write_n5)(place, setups, chunks, data_type)
    return path


def _write_h5(
    place: Path,
    setups: Sequence[Sequence[np.ndarray | None]],
    chunks: tuple[int, ...],
    data_type: str | bytes | None,
) -> None:
    with h5py.File(place, "w") as file:
        for s, times in enumerate(setups):
            file[f"s{s:02}/resolutions"] = np.array([[1, 1, 1], [2, 2, 2]], "float64")
            file[f"s{s:02}/subdivisions"] = np.array([chunks[::-1]] * 2, "int32")
            if data_type is not None:
                file[f"s{s:02}"].attrs["dataType"] = (
                    np.bytes_(data_type) if isinstance(data_type, bytes) else data_type
                )
            for t, voxels in enumerate(times):
                for level in range(2) if voxels is not None else ():
                    data = voxels[:: level + 1, :: level + 1, :: level + 1]
                    # 16 bits without a sign are stored as if they had one.
                    stored = data.view("int16") if data_type is None else data
                    file.create_dataset(
                        f"t{t:05}/s{s:02}/{level}/cells",
                        data=stored,
                        chunks=tuple(map(min, chunks, data.shape)),
                        compression="gzip",
                    )


def _write_n5(
    place: Path,
    setups: Sequence[Sequence[np.ndarray | None]],
    chunks: tuple[int, ...],
    data_type: str | bytes | None,
) -> None:
    import json

    import tensorstore as ts
    import zarr.storage  # noqa: F401

    for s, times in enumerate(setups):
        for t, voxels in enumerate(times):
            for level in range(2) if voxels is not None else ():
                data = voxels[:: level + 1, :: level + 1, :: level + 1]
                spec = {
                    "driver": "n5",
                    "kvstore": {"driver": "file", "path": f"{place}/setup{s}/timepoint{t}/s{level}"},
                }
                about = {"blockSize": chunks[::-1], "compression": {"type": "gzip"}}
                opened = ts.open(
                    {**spec, "metadata": about}, create=True, dtype=data.dtype.name, shape=data.shape[::-1]
                ).result()
                opened.write(data.T).result()
        about = {"downsamplingFactors": [[1, 1, 1], [2, 2, 2]], "dataType": str(data_type or "uint16")}
        (place / f"setup{s}/attributes.json").write_text(json.dumps(about))
    (place / "attributes.json").write_text('{"n5": "2.0.0"}')
