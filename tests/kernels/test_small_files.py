"""Small chunk files moved in the fewest steps: counted like others, and left to the ordinary way where anything is odd."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import bioimage_py as bp
from bioimage_py.errors import StorageError
from bioimage_py.geometry import Box
from bioimage_py.kernels import CopyKernel, MoveKernel, MoveOptions, SmallFiles, move_chunks
from bioimage_py.sources import Source


def pair(folder: Path, chunks: tuple[int, int] = (4, 8), other: int = 3) -> tuple[Source, Source]:
    values = np.random.default_rng(0).integers(0, 2**16, (16, 16)).astype("uint16")
    source = bp.copy(values, folder / "in.zarr", chunks=chunks, codec="zstd:1")
    return source, bp.create_output(
        folder / "out.zarr", shape=(16, 16), dtype="uint16", chunks=chunks, codec="zstd:1", zarr_format=other
    )


@pytest.fixture
def moved(monkeypatch: pytest.MonkeyPatch) -> list[int | None]:
    """What moving small files returned, call by call."""
    found: list[int | None] = []
    move = SmallFiles.move

    def noted(self: SmallFiles, *arguments: object) -> int | None:
        found.append(move(self, *arguments))  # type: ignore[arg-type]
        return found[-1]

    monkeypatch.setattr(SmallFiles, "move", noted)
    return found


@pytest.mark.parametrize("other", [2, 3])
def test_small_files_are_moved_and_counted(tmp_path: Path, moved: list[int | None], other: int) -> None:
    source, sink = pair(tmp_path, other=other)
    kernel = MoveKernel(CopyKernel(source, sink))
    assert kernel.copy_box(Box((0, 0), (16, 16))) == 512
    np.testing.assert_array_equal(sink[...], source[...])
    # The first of a folder is left to who makes the folder.
    sizes = [n for n in moved if n is not None]
    assert len(moved) == 8
    assert len(sizes) >= 4
    tally = kernel.tally()
    stored = sum(path.stat().st_size for path in (tmp_path / "in.zarr" / "c").rglob("*") if path.is_file())
    assert (tally.chunks_moved, tally.encoded_in, tally.encoded_out) == (8, stored, stored)
    assert (tally.bytes_in, tally.bytes_out, tally.chunks_recoded) == (512, 512, 0)
    assert tally.moving_out > 0


def test_after_a_large_file_no_other_is_tried(
    tmp_path: Path, moved: list[int | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bioimage_py.kernels.move_chunks.SMALL", 20)
    source, sink = pair(tmp_path)
    opened: list[str] = []
    first_bytes = move_chunks._first_bytes
    monkeypatch.setattr(
        "bioimage_py.kernels.move_chunks._first_bytes", lambda path: opened.append(path) or first_bytes(path)
    )
    MoveKernel(CopyKernel(source, sink)).copy_box(Box((0, 0), (16, 16)))
    assert (moved, len(opened)) == ([None] * 8, 1)
    np.testing.assert_array_equal(sink[...], source[...])


def test_a_read_that_ends_early_is_not_taken_for_the_file(
    tmp_path: Path, moved: list[int | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, sink = pair(tmp_path)
    monkeypatch.setattr(
        "bioimage_py.kernels.move_chunks._first_bytes", lambda path: Path(path).read_bytes()[:-1]
    )
    MoveKernel(CopyKernel(source, sink)).copy_box(Box((0, 0), (16, 16)))
    assert moved == [None] * 8
    np.testing.assert_array_equal(sink[...], source[...])


@pytest.mark.parametrize("damage", ["cut", "folder"])
def test_what_is_wrong_is_named(tmp_path: Path, damage: str) -> None:
    source, sink = pair(tmp_path)
    chunk = tmp_path / "in.zarr" / "c" / "1" / "1"
    if damage == "cut":
        chunk.write_bytes(chunk.read_bytes()[:-3])
    else:
        chunk.unlink()
        chunk.mkdir()
    with pytest.raises(StorageError, match=r"in\.zarr.*c/1/1"):
        MoveKernel(CopyKernel(source, sink)).copy_box(Box((0, 0), (16, 16)))
    assert not (tmp_path / "out.zarr" / "c" / "1" / "1").exists()
    assert not list(tmp_path.rglob("*.partial"))


def test_who_wants_each_chunk_decoded_goes_the_ordinary_way(tmp_path: Path, moved: list[int | None]) -> None:
    source, sink = pair(tmp_path)
    MoveKernel(CopyKernel(source, sink), MoveOptions(verify_encoded=True)).copy_box(Box((0, 0), (16, 16)))
    assert moved == []
    np.testing.assert_array_equal(sink[...], source[...])
