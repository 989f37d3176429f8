"""Files of one array with a few bytes changed: right voxels, or one of our errors."""

from __future__ import annotations

import gzip
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import mrcfile
import nibabel
import numpy as np
import pytest

from bioimage_py.errors import BioimagePyError, StorageError
from bioimage_py.sources import open_source
from tests.waiting import PATIENCE

ARRAY = np.arange(4 * 6 * 8, dtype="i2").reshape(4, 6, 8)
TRIES = 120


def _npy(path: Path) -> None:
    np.save(path, np.asfortranarray(ARRAY))


def _nifti(path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(ARRAY, np.eye(4)), path)


def _mrc(path: Path) -> None:
    with mrcfile.new(path) as file:
        file.set_data(ARRAY)


def _hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=ARRAY, chunks=(2, 3, 4), compression="gzip", shuffle=True)
        file["x"].attrs["element_size_um"] = [1.0, 2.0, 3.0]


def _new_hdf5(path: Path) -> None:
    with h5py.File(path, "w", libver="latest") as file:
        file.create_dataset("g/x", data=ARRAY, chunks=(2, 3, 4))


def _gzipped(path: Path) -> None:
    _npy(path.with_suffix(""))
    path.write_bytes(gzip.compress(path.with_suffix("").read_bytes(), mtime=0))


MADE: dict[str, tuple[Callable[[Path], None], int]] = {
    "a.npy": (_npy, 128),
    "a.nii": (_nifti, 352),
    "a.mrc": (_mrc, 1024),
    "a.h5": (_hdf5, 10**6),
    "new.h5": (_new_hdf5, 10**6),
    "a.npy.gz": (_gzipped, 10**6),
}


def changed(content: bytes, head: int, rng: np.random.Generator) -> bytes:
    """Return a content of which a few bytes of its head are other ones, or gone."""
    data = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        at = int(rng.integers(0, max(1, min(head, len(data)))))
        match int(rng.integers(0, 5)):
            case 0 if data:
                data[at] = int(rng.integers(0, 256))
            case 1 if data:
                data[at] = int(rng.choice([0, 127, 128, 255]))
            case 2:
                data[at : at + 4] = (b"\xff" * 4, bytes(4), b"\x7f\xff\xff\xff")[int(rng.integers(0, 3))]
            case 3:
                del data[at : at + int(rng.integers(1, 40))]
            case 4:
                del data[at:]
    return bytes(data)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", MADE)
def test_a_damaged_file_gives_voxels_or_an_error_of_ours(tmp_path: Path, name: str) -> None:
    make, head = MADE[name]
    path = tmp_path / name
    make(path)
    content, rng = path.read_bytes(), np.random.default_rng(12)
    for _ in range(TRIES):
        path.write_bytes(changed(content, head, rng))
        try:
            with open_source(path) as source:
                source[tuple(slice(0, 8) for _ in source.shape)]
        except BioimagePyError:
            continue


def test_a_damaged_index_of_chunks_does_not_end_the_process(tmp_path: Path) -> None:
    """HDF5 itself dies of it where it is asked for all that it knows of an object."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w", libver="latest") as file:
        file.create_dataset("x", data=ARRAY, chunks=(2, 3, 4), maxshape=(None, None, 8))
    content = bytearray(path.read_bytes())
    content[content.index(b"BTHD") + 6] ^= 1
    path.write_bytes(content)
    program = "import sys, bioimage_py as bp; print(bp.check(sys.argv[1]).findings[0].kind)"
    assert said_by_child(program, str(path)) == "unreadable\n"


def test_a_damaged_blosc_chunk_of_hdf5_does_not_end_the_process() -> None:
    """Blosc follows its header to where there is no memory."""
    program = """
import struct, imagecodecs
from bioimage_py.chunks import Filter, FilterPipeline
from bioimage_py.errors import StorageError
data = bytearray(imagecodecs.blosc_encode(bytes(4096)))
struct.pack_into("<II", data, 12, 2**31 - 1, 2**31 - 2**16)
try:
    FilterPipeline((Filter(32001, ()),), 4096).decode(bytes(data), 0)
except StorageError as error:
    print(error)
"""
    assert said_by_child(program) == "blosc cannot decode it: its header does not fit\n"


def said_by_child(program: str, *arguments: str) -> str:
    words = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "shape", ["(-1, 3)", "(0, 9223372036854775808)", "(1 << 3,)", "(99999999999999999999,)", "(3"]
)
def test_shapes_that_no_npy_can_have(tmp_path: Path, shape: str) -> None:
    header = f"{{'descr': '<i2', 'fortran_order': False, 'shape': {shape}, }}".ljust(117).encode() + b"\n"
    (tmp_path / "a.npy").write_bytes(
        b"\x93NUMPY\x01\0" + len(header).to_bytes(2, "little") + header + bytes(64)
    )
    with pytest.raises(StorageError, match=r"a\.npy"):
        open_source(tmp_path / "a.npy")


@pytest.mark.parametrize(
    "name", ["a.npy", "a.h5", "a.tif", "a.nii", "a.nii.gz", "a.mrc", "a.map.bz2", "a.npy.gz", "a.png"]
)
def test_empty_files(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(BioimagePyError):
        open_source(tmp_path / name)


def test_unit_codes_that_nifti_does_not_have(tmp_path: Path) -> None:
    _nifti(tmp_path / "a.nii")
    content = bytearray((tmp_path / "a.nii").read_bytes())
    content[123] = 7
    (tmp_path / "a.nii").write_bytes(content)
    with pytest.warns(UserWarning, match="xyzt_units=7"):
        source = open_source(tmp_path / "a.nii")
    with source:
        assert source.metadata.units is None
        np.testing.assert_array_equal(source[...], ARRAY)
