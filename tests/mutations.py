"""Small files of all formats, and damaged copies of them: `python -m tests.mutations FORMAT[,FORMAT] FIRST COUNT FOLDER` tries some.

Each damaged file either reads or is refused with one of our errors; it never hangs, never takes much memory, and nothing of another
library reaches the user: no exception, no warning, no log line. Which damage a number stands for is always the same.
"""

from __future__ import annotations

import faulthandler
import gzip
import itertools
import json
import random
import resource
import shutil
import sys
import traceback
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import bioimage_py as bp
from bioimage_py.errors import BioimagePyWarning

SHAPE = (6, 40, 48)
MEMORY = 6 * 2**30
SECONDS = 120
_NUMBERS = (
    0,
    1,
    -1,
    2,
    255,
    256,
    65535,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**63 - 1,
    2**63,
    2**64,
    10**30,
    -(2**40),
)
_VALUES: tuple[Any, ...] = (
    *_NUMBERS, 0.5, 1e308, float("nan"), None, True, "", "x", "é" * 300, "..", "/", "uint8", ">u2", "<f8", "|O", "|S3",
    [], [[]], {}, [0], [1, 2], [-1, 4, 4], ["a"], {"name": "x"}, {"id": "zlib"}, {"name": "gzip", "configuration": []},
)  # fmt: skip


def image(dtype: str = "uint16") -> np.ndarray:
    """Return voxels that compress a little."""
    values = np.random.default_rng(0).integers(0, 200, SHAPE)
    return (values + np.arange(SHAPE[2])).astype(dtype)


# -- one small file of each format; `make(folder)` returns what is opened


def _npy(folder: Path) -> Path:
    np.save(folder / "a.npy", image())
    return folder / "a.npy"


def _tiff(folder: Path, name: str = "a.tif", dtype: str = "uint16", **how: Any) -> Path:
    import tifffile

    tifffile.imwrite(folder / name, image(dtype), **how)
    return folder / name


