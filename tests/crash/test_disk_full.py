"""Disks that are really full: small file systems of their own, for the output and for the run folder.

Mounting one takes root. Anybody else gets a namespace in which they are root, where the system allows that: the last test
runs this file in there.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bioimage_py as bp
from bioimage_py.errors import BioimagePyError, StorageError
from bioimage_py.geometry import IdSet
from bioimage_py.runner import RunnerConfig
from bioimage_py.runner.run import AttemptJournal, RunFolder, read_recorded
from tests.crash.rounds import Reference, Round
from tests.pairwise import pairwise

INSIDE = "BIOIMAGE_PY_TEST_IN_NAMESPACE"


class SmallDisk:
    """A file system of a few hundred kilobytes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.filler = folder / "filler"

    def grow(self) -> None:
        """Make enough room for everything."""
        self.filler.unlink(missing_ok=True)
        mount("-o", "remount,size=20m", str(self.folder))

    def fill(self) -> None:
        """Take all the room that is left."""
        with self.filler.open("wb", buffering=0) as file:
            for size in (4096, 1):
                try:
                    while True:
                        file.write(bytes(size))
                except OSError:
                    continue


def mount(*arguments: str) -> str:
    """Call mount; return why it refused."""
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    return done.stderr


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    folder = tmp_path / "small"
    folder.mkdir()
    refused = (
        mount("-t", "tmpfs", "-o", "size=400k", "tmpfs", str(folder)) if shutil.which("mount") else "no mount"
    )
    if refused:
        pytest.skip(f"no small file system can be mounted here: {refused.strip()}")
    yield SmallDisk(folder)
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize(("number", "job_type"), list(enumerate(["local", "subprocess"])))
def test_the_disk_of_the_output_gets_full(
    begin: Callable[..., Round], disk: SmallDisk, tmp_path: Path, job_type: str, number: int
) -> None:
    made = begin(
        job_type,
        folder=disk.folder,
        seconds=0.001,
        runs=tmp_path / "runs",
        marks=tmp_path / "marks",
        retries=number,
    )
    said = made.end()
    assert said["end"] == "RunnerError", said
    assert str(made.output) in said["text"]
    assert "disk is full" in said["text"]
    assert len(said["text"]) < 2000
    # What was tried without success left nothing that takes the room.
    assert [p.name for p in made.output.rglob("*") if p.suffix in (".__lock", ".partial")] == []
    disk.grow()
    made.resume()


@pytest.mark.parametrize(("number", "job_type"), list(enumerate(["local", "subprocess"])))
def test_the_disk_of_the_run_folder_gets_full(
    begin: Callable[..., Round], disk: SmallDisk, tmp_path: Path, job_type: str, number: int
) -> None:
    made = begin(job_type, seconds=0.015, runs=disk.folder / "runs")
    made.bad_moment(0.4)
    disk.fill()
    said = made.end()
    # Records of neighbours take no more room, so some runs come to their end.
    if said["end"] != "done":
        assert "No space left on device" in said["text"]
        assert str(disk.folder) in said["text"]
        disk.grow()
        made.resume()


@pytest.mark.parametrize("job_type", ["local", "subprocess"])
def test_no_room_for_a_run_folder(
    reference: Reference, disk: SmallDisk, tmp_path: Path, job_type: str
) -> None:
    disk.fill()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(BioimagePyError, match="No space left on device") as caught:
        bp.copy(
            reference.input,
            tmp_path / "out.zarr",
            block_shape=(8, 8),
            chunks=(8, 8),
            job_type=job_type,
            job_config=RunnerConfig(tmp_root=disk.folder / "runs"),
        )
    assert str(disk.folder) in str(caught.value)
    assert list((disk.folder / "runs").iterdir()) == [] if (disk.folder / "runs").exists() else True
    assert [
        p for p in sorted(tmp_path.rglob("*")) if p not in before and p.is_file() and "out.zarr" not in str(p)
    ] == []


def test_records_that_find_no_room_are_not_there_at_all(disk: SmallDisk) -> None:
    folder = RunFolder.make(disk.folder)
    folder.write_run({"work": {}})
    journal = AttemptJournal(folder, 0, 0)
    journal.done_with(0, b"x")
    disk.fill()

    def fill_up() -> None:
        for n in range(2, 10**6, 2):
            journal.done_with(n, b"x" * n)
            expected.append(n)

    expected = [0]
    with pytest.raises(StorageError, match=r"\.values cannot be written: No space left on device"):
        fill_up()
    with pytest.raises(StorageError, match=r"\.errors cannot be written: No space left on device"):
        journal.failed([expected[-1] + 2], ValueError("no"))
    journal.end("finished")
    assert folder.read_state(journal.files)["reason"] == "finished"  # its room was taken before
    assert len(expected) > 10
    recorded = read_recorded(folder)
    assert list(recorded.done) == expected
    assert [len(v) for v in recorded.values(IdSet.from_range(10**6)).values()] == [1, *expected[1:]]


