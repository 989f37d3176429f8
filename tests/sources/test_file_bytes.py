"""Open files that are read and written by offset from many threads."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from bioimage_py.errors import ReadOnlyError, SourceNotFoundError, StorageError
from bioimage_py.geometry import Box
from bioimage_py.sources import open_source
from bioimage_py.storage import FileBytes, OpenFiles


def is_open(number: int) -> bool:
    return Path(f"/proc/self/fd/{number}").exists()


@pytest.mark.parametrize("call", ["preadv", "pwrite"])
def test_a_source_closed_while_a_thread_uses_it_leads_to_no_other_file(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "a.npy", np.arange(4000, dtype="u2").reshape(50, 80))
    other = tmp_path / "other"
    other.write_bytes(b"\xee" * 9000)
    source = open_source(tmp_path / "a.npy", mode="r+")
    real, opened = getattr(os, call), []

    def closed_meanwhile(number: int, *arguments: Any) -> Any:
        if not opened:
            source.close()
            opened.append(FileBytes.open(str(other), "r+"))
        return real(number, *arguments)

    monkeypatch.setattr(f"bioimage_py.storage.file_bytes.{call}", closed_meanwhile)
    box = Box((3, 0), (40, 80))
    if call == "preadv":
        expected = np.arange(4000, dtype="u2").reshape(50, 80)[3:40]
        np.testing.assert_array_equal(source.read(box), expected)
    else:
        source.write(box, np.zeros(box.shape))
    monkeypatch.undo()
    assert other.read_bytes() == b"\xee" * 9000
    if call == "pwrite":
        assert not np.load(tmp_path / "a.npy")[3:40].any()
    with pytest.raises(StorageError, match="was closed"):
        source.read(box)


def test_the_last_one_that_lets_go_closes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    file = FileBytes.open(str(tmp_path / "a"))
    number, also = file.number, file
    del file
    assert is_open(number)
    assert also.read(1, 2) == b"bc"
    del also
    assert not is_open(number)


def test_large_requests_go_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bioimage_py.storage.file_bytes._PER_CALL", 7)
    content = bytes(range(100))
    (tmp_path / "a").write_bytes(bytes(100))
    file = FileBytes.open(str(tmp_path / "a"), "r+")
    file.write(10, memoryview(content)[:80])
    assert file.read(10, 80) == content[:80]
    assert (tmp_path / "a").read_bytes() == bytes(10) + content[:80] + bytes(10)


def test_only_some_files_stay_open(tmp_path: Path) -> None:
    files = OpenFiles(2)
    numbers = []
    for name in "abc":
        (tmp_path / name).write_text(name)
        numbers.append(files.get(str(tmp_path / name)).number)
    assert [is_open(n) for n in set(numbers)].count(True) == 2
    assert files.get(str(tmp_path / "a")).read(0, 1) == b"a"


def test_a_file_that_was_replaced_meanwhile_is_not_read_with_the_structure_of_the_old_one(
    tmp_path: Path,
) -> None:
    for z in range(40):
        tifffile.imwrite(tmp_path / f"s{z}.tif", np.full((8, 9), z, "u1"), metadata=None)
    with open_source(tmp_path, "*.tif") as source:
        np.testing.assert_array_equal(source[:, 0, 0], np.arange(40))
        tifffile.imwrite(tmp_path / "s3.tif", np.full((8, 9), 3, "u1"), metadata=None, description="x" * 99)
        twin = source.for_run(1, 0)
        with pytest.raises(StorageError, match=r"s3\.tif' was replaced or written since"):
            twin[...]
        np.testing.assert_array_equal(twin[4:, 0, 0], np.arange(4, 40))


def test_errors_name_the_file_and_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SourceNotFoundError, match="there is no file"):
        FileBytes.open(str(tmp_path / "a"))
    (tmp_path / "a").write_bytes(b"abc")
    file = FileBytes.open(str(tmp_path / "a"), "r+")
    with pytest.raises(StorageError, match=r"a' is truncated.*expected 9 bytes at byte 1, found 2; .* has 3"):
        file.read(1, 9)

    def refuse(code: int) -> Any:
        def call(*_: object) -> None:
            raise OSError(code, os.strerror(code))

        return call

    monkeypatch.setattr("bioimage_py.storage.file_bytes.pwrite", refuse(errno.ENOSPC))
    with pytest.raises(StorageError, match="no space left on the disk"):
        file.write(0, memoryview(b"x"))
    monkeypatch.setattr("bioimage_py.storage.file_bytes.pread", refuse(errno.EIO))
    with pytest.raises(StorageError, match=r"reading .*a' at byte 0 failed: Input/output error"):
        file.read(0, 3)
    monkeypatch.setattr(os, "open", refuse(errno.EROFS))
    with pytest.raises(ReadOnlyError, match="may not be written"):
        FileBytes.open(str(tmp_path / "a"), "r+")
    monkeypatch.setattr(os, "open", refuse(errno.EACCES))
    with pytest.raises(StorageError, match="permission denied"):
        FileBytes.open(str(tmp_path / "a"))
