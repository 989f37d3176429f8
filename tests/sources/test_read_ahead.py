"""Files are announced before they are read, but only where reading them was slow."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from bioimage_py.geometry import Box
from bioimage_py.sources import open_source
from bioimage_py.sources.zarr import ZarrFilesSource, files as zarr_files
from bioimage_py.storage import ReadAhead, SlowReads, file_bytes
from tests.kernels.stored import Storing, store
from tests.sources.contract import textured


@pytest.fixture
def announced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that the system is told of from now on."""
    found: list[str] = []
    monkeypatch.setattr(
        os,
        "posix_fadvise",
        lambda number, *_: found.append(Path(f"/proc/self/fd/{number}").readlink().name),
    )
    return found


@pytest.fixture
def slow() -> SlowReads:
    made = SlowReads()
    for _ in range(3):
        made.took(0.01, 1000)
    return made


def files(folder: Path, n: int) -> list[str]:
    for i in range(n):
        (folder / f"{i}").write_bytes(b"x")
    return [str(folder / f"{i}") for i in range(n)]


def test_a_few_files_are_ahead(tmp_path: Path, announced: list[str], slow: SlowReads) -> None:
    ahead = ReadAhead(files(tmp_path, 6), slow)
    assert announced == ["0", "1", "2", "3"]
    for _ in range(5):
        ahead.step()
    assert announced == [f"{i}" for i in range(6)]


def test_files_that_are_not_there_are_passed_over(
    tmp_path: Path, announced: list[str], slow: SlowReads
) -> None:
    paths = files(tmp_path, 3)
    Path(paths[1]).unlink()
    ReadAhead(paths, slow)
    assert announced == ["0", "2"]


@pytest.mark.parametrize(
    ("reads", "found"),
    [
        ([(0.01, 1000)] * 2, False),  # one or two may have waited for a thread
        ([(0.01, 1000)] * 3, True),
        ([(0.0001, 100_000)] * 99, False),
        ([(0.01, 100_000_000)] * 99, False),  # as fast as memory
        ([(0.2, 100_000_000)] * 3, True),
        ([(0.01, 1000)] * 3 + [(0.0, 1000)] * 99, True),
    ],
)
def test_what_is_slow(reads: list[tuple[float, int]], found: bool) -> None:
    slow = SlowReads()
    for seconds, n_bytes in reads:
        slow.took(seconds, n_bytes)
    assert slow.found == found


def test_nothing_is_announced_where_files_come_fast(tmp_path: Path, announced: list[str]) -> None:
    ahead = ReadAhead(files(tmp_path, 3), SlowReads())
    ahead.step()
    assert announced == []


def test_systems_that_cannot_be_told_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bioimage_py.storage.file_bytes.READS_AHEAD", False)
    slow = SlowReads()
    for _ in range(9):
        slow.took(1.0, 1)
    ReadAhead(files(tmp_path, 3), slow).step()
    assert not slow.found


def test_chunks_of_a_zarr(tmp_path: Path, announced: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zarr_files, "LEAST_BYTES", 1)
    monkeypatch.setattr(file_bytes, "_WAIT_SECONDS", -1.0)  # so that every read is a slow one
    array = textured((4, 40), "uint16")
    store(tmp_path / "a", Storing("v3", "zstd", (4, 4)), array)
    source = open_source(tmp_path / "a").for_run(1, 0)
    assert isinstance(source, ZarrFilesSource)
    np.testing.assert_array_equal(source[...], array)
    assert announced == []
    np.testing.assert_array_equal(source[...], array)
    assert announced == [f"{i}" for i in range(10)]
    ahead = source.ahead(Box((0, 4), (4, 40)))
    ahead.step()
    assert announced[10:] == ["1", "2", "3", "4", "5"]
