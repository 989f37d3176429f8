"""Text in pictures: every letter that is asked for can be read."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from bioimage_py.report.preview import Lettering


def drawn(text: str, size: int = 20) -> np.ndarray:
    page = Image.new("L", (400, 40), 255)
    Lettering(size).draw(ImageDraw.Draw(page), (4, 6), text)
    return np.asarray(page) < 128


@pytest.mark.parametrize(("letter", "plain"), [("µ", "u"), ("Å", "A")])
def test_signs_of_units_are_no_boxes(letter: str, plain: str) -> None:
    sign, base = drawn(letter), drawn(plain)
    assert (sign & base).sum() == base.sum()
    added = np.flatnonzero((sign & ~base).any(axis=1))
    rows = np.flatnonzero(base.any(axis=1))
    assert added.max() > rows.max() if letter == "µ" else added.min() < rows.min()


def test_letters_that_cannot_be_drawn_are_written_otherwise() -> None:
    assert np.array_equal(drawn("\u03b1-tubulin"), drawn("alpha-tubulin"))
    assert np.array_equal(drawn("é×中\n"), drawn("ex?"))


@pytest.mark.parametrize("text", ["", "100 µm", "z = 64", "5 Å"])
def test_a_text_is_as_wide_as_it_is_said_to_be(text: str) -> None:
    columns = np.flatnonzero(drawn(text).any(axis=0))
    assert columns.max(initial=3) <= 4 + Lettering(20).width(text)
