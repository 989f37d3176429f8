"""The page: panels in a grid, each with its title and the names of its axes, and below them the scale bar and the channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageDraw

from bioimage_py.chunks import AnyArray
from bioimage_py.report.preview.lettering import Lettering
from bioimage_py.report.proportions import ScaleBar

_MARGIN = 10
_GAP = 14
_TICK = 5
_NAME_GAP = 8
_BAR_HEIGHT = 5
_FRAME = "#909090"
_FAINT = "#505050"


@dataclass(frozen=True)
class Panel:
    """A panel of a picture.

    Attributes
    ----------
    row, column
        Its place in the grid.
    title
        What is written above it, such as `"z = 64"`.
    axes
        Names of the axes that go down and to the right.
    colors
        Red, green and blue bytes, in as many pixels as were read.
    size
        Height and width on the page.
    ticks
        Where the other panels cut it, as shares of height and width; None where none does.
    smooth
        Whether pixels are interpolated where they are enlarged; labels are not.
    left, top
        Where it lies on the page, once it is composed.
    """

    row: int
    column: int
    title: str
    axes: tuple[str, str]
    colors: AnyArray
    size: tuple[int, int]
    ticks: tuple[float | None, float | None] = (None, None)
    smooth: bool = True
    left: int = 0
    top: int = 0

    def pixels(self) -> AnyArray:
        """Return the panel in its size on the page."""
        height, width = self.size
        if self.colors.shape[:2] == self.size:
            return self.colors
        how = Image.Resampling.BILINEAR if self.smooth else Image.Resampling.NEAREST
        return np.asarray(Image.fromarray(self.colors).resize((width, height), how))


def compose(
    panels: Sequence[Panel],
    bar: ScaleBar | None,
    channels: Sequence[tuple[str, str]],
    notes: Sequence[str],
    font_size: int,
) -> tuple[AnyArray, list[Panel]]:
    """Draw a page, and return its pixels, and the panels with where they lie.

    Parameters
    ----------
    panels
        At least one.
    bar
        The scale bar, or None.
    channels
        Name and colour of each channel that is to be told.
    notes
        Lines below all that.
    font_size
        Of the letters in pixels.
    """
    letters = Lettering(font_size)
    placed, (width, height) = _placed(panels, letters)
    footer = _Footer(
        letters, placed[0].left, max(width, _least_width(letters, placed[0].left, bar, channels, notes))
    )
    below = footer.lines(bar, channels, notes)
    page = Image.new("RGB", (footer.width, height + footer.height(below)), "white")
    draw = ImageDraw.Draw(page)
    for panel in placed:
        _draw_panel(page, draw, panel, letters)
    footer.draw(draw, height, below)
    return np.asarray(page), placed


def _placed(panels: Sequence[Panel], letters: Lettering) -> tuple[list[Panel], tuple[int, int]]:
    """Put panels into a grid whose columns and rows are as wide and high as what stands in them needs."""
    side = max(letters.width(panel.axes[0]) for panel in panels) + _NAME_GAP
    above = letters.line if any(panel.title for panel in panels) else 0
    below = letters.line + _TICK
    lefts, right = _grid(
        [(panel.column, side + max(panel.size[1], letters.width(panel.title))) for panel in panels], _MARGIN
    )
    tops, bottom = _grid(
        [(panel.row, above + max(panel.size[0], letters.line) + below) for panel in panels], _MARGIN
    )
    placed = [
        replace(panel, left=lefts[panel.column] + side, top=tops[panel.row] + above) for panel in panels
    ]
    return placed, (right + _MARGIN, bottom)


def _grid(extents: Sequence[tuple[int, int]], begin: int) -> tuple[dict[int, int], int]:
    """Return where each column, or row, begins, and where the last one ends."""
    begins: dict[int, int] = {}
    at = begin
    for number in sorted({number for number, _ in extents}):
        at += _GAP if begins else 0
        begins[number] = at
        at += max(extent for other, extent in extents if other == number)
    return begins, at


def _draw_panel(page: Image.Image, draw: ImageDraw.ImageDraw, panel: Panel, letters: Lettering) -> None:
    height, width = panel.size
    left, top, right, bottom = panel.left, panel.top, panel.left + width, panel.top + height
    page.paste(Image.fromarray(np.ascontiguousarray(panel.pixels())), (left, top))
    draw.rectangle((left - 1, top - 1, right, bottom), outline=_FRAME)
    letters.draw(draw, (left, top - letters.line - 1), panel.title)
    down, across = panel.axes
    middle = top + (height - letters.line) // 2
    letters.draw(draw, (left - _NAME_GAP + 2 - letters.width(down), middle), down, _FAINT)
    letters.draw(draw, (left + (width - letters.width(across)) // 2, bottom + _TICK + 1), across, _FAINT)
    at_row, at_column = panel.ticks
    if at_row is not None:
        y = top + min(height - 1, int(at_row * height))
        draw.line((right + 1, y, right + _TICK, y), fill="black")
    if at_column is not None:
        x = left + min(width - 1, int(at_column * width))
        draw.line((x, bottom + 1, x, bottom + _TICK), fill="black")


@dataclass(frozen=True)
class _Entry:
    """Something in a line of the footer: a bar or a square of colour, and text behind it."""

    x: int
    mark: tuple[int, int]
    color: str
    text: str


class _Footer:
    """Lines below the panels: the scale bar, then the channels, as many in a line as fit, then notes."""

    def __init__(self, letters: Lettering, left: int, width: int) -> None:
        self.letters = letters
        self.left = left
        self.width = width

    def lines(
        self, bar: ScaleBar | None, channels: Sequence[tuple[str, str]], notes: Sequence[str]
    ) -> list[list[_Entry]]:
        """Return what stands in each line."""
        lines: list[list[_Entry]] = []
        if bar is not None:
            lines.append([_Entry(self.left, (bar.pixels, _BAR_HEIGHT), "black", bar.text)])
        square = round(0.7 * self.letters.size)
        x = self.left
        for n, (name, color) in enumerate(channels):
            needed = square + 6 + self.letters.width(name) + _GAP
            if n == 0 or x + needed > self.width:
                lines.append([])
                x = self.left
            lines[-1].append(_Entry(x, (square, square), color, name))
            x += needed
        lines += [[_Entry(self.left, (0, 0), _FAINT, note)] for note in notes]
        return lines

    def height(self, lines: Sequence[object]) -> int:
        """Return how high so many lines are, with the margin below."""
        return _MARGIN + len(lines) * round(1.2 * self.letters.line)

    def draw(self, draw: ImageDraw.ImageDraw, top: int, lines: Sequence[Sequence[_Entry]]) -> None:
        """Draw the lines below a height."""
        for n, line in enumerate(lines):
            y = top + _MARGIN // 2 + n * round(1.2 * self.letters.line)
            for entry in line:
                width, height = entry.mark
                x = entry.x
                if width:
                    middle = y + round(0.55 * self.letters.size)
                    upper = middle - height // 2
                    outline = None if height == _BAR_HEIGHT else _FRAME
                    draw.rectangle(
                        (x, upper, x + width - 1, upper + height - 1), fill=entry.color, outline=outline
                    )
                    x += width + 6
                self.letters.draw(draw, (x, y), entry.text, "black" if width else entry.color)


def _least_width(
    letters: Lettering,
    left: int,
    bar: ScaleBar | None,
    channels: Sequence[tuple[str, str]],
    notes: Sequence[str],
) -> int:
    """Return how wide the page has to be for the widest thing in the footer."""
    widths = [0 if bar is None else bar.pixels + 6 + letters.width(bar.text)]
    widths += [round(0.7 * letters.size) + 6 + letters.width(name) for name, _ in channels]
    widths += [letters.width(note) for note in notes]
    return left + max(widths) + _MARGIN