def _ome_tiff(folder: Path) -> Path:
    how = {"axes": "ZYX", "PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "µm"}
    return _tiff(folder, "a.ome.tif", ome=True, metadata=how, compression="zlib")


def _imagej(folder: Path) -> Path:
    return _tiff(folder, imagej=True, metadata={"axes": "ZYX", "spacing": 2.0, "unit": "um"})


def _zarr(folder: Path, name: str = "a.zarr", **how: Any) -> Path:
    bp.copy(image(), folder / name, axes="zyx", voxel_size=(2, 1, 1), units="um", **how)
    return folder / name


def _zip(folder: Path) -> Path:
    made = _zarr(folder, chunks=(3, 20, 24))
    with zipfile.ZipFile(folder / "b.zarr.zip", "w") as packed:
        for file in sorted(made.rglob("*")):
            packed.write(file, file.relative_to(made))
    shutil.rmtree(made)
    return folder / "b.zarr.zip"


def _pyramid(folder: Path) -> Path:
    bp.pyramid(image(), folder / "a.ome.zarr", chunks=(6, 20, 24), axes="zyx", voxel_size=(2, 1, 1))
    return folder / "a.ome.zarr"


def _hdf5(folder: Path, **how: Any) -> Path:
    import h5py

    with h5py.File(folder / "a.h5", "w") as file:
        file.create_dataset("volumes/raw", data=image(), **how).attrs["resolution"] = (2.0, 1.0, 1.0)
    return folder / "a.h5"


def _mrc(folder: Path) -> Path:
    import mrcfile

    with mrcfile.new(folder / "a.mrc") as file:
        file.set_data(image("int16"))
    return folder / "a.mrc"


def _nifti(folder: Path, name: str = "a.nii") -> Path:
    import nibabel

    nibabel.save(nibabel.Nifti1Image(image("int16"), np.diag([1, 2, 3, 1.0])), folder / name)
    return folder / name


def _slices(folder: Path, suffix: str) -> Path:
    from PIL import Image

    (folder / "s").mkdir()
    for z, plane in enumerate(image("uint8")):
        Image.fromarray(plane).save(folder / "s" / f"z{z:03}{suffix}")
    return folder / "s"


def _tiff_slices(folder: Path) -> Path:
    import tifffile

    (folder / "s").mkdir()
    for z, plane in enumerate(image()):
        tifffile.imwrite(folder / "s" / f"z{z:03}.tif", plane, compression="lzw", metadata=None)
    return folder / "s"


def _gzipped(folder: Path) -> Path:
    path = _mrc(folder)
    (folder / "a.mrc.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    return folder / "a.mrc.gz"


FORMATS: dict[str, Callable[[Path], Path]] = {
    "npy": _npy,
    "tiff": lambda folder: _tiff(folder, metadata=None),
    "tiff-tiled": lambda folder: _tiff(folder, tile=(16, 16), compression="zlib", predictor=True),
    "tiff-big-jpeg": lambda folder: _tiff(folder, dtype="uint8", bigtiff=True, tile=(16, 16), compression="jpeg"),
    "ome-tiff": _ome_tiff,
    "imagej": _imagej,
    "tiff-slices": _tiff_slices,
    "png-slices": lambda folder: _slices(folder, ".png"),
    "jpeg-slices": lambda folder: _slices(folder, ".jpg"),
    "zarr2": lambda folder: _zarr(folder, chunks=(3, 20, 24), zarr_format=2, codec="blosc:5"),
    "zarr3": lambda folder: _zarr(folder, chunks=(3, 20, 24)),
    "zarr3-gzip": lambda folder: _zarr(folder, chunks=(3, 20, 24), codec="gzip"),
    "zarr-shards": lambda folder: _zarr(folder, chunks=(3, 20, 24), shards=(6, 40, 48)),
    "zarr-zip": _zip,
    "ome-zarr": _pyramid,
    "n5": lambda folder: _zarr(folder, "a.n5", chunks=(3, 20, 24), codec="gzip"),
    "precomputed": lambda folder: _zarr(folder, "a.precomputed", chunks=(3, 20, 24)),
    "hdf5": _hdf5,
    "hdf5-gzip": lambda folder: _hdf5(folder, chunks=(3, 20, 24), compression="gzip", shuffle=True, fletcher32=True),
    "mrc": _mrc,
    "mrc-gz": _gzipped,
    "nifti": _nifti,
    "nifti-gz": lambda folder: _nifti(folder, "a.nii.gz"),
}  # fmt: skip


# -- damage


def damage(path: Path, chance: random.Random) -> str:
    """Damage a file, or one file of a folder, most often one that describes the rest; return what was done."""
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    texts = [p for p in files if _is_json(p)]
    file = chance.choice(texts if texts and chance.random() < 0.75 else files)
    done = (
        _damaged_json(file, chance)
        if file in texts and chance.random() < 0.85
        else _damaged_bytes(file, chance)
    )
    return f"{file.name}: {done}"


def _is_json(path: Path) -> bool:
    return path.suffix == ".json" or path.name in (".zarray", ".zattrs", ".zgroup", "info")


def _damaged_json(file: Path, chance: random.Random) -> str:
    content = json.loads(file.read_text())
    places = list(_places(content, ()))
    where = chance.choice(places) if places else ()
    if not where:
        content = chance.choice(_VALUES)
        file.write_text(json.dumps(content))
        return f"all of it = {content!r}"[:80]
    holder = content
    for step in where[:-1]:
        holder = holder[step]
    if chance.random() < 0.2:
        del holder[where[-1]]
        said = f"without {where}"
    else:
        holder[where[-1]] = chance.choice(_VALUES)
        said = f"{where} = {holder[where[-1]]!r}"
    file.write_text(json.dumps(content))
    return said[:120]


def _places(content: Any, at: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    pairs = (
        content.items()
        if isinstance(content, dict)
        else enumerate(content)
        if isinstance(content, list)
        else ()
    )
    for key, value in pairs:
        yield (*at, key)
        yield from _places(value, (*at, key))


def _damaged_bytes(file: Path, chance: random.Random) -> str:
    data = bytearray(file.read_bytes())
    kind = chance.choice(("flip", "number", "number", "cut", "drop", "insert", "empty", "zeros"))
    # Headers are where the damage is worst.
    at = chance.randrange(len(data) if chance.random() < 0.4 else min(len(data), 600)) if data else 0
    if kind == "flip":
        for _ in range(chance.randrange(1, 4)):
            if data:
                data[min(at, len(data) - 1)] ^= 1 << chance.randrange(8)
            at = chance.randrange(len(data)) if data else 0
    elif kind == "number":
        size = chance.choice((1, 2, 4, 8))
        number = chance.choice(_NUMBERS) & (256**size - 1)
        data[at : at + size] = number.to_bytes(size, chance.choice(("little", "big")))
    elif kind == "cut":
        del data[at:]
    elif kind == "drop":
        del data[at : at + chance.randrange(1, 64)]
    elif kind == "insert":
        data[at:at] = chance.randbytes(chance.randrange(1, 64))
    elif kind == "empty":
        data.clear()
    else:
        data[at : at + 64] = bytes(64)
    file.write_bytes(data)
    return f"{kind} at {at}"


# -- reading


def read(path: Path) -> None:
    """Open what is there and read two corners of it, also through `plan`."""
    with bp.open_source(path) as source:
        corner = tuple(slice(0, min(n, 48)) for n in source.shape)
        last = tuple(slice(max(0, n - 16), n) for n in source.shape)
        str(bp.plan(source))
        for region in (corner, last):
            found = source[region]
            assert found.shape == tuple(s.stop - s.start for s in region), (found.shape, region)
            assert found.dtype == source.dtype


def attempt(make: Callable[[Path], Path], seed: str, folder: Path) -> tuple[str, str]:
    """Return what was damaged, and what of it was a foreign error; an empty text if all went well."""
    folder.mkdir()
    path = make(folder)
    done = damage(path, random.Random(seed))
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        try:
            read(path)
        except bp.BioimagePyError as error:
            if not str(error).strip() or len(str(error)) > 4000:
                return done, f"its message has {len(str(error))} letters"
        except BaseException:
            return done, traceback.format_exc()
    foreign = [w for w in seen if not issubclass(w.category, (BioimagePyWarning, ResourceWarning))]
    shutil.rmtree(folder)
    return done, "".join(f"{w.category.__name__}: {w.message} ({w.filename}:{w.lineno})\n" for w in foreign)


def main(names: list[str], first: int, count: int, folder: Path) -> int:
    """Try some damaged files of each format; print each that fails, and how many were tried."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    failed = 0
    for name, number in itertools.product(names, range(first, first + count)):
        # Where the process dies or hangs, this line says at which file.
        (folder / "now").write_text(f"{name} {number}\n")
        faulthandler.dump_traceback_later(SECONDS, exit=True)
        done, fault = attempt(FORMATS[name], f"{name} {number}", folder / f"{name}-{number}")
        if fault:
            failed += 1
            print(f"--- {name} {number}: {done}\n{fault}", flush=True)
    faulthandler.cancel_dump_traceback_later()
    print(f"{len(names) * count} tried, {failed} failed", flush=True)
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1].split(","), int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])))
