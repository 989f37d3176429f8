"""Runs of bytes of an object: what is asked for is fetched, and nothing of another object under the same name."""

from __future__ import annotations

import pytest
import tensorstore as ts

from bioimage_py.chunks import PayloadCheck, why_all_bytes
from bioimage_py.errors import StorageError
from bioimage_py.storage import ObjectBytes, ObjectFolder, OpenObject

DATA = bytes(range(200))


class Counted(ObjectFolder):
    """Says which runs it was asked for."""

    asked: list[tuple[int | None, int | None]]

    def read(self, key: str, begin: int | None = None, end: int | None = None):  # type: ignore[no-untyped-def]
        self.asked.append((begin, end))
        return super().read(key, begin, end)


@pytest.fixture
def folder() -> Counted:
    folder = Counted(ts.KvStore.open({"driver": "memory"}).result(), "memory://a", lists=True)
    folder.asked = []
    folder.write("k", DATA)
    return folder


def test_runs(folder: Counted) -> None:
    stored = ObjectBytes(OpenObject(folder, "k"), 10, 180)
    assert stored.at(0, 3) == DATA[10:13]
    assert stored.at(20, 16) == DATA[30:46]  # came with the first
    assert stored.part(5, -1).at(0, 4) == DATA[15:19]
    assert folder.asked == [(10, 74)]
    assert stored.at(-4, 4) == DATA[186:190]
    assert stored.at(178, 9) == DATA[188:190]
    assert stored.at(180, 1) == b""
    assert folder.asked[1:] == [(186, 190)]
    assert stored.read() == DATA[10:190]
    assert not stored.in_memory


@pytest.mark.parametrize("data", [DATA[::-1], None, DATA[:100]])
def test_an_object_that_is_written_between_two_runs(folder: Counted, data: bytes | None) -> None:
    stored = ObjectBytes(OpenObject(folder, "k"), 0, 200)
    assert stored.at(0, 2) == DATA[:2]
    folder.remove("k") if data is None else folder.write("k", data)
    with pytest.raises(StorageError, match=r"memory://a/k (was written while it was read|cannot be read)"):
        stored.at(-4, 4)


def test_which_codecs_are_told_by_few_bytes() -> None:
    for codecs in ((), (("blosc",),), (("gzip",),), (("shuffle", 2),), (("shuffle", 2), ("gzip",))):
        assert PayloadCheck(codecs).by_few_bytes
        assert why_all_bytes(codecs) is None
    # A store that copies a chunk with a wrong crc32c keeps both.
    for codecs in ((("crc32c",),), (("blosc",), ("crc32c",))):
        assert not PayloadCheck(codecs).by_few_bytes
        assert PayloadCheck(codecs, sums=False).by_few_bytes
        assert why_all_bytes(codecs) is None
    for codecs in (
        (("zstd",),), (("zlib",),), (("zstd",), ("crc32c",)), (("fletcher32",),), (("bz2",),), (("delta", "{}"), ("blosc",)),
    ):  # fmt: skip
        assert not PayloadCheck(codecs).by_few_bytes
        assert f"chunk of {' and '.join(c[0] for c in codecs)} tell" in str(why_all_bytes(codecs))
