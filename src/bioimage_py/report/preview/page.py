"""The page: panels in a grid, each with its title and the names of its axes, and below them the scale bar and the channels."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from bioimage_py.chunks import AnyArray
from bioimage_py.report.proportions import ScaleBar

_MARGIN = 10
_GAP = 14
_TICK = 5
_NAME_GAP = 8
_BAR_HEIGHT = 5
_MARK_GAP = 6
_FRAME = "#909090"
_FAINT = "#505050"


@dataclass(frozen=True)
class Panel:
    """A panel of a picture."""

    row: int  # its place in the grid
    column: int
    title: str  # such as "z = 64"
    axes: tuple[str, str]  # names of the axes that go down and to the right
    colors: AnyArray  # red, green and blue bytes, in as many pixels as were read
    size: tuple[int, int]  # height and width on the page
    ticks: tuple[float, float] | None = None  # where the other panels cut it, as shares of height and width
    smooth: bool = True  # whether pixels are interpolated where they are enlarged; labels are not
    left: int = 0  # where it lies on the page, once it is composed
    top: int = 0


def compose(
    panels: Sequence[Panel],
    bar: ScaleBar | None,
    channels: Sequence[tuple[str, str]],
    notes: Sequence[str],
    font_size: int,
) -> tuple[AnyArray, list[Panel]]:
    """Draw a page with the name and colour of channels, and with notes; return its pixels, and the panels as they lie."""
    letters = Lettering(font_size)
    placed, (width, height) = _placed(panels, letters)
    width, lines = _footer(letters, placed[0].left, width, bar, channels, notes)
    line_height = round(1.2 * letters.line)
    page = Image.new("RGB", (width, height + _MARGIN + len(lines) * line_height), "white")
    draw = ImageDraw.Draw(page)
    for panel in placed:
        _draw_panel(page, draw, panel, letters)
    for n, line in enumerate(lines):
        top = height + _MARGIN // 2 + n * line_height
        for item in line:
            _draw_item(draw, item, top, letters)
    return np.asarray(page), placed


def _placed(panels: Sequence[Panel], letters: Lettering) -> tuple[list[Panel], tuple[int, int]]:
    """Put panels into a grid whose columns and rows are as wide and high as what stands in them needs."""
    side = max(letters.width(panel.axes[0]) for panel in panels) + _NAME_GAP
    above = letters.line if any(panel.title for panel in panels) else 0
    below = letters.line + _TICK
    lefts, right = _grid([(p.column, side + max(p.size[1], letters.width(p.title))) for p in panels])
    tops, bottom = _grid([(p.row, above + max(p.size[0], letters.line) + below) for p in panels])
    placed = [replace(p, left=lefts[p.column] + side, top=tops[p.row] + above) for p in panels]
    return placed, (right + _MARGIN, bottom)


def _grid(extents: Sequence[tuple[int, int]]) -> tuple[dict[int, int], int]:
    """Return where each column, or row, begins, and where the last one ends."""
    begins: dict[int, int] = {}
    at = _MARGIN
    for number in sorted({number for number, _ in extents}):
        at += _GAP if begins else 0
        begins[number] = at
        at += max(extent for other, extent in extents if other == number)
    return begins, at


def _draw_panel(page: Image.Image, draw: ImageDraw.ImageDraw, panel: Panel, letters: Lettering) -> None:
    height, width = panel.size
    left, top, right, bottom = panel.left, panel.top, panel.left + width, panel.top + height
    picture = Image.fromarray(np.ascontiguousarray(panel.colors))
    if picture.size != (width, height):
        how = Image.Resampling.BILINEAR if panel.smooth else Image.Resampling.NEAREST
        picture = picture.resize((width, height), how)
    page.paste(picture, (left, top))
    draw.rectangle((left - 1, top - 1, right, bottom), outline=_FRAME)
    letters.draw(draw, (left, top - letters.line - 1), panel.title)
    down, across = panel.axes
    middle = top + (height - letters.line) // 2
    letters.draw(draw, (left - _NAME_GAP + 2 - letters.width(down), middle), down, _FAINT)
    letters.draw(draw, (left + (width - letters.width(across)) // 2, bottom + _TICK + 1), across, _FAINT)
    if panel.ticks is not None:
        y = top + min(height - 1, int(panel.ticks[0] * height))
        draw.line((right + 1, y, right + _TICK, y), fill="black")
        x = left + min(width - 1, int(panel.ticks[1] * width))
        draw.line((x, bottom + 1, x, bottom + _TICK), fill="black")


class _Item(NamedTuple):
    """Something in a line below the panels: a bar or a square of colour of a width and height, and text behind it."""

    x: int
    mark: tuple[int, int]
    color: str
    text: str


def _footer(
    letters: Lettering,
    left: int,
    width: int,
    bar: ScaleBar | None,
    channels: Sequence[tuple[str, str]],
    notes: Sequence[str],
) -> tuple[int, list[list[_Item]]]:
    """Return how wide the page has to be, and the lines: the scale bar, the channels, as many in a line as fit, notes."""
    square = round(0.7 * letters.size)
    marks = [(square, square)] * len(channels)
    items = [_Item(left, mark, color, name) for mark, (name, color) in zip(marks, channels, strict=True)]
    first = [] if bar is None else [[_Item(left, (bar.pixels, _BAR_HEIGHT), "black", bar.text)]]
    last = [[_Item(left, (0, 0), _FAINT, note)] for note in notes]
    widths = [
        item.mark[0] + (_MARK_GAP if item.mark[0] else 0) + letters.width(item.text)
        for item in [*items, *(line[0] for line in [*first, *last])]
    ]
    width = max(width, left + max(widths, default=0) + _MARGIN)
    lines: list[list[_Item]] = []
    x = left
    for item, needed in zip(items, widths, strict=False):
        if not lines or x + needed + _GAP > width:
            lines.append([])
            x = left
        lines[-1].append(item._replace(x=x))
        x += needed + _GAP
    return width, [*first, *lines, *last]


def _draw_item(draw: ImageDraw.ImageDraw, item: _Item, top: int, letters: Lettering) -> None:
    x, (width, height) = item.x, item.mark
    if width:
        upper = top + round(0.55 * letters.size) - height // 2
        outline = None if height == _BAR_HEIGHT else _FRAME
        draw.rectangle((x, upper, x + width - 1, upper + height - 1), fill=item.color, outline=outline)
        x += width + _MARK_GAP
    letters.draw(draw, (x, top), item.text, "black" if width else item.color)


class Lettering:
    """Measures and draws lines of text in Pillow's own font, which is the same on every computer and has hardly more than ASCII.

    The signs of units that it lacks are put together: µ is a u with a tail, Å an A below a ring. Greek letters are spelled.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.line = round(1.3 * size)  # height of a line, with what stands below it
        self._font = ImageFont.load_default(size)

    def width(self, text: str) -> int:
        return round(self._font.getlength(self._known(text).replace("µ", "u").replace("Å", "A"))) + 1

    def draw(self, draw: ImageDraw.ImageDraw, at: tuple[int, int], text: str, color: str = "black") -> None:
        """Draw a text to the right of and below a point."""
        known = self._known(text)
        plain = known.replace("µ", "u").replace("Å", "A")
        draw.text(at, plain, fill=color, font=self._font, anchor="la")
        stroke = max(1, round(self.size / 12))
        for n, letter in enumerate(known):
            box = self._font.getbbox(plain[n], anchor="la")
            x = at[0] + round(self._font.getlength(plain[:n]) + box[0])
            if letter == "µ":
                foot = at[1] + round(box[3])
                tail = (x + 1, foot - self.size // 4, x + stroke, foot + self.size // 5)
                draw.rectangle(tail, fill=color)
            elif letter == "Å":
                radius, head = max(1, round(self.size / 9)), at[1] + round(box[1])
                middle = x + round(box[2] - box[0]) // 2
                ring = (middle - radius, head - 2 * radius, middle + radius, head)
                draw.ellipse(ring, outline=color, width=stroke)

    def _known(self, text: str) -> str:
        """Return a text of letters that can be drawn: others without their accents, spelled, or as a question mark."""
        return "".join(_drawable(self._font, letter) for letter in text if letter.isprintable())


@cache
def _drawable(font: Any, letter: str) -> str:
    if letter in "µμ":
        return "µ"
    if letter in "Å\u212b":
        return "Å"
    if letter in _SPELLED:
        return _SPELLED[letter]
    base = unicodedata.normalize("NFKD", letter)[:1]
    # What the font lacks, it draws as the box that stands for all such.
    for one in (letter, base):
        if one == " " or bytes(font.getmask(one)) != bytes(font.getmask("\u4e2d")):
            return one
    name = unicodedata.name(base, "")
    return name.split()[-1].lower() if name.startswith("GREEK SMALL") else "?"


_SPELLED = {"×": "x", "\u2013": "-", "\u2014": "-"}
