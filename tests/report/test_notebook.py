"""What a source shows of itself in a notebook: a table always, a picture where it costs little, never an error."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import bioimage_py as bp
from bioimage_py.geometry import Box
from bioimage_py.metadata import ImageMetadata
from bioimage_py.sources import Source, as_source
from bioimage_py.wrapper import ThresholdSource
from tests.report.images import counted_reads, described, pyramid


def shown(source: Source) -> tuple[str, Image.Image | None]:
    """The HTML without its picture, and the picture."""
    html = source._repr_html_()
    found = re.search(r'<img [^>]*src="data:image/png;base64,([^"]+)">', html)
    picture = Image.open(io.BytesIO(base64.b64decode(found[1]))) if found else None
    return re.sub(r"<img [^>]*>", "", html), picture


def test_a_source_shows_a_table_and_a_picture() -> None:
    text, picture = shown(described(np.eye(60), "yx", (0.5, 0.5)))
    for part in ("60 × 60", "float64", "y, x", "0.5 × 0.5 µm", "28.1 KiB uncompressed"):
        assert part in text
    assert picture is not None
    assert picture.width > 256
    assert "no picture" not in text


def test_everything_is_escaped() -> None:
    class Named(Source):
        shape, dtype, format, codec = (5,), np.dtype("u1"), "<b>", "<i>'\""

        @property
        def name(self) -> str:
            return "<script>alert(1)</script>"

        @property
        def metadata(self) -> ImageMetadata:
            return ImageMetadata(axes=("<u>",), channel_names=("<img src=x>",))

        def _read(self, box: Box) -> Any:
            raise AssertionError(box)

    html = Named()._repr_html_()
    assert set(re.findall(r"</?(\w+)", html)) == {"div", "table", "tr", "th", "td", "small"}
    assert "&lt;script&gt;" in html
    assert "&quot;" in html


class Broken(Source):
    """Local, small, and not to be read."""

    shape, dtype = (30, 30), np.dtype("u1")

    def __init__(self, error: Exception) -> None:
        self.error = error

    def _read(self, box: Box) -> Any:
        raise self.error


@pytest.mark.parametrize(
    "error", [OSError("the disk is <gone>"), ValueError("x"), MemoryError(), ZeroDivisionError()]
)
def test_where_reading_fails_the_table_comes_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    source = bp.as_source(np.zeros((30, 30), "u1"))
    monkeypatch.setattr(type(source), "_read", Broken(error)._read)
    text, picture = shown(source)
    assert picture is None
    assert "30 × 30" in text
    assert (
        f"no picture: {str(error).replace('<', '&lt;').replace('>', '&gt;') or type(error).__name__}" in text
    )


def test_where_not_even_the_metadata_are_known_there_is_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    source = as_source(np.zeros((30, 30)))
    monkeypatch.setattr(type(source), "metadata", property(lambda _: 1 / 0))
    text, picture = shown(source)
    assert "NumpySource" in text
    assert "division by zero" in text
    assert picture is None


def test_without_the_library_for_drawing_the_table_comes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> None:
        raise ImportError("No module named 'PIL'")

    monkeypatch.setattr("bioimage_py.report.preview.show.picture_of", missing)
    text, picture = shown(as_source(np.zeros((30, 30))))
    assert "30 × 30" in text
    assert "PIL" in text
    assert picture is None


def test_no_more_than_a_little_is_read(tmp_path: Path) -> None:
    path = pyramid(tmp_path / "a.ome.zarr")
    with counted_reads() as reads:
        _, picture = shown(bp.open_source(path))
    assert picture is not None
    assert {name for name, _ in reads} == {f"{path}:1"}
    big = np.lib.format.open_memmap(tmp_path / "big.npy", "w+", "uint8", (2, 20_000, 20_000))
    del big
    with counted_reads() as reads:
        _, picture = shown(bp.open_source(tmp_path / "big.npy"))
    assert picture is not None  # of a raw file only some rows are needed
    assert sum(box.size for _, box in reads) < 16 * 2**20
    bp.create_output(
        tmp_path / "big.zarr", shape=(20_000, 20_000), dtype="uint8", chunks=(2000, 2000)
    ).close()
    with counted_reads() as reads:
        text, picture = shown(bp.open_source(tmp_path / "big.zarr"))
    assert (picture, reads) == (None, [])
    assert "381 MiB" in text
    with counted_reads() as reads:
        text, picture = shown(ThresholdSource(bp.open_source(tmp_path / "big.npy"), 1))
    assert (picture, reads) == (None, [])
    assert "763 MiB" in text


def test_a_side_view_that_is_too_much_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    bp.create_output(path, shape=(900, 400, 400), dtype="uint8", chunks=(1, 400, 400)).close()
    text, picture = shown(bp.open_source(path))
    assert picture is not None
    assert "without its view along" in text


def test_what_computes_is_shown_where_it_is_small() -> None:
    _, picture = shown(ThresholdSource(np.eye(30), 0.5))
    assert picture is not None


def test_what_may_take_long_is_not_read() -> None:
    dask = pytest.importorskip("dask.array")

    def never(block: np.ndarray) -> np.ndarray:
        raise AssertionError("computed")

    lazy = dask.from_array(np.zeros((30, 30))).map_blocks(never, meta=np.zeros((0, 0)))
    text, picture = shown(as_source(lazy))
    assert picture is None
    assert "may take long; bioimage_py.preview(source)" in text


@pytest.mark.parametrize("shape", [(), (5,), (0, 3)])
def test_what_has_no_picture_says_why(shape: tuple[int, ...]) -> None:
    text, picture = shown(as_source(np.zeros(shape)))
    assert picture is None
    assert "no picture: " in text
