"""Outputs of earlier copies brought up to date: what has changed is found, and nothing else is read or written."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

import bioimage_py as bp
from bioimage_py.cli import main
from bioimage_py.errors import BioimagePyWarning, InvalidArgumentError, RunnerError
from bioimage_py.wrapper import RoiSource, SimpleTransformationSource, TransposeSource

SHAPE = (40, 40, 40)
VOXELS = np.random.default_rng(16).integers(1, 99, SHAPE, dtype="u2")


def stamps(folder: Path) -> dict[Path, int]:
    found = (path for path in folder.rglob("*") if path.is_file() and ".bioimage-py" not in path.parts)
    return {path: path.stat().st_mtime_ns for path in found}


def updated(source: Any, output: Path, **options: Any) -> tuple[int, int]:
    """Update an output, check it, and return how many blocks were copied, and in how many files something changed."""
    before, seen = stamps(output), []
    bp.copy(source, output, update=True, progress=seen.append, **options)
    after = stamps(output)
    assert bp.verify(source, output)
    changed = sum(before.get(path) != after.get(path) for path in {*before, *after})
    return seen[-1].blocks_done, changed


def change(path: Path, *positions: tuple[int, ...], edge: int = 4) -> None:
    with bp.open_source(path, mode="r+") as source:
        for position in positions:
            box = tuple(slice(edge * n, edge * (n + 1)) for n in position)
            source[box] = source[box] + 1


@pytest.mark.parametrize(
    ("made", "copied"),
    [
        ({}, {}),
        ({"codec": "gzip:1"}, {"codec": "zstd:1", "chunks": (4, 4, 4)}),
        ({"zarr_format": 2}, {"zarr_format": 3, "chunks": (4, 4, 4), "shards": (8, 8, 8)}),
        ({}, {"output": "b.n5", "chunks": (4, 4, 4)}),
    ],
)
def test_of_a_thousand_chunks_those_that_changed_are_copied(
    tmp_path: Path, made: dict[str, Any], copied: dict[str, Any]
) -> None:
    source, output = tmp_path / "a.zarr", tmp_path / copied.pop("output", "b.zarr")
    bp.copy(VOXELS, source, chunks=(4, 4, 4), **made)
    bp.copy(source, output, **copied)
    assert updated(source, output) == (0, 0)
    change(source, (0, 0, 0), (5, 5, 5), (9, 0, 3))
    blocks, files = updated(source, output)
    assert blocks <= 5
    assert 3 <= files <= 5
    assert updated(source, output) == (0, 0)
    change(source, (9, 9, 9))
    assert updated(source, output)[0] == 1


def test_a_plain_copy_knows_what_is_younger(tmp_path: Path) -> None:
    """Files that were removed, replaced by older ones or by renamed folders, and written with an old time, after a copy with no stamps."""
    source, output = tmp_path / "a.zarr", tmp_path / "b.zarr"
    bp.copy(VOXELS, source, chunks=(4, 4, 4))
    bp.copy(VOXELS[::-1], tmp_path / "old.zarr", chunks=(4, 4, 4))
    bp.copy(source, output)
    chunks, old = source / "c", tmp_path / "old.zarr" / "c"
    assert not list(output.rglob("*.parts"))
    (chunks / "1/2/3").unlink()
    (old / "3/3/3").replace(chunks / "3/3/3")
    times = (chunks / "4/4/4").stat()
    shutil.copyfile(old / "4/4/4", chunks / "4/4/4")
    os.utime(chunks / "4/4/4", ns=(times.st_atime_ns, times.st_mtime_ns))
    shutil.rmtree(chunks / "6/6")
    (old / "6/6").rename(chunks / "6/6")
    shutil.rmtree(chunks / "8/1")
    blocks, _ = updated(source, output)
    assert 23 <= blocks <= 100  # folders that came as wholes
    assert updated(source, output) == (0, 0)
    shutil.rmtree(source)
    bp.copy(VOXELS, source, chunks=(4, 4, 4))
    assert updated(source, output)[1] == 1000


def test_slices_change_and_come_to_a_stack(tmp_path: Path) -> None:
    folder, output = tmp_path / "slices", tmp_path / "b.zarr"
    folder.mkdir()
    for n in range(1000):
        tifffile.imwrite(folder / f"s{n}.tif", np.full((8, 8), n, "u2"))
    source = str(folder / "*.tif")
    bp.copy(source, output, chunks=(1, 8, 8), axes="zyx")
    assert updated(source, output, axes="zyx") == (0, 0)
    for n in (3, 500, 999):
        tifffile.imwrite(folder / f"s{n}.tif", np.full((8, 8), n + 1, "u2"))
    assert updated(source, output, axes="zyx") == (3, 3)
    tifffile.imwrite(folder / "s1000.tif", np.zeros((8, 8), "u2"))
    assert updated(source, output, axes="zyx")[0] == 1
    (folder / "s1000.tif").unlink()
    with pytest.raises(InvalidArgumentError, match="an update can make one axis longer only"):
        bp.copy(source, output, update=True, axes="zyx")


@pytest.mark.parametrize("output", ["b.zarr", "b.n5", "b.ome.zarr"])
def test_a_growing_axis_makes_the_output_longer(tmp_path: Path, output: str) -> None:
    source = tmp_path / "a.zarr"
    layout: dict[str, Any] = {"zarr_format": 2} if output == "b.zarr" else {}
    bp.copy(VOXELS[:, :10], source, chunks=(4, 8, 8), axes="zyx", voxel_size=1, units="um")
    made = bp.copy(source, tmp_path / output, chunks=(8, 8, 8), **layout)
    attributes = made.metadata
    shutil.move(source, tmp_path / "old.zarr")
    bp.copy(VOXELS[:, :26], source, chunks=(4, 8, 8), axes="zyx", voxel_size=1, units="um")
    assert bp.plan(source, tmp_path / output, update=True).output.shape == (40, 26, 40)
    assert bp.open_source(tmp_path / output).shape == (40, 10, 40)
    updated(source, tmp_path / output)
    assert bp.open_source(tmp_path / output).metadata == attributes
    assert updated(source, tmp_path / output) == (0, 0)


def test_growing_that_fails_goes_on_also_when_the_input_has_grown_again(tmp_path: Path) -> None:
    source, output = tmp_path / "a.zarr", tmp_path / "b.zarr"
    bp.copy(VOXELS[:8], source, chunks=(4, 40, 40))
    bp.copy(source, output)
    for extent in (16, 24):
        with bp.open_source(source, mode="r+") as old, old.grown((extent, 40, 40)) as grown:
            grown[extent - 8 :] = VOXELS[extent - 8 : extent]
        if extent == 16:
            chunk = source / "c/3/0/0"
            good = chunk.read_bytes()
            chunk.write_bytes(b"rubbish")
            with pytest.raises(RunnerError):
                bp.copy(source, output, update=True)
            chunk.write_bytes(good)
    assert updated(source, output)[0] >= 4
    assert updated(source, output) == (0, 0)


def test_wrappers_pass_on_what_changed(tmp_path: Path) -> None:
    source, output = tmp_path / "a.zarr", tmp_path / "b.zarr"
    bp.copy(VOXELS, source, chunks=(4, 4, 4))

    def region() -> Any:
        return RoiSource(TransposeSource(bp.open_source(source), (2, 0, 1)), np.s_[8:, :, 4:30])

    bp.copy(region(), output, chunks=(4, 4, 4))
    change(source, (0, 0, 0), (3, 4, 5))
    assert updated(region(), output)[0] <= 4
    assert updated(region(), output) == (0, 0)
    bp.copy(SimpleTransformationSource(region(), lambda x: x + 1), output, overwrite=True)
    assert updated(SimpleTransformationSource(region(), lambda x: x + 2), output)[0] > 0


def test_a_whole_ome_zarr_is_updated_array_by_array(tmp_path: Path) -> None:
    source, output = tmp_path / "a.ome.zarr", tmp_path / "b.ome.zarr"
    bp.pyramid(VOXELS, source, chunks=(8, 8, 8), voxel_size=1, units="um", kind="image")
    bp.pyramid(
        VOXELS // 50, source / "labels/cells", chunks=(8, 8, 8), voxel_size=1, units="um", kind="labels"
    )
    bp.copy(source, output)
    assert updated(source, output) == (0, 0)
    change(source / "1", (0, 0, 0))
    change(source / "labels/cells/0", (1, 1, 1))
    text = str(bp.plan(source, output, update=True))
    assert "2 of" in text
    assert "in 2 of" in text
    assert updated(source, output) == (2, 2)
    for level in ("0", "1", "2", "labels/cells/2"):
        assert bp.verify(source / level, output / level)
    bp.pyramid(
        VOXELS,
        source,
        levels=2,
        chunks=(8, 8, 8),
        axes="zyx",
        voxel_size=1,
        units="um",
        overwrite=True,
        kind="image",
    )
    with pytest.warns(
        BioimagePyWarning,
        match=r"b\.ome\.zarr.* also has 2, 3, which the input does not have: .* leaves that",
    ):
        bp.copy(source, output, update=True).close()


@pytest.mark.parametrize("how", [{"method": "max"}, {"method": "mean", "levels": 3}])
def test_levels_of_an_image_follow(tmp_path: Path, how: dict[str, Any]) -> None:
    source, output = tmp_path / "a.zarr", tmp_path / "b.ome.zarr"
    bp.copy(VOXELS[:20], source, chunks=(4, 4, 4), axes="zyx", voxel_size=1, units="um")
    bp.copy(source, output, chunks=(8, 8, 8))
    bp.pyramid(output, **how)
    change(source, (0, 0, 0), (4, 9, 9))
    before = stamps(output / "1")
    updated(source, output)
    assert sum(before[path] != time for path, time in stamps(output / "1").items()) < len(before)

    def check() -> None:
        with bp.open_source(output) as full:
            expected = bp.pyramid(
                np.asarray(full),
                tmp_path / "c.ome.zarr",
                chunks=(8, 8, 8),
                overwrite=True,
                kind="image",
                **how,
            )
        for n, level in enumerate(expected[1:], 1):
            assert np.array_equal(bp.open_source(output / str(n))[...], level[...])

    check()
    shutil.rmtree(source)
    bp.copy(VOXELS, source, chunks=(4, 4, 4), axes="zyx", voxel_size=1, units="um")
    updated(source, output)
    check()
    shutil.rmtree(output / "1" / ".bioimage-py")
    change(source, (1, 1, 1))
    with pytest.warns(BioimagePyWarning, match="the smaller levels of its image were not"):
        updated(source, output)


def test_an_update_that_fails_is_made_again(tmp_path: Path) -> None:
    source, output = tmp_path / "a.zarr", tmp_path / "b.zarr"
    bp.copy(VOXELS, source, chunks=(4, 4, 4), codec="zstd:1")
    bp.copy(source, output, codec="zstd:2+crc32c", update=True)
    chunk = source / "c/2/2/2"
    good = chunk.read_bytes()
    chunk.write_bytes(b"rubbish")
    change(source, (7, 7, 7))
    with pytest.raises(RunnerError):
        bp.copy(source, output, update=True)
    chunk.write_bytes(good)
    assert updated(source, output)[0] == 2
    assert updated(source, output) == (0, 0)


@pytest.mark.parametrize("changed", [False, True])
def test_what_changes_between_two_attempts_at_a_copy_is_copied(tmp_path: Path, changed: bool) -> None:
    source, output = tmp_path / "a.zarr", tmp_path / "b.zarr"
    bp.copy(VOXELS, source, chunks=(8, 8, 8), codec="zstd:1")
    chunk, how = source / "c/2/2/2", {"codec": "zstd:3", "block_shape": (8, 8, 8)}
    good = chunk.read_bytes()
    chunk.write_bytes(b"rubbish")
    with pytest.raises(RunnerError):
        bp.copy(source, output, **how)
    chunk.write_bytes(good)  # its block was not done: the call goes on
    if changed:
        change(source, (0, 0, 0), edge=8)  # after its block was copied
        with pytest.warns(BioimagePyWarning, match="begins anew: its input has changed since"):
            bp.copy(source, output, **how).close()
    else:
        bp.copy(source, output, **how).close()
    assert bp.verify(source, output)
    assert updated(source, output)[0] == (0 if changed else 1)


def test_blocks_of_an_update_run_elsewhere(tmp_path: Path) -> None:
    source, output = tmp_path / "a.zarr", tmp_path / "b.zarr"
    bp.copy(VOXELS, source, chunks=(4, 4, 4))
    bp.copy(source, output)
    change(source, (0, 0, 1), (5, 5, 5))
    config = bp.RunnerConfig(tmp_root=str(tmp_path / "runs"))
    assert updated(source, output, job_type="subprocess", job_config=config, num_workers=1)[0] == 2


def test_a_file_is_copied_again_as_a_whole(tmp_path: Path) -> None:
    source, output = tmp_path / "a.npy", tmp_path / "b.zarr"
    np.save(source, VOXELS)
    bp.copy(source, output, chunks=(8, 8, 8))
    assert updated(source, output) == (0, 0)
    np.save(source, VOXELS + 1)
    assert "which of its voxels is not known" in str(bp.plan(source, output, update=True))
    assert updated(source, output)[1] == 125
    # A file has a record beside it only where one was asked for.
    bp.copy(output, tmp_path / "c.npy")
    assert not (tmp_path / "c.npy.bioimage-py").exists()
    bp.copy(output, tmp_path / "d.npy", update=True)
    change(output, (0, 0, 0), edge=8)
    assert updated(output, tmp_path / "d.npy")[0] == 1
    assert updated(output, tmp_path / "d.npy")[0] == 0
    np.save(tmp_path / "d.npy", VOXELS)
    assert updated(output, tmp_path / "d.npy")[0] > 0


def test_objects_are_known_by_their_etags(bucket: str, tmp_path: Path) -> None:
    pytest.importorskip("obstore")
    source, output = "s3://lab/update/a.zarr", "s3://lab/update/b.zarr"
    bp.copy(VOXELS[:8], source, chunks=(8, 8, 8), endpoint=bucket).close()

    def blocks(target: Any) -> int:
        seen: list[Any] = []
        bp.copy(source, target, update=True, endpoint=bucket, progress=seen.append)
        assert bp.verify(source, target, endpoint=bucket)
        return int(seen[-1].blocks_done)

    for target in (output, tmp_path / "b.zarr"):
        bp.copy(source, target, endpoint=bucket)
        assert blocks(target) == 0
        with bp.open_source(source, mode="r+", endpoint=bucket) as there:
            there[:, :16, :8] = there[:, :16, :8] + 1
        assert blocks(target) == 2
        assert blocks(target) == 0


def test_contents_are_compared(tmp_path: Path) -> None:
    output = tmp_path / "b.zarr"
    image = np.random.default_rng(0).integers(0, 99, (70, 128, 128), dtype="u2")
    bp.copy(image, output, chunks=(16, 32, 32))
    image[3, 4, 5] += 1

    def copied(source: Any) -> int:
        before, seen = stamps(output), []
        bp.copy(source, output, update="content", progress=seen.append)
        assert np.array_equal(bp.open_source(output)[...], image)
        assert bp.verify(output)  # it has the digest of what it holds
        changed = {path for path, time in stamps(output).items() if before.get(path) != time} - {
            output / "zarr.json"
        }
        assert len(changed) <= 16 * seen[-1].blocks_done
        return int(seen[-1].blocks_done)

    assert copied(image) == 1
    assert copied(image) == 0
    np.save(tmp_path / "a.npy", image)
    assert copied(tmp_path / "a.npy") == 0
    assert updated(tmp_path / "a.npy", output) == (0, 0)
    image = np.concatenate([image, image[:10]])
    assert copied(image) == 4
    with pytest.raises(InvalidArgumentError, match="nothing beside it"):
        bp.copy(tmp_path / "a.npy", output, update=True)
    with pytest.raises(InvalidArgumentError, match=r"float32, and .* uint16"):
        bp.copy(image.astype("f4"), output, update="content")


def _copied(folder: Path, **options: Any) -> None:
    bp.copy(VOXELS, folder / "a.zarr", chunks=(8, 8, 8))
    bp.copy(folder / "a.zarr", folder / "b.zarr", **options)


def _other_dtype(folder: Path) -> None:
    _copied(folder)
    bp.copy(VOXELS.astype("f4"), folder / "a.zarr", chunks=(8, 8, 8), overwrite=True)


def _not_ours(folder: Path) -> None:
    _copied(folder)
    shutil.rmtree(folder / "b.zarr" / ".bioimage-py")


def _unfinished(folder: Path) -> None:
    _copied(folder)
    (folder / "b.zarr" / ".bioimage-py" / "unfinished.json").write_text("{}")


@pytest.mark.parametrize(
    ("before", "call", "message"),
    [
        (_not_ours, {}, "nothing beside it says that it was copied from a stored input"),
        (_unfinished, {}, "cannot be updated: it is not finished"),
        (_other_dtype, {}, "has the dtype float32 now, and had uint16"),
        (_copied, {"input": VOXELS}, "another input, called 'a.zarr'"),
        (_copied, {"input": "c.zarr"}, "another input, called 'a.zarr'"),
        (_copied, {"chunks": (4, 4, 4)}, "copied without chunks, .* got chunks=4,4,4"),
        (lambda f: _copied(f, axes="zyx", units="um"), {"axes": "zyx"}, "was copied with units=um"),
        (_copied, {"overwrite": True}, "leave out overwrite"),
        (_copied, {"block_ids": [1]}, "leave out block_ids"),
        (_copied, {"update": "all"}, "update must be True, False or 'content', got 'all'"),
    ],
)
def test_what_cannot_be_updated_is_refused(
    tmp_path: Path, before: Callable[[Path], None], call: dict[str, Any], message: str
) -> None:
    before(tmp_path)
    bp.copy(VOXELS, tmp_path / "c.zarr")
    options = {"update": True, **call}
    source = options.pop("input", "a.zarr")
    source = tmp_path / source if isinstance(source, str) else source
    seen = stamps(tmp_path / "b.zarr")
    with pytest.raises(InvalidArgumentError, match=message):
        bp.copy(source, tmp_path / "b.zarr", **options)
    assert stamps(tmp_path / "b.zarr") == seen


def test_the_command_updates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, output = tmp_path / "a.zarr", tmp_path / "b.zarr"
    bp.copy(VOXELS, source, chunks=(4, 4, 4))
    words = ["copy", str(source), str(output), "--update"]
    assert main(words) == 0
    change(source, (1, 2, 3))
    assert main([*words, "--dry-run"]) == 0
    assert "1 of 1,000 chunk files have changed since" in capsys.readouterr().out
    assert main(words) == 0
    assert "copied 1 block of 40 × 40 × 40 uint16" in capsys.readouterr().out
    assert bp.verify(source, output)
    good = (source / "c/1/1/1").read_bytes()
    (source / "c/1/1/1").write_bytes(b"rubbish")
    assert main([*words, "--verify-encoded"]) == 3
    assert "bioimage-py copy --verify-encoded --update" in capsys.readouterr().err
    (source / "c/1/1/1").write_bytes(good)
    shutil.rmtree(output / ".bioimage-py")
    assert main(words) != 0
    assert "--update-content" in capsys.readouterr().err
