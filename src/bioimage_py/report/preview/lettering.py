"""Text in pictures: Pillow's own font, the same on every computer, and the two letters of units that it lacks."""

from __future__ import annotations

import unicodedata
from functools import cache
from typing import Any

from PIL import ImageDraw, ImageFont

_DRAWN = {"µ": "u", "μ": "u", "Å": "A", "\u212b": "A"}
_SPELLED = {
    "×": "x",
    "\u2013": "-",
    "\u2014": "-",
    "\u03b1": "alpha",
    "\u03b2": "beta",
    "\u03b3": "gamma",
    "\u03b4": "delta",
}


class Lettering:
    """Measures and draws lines of text of one size.

    Parameters
    ----------
    size
        Of the letters, in pixels.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._font = ImageFont.load_default(size)

    @property
    def line(self) -> int:
        """Height of a line, with what stands below it."""
        return round(1.3 * self.size)

    def width(self, text: str) -> int:
        """Return how wide a text will be."""
        return round(self._font.getlength(self._plain(text))) + 1

    def draw(self, draw: ImageDraw.ImageDraw, at: tuple[int, int], text: str, color: str = "black") -> None:
        """Draw a text to the right of and below a point."""
        plain = self._plain(text)
        draw.text(at, plain, fill=color, font=self._font, anchor="la")
        for n, letter in enumerate(self._known(text)):
            if letter in _DRAWN:
                self._finish(draw, at, plain, n, color)

    def _finish(self, draw: ImageDraw.ImageDraw, at: tuple[int, int], plain: str, n: int, color: str) -> None:
        """Make the u at position `n` a µ by its tail, or the A an Å by its ring."""
        letter = plain[n]
        box = self._font.getbbox(letter, anchor="la")
        left = at[0] + round(self._font.getlength(plain[:n]) + box[0])
        top, bottom, width = at[1] + round(box[1]), at[1] + round(box[3]), round(box[2] - box[0])
        stroke = max(1, round(self.size / 12))
        if letter == "u":
            draw.rectangle(
                (left + 1, bottom - self.size // 4, left + stroke, bottom + self.size // 5), fill=color
            )
        else:
            radius = max(1, round(self.size / 9))
            middle = left + width // 2
            draw.ellipse(
                (middle - radius, top - 2 * radius, middle + radius, top), outline=color, width=stroke
            )

    def _known(self, text: str) -> str:
        """Return a text of letters that can be drawn, one for each that is not."""
        spelled = "".join(_SPELLED.get(letter, letter) for letter in text if letter.isprintable())
        return "".join(
            letter if letter in _DRAWN or _has(self._font, letter) else _like(self._font, letter)
            for letter in spelled
        )

    def _plain(self, text: str) -> str:
        return "".join(_DRAWN.get(letter, letter) for letter in self._known(text))


def _like(font: Any, letter: str) -> str:
    base = unicodedata.normalize("NFKD", letter)[:1]
    return base if _has(font, base) else "?"


@cache
def _has(font: Any, letter: str) -> bool:
    """Whether a font has a letter: what it lacks, it draws as the box that stands for all such."""
    return letter == " " or bytes(font.getmask(letter)) != bytes(font.getmask("\u4e2d"))
