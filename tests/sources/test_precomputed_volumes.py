"""Precomputed volumes as connectomics has them: shards, scales, encodings, offsets, chunks of zeros; read and written by CloudVolume."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tensorstore as ts

import bioimage_py as bp
from bioimage_py.cli import main
from bioimage_py.errors import BioimagePyWarning, InvalidArgumentError, ReadOnlyError, RunnerError
from tests.sources.contract import textured
from tests.sources.test_precomputed import make_with_tensorstore

LABELS = (textured((70, 90, 110), "uint64") // 97) % 7
IMAGE = (textured((70, 90, 110), "uint16") % 251).astype("uint8")
META: dict[str, Any] = {"axes": "zyx", "voxel_size": (40, 8, 8), "units": "nm"}
SEGMENTATION = {"name": "compressed_segmentation", "block_size": (4, 8, 8)}
STEPS = [(1, 2, 2), (2, 2, 2)]
PYTHON = os.environ.get("BIOIMAGE_PY_CLOUD_VOLUME_PYTHON", sys.executable)


def scales(path: Path) -> list[dict[str, Any]]:
    return list(json.loads((path / "info").read_text())["scales"])


def equal_levels(volume: Path, others: Sequence[Any]) -> bool:
    keys = [scale["key"] for scale in scales(volume)]
    assert len(keys) == len(others)
    return all(
        bool(bp.verify(bp.open_source(volume, key), other)) for key, other in zip(keys, others, strict=True)
    )


def stored_chunks(path: Path) -> int:
    scale = scales(path)[0]
    if "sharding" not in scale:
        return len(list((path / "s0").iterdir()))
    base = f"file://{path}/s0/"
    spec = {"driver": "neuroglancer_uint64_sharded", "base": base, "metadata": scale["sharding"]}
    return len(ts.KvStore.open(spec).result().list().result())


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An OME-Zarr with three levels."""
    path = tmp_path_factory.mktemp("image") / "image.ome.zarr"
    bp.pyramid(IMAGE, path, chunks=(16, 32, 32), scale_factors=STEPS, **META)
    return path


def levels_of(image: Path) -> list[Any]:
    return [bp.open_source(image, key) for key in ("0", "1", "2")]