HDF5 = """
import json, resource, sys, h5py, numpy as np, bioimage_py as bp

output, chunks, codec, workers, limit = json.loads(sys.argv[1])
image = np.random.default_rng(0).integers(0, 60000, (64, 64, 64), dtype="u2")
options = {"block_shape": (8, 64, 64), "num_workers": workers}
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
try:
    bp.copy(image, output, chunks=chunks, codec=codec, **options)
    raise SystemExit("it fits")
except bp.RunnerError as error:
    failed, text = list(error.failed_block_ids), str(error)
assert "no space left" in text or "File too large" in text, text
with h5py.File(output) as file:
    stored = file["data"][...]
for block in set(range(8)) - set(failed):
    assert (stored[8 * block : 8 * block + 8] == image[8 * block : 8 * block + 8]).all(), block
assert 0 < len(failed) < 8, failed
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    with bp.open_source(output, mode="r+") as rest:
        bp.copy(image, rest, block_ids=failed, **options)
    assert (bp.open_source(output)[...] == image).all()
print("right")
"""


LAYOUTS = [((8, 16, 16), "gzip"), ((8, 64, 64), "gzip"), ((4, 32, 32), "lzf"), ((4, 32, 32), "none")]


@pytest.mark.parametrize(("layout", "workers", "limit"), pairwise(LAYOUTS, [1, 3], [0, 300_000]))
def test_hdf5_on_a_full_disk(
    request: pytest.FixtureRequest, tmp_path: Path, limit: int, layout: tuple[Any, str], workers: int
) -> None:
    folder = tmp_path if limit else request.getfixturevalue("disk").folder
    said = json.dumps([str(folder / "out.h5"), *layout, workers, limit])
    done = subprocess.run([sys.executable, "-c", HDF5, said], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "right\n", "")
    assert [p.name for p in folder.iterdir()] == ["out.h5"]
    # Nothing stays of what was allocated ahead.
    assert (folder / "out.h5").stat().st_size < 2**20


@pytest.mark.parametrize("kind", ["new", "there", "handle"])
def test_no_room_for_hdf5_at_all(tmp_path: Path, kind: str) -> None:
    code = """
import resource, sys, h5py, numpy as np, bioimage_py as bp
path, kind = sys.argv[1:]
image = np.random.default_rng(0).integers(0, 255, (64, 64), dtype="u1")
if kind != "new":
    bp.copy(image, path).close()
handle = h5py.File(path, "r+") if kind == "handle" else None
resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, resource.RLIM_INFINITY))
try:
    if kind == "handle":
        bp.copy(image, handle.create_dataset("more", image.shape, image.dtype, chunks=(8, 8)))
    else:
        bp.copy(image, path + ":/more")
except bp.BioimagePyError as error:
    assert "File too large" in str(error), error
    print("refused")
"""
    path = tmp_path / "a.h5"
    done = subprocess.run(
        [sys.executable, "-c", code, str(path), kind], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "refused\n", "")
    assert path.exists() == (kind != "new")


def test_blocks_of_hdf5_count_when_they_are_flushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.arange(64, dtype="u1").reshape(8, 8)
    for options in ({"block_shape": (2, 8)}, {}):
        output = bp.create_output(tmp_path / f"{len(options)}.h5", like=image, chunks=(2, 8), codec="none")

        def refuse() -> None:
            raise StorageError("the disk has gone")

        monkeypatch.setattr(output, "flush", refuse)
        with pytest.raises(bp.RunnerError, match="the disk has gone") as caught:
            bp.copy(image, output, **options)
        assert list(caught.value.failed_block_ids) == list(range(4 if options else 1))


@pytest.mark.skipif(os.geteuid() == 0, reason="root needs no namespace of its own")
def test_the_others_in_a_namespace_where_we_are_root(tmp_path: Path) -> None:
    wrapped = ["unshare", "--user", "--map-root-user", "--mount"]
    if not shutil.which("unshare") or subprocess.run([*wrapped, "true"], check=False).returncode != 0:
        pytest.skip("no user namespaces here, and no root")
    subprocess.run(
        [
            *wrapped,
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "--basetemp",
            tmp_path / "in",
            __file__,
        ],
        check=True,
        cwd=Path(__file__).parents[2],
        timeout=250,
    )
