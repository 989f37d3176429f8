"""`check`: each kind of damage is found and named by array and chunk."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import pytest
import tifffile
import zarr

import bioimage_py as bp
from bioimage_py.cli import main
from bioimage_py.errors import (
    BioimagePyError,
    InvalidArgumentError,
    RunnerError,
    SourceNotFoundError,
    UnsupportedFormatError,
)
from bioimage_py.geometry import Box
from bioimage_py.storage import StoreFolder
from tests.counting import CountingSource
from tests.s3_lab import s3_lab

SHAPE, CHUNKS, SHARDS = (16, 24, 24), (8, 8, 8), (16, 8, 16)
AT = (1, 0, 2)


@pytest.fixture
def voxels() -> np.ndarray:
    return np.random.default_rng(7).integers(100, 5000, SHAPE).astype("uint16")


class Stored(NamedTuple):
    """An OME-Zarr image with a level, as one of the formats stores it; or an N5 array, which has no image around it."""

    kind: str
    path: Path

    @property
    def array(self) -> Path:
        return self.path if self.kind == "n5" else self.path / "0"

    @property
    def key(self) -> str:
        return "" if self.kind == "n5" else "0"

    @property
    def chunk(self) -> Path:
        """The file of the chunk at `AT`, or of its shard."""
        names = {"v3": "c/1/0/2", "v2": "1/0/2", "n5": "2/0/1", "shards": "c/0/0/1"}
        return self.array / names[self.kind]

    @property
    def metadata(self) -> Path:
        return self.array / {"v2": ".zarray", "n5": "attributes.json"}.get(self.kind, "zarr.json")

    @property
    def image(self) -> Path:
        return self.path / (".zattrs" if self.kind == "v2" else "zarr.json")


def made(kind: str, path: Path, voxels: np.ndarray, **options: Any) -> Stored:
    if kind == "n5":
        bp.copy(voxels, path / "image.n5", chunks=CHUNKS, **options)
        return Stored(kind, path / "image.n5")
    layout: dict[str, Any] = {
        "v2": {"zarr_format": 2, "codec": "zlib:1"},
        "v3": {},
        "shards": {"shards": SHARDS},
    }[kind]
    bp.pyramid(voxels, path / "image.ome.zarr", scale_factors=[2], chunks=CHUNKS, **{**layout, **options})
    return Stored(kind, path / "image.ome.zarr")


def flipped(stored: Stored, _: np.ndarray) -> None:
    data = bytearray(stored.chunk.read_bytes())
    data[len(data) // 3] ^= 16
    stored.chunk.write_bytes(data)


def flipped_without_checksum(stored: Stored, voxels: np.ndarray) -> None:
    shutil.rmtree(stored.path)
    made(stored.kind, stored.path.parent, voxels, codec="zstd:1")
    data = bytearray(stored.chunk.read_bytes())
    data[2] ^= 16
    stored.chunk.write_bytes(data)


def truncated(stored: Stored, _: np.ndarray) -> None:
    data = stored.chunk.read_bytes()
    stored.chunk.write_bytes(data[: len(data) // 2])


def index_torn(stored: Stored, _: np.ndarray) -> None:
    data = bytearray(stored.chunk.read_bytes())
    data[-24] ^= 1
    stored.chunk.write_bytes(data)


def removed(stored: Stored, _: np.ndarray) -> None:
    stored.chunk.unlink()


def of_another_shape(stored: Stored, voxels: np.ndarray) -> None:
    codec = "gzip:1" if stored.kind == "n5" else None
    options: dict[str, Any] = {"zarr_format": 2} if stored.kind == "v2" else {}
    suffix = ".n5" if stored.kind == "n5" else ".zarr"
    other = stored.path.parent / f"other{suffix}"
    bp.copy(voxels[:4, :8, :8], other, chunks=(4, 8, 8), codec=codec, **options)
    found = next(p for p in other.rglob("*") if p.is_file() and p.name == "0")
    shutil.copy(found, stored.chunk)
    shutil.rmtree(other)


def foreign(stored: Stored, _: np.ndarray) -> None:
    (stored.chunk.parent / "17").write_bytes(b"of a larger array")


def consolidated_is_stale(stored: Stored, _: np.ndarray) -> None:
    with warnings.catch_warnings(action="ignore"):  # not part of the specification of v3
        zarr.consolidate_metadata(stored.path, zarr_format=2 if stored.kind == "v2" else 3)
    content = json.loads(stored.metadata.read_text())
    content["fill_value"] = 3
    stored.metadata.write_text(json.dumps(content))


def level_missing(stored: Stored, _: np.ndarray) -> None:
    shutil.rmtree(stored.path / "1")


def wrong_scale(stored: Stored, _: np.ndarray) -> None:
    content = json.loads(stored.image.read_text())
    image = (content if stored.kind == "v2" else content["attributes"]["ome"])["multiscales"][0]
    image["datasets"][1]["coordinateTransformations"][0]["scale"] = [1.0, 1.0, 1.0]
    stored.image.write_text(json.dumps(content))


def unfinished(stored: Stored, voxels: np.ndarray) -> None:
    shutil.rmtree(stored.path)

    def fails(box: Box) -> BaseException | None:
        return OSError("the disk is gone") if box.begin[0] else None

    with pytest.raises(RunnerError):
        made(stored.kind, stored.path.parent, CountingSource(voxels, fails=fails), block_shape=CHUNKS)


def wrong_fill(stored: Stored, _: np.ndarray) -> None:
    content = json.loads(stored.metadata.read_text())
    content["fill_value"] = 70_000
    stored.metadata.write_text(json.dumps(content))


class Damage(NamedTuple):
    done: Callable[[Stored, np.ndarray], None]
    kind: str
    array: str | None = None  # the one at "0", where there is an image
    chunk: tuple[int, ...] | None = None
    formats: tuple[str, ...] = ("v2", "v3")


DAMAGES = [
    Damage(flipped, "corrupt", chunk=AT, formats=("v2", "v3", "n5", "shards")),
    Damage(flipped_without_checksum, "corrupt", chunk=AT, formats=("v2", "v3", "n5")),
    Damage(truncated, "corrupt", chunk=AT, formats=("v2", "v3", "n5", "shards")),
    Damage(index_torn, "corrupt", chunk=(0, 0, 2), formats=("shards",)),
    Damage(removed, "missing", chunk=AT, formats=("v2", "v3", "n5", "shards")),
    Damage(of_another_shape, "corrupt", chunk=AT, formats=("v2", "v3", "n5")),
    Damage(foreign, "foreign", formats=("v2", "v3", "n5")),
    Damage(consolidated_is_stale, "consolidated"),
    Damage(level_missing, "missing", array="1"),
    Damage(wrong_scale, "scale", array="1"),
    Damage(unfinished, "unfinished", formats=("v2", "n5")),
    Damage(wrong_fill, "metadata"),
]
CASES = [pytest.param(d, f, id=f"{d.done.__name__}-{f}") for d in DAMAGES for f in d.formats]


@pytest.fixture(scope="session")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Stored]:
    voxels = np.random.default_rng(7).integers(100, 5000, SHAPE).astype("uint16")
    return {kind: made(kind, tmp_path_factory.mktemp(kind), voxels) for kind in ("v2", "v3", "n5", "shards")}


def copied(original: Stored, folder: Path) -> Stored:
    shutil.copytree(original.path, folder / original.path.name)
    return original._replace(path=folder / original.path.name)


def times(folder: Path) -> dict[str, int]:
    files = (file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): file.stat().st_mtime_ns for file in files}


@pytest.mark.parametrize(("damage", "kind"), CASES)
def test_damage_is_found(
    damage: Damage, kind: str, originals: dict[str, Stored], voxels: np.ndarray, tmp_path: Path
) -> None:
    stored = copied(originals[kind], tmp_path)
    damage.done(stored, voxels)
    result = bp.check(stored.path, num_workers=2)
    assert not result, str(result)
    found = {(one.kind, one.array, one.chunk) for one in result.findings}
    chunk = (0, 0, 2) if damage.chunk and kind == "shards" else damage.chunk
    assert (damage.kind, damage.array or stored.key, chunk) in found, str(result)
    assert len(found) == 1 or damage.done in (wrong_fill, unfinished)

    before = times(stored.path)
    result = bp.repair(stored.path, voxels if kind == "n5" else originals[kind].path, num_workers=2)
    changed = {name for name, time in times(stored.path).items() if before.get(name) != time}
    if damage.kind in ("foreign", "scale", "metadata"):  # only a person knows
        assert {one.kind for one in result.findings} >= {damage.kind}
        assert not changed
        return
    assert result, str(result)
    assert {one.kind for one in result.repaired} >= {damage.kind}
    if damage.chunk:
        assert changed == {stored.chunk.relative_to(stored.path).as_posix()}
    assert bp.verify(stored.path, originals[kind].path)


def test_what_is_right_is_right(originals: dict[str, Stored], tmp_path: Path, voxels: np.ndarray) -> None:
    for kind, stored in originals.items():
        result = bp.check(stored.path)
        assert result, str(result)
        assert not result.findings
        assert (result.arrays, result.counts["right"]) == ((1, 18) if kind == "n5" else (2, 22))
    shutil.make_archive(str(tmp_path / "zipped.zarr"), "zip", originals["v2"].path)
    assert bp.check(tmp_path / "zipped.zarr.zip").counts["right"] == 22
    for name in ("a.h5", "a.npy", "a.precomputed"):
        bp.copy(voxels, tmp_path / name, chunks=None if name == "a.npy" else CHUNKS)
        assert bp.check(tmp_path / name).counts["right"] == (1 if name == "a.npy" else 18)
    assert bp.check(tmp_path).arrays == 1  # of several stores and other files, the stores


def test_what_was_never_written_is_not_missing(tmp_path: Path) -> None:
    labels = np.zeros((32, 32), "uint16")
    labels[:12, :24] = 5
    bp.copy(labels, tmp_path / "labels.zarr", chunks=(4, 4))
    result = bp.check(tmp_path / "labels.zarr")
    assert result
    assert (result.counts["right"], result.counts["empty"]) == (18, 46)

    # A region that ends with its chunks, in an array of which most is stored.
    region = np.zeros((32, 32), "uint16")
    region[:28, :28] = 7
    bp.copy(region, tmp_path / "region.zarr", chunks=(4, 4))
    assert not bp.check(tmp_path / "region.zarr").findings
    bp.copy(region[:, :28], tmp_path / "slices.zarr", chunks=(1, 28))
    for n in (11, 12):
        (tmp_path / "slices.zarr" / "c" / str(n) / "0").unlink()
    assert {one.chunk for one in bp.check(tmp_path / "slices.zarr").findings} == {(11, 0), (12, 0)}

    # Half of what is beside the hole is fill value: it may be one of these chunks, or be lost.
    labels[:] = np.indices(labels.shape)[1] % 2
    bp.copy(labels, tmp_path / "stripes.zarr", chunks=(4, 4))
    (tmp_path / "stripes.zarr" / "c" / "3" / "4").unlink()
    result = bp.check(tmp_path / "stripes.zarr")
    assert result
    assert [(one.kind, one.chunk) for one in result.findings] == [("not stored", (3, 4))]
    assert "or lost" in str(result)
    result = bp.repair(tmp_path / "stripes.zarr", labels)
    assert result
    assert not result.findings
    assert (tmp_path / "stripes.zarr" / "c" / "3" / "4").exists()


def test_a_level_of_which_nothing_is_stored(originals: dict[str, Stored], tmp_path: Path) -> None:
    for level, kind in (("0", "missing"), ("1", "not stored")):
        stored = copied(originals["v3"], tmp_path / level)
        shutil.rmtree(stored.path / level / "c")
        result = bp.check(stored.path)
        assert [(one.kind, one.array) for one in result.findings] == [(kind, level)]
        assert result.counts[kind] == (18 if level == "0" else 4)
        result = bp.repair(stored.path, originals["v3"].path)
        assert not result.findings
        assert bp.verify(stored.path, originals["v3"].path)


def test_a_sample_is_always_the_same(originals: dict[str, Stored], tmp_path: Path) -> None:
    stored = copied(originals["v3"], tmp_path)
    files = sorted(stored.array.glob("c/*/*/*"))
    for file in files:
        file.write_bytes(b"")
    seen = [bp.check(stored.path, sample=share) for share in ("20%", 0.2)]
    assert seen[0] == seen[1]
    assert seen[0].counts["corrupt"] == 4
    assert (seen[0].counts["not looked at"], seen[0].share) == (17, 0.2)
    assert "20 %" in str(seen[0])


def test_metadata_around_arrays(originals: dict[str, Stored], tmp_path: Path) -> None:
    """A well of a plate, a label, and a chunk of a size that no memory holds."""
    plate = tmp_path / "plate.zarr"
    group = {"zarr_format": 3, "node_type": "group"}
    wells = {"plate": {"wells": [{"path": "A/1"}, {"path": "B/2"}]}, "version": "0.5"}
    for name, ome in (
        ("", wells),
        ("A", {}),
        ("A/1", {"well": {"images": [{"path": "0"}]}}),
        ("A/1/0/labels", {"labels": ["cells"]}),
    ):
        if name == "A/1/0/labels":
            shutil.copytree(originals["v3"].path, plate / "A/1/0")
        (plate / name).mkdir(parents=True, exist_ok=True)
        (plate / name / "zarr.json").write_text(json.dumps({**group, "attributes": {"ome": ome}}))
    result = bp.check(plate)
    assert {(one.kind, one.array) for one in result.findings} == {
        ("missing", "B/2"),
        ("missing", "A/1/0/labels/cells"),
    }
    assert result.counts["right"] == 22
    with pytest.raises(InvalidArgumentError, match="memory_limit"):
        bp.check(plate, memory_limit=1000)


def test_a_source_of_other_voxels_is_refused(
    originals: dict[str, Stored], tmp_path: Path, voxels: np.ndarray
) -> None:
    stored = copied(originals["v2"], tmp_path)
    flipped(stored, voxels)
    before = times(stored.path)
    other = voxels.copy()
    other[-1, -1, -1] += 1
    bp.copy(other, tmp_path / "other.n5/raw")
    for source, said in (
        (voxels[:8], "shape"),
        (voxels.astype("int32"), "int32"),
        (other, r"voxel \(15, 23, 23\)"),
        (tmp_path / "other.n5", "raw"),
        (stored.path, "another source"),
    ):
        with pytest.raises(InvalidArgumentError, match=said):
            bp.repair(stored.path, source)
    with pytest.raises(SourceNotFoundError):
        bp.repair(stored.path, tmp_path / "nothing.tif")
    assert times(stored.path) == before
    with bp.open_source(bp.copy(voxels, tmp_path / "right.zarr").path) as source:
        assert bp.repair(stored.path, source)
        assert source[0, 0, 0] == voxels[0, 0, 0]  # still open


@pytest.mark.parametrize("name", ["a.zarr", "a.n5"])
def test_a_digest_leaves_no_doubt(name: str, tmp_path: Path) -> None:
    """Swapped chunks, a bit of a chunk without a checksum, a chunk that is all fill value and one that is lost."""
    voxels = np.random.default_rng(3).integers(0, 3, (64, 128, 192)).astype("uint8")
    voxels[:, :64, :64] = 0
    path = tmp_path / name
    bp.copy(voxels, path, chunks=(64, 64, 64), codec="none", digest=True)
    assert bp.check(path, num_workers=2)
    files = {
        (0, y, x): path / ("/".join(map(str, (x, y, 0))) if name == "a.n5" else f"c/0/{y}/{x}")
        for y in (0, 1)
        for x in range(3)
    }
    assert not files[0, 0, 0].exists()
    files[0, 0, 1].unlink()
    files[0, 1, 0].rename(path / "aside")
    files[0, 1, 1].rename(files[0, 1, 0])
    (path / "aside").rename(files[0, 1, 1])
    data = bytearray(files[0, 1, 2].read_bytes())
    data[len(data) // 2] ^= 1
    files[0, 1, 2].write_bytes(data)
    result = bp.check(path)
    assert {(one.kind, one.chunk) for one in result.findings} == {
        ("missing", (0, 0, 1)), ("corrupt", (0, 1, 0)), ("corrupt", (0, 1, 1)), ("corrupt", (0, 1, 2)),
    }  # fmt: skip
    assert "digest" in str(result)
    other = voxels.copy()
    other[0, 64, 64] += 1  # in a chunk that is damaged
    with pytest.raises(InvalidArgumentError, match="digest"):
        bp.repair(path, other)
    before = times(path)
    assert bp.repair(path, voxels)
    assert (
        times(path)[files[0, 0, 2].relative_to(path).as_posix()]
        == before[files[0, 0, 2].relative_to(path).as_posix()]
    )
    assert bp.verify(path)  # the digest is still there


def test_repairing_other_formats(tmp_path: Path, voxels: np.ndarray) -> None:
    bp.copy(voxels, tmp_path / "a.h5:/x/raw", chunks=CHUNKS, codec="gzip:1")
    with h5py.File(tmp_path / "a.h5") as file:
        place = file["x/raw"].id.get_chunk_info(4)
    with (tmp_path / "a.h5").open("r+b") as opened:
        opened.seek(place.byte_offset + place.size // 2)
        opened.write(b"damage")
    tifffile.imwrite(tmp_path / "a.tif", voxels, compression="zlib")
    for path in (tmp_path / "a.h5", tmp_path / "a.h5:/x/raw"):
        assert [(one.kind, one.chunk) for one in bp.check(path).findings] == [("corrupt", (0, 1, 1))]
    result = bp.repair(tmp_path / "a.h5", tmp_path / "a.tif")
    assert result, str(result)
    assert bp.verify(tmp_path / "a.h5:/x/raw", voxels)

    volume = tmp_path / "a.precomputed"
    bp.copy(voxels, volume, chunks=CHUNKS)
    shutil.copy(volume / "s0" / "0-8_0-8_0-8", volume / "s0" / "0-8_0-8_0-9")
    (volume / "s0" / "8-16_8-16_8-16").unlink()
    (volume / "s0" / "8-16_8-16_0-8").write_bytes(b"short")
    found = {(one.kind, one.chunk) for one in bp.check(volume).findings}
    assert found == {("missing", (1, 1, 1)), ("corrupt", (0, 1, 1)), ("foreign", None)}
    assert [one.kind for one in bp.repair(volume, voxels).findings] == ["foreign"]
    assert bp.verify(volume, voxels)

    with (tmp_path / "a.tif").open("r+b") as opened:
        opened.seek(5000)
        opened.write(b"damage")
    assert bp.check(tmp_path / "a.tif").counts["corrupt"] == 1
    with pytest.raises(BioimagePyError, match="TIFF"):
        bp.repair(tmp_path / "a.tif", voxels)


def test_in_a_bucket(originals: dict[str, Stored]) -> None:
    stored = originals["shards"]
    with s3_lab():
        bucket = StoreFolder.at("s3://lab/check.ome.zarr")
        for file in (file for file in stored.path.rglob("*") if file.is_file()):
            name, data = file.relative_to(stored.path).as_posix(), file.read_bytes()
            if name != "0/c/0/0/0":
                bucket.write(name, data[:-3] if name == "0/c/0/2/1" else data)
        bucket.write("0/c/7/0/0", b"foreign")
        result = bp.check(bucket.path, num_workers=4)
        repaired = bp.repair(bucket.path, stored.path, num_workers=4)
        assert bp.verify(bucket.path, stored.path)
    assert [one.kind for one in repaired.findings] == ["foreign"]
    assert {(one.kind, one.array, one.chunk) for one in result.findings} == {
        ("corrupt", "0", (0, 2, 2)),
        ("missing", "0", (0, 0, 0)),
        ("foreign", "0", None),
    }


def test_bad_input(tmp_path: Path) -> None:
    (tmp_path / "a folder").mkdir()
    (tmp_path / "a folder" / "letter.txt").write_text("dear")
    (tmp_path / "letter.txt").write_text("dear")
    for path, error in (
        ("nothing.zarr", SourceNotFoundError),
        ("a folder", UnsupportedFormatError),
        ("letter.txt", UnsupportedFormatError),
    ):
        with pytest.raises(error, match=path):
            bp.check(tmp_path / path)
    for sample in (0, 2, "half", "0%", True):
        with pytest.raises(InvalidArgumentError, match="share"):
            bp.check(tmp_path, sample=sample)


def test_command(originals: dict[str, Stored], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stored = copied(originals["v3"], tmp_path)
    assert main(["check", str(stored.path), "--sample", "50%"]) == 0
    assert "nothing wrong" in capsys.readouterr().out
    stored.chunk.unlink()
    assert main(["check", str(stored.path), "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["findings"][0]["chunk"] == list(AT)
    assert document["counts"]["missing"] == 1
    assert main(["check", str(tmp_path / "nothing.zarr")]) == 2
    assert main(["repair", str(stored.path), str(originals["v3"].path)]) == 0
    assert "1 problem" in capsys.readouterr().out
    assert main(["repair", str(stored.path), str(tmp_path / "nothing.tif")]) == 2