@pytest.mark.parametrize("shape", [(70, 90, 110), (10, 90, 300), (64, 16, 16), (129, 17, 33)])
def test_shards_are_boxes_in_morton_order(tmp_path: Path, shape: tuple[int, ...]) -> None:
    grid = [-(-n // 16) for n in shape]
    made = [(1, 1, 1)]
    for bit in range(8):
        for axis in (2, 1, 0):
            if grid[axis] > 2**bit:
                made.append(tuple(n * (1 + (d == axis)) for d, n in enumerate(made[-1])))
    for number, box in enumerate(made):
        shards = tuple(16 * n for n in box)
        source = bp.create_output(
            tmp_path / f"{number}.precomputed", shape=shape, dtype="uint8", chunks=(16,) * 3, shards=shards
        )
        # That is what TensorStore makes of the numbers of bits.
        whole = tuple(-(-n // 16) * 16 for n in shape)
        assert (source.shards or source.chunks) == tuple(map(min, shards, whole))
        sharding = scales(tmp_path / f"{number}.precomputed")[0]["sharding"]
        bits = [sharding[name] for name in ("preshift_bits", "minishard_bits", "shard_bits")]
        assert (sum(bits[:2]), sum(bits)) == (number, len(made) - 1)
    for shards in ((16, 32, 16), (32, 16, 16), (48, 48, 48)):
        if shards not in {tuple(16 * n for n in box) for box in made} and min(grid) > 3:
            with pytest.raises(InvalidArgumentError, match=r"Morton order.*for example shards="):
                bp.create_output(
                    tmp_path / "x.precomputed", shape=shape, dtype="uint8", chunks=(16,) * 3, shards=shards
                )
            assert not (tmp_path / "x.precomputed").exists()


@pytest.mark.parametrize("job_type", ["local", "subprocess"])
def test_shards_have_one_writer_each(tmp_path: Path, job_type: Any) -> None:
    bp.copy(LABELS, tmp_path / "in.zarr", chunks=(7, 90, 110), **META)
    out = tmp_path / "out.precomputed"
    how: dict[str, Any] = {"codec": SEGMENTATION, "chunks": (16, 16, 16), "shards": (32, 32, 64)}
    plan = bp.plan(tmp_path / "in.zarr", out, block_shape=(16, 16, 16), **how)
    assert plan.group_shape == (32, 32, 64)
    made = bp.copy(tmp_path / "in.zarr", out, job_type=job_type, num_workers=2, digest=True, **how)
    np.testing.assert_array_equal(made[...], LABELS)
    assert len(list((out / "s0").iterdir())) == 3 * 3 * 2
    assert made.codec == "compressed_segmentation+gzip"
    assert bp.verify(out)
    assert not bp.check(out).findings
    again = bp.copy(out, tmp_path / "again.precomputed")
    assert (again.shards, again.described) == (made.shards, made.described)


def test_all_chunks_of_a_shard_that_is_no_box_have_one_writer(tmp_path: Path) -> None:
    bp.create_output(
        tmp_path / "a.precomputed", shape=IMAGE.shape, dtype="uint8", chunks=(16,) * 3, shards=(32,) * 3
    )
    info = json.loads((tmp_path / "a.precomputed/info").read_text())
    info["scales"][0]["sharding"]["hash"] = "murmurhash3_x86_128"
    (tmp_path / "a.precomputed/info").write_text(json.dumps(info))
    with bp.open_source(tmp_path / "a.precomputed", mode="r+") as sink:
        assert bp.plan(IMAGE, sink, num_workers=2).group_shape >= IMAGE.shape
        bp.copy(IMAGE, sink, num_workers=2)
        np.testing.assert_array_equal(sink[...], IMAGE)
    assert bp.copy(tmp_path / "a.precomputed", tmp_path / "b.precomputed").shards is None


def test_pyramid_makes_scales(tmp_path: Path, image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.precomputed"
    how: dict[str, Any] = {"chunks": (16, 16, 16), "shards": (16, 32, 32), "scale_factors": STEPS}
    made = bp.pyramid(image, out, num_workers=2, **how)
    assert equal_levels(out, levels_of(image))
    assert [level.shards for level in made] == [(16, 32, 32)] * 3
    for level, other in zip(made, levels_of(image), strict=True):
        found = bp.open_source(out, level.key)
        assert found.metadata.voxel_size == other.metadata.voxel_size
        assert (found.metadata.origin or (0, 0, 0)) == (other.metadata.origin or (0, 0, 0))
    assert [one["resolution"] for one in scales(out)] == [[8, 8, 40], [16, 16, 40], [32, 32, 80]]
    assert [one["voxel_offset"] for one in scales(out)] == [[0, 0, 0]] * 3
    assert not (out / ".bioimage-py").exists()
    capsys.readouterr()
    assert main(["info", str(out)]) == 0
    said = capsys.readouterr().out
    assert "0  70 × 90 × 110" in said
    assert "2  35 × 23 × 28" in said


def test_labels_are_a_segmentation_with_most_frequent_labels(tmp_path: Path) -> None:
    labels = LABELS.astype("uint32")
    how: dict[str, Any] = {"chunks": (32, 32, 32), "scale_factors": STEPS}
    first = bp.pyramid(labels, tmp_path / "a.precomputed", kind="labels", codec=SEGMENTATION, **how, **META)
    assert json.loads((tmp_path / "a.precomputed/info").read_text())["type"] == "segmentation"
    # Which the second one believes, and assumes nothing.
    second = bp.pyramid(tmp_path / "a.precomputed", tmp_path / "b.precomputed", **how)
    assert equal_levels(tmp_path / "b.precomputed", first)
    assert second[1].described == first[1].described


def test_copies_take_the_levels_with_them(tmp_path: Path, image: Path) -> None:
    out = tmp_path / "out.precomputed"
    assert main(["copy", str(image), str(out), "--codec", "png:4", "--digest", "--skip-zeros"]) == 0
    assert equal_levels(out, levels_of(image))
    assert {one["encoding"] for one in scales(out)} == {"png"}
    corner = max(
        (out / "s0").iterdir(), key=lambda file: [int(n) for n in file.name.replace("_", "-").split("-")]
    )
    begin = tuple(int(part.split("-")[0]) for part in corner.name.split("_"))[::-1]
    last = IMAGE[tuple(slice(n, None) for n in begin)]
    np.testing.assert_array_equal(imagecodecs.png_decode(corner.read_bytes()).reshape(last.shape), last)
    assert all(bp.verify(bp.open_source(out, one["key"])) for one in scales(out))
    bp.copy(out, tmp_path / "again.precomputed", job_type="subprocess", num_workers=2)
    assert equal_levels(tmp_path / "again.precomputed", levels_of(image))
    with pytest.warns(BioimagePyWarning, match="smaller levels of .* are left out"):
        bp.copy(out, tmp_path / "one.precomputed", update=True)
    assert len(scales(tmp_path / "one.precomputed")) == 1
    bp.copy(255 - IMAGE, tmp_path / "other.zarr")
    with pytest.warns(BioimagePyWarning, match=r"was updated, and the smaller levels .* were not"):
        bp.copy(tmp_path / "other.zarr", tmp_path / "again.precomputed", update="content")


@pytest.mark.parametrize("how", ["by itself", "from a folder", "in two passes"])
def test_a_copy_of_levels_goes_on_where_it_failed(tmp_path: Path, how: str) -> None:
    path, out = tmp_path / "in.ome.zarr", tmp_path / "out.precomputed"
    call: dict[str, Any] = {"num_workers": 2, "chunks": (16, 16, 16)}
    image, chunks, level = IMAGE, (16, 32, 32), "1"
    if how == "from a folder":
        call["job_config"] = bp.RunnerConfig(tmp_root=tmp_path / "runs")
    elif how == "in two passes":
        image, chunks, level = np.tile(IMAGE, (1, 3, 3)), (1, 270, 330), "0"
        call["memory_limit"] = "1MB"
    bp.pyramid(image, path, chunks=chunks, scale_factors=STEPS, **META)
    planned = bp.plan(path, out, **call)
    assert [one.shared.passes is not None for one in planned.arrays] == [how == "in two passes", False, False]
    chunk = path / level / "c/0/0/0"
    whole, times = chunk.read_bytes(), chunk.stat()
    chunk.write_bytes(whole[:-4] + b"oops")
    with pytest.raises(RunnerError) as raised:
        bp.copy(path, out, **call)
    with pytest.warns(BioimagePyWarning, match="not finished"):
        bp.open_source(out, "s2").close()
    chunk.write_bytes(whole)
    os.utime(chunk, ns=(times.st_atime_ns, times.st_mtime_ns))
    if how == "from a folder":
        call["resume_from"] = raised.value.tmp_folder
    bp.copy(path, out, **call)
    assert equal_levels(out, levels_of(path))
    assert sorted(one.name for one in out.iterdir()) == ["info", "s0", "s1", "s2"]
    assert sorted(one.name for one in tmp_path.iterdir() if "temporary" in one.name) == []


def test_offsets_of_scales(tmp_path: Path) -> None:
    """A place between the voxels of a smaller scale is rounded, and told."""
    make_with_tensorstore(IMAGE[:6, :9, :12], tmp_path / "in.precomputed")  # at 100, -3, 5
    out = tmp_path / "out.precomputed"
    with pytest.warns(BioimagePyWarning, match="the exact place of scale s1"):
        made = bp.pyramid(tmp_path / "in.precomputed", out, scale_factors=[(2, 2, 2)])
    np.testing.assert_array_equal(made[0][...], IMAGE[:6, :9, :12])
    assert [one["voxel_offset"] for one in scales(out)] == [[5, -3, 100], [2, -2, 50]]
    assert bp.open_source(out, "s1").metadata.origin == (4020.0, -14.0, 18.0)


@pytest.mark.parametrize("skip_zeros", [None, True])
@pytest.mark.parametrize("shards", [None, (32, 32, 64)])
def test_chunks_of_zeros(tmp_path: Path, shards: Any, skip_zeros: bool | None) -> None:
    array = np.zeros((64, 64, 64), "uint8")
    array[40, 40, 40] = 1
    out = tmp_path / "out.precomputed"
    made = bp.copy(array, out, chunks=(32,) * 3, shards=shards, skip_zeros=skip_zeros, num_workers=2)
    assert stored_chunks(out) == (1 if skip_zeros else 8)
    again = bp.open_source(out, mode="r+")
    np.testing.assert_array_equal(again[...], array)
    assert not bp.check(out).findings
    for region in (np.s_[32:34, 31:33, :], np.s_[32:, 32:, 32:], np.s_[...]):
        again[region], array[region] = 3, 3
        np.testing.assert_array_equal(made[...], array)
        again[region], array[region] = 0, 0  # which TensorStore does not do to a shard
        np.testing.assert_array_equal(made[...], array)
    assert stored_chunks(out) == (0 if skip_zeros else 8)
    with pytest.raises(InvalidArgumentError, match="skip_zeros is for precomputed"):
        bp.copy(array, tmp_path / "a.zarr", skip_zeros=True)


def test_a_chunk_holds_all_channels(tmp_path: Path) -> None:
    channels = np.stack([IMAGE, IMAGE[::-1], IMAGE[:, ::-1]])
    plan = bp.plan(channels, tmp_path / "a.precomputed", chunks=(1, 16, 16, 16))
    assert plan.output.chunks == (3, 16, 16, 16)
    made = bp.copy(
        channels, tmp_path / "a.precomputed", num_workers=2, chunks=(1, 16, 16, 16), shards=(1, 16, 32, 32)
    )
    assert (made.chunks, made.shards) == ((3, 16, 16, 16), (3, 16, 32, 32))
    np.testing.assert_array_equal(made[...], channels)


def test_jpeg_says_that_it_changes_voxels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    smooth = np.linspace(0, 250, 32**3).reshape(32, 32, 32).astype("uint8")
    bp.copy(smooth, tmp_path / "in.zarr", chunks=(32, 32, 32))
    out = tmp_path / "out.precomputed"
    plan = bp.plan(tmp_path / "in.zarr", out, codec="jpeg:95", digest=True)
    assert "the codec jpeg may change voxels" in str(plan)
    assert "read once more" in str(plan)
    made = bp.copy(tmp_path / "in.zarr", out, codec="jpeg:95", digest=True)
    assert scales(out)[0]["jpeg_quality"] == 95
    assert np.abs(made[...].astype(int) - smooth).max() < 9
    assert bp.verify(out)
    assert main(
        ["copy", str(tmp_path / "in.zarr"), str(tmp_path / "b.precomputed"), "--codec", "jpeg", "--verify"]
    )
    assert "compares voxels, and this codec changes them" in capsys.readouterr().err


def test_chunks_that_an_encoding_cannot_hold(tmp_path: Path) -> None:
    big: dict[str, Any] = {"shape": (256,) * 3, "chunks": (256,) * 3}
    for how, words in (
        ({"dtype": "uint16", "codec": "jpeg"}, "only supported for uint8"),
        ({"dtype": "float32", "codec": "compressed_segmentation"}, "uint32 and uint64"),
        ({"dtype": "uint8", "codec": "jpeg", **big}, "a JPEG of 256 x 65536 pixels"),
        ({"dtype": "uint64", "codec": "compressed_segmentation", **big}, "more labels .*smaller chunks"),
    ):
        with pytest.raises(InvalidArgumentError, match=words):
            bp.create_output(tmp_path / "a.precomputed", **{"shape": (64, 64, 64), **how})
    bp.create_output(tmp_path / "a.precomputed", dtype="uint64", **big)
    info = (tmp_path / "a.precomputed/info").read_text()
    encoding = '"encoding": "compressed_segmentation", "compressed_segmentation_block_size": [8, 8, 8]'
    assert '"encoding": "raw"' in info
    (tmp_path / "a.precomputed/info").write_text(info.replace('"encoding": "raw"', encoding))
    assert not bp.open_source(tmp_path / "a.precomputed")[:2, :2, :2].any()
    with pytest.raises(ReadOnlyError, match="more labels"):
        bp.open_source(tmp_path / "a.precomputed", mode="r+")


CLOUD_VOLUME = """
import sys
import numpy as np
from cloudvolume import CloudVolume

for name, mip in (one.split("@") for one in sys.argv[1:]):
    volume = CloudVolume(f"file://{name}", mip=int(mip), progress=False)
    assert volume.layer_type == ("segmentation" if "labels" in name else "image")
    np.save(f"{name}.{mip}.npy", np.asarray(volume[:])[..., 0].T)
labels = np.load(f"{name}.{mip}.npy").T
info = CloudVolume.create_new_info(
    1, "segmentation", "uint64", "compressed_segmentation", [8, 8, 40], [3, -5, 7], labels.shape, chunk_size=[32, 32, 32]
)
made = CloudVolume(f"file://{name}.theirs", info=info, progress=False)
made.commit_info()
made[:] = labels
"""


def test_cloud_volume_reads_and_writes_the_same(tmp_path: Path, image: Path) -> None:
    """In a process of its own: it imports gevent."""
    there = "import importlib.util, sys; sys.exit(importlib.util.find_spec('cloudvolume') is None)"
    found = subprocess.run([PYTHON, "-c", there], capture_output=True, timeout=300, check=False)
    if found.returncode:
        pytest.skip(
            "CloudVolume is not installed; BIOIMAGE_PY_CLOUD_VOLUME_PYTHON names a Python that has it"
        )
    grids: dict[str, Any] = {"chunks": (16, 16, 16), "shards": (16, 32, 32), "scale_factors": STEPS}
    names = {"raw.precomputed": None, "jpeg.precomputed": "jpeg"}  # its png takes one more package
    for name, codec in names.items():
        bp.pyramid(image, tmp_path / name, codec=codec, num_workers=2, **grids)
    labels = LABELS.copy()
    labels[:32, :48] = 0  # chunks and shards of zeros, which it misses where they are not stored
    bp.pyramid(labels, tmp_path / "labels.precomputed", codec=SEGMENTATION, kind="labels", **grids, **META)
    asked = [f"{tmp_path / name}@{mip}" for name in (*names, "labels.precomputed") for mip in (2, 0)]
    subprocess.run([PYTHON, "-c", CLOUD_VOLUME, *asked], check=True, timeout=300, cwd=tmp_path)
    for one in asked:
        name, _, mip = one.rpartition("@")
        np.testing.assert_array_equal(np.load(f"{name}.{mip}.npy"), bp.open_source(name, f"s{mip}")[...])
    theirs = bp.open_source(tmp_path / "labels.precomputed.theirs")
    np.testing.assert_array_equal(theirs[...], labels)
    assert theirs.metadata.origin == (280.0, -40.0, 24.0)
