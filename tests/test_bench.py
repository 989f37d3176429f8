"""`bench`: every kind of source is measured in parts, nothing stays behind, and what follows from the rates is right."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import nibabel
import numpy as np
import pytest
import tifffile

import bioimage_py as bp
import bioimage_py.bench
from bioimage_py.bench import (
    BenchResult,
    StageRate,
    choose_read_sample,
    choose_write_sample,
    decoding,
    encoding,
    reading,
    writing,
)
from bioimage_py.errors import InvalidArgumentError, StorageError
from bioimage_py.wrapper import ThresholdSource
from bioimage_py.wrapper.shape import RoiSource
from tests.report.images import counted_reads
from tests.waiting import PATIENCE, eventually

IMAGE = np.random.default_rng(0).integers(0, 99, (24, 48, 40)).astype("uint16")
LONG = 60.0


def tiff(path: Path) -> str:
    tifffile.imwrite(path / "a.tif", IMAGE, compression="zlib")
    return str(path / "a.tif")


def plain_tiff(path: Path) -> str:
    tifffile.imwrite(path / "a.tif", IMAGE)
    return str(path / "a.tif")


def slices(path: Path) -> str:
    (path / "slices").mkdir()
    for z, plane in enumerate(IMAGE):
        tifffile.imwrite(path / "slices" / f"{z}.tif", plane, compression="zlib")
    return str(path / "slices")


def npy(path: Path) -> str:
    np.save(path / "a.npy", IMAGE)
    return str(path / "a.npy")


def hdf5(path: Path, **options: Any) -> str:
    with h5py.File(path / "a.h5", "w") as file:
        file.create_dataset("raw", data=IMAGE, **options)
    return str(path / "a.h5:raw")


def nifti(path: Path, ending: str) -> str:
    nibabel.save(nibabel.Nifti1Image(IMAGE, np.eye(4)), path / f"a{ending}")
    return str(path / f"a{ending}")


def made(path: Path, name: str, **options: Any) -> str:
    bp.copy(IMAGE, path / name, **options)
    return str(path / name)


def remote(path: Path) -> str:
    name = f"memory://{path.name}/a.zarr"
    bp.copy(IMAGE, name, chunks=(8, 16, 16))
    return name


def mrc(path: Path) -> str:
    import mrcfile

    with mrcfile.new(path / "a.mrc") as file:
        file.set_data(IMAGE)
    return str(path / "a.mrc")


SOURCES: dict[str, Callable[[Path], str]] = {
    "tiff": tiff,
    "plain tiff": plain_tiff,
    "slices": slices,
    "npy": npy,
    "hdf5 chunked": lambda path: hdf5(path, chunks=(8, 16, 16), compression="gzip"),
    "hdf5 in one piece": hdf5,
    "nifti": lambda path: nifti(path, ".nii"),
    "nifti gz": lambda path: nifti(path, ".nii.gz"),
    "mrc": mrc,
    "zarr v3": lambda path: made(path, "a.zarr", chunks=(8, 16, 16)),
    "zarr v2": lambda path: made(path, "a.zarr", chunks=(8, 16, 16), zarr_format=2),
    "shards": lambda path: made(path, "a.zarr", chunks=(8, 8, 8), shards=(16, 16, 16)),
    "n5": lambda path: made(path, "a.n5/raw", chunks=(8, 16, 16)),
    "precomputed": lambda path: made(path, "a.precomputed", chunks=(8, 16, 16)),
    "url": remote,
}


@pytest.mark.parametrize("kind", SOURCES)
def test_every_kind_of_source(kind: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    result = bp.bench(SOURCES[kind](tmp_path), out, sample="64KiB", num_workers=2)
    measured = {(rate.stage, rate.workers) for rate in result.rates}
    stages = ["decode", "encode", "write"] + ["read"] * (kind != "url")
    assert measured == {(stage, workers) for stage in stages for workers in (1, 2)}
    assert result.read_with_decode is (kind == "url")
    for rate in result.rates:
        assert 0 < rate.voxel_bytes <= IMAGE.nbytes
        assert (rate.stored_bytes is None) is (rate.stage in ("decode", "encode"))
        assert rate.stored_bytes is None or rate.stored_bytes > 0
    assert result.bottleneck in stages
    assert result.bytes_per_second > 0
    assert f"road of a copy: {result.plan.road}" in str(result)
    assert json.loads(json.dumps(result.to_json()))["bottleneck"] == result.bottleneck
    assert list(out.iterdir()) == []


def test_stages_count_bytes_exactly(tmp_path: Path) -> None:
    source = bp.open_source(made(tmp_path, "a.zarr", chunks=(8, 16, 16), codec="gzip"))
    stored = sum(p.stat().st_size for p in (tmp_path / "a.zarr" / "c").rglob("*") if p.is_file())
    sample = choose_read_sample(source, 10 * IMAGE.nbytes)
    for workers in (1, 3):
        read = reading(source, sample, workers, LONG)
        assert read is not None
        assert (read.voxel_bytes, read.stored_bytes) == (IMAGE.nbytes, stored)
        assert decoding(source, sample, workers, LONG).voxel_bytes == IMAGE.nbytes
    output = bp.create_output(tmp_path / "b.zarr", like=source, chunks=source.chunks, codec="gzip")
    voxels = choose_write_sample(source, output, [], 10 * IMAGE.nbytes)
    assert encoding(output, voxels, 2, LONG).voxel_bytes == IMAGE.nbytes
    np.testing.assert_array_equal(bp.open_source(tmp_path / "b.zarr")[...], IMAGE)
    wrote = writing(tmp_path / "again", tmp_path / "b.zarr", IMAGE.nbytes, 2, LONG)
    assert wrote is not None
    assert (wrote.voxel_bytes, wrote.stored_bytes) == (IMAGE.nbytes, stored)
    assert sum(p.stat().st_size for p in (tmp_path / "again").iterdir()) == stored


def test_the_sample_is_from_all_over_and_no_larger_than_asked_for(tmp_path: Path) -> None:
    big = bp.create_output(tmp_path / "big.zarr", shape=(640, 640, 640), dtype="uint8", chunks=(64, 64, 64))
    sample = choose_read_sample(big, 2**23)
    assert sum(box.size for box, _ in sample) <= 2**23
    assert len({box.begin[0] for box, _ in sample}) > 2
    assert all(b % 64 == 0 for box, _ in sample for b in box.begin)
    assert {places for _, places in sample} == {None}, "nothing is stored there"
    big[64:128, :, :] = 1
    (tmp_path / "n").mkdir()
    whole = choose_read_sample(big, big.nbytes)
    assert {(box.begin[0], box.end[0]) for box, _ in whole} == {(64, 128)}


def test_pages_are_not_decoded_again_and_again_for_deep_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["bioimage_py.bench"], "_LEAST_READ", 1)
    source = bp.open_source(tiff(tmp_path))
    output = bp.create_output(tmp_path / "o.zarr", shape=IMAGE.shape, dtype="uint16", chunks=(24, 4, 4))
    pages = [box for box, _ in choose_read_sample(source, 2**14)]
    with counted_reads() as reads:
        voxels = choose_write_sample(source, output, pages, 2**10)
    assert [box for _, box in reads] == pages[:1]
    assert [(box.shape, values.shape) for box, values in voxels] == [((24, 4, 4), (24, 4, 4))]
    assert np.isin(voxels[0][1], IMAGE).all()


@pytest.mark.parametrize("wrap", [lambda s: ThresholdSource(s, 50), lambda s: RoiSource(s, np.s_[8:, 3:, :])])
def test_what_is_computed_has_no_bytes_of_its_own(wrap: Callable[[Any], Any], tmp_path: Path) -> None:
    source = wrap(bp.open_source(made(tmp_path, "a.zarr", chunks=(8, 16, 16))))
    result = bp.bench(source, tmp_path, sample="64KiB", num_workers=1)
    assert result.read_with_decode
    assert {rate.workers for rate in result.rates} == {1}
    assert "reading included" in str(result)


def test_background_is_not_stored() -> None:
    result = bp.bench(np.zeros((16, 16), "uint8"), num_workers=1)
    assert "nothing but the fill value is stored" in str(result)
    assert result.bottleneck in ("decode", "encode")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input": np.zeros((0, 3))}, "nothing to measure"),
        ({"sample": "much"}, "sample must be a positive number"),
        ({"num_workers": 0}, "num_workers"),
        ({"output": "not/there"}, "Give as output a folder that exists"),
        ({"codec": "nonsense"}, "nonsense"),
        ({"chunks": (4, 4, 4)}, "chunks"),
    ],
)
def test_bad_input_is_one_clear_error(arguments: dict[str, Any], message: str, tmp_path: Path) -> None:
    given: dict[str, Any] = {"input": np.ones((8, 8)), "output": tmp_path, "sample": "1KiB", **arguments}
    with pytest.raises(InvalidArgumentError, match=message):
        bp.bench(**given)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt(), StorageError("the disk is full")])
@pytest.mark.parametrize("stage", ["reading", "encoding", "writing"])
def test_nothing_stays_when_it_ends_early(
    stage: str, error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise error

    monkeypatch.setattr(sys.modules["bioimage_py.bench"], stage, refuse)
    with pytest.raises(type(error)):
        bp.bench(IMAGE, tmp_path, sample="64KiB", num_workers=2)
    assert list(tmp_path.iterdir()) == []


SLOW = """
import sys, time
import numpy as np
import bioimage_py as bp
from bioimage_py.wrapper import SimpleTransformationSource
def slow(block):
    time.sleep(0.2)
    return block
