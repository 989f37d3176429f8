"""Digests: one hash for the voxels, however they are stored; what is kept beside an array, and when it goes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings, strategies as st

import bioimage_py as bp
from bioimage_py.cli import main
from bioimage_py.errors import (
    BioimagePyWarning,
    InvalidArgumentError,
    RunnerError,
    StorageError,
    UnsupportedFormatError,
)
from bioimage_py.geometry import Box
from bioimage_py.kernels import TileDigest, TileKernel
from bioimage_py.operations import RunOptions, digest_of
from bioimage_py.sources import as_source
from tests.counting import CountingSource

PAGE = (Path(__file__).parents[1] / "docs/digest.md").read_text(encoding="utf-8")
SHAPE = (70, 65, 130)


def independent() -> Any:
    """Return the function of the page, which knows numpy and blake3 only."""
    code = next(text for text in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "blake3" in text)
    definitions = code.rpartition("\n\n\n")[0]
    assert len(definitions.splitlines()) <= 45
    assert "bioimage" not in definitions
    scope: dict[str, Any] = {}
    exec(definitions, scope)
    return scope["independent_digest"]


def v(dtype: str, *shape: int) -> np.ndarray:
    return (np.arange(np.prod(shape, dtype=int)) % 251).astype(dtype).reshape(shape)


def test_the_vectors_of_the_page() -> None:
    reference, vectors = independent(), re.findall(r"^\| `(.+?)` \| `(b3t1:\w{64})` \|$", PAGE, re.MULTILINE)
    assert len(vectors) >= 9
    for expression, expected in vectors:
        array = eval(expression, {"v": v, "numpy": np})
        assert (bp.digest(array), reference(array)) == (expected, expected)


@settings(max_examples=15)
@given(st.data())
def test_it_is_that_of_the_page_for_any_array(data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from(["?", "<u2", ">u2", ">f4", "<f2", ">c8", "i8"]))
    shape = tuple(data.draw(st.lists(st.sampled_from([0, 1, 2, 63, 64, 65, 130]), max_size=3)))
    shape = (data.draw(st.integers(1, 3)),) * data.draw(st.integers(0, 1)) + shape
    values = np.random.default_rng(0).integers(0, 256, int(np.prod(shape)) * np.dtype(dtype).itemsize, "u1")
    array = (values % 2 if dtype == "?" else values).view(dtype).reshape(shape)
    array = np.asfortranarray(array) if data.draw(st.booleans()) else array
    assert bp.digest(array, num_workers=data.draw(st.integers(1, 2))) == independent()(array)


def test_every_format_has_the_same_one_and_one_voxel_changes_it(tmp_path: Path) -> None:
    image = np.random.default_rng(1).integers(0, 4000, SHAPE, "u2")
    expected = bp.digest(image)
    np.save(tmp_path / "a.npy", image.astype(">u2"))
    tifffile.imwrite(tmp_path / "a.tif", image, tile=(32, 48), compression="zlib")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", data=image.astype(">u2"), chunks=(7, 30, 50), compression="gzip")
    bp.copy(image, tmp_path / "a2.zarr", chunks=(16, 65, 33), zarr_format=2)
    bp.copy(image, tmp_path / "a3.zarr", chunks=(32, 32, 32), codec="zstd")
    bp.copy(image, tmp_path / "as.zarr", chunks=(8, 32, 32), shards=(64, 32, 64))
    bp.copy(image, tmp_path / "a.n5/x", chunks=(20, 20, 20))
    for path in sorted(tmp_path.iterdir()):
        assert bp.digest(path, num_workers=2, memory_limit="8MiB") == expected, path.name
    image[69, 64, 129] += 1
    assert bp.digest(image) != expected
    assert bp.digest(image.astype("i4")) != bp.digest(image)


def test_what_is_not_stored_is_not_read(tmp_path: Path) -> None:
    sparse = bp.create_output(
        tmp_path / "a.zarr", shape=(256, 256, 256), dtype="u2", chunks=(64, 64, 64), fill_value=7
    )
    sparse[64:128, 0:64, 10:20] = 3
    counted = CountingSource(sparse)
    full = np.full((256, 256, 256), 7, "u2")
    full[64:128, 0:64, 10:20] = 3
    assert bp.digest(sparse) == bp.digest(full) == bp.digest(counted)
    areas = [box for box, values in TileKernel(sparse)._areas(Box.whole(sparse.shape)) if any(values.strides)]
    assert areas == [Box((64, 0, 0), (128, 64, 64))]


def test_memory_limits_and_types_without_a_digest_are_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="larger memory limit"):
        bp.digest(np.zeros((2, 2, 2)), memory_limit=16)
    with pytest.raises(UnsupportedFormatError, match="no digest of"):
        bp.digest(np.zeros(3, np.longdouble))


def test_a_digest_that_is_kept_proves_the_array_until_it_is_written(tmp_path: Path) -> None:
    image = np.random.default_rng(1).integers(0, 4000, SHAPE, "u2")
    with pytest.raises(InvalidArgumentError, match="no digest is kept"):
        bp.verify(image)
    for name in ("a.zarr", "a.npy", "a.h5:/x", "a.precomputed"):
        with bp.copy(image, tmp_path / name) as stored:
            kept = TileDigest.stored(as_source(stored))
            assert kept is None
            made = _digest(image)
            made.store(stored)
            assert TileDigest.stored(stored) == made
            assert bp.verify(tmp_path / name, num_workers=2)
            assert bp.verify(tmp_path / name, image, by_digest=True)
            stored[69, 64, 129] = 0xFFFF
            assert TileDigest.stored(stored) is None
            made.store(stored)
        found = bp.verify(tmp_path / name)
        assert (found.equal, found.different, found.first_difference) == (False, 1, (64, 64, 128))
        assert str(found) == "different: 1 of 12 tiles (8.33 %), the first at (64, 64, 128)"
        bp.copy(image, tmp_path / name, overwrite=True).close()
        with pytest.raises(InvalidArgumentError, match="no digest is kept"):
            bp.verify(tmp_path / name)


def _digest(image: np.ndarray) -> TileDigest:
    return digest_of(as_source(image), RunOptions())


ROADS: list[tuple[str, dict[str, Any]]] = [
    ("verbatim", {}),
    ("repack", {"shards": (64, 96, 64)}),
    ("recode", {"codec": "gzip:1"}),
    ("recode", {"chunks": (10, 65, 7)}),
    ("recode", {"dtype": "f4"}),
    ("recode", {"block_shape": (32, 32, 32), "codec": "gzip:1"}),
]


@pytest.mark.parametrize(("road", "options"), ROADS)
def test_a_copy_on_any_road_keeps_the_digest_of_what_it_writes(
    road: str, options: dict[str, Any], tmp_path: Path
) -> None:
    image = np.random.default_rng(1).integers(0, 4000, SHAPE, "u2")
    image[:, :, 64:] = 0  # chunks that are not stored
    bp.copy(image, tmp_path / "a.zarr", chunks=(32, 32, 32), fill_value=0)
    expected = bp.digest(image.astype(options.get("dtype", "u2")))
    plan = bp.plan(tmp_path / "a.zarr", tmp_path / "b.zarr", digest=True, **options)
    assert plan.road == road
    assert (plan.digest == "while written") == ("block_shape" not in options)
    for workers in (1, 2):
        output = bp.copy(
            tmp_path / "a.zarr",
            tmp_path / "b.zarr",
            digest=True,
            overwrite=True,
            num_workers=workers,
            **options,
        )
        assert TileDigest.stored(output) is not None
        assert TileDigest.kept_root(output) == expected
        assert bp.verify(output)
    layout = {name: value for name, value in options.items() if name == "block_shape"}
    bp.copy(tmp_path / "a.zarr", output, **layout)
    assert TileDigest.stored(output) is None


@pytest.mark.parametrize("options", [{}, {"codec": "gzip:1"}])
def test_a_run_that_is_resumed_keeps_the_hashes_of_what_was_written_before(
    options: dict[str, Any], tmp_path: Path
) -> None:
    image = np.random.default_rng(1).integers(0, 4000, (256, 64, 64), "u2")
    source, output = tmp_path / "a.zarr", tmp_path / "b.zarr"
    bp.copy(image, source, chunks=(64, 64, 64))
    chunk = source / "c/3/0/0"
    whole = chunk.read_bytes()
    chunk.write_bytes(b"damaged")
    with pytest.raises(RunnerError) as failed:
        bp.copy(
            source, output, digest=True, memory_limit="4MiB", job_type="subprocess", num_workers=1,
            job_config=bp.RunnerConfig(tmp_root=str(tmp_path)), **options,
        )  # fmt: skip
    assert 0 < len(failed.value.failed_block_ids) < 4
    chunk.write_bytes(whole)
    # What was done is not read again, also where it has changed since.
    with bp.open_source(output, mode="r+") as written:
        written[0, 0, 0] = image[0, 0, 0] + 1
    assert failed.value.tmp_folder is not None
    if options:
        again = {"digest": True, "memory_limit": "4MiB", "job_type": "subprocess", **options}
        bp.copy(source, output, resume_from=failed.value.tmp_folder, **again)
    else:
        bp.resume(failed.value.tmp_folder)
    assert TileDigest.kept_root(bp.open_source(output)) == bp.digest(image)
    assert bp.verify(output).first_difference == (0, 0, 0)


def test_whole_images_two_passes_and_parts_have_digests_too(tmp_path: Path) -> None:
    image = np.random.default_rng(1).integers(0, 4000, SHAPE, "u2")
    bp.pyramid(image, tmp_path / "a.ome.zarr", chunks=(64, 64, 64))
    for number, more in enumerate(({}, {"codec": "gzip:1"})):
        bp.copy(tmp_path / "a.ome.zarr", tmp_path / f"b{number}.ome.zarr", digest=True, num_workers=2, **more)
        found = bp.verify(tmp_path / f"b{number}.ome.zarr")
        assert (found.equal, found.arrays) == (True, 3)
    for output, more in (
        ([image, tmp_path / "c.ome.zarr"], {"chunks": (64, 64, 64)}),
        ([tmp_path / "c.ome.zarr"], {}),
    ):
        assert "read once more" in str(bp.pyramid_plan(*output, digest=True, overwrite=True, **more))
        bp.pyramid(*output, digest=True, overwrite=True, **more)
        assert bp.verify(tmp_path / "c.ome.zarr").arrays == 3
    with pytest.raises(InvalidArgumentError, match="beside which a digest can be kept"):
        bp.pyramid(image, tmp_path / "c.ome.tif", axes="zyx", digest=True)
    with pytest.raises(InvalidArgumentError, match="because levels are written in parts"):
        bp.pyramid(tmp_path / "b0.ome.zarr", tmp_path / "d.ome.zarr", digest=True, job_type="subprocess")
    for name in ("digest.json", "digest.tiles"):  # as of a level that pyramid() has added
        (tmp_path / "b0.ome.zarr/2/.bioimage-py" / name).unlink()
    with pytest.warns(BioimagePyWarning, match="no digest is kept for .*:2: not compared"):
        assert bp.verify(tmp_path / "b0.ome.zarr").arrays == 2
    pages = np.random.default_rng(1).integers(0, 4000, (128, 192, 192), "u2")
    bp.copy(pages, tmp_path / "pages.zarr", chunks=(1, 192, 192), codec="none")
    options = {"memory_limit": "5MiB", "chunks": (64, 64, 64), "codec": "none", "digest": True}
    plan = bp.plan(tmp_path / "pages.zarr", tmp_path / "cubes.zarr", **options)
    assert (plan.passes is None, plan.digest) == (False, "while written")
    output = bp.copy(tmp_path / "pages.zarr", tmp_path / "cubes.zarr", **options)
    assert TileDigest.kept_root(output) == bp.digest(pages)
    bp.copy(image, tmp_path / "rows.zarr", chunks=(1, 65, 130))
    with pytest.raises(InvalidArgumentError, match="one block of 64×64×64 voxels needs"):
        bp.copy(
            tmp_path / "rows.zarr", tmp_path / "y.zarr", chunks=(70, 5, 5), memory_limit="300kB", digest=True
        )
    assert not (tmp_path / "y.zarr").exists()
    mask = image > 2000
    output = bp.copy(image, tmp_path / "masked.zarr", mask=mask, digest=True)
    assert TileDigest.kept_root(output) == bp.digest(np.where(mask, image, 0).astype("u2"))
    with pytest.raises(InvalidArgumentError, match="beside which a digest can be kept"):
        bp.copy(image, digest=True)
    config = bp.RunnerConfig(tmp_root=str(tmp_path))
    with pytest.raises(InvalidArgumentError, match="because a mask leaves"):
        bp.copy(tmp_path / "masked.zarr", tmp_path / "x.zarr", mask=mask, digest=True, job_config=config)


def test_digests_that_cannot_be_trusted_are_refused(tmp_path: Path) -> None:
    stored = bp.copy(np.zeros((70, 3)), tmp_path / "a.zarr")
    _digest(np.zeros((70, 3))).store(stored)
    place = tmp_path / "a.zarr/.bioimage-py"
    told, hashes = json.loads((place / "digest.json").read_text()), (place / "digest.tiles").read_bytes()
    assert sorted(told) == ["digest", "dtype", "shape"]
    (place / "digest.tiles").write_bytes(hashes[:-1] + b"x")
    with pytest.raises(StorageError, match=r"digest\.tiles is damaged"):
        bp.verify(stored)
    (place / "digest.tiles").unlink()
    with pytest.raises(StorageError, match=r"digest\.tiles is missing"):
        bp.verify(stored)
    (place / "digest.json").write_text(json.dumps({**told, "digest": "b3t2:00"}))
    with pytest.raises(UnsupportedFormatError, match="another version, 'b3t2:00'"):
        bp.verify(stored)
    (place / "digest.json").write_text(json.dumps({"digest": told["digest"]}))
    with pytest.raises(StorageError, match=r"digest\.json is damaged"):
        bp.verify(stored)
    (place / "digest.json").write_bytes(b"torn")
    with pytest.raises(StorageError, match=r"a\.zarr is damaged: .*copy again with digest=True, or remove"):
        bp.verify(stored)
    assert TileDigest.kept_root(stored) is None


def test_axes_of_extent_1_empty_arrays_and_what_is_left_beside(tmp_path: Path) -> None:
    for name, shape in (("a.ome.tif", (2, 1, 8, 8)), ("a.zarr", (0, 4, 4))):
        path = tmp_path / name
        bp.copy(np.ones(shape, "u2"), path, digest=True).close()
        assert bp.verify(path)
        assert bp.check(path)
        bp.copy(np.ones(shape, "u2"), path, overwrite=True).close()
    assert not list(tmp_path.rglob("*.bioimage-py"))


def test_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("a.npy", np.zeros((3, 4)))
    bp.copy(np.zeros((3, 4)), "a.ome.zarr").close()
    expected = bp.digest(np.zeros((3, 4)))
    assert main(["digest", "a.npy", "a.ome.zarr"]) == 0
    assert capsys.readouterr().out == f"{expected}  a.npy\n{expected}  a.ome.zarr:0\n"
    assert main(["digest", "a.ome.zarr", "--key", "0", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"][0]["digest"] == expected
    assert main(["verify", "a.npy"]) == 2
    assert "no digest is kept" in capsys.readouterr().err
    assert main(["verify", "a.npy", "a.ome.zarr", "--by-digest", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["digests"] == [expected] * 2
    assert main(["copy", "a.npy", "b.zarr", "--digest", "-q"]) == 0
    assert main(["verify", "b.zarr"]) == 0
    assert main(["info", "b.zarr"]) == 0
    assert f"digest:     {expected}, when it was written\n" in capsys.readouterr().out