bp.bench(SimpleTransformationSource(np.ones((64, 1024, 1024), "uint8"), slow), sys.argv[1], num_workers=2)
"""


def test_ctrl_c_leaves_nothing(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", SLOW, str(tmp_path)], stderr=subprocess.PIPE) as process:
        eventually(lambda: list(tmp_path.iterdir()))
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE)
    assert b"KeyboardInterrupt" in err
    assert list(tmp_path.iterdir()) == []


def test_an_error_in_a_thread_is_that_of_the_call(tmp_path: Path) -> None:
    path = made(tmp_path, "a.zarr", chunks=(8, 16, 16), codec="gzip")
    for chunk in (tmp_path / "a.zarr" / "c").rglob("*"):
        if chunk.is_file():
            chunk.write_bytes(b"torn")
    with pytest.raises(StorageError, match=r"a\.zarr"):
        bp.bench(path, tmp_path, sample="64KiB", num_workers=2)


def rates(*given: tuple[str, int, float, int | None]) -> tuple[StageRate, ...]:
    return tuple(
        StageRate(stage, workers, int(mb * 1e6), stored, 1.0) for stage, workers, mb, stored in given
    )


TWO = [("read", 1, 100.0, 10**6), ("read", 2, 200.0, 10**6), ("decode", 1, 50.0, None), ("decode", 2, 100.0, None),
       ("encode", 1, 40.0, None), ("encode", 2, 50.0, None), ("write", 1, 90.0, 10**6), ("write", 2, 90.0, 10**6)]  # fmt: skip


def test_what_follows_from_rates(tmp_path: Path) -> None:
    source = made(tmp_path, "a.zarr", chunks=(8, 16, 16), codec="gzip")
    recoded = bp.plan(source, tmp_path / "b.zarr", codec="zstd:1")
    moved = bp.plan(source, tmp_path / "b.zarr")
    bigger = bp.plan(source, tmp_path / "b.zarr", chunks=(24, 48, 40), shards=(24, 48, 40))

    def result(plan: Any, *given: tuple[str, int, float, int | None], codec: str = "gzip:5") -> BenchResult:
        return BenchResult("a", plan, rates(*given), ".", codec)

    encoded, copied = result(recoded, *TWO), result(moved, *TWO)
    assert encoded.bottleneck == "encode"
    assert copied.bottleneck == "write"
    assert encoded.bytes_per_second == pytest.approx(1e6 / (1 / 200 + 1 / 100 + 1 / 50 + 1 / 90))
    assert copied.bytes_per_second == pytest.approx(1e6 / (1 / 200 + 1 / 90))
    assert encoded.hints[0] == "2 workers encode hardly faster than one: more of them do not help"
    assert "a lighter codec than gzip:5" in encoded.hints[1]
    assert encoded.hints[2] == recoded.reason
    assert "larger chunks, or shards" in copied.hints[1]
    slow = [row if row[0] != "decode" else (row[0], row[1], 5.0 * row[1], None) for row in TWO]
    assert "2 workers decode 2.0 times as fast as one" in result(recoded, *slow, codec="").hints[0]
    far = result(bigger, ("read", 2, 1.0, 10**6), ("write", 2, 2.0, 10**6), codec="")
    assert far.hints[-1] == bigger.reason or "read from" in far.hints[-1]
