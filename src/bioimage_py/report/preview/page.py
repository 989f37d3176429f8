"""Pictures: panels in a grid in the proportion of the object, with titles, a scale bar and the channels; and their files."""

from __future__ import annotations

import io
import math
import os
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from bioimage_py.chunks import AnyArray
from bioimage_py.errors import Hint, InvalidArgumentError, OutputExistsError, SourceNotFoundError
from bioimage_py.metadata import ImageMetadata, unit_ratio
from bioimage_py.storage import FileFolder, is_url, path_text

_MARGIN = 10
_GAP = 14
_TICK = 5
_NAME_GAP = 8
_BAR_HEIGHT = 5
_MARK_GAP = 6
_FRAME = "#909090"
_FAINT = "#505050"
_SPELLED = {"×": "x", "\u2013": "-", "\u2014": "-", "µ": "µ", "μ": "µ", "Å": "Å", "\u212b": "Å"}
_BASES = str.maketrans("µÅ", "uA")
_LARGEST_VOXEL = 8
"""Pixels to which the finest voxels are enlarged at most."""
_SHOWN = (("km", 1e3), ("m", 1.0), ("mm", 1e-3), ("µm", 1e-6), ("nm", 1e-9), ("pm", 1e-12))
_BAR = 1 / 3
_FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF", "PDF")
"""Formats for pictures; Pillow knows many more endings, also of formats that hold no picture."""


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


class ScaleBar(NamedTuple):
    """A bar of a round length: how long it is drawn, and what is written beside it."""

    pixels: int
    text: str


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture of an image. In a notebook it shows itself.

    Attributes
    ----------
    pixels
        Height × width × 3 bytes: red, green, blue.
    panels
        Its panels, the main one first: title, names of the axes, position and size.
    scale_bar
        Its length in pixels and its text; None where the voxel size is not known.
    level
        Name of the array that was read: the image itself, or a coarser level.
    read_bytes
        How many bytes of decoded chunks it took.
    path
        Where it was written, or None.
    """

    pixels: AnyArray
    panels: tuple[Panel, ...]
    scale_bar: ScaleBar | None
    level: str
    read_bytes: int
    path: str | None = None

    def __repr__(self) -> str:
        height, width = self.pixels.shape[:2]
        titles = ", ".join(panel.title for panel in self.panels if panel.title)
        return f"<Picture {width}×{height} of {self.level}{': ' + titles if titles else ''}>"

    def encoded(self, format: str = "PNG") -> bytes:
        """Return the bytes of a file in a format that Pillow writes, such as `"PNG"` or `"JPEG"`."""
        file = io.BytesIO()
        options = {"quality": 92} if format == "JPEG" else {"optimize": True} if format == "PNG" else {}
        Image.fromarray(self.pixels).save(file, format, **options)
        return file.getvalue()

    def save(self, output: str | os.PathLike[str], *, overwrite: bool = False) -> str:
        """Write the picture, whole or not at all, and return its path; the ending chooses the format.

        Raises
        ------
        InvalidArgumentError
            If the ending is not that of a picture format.
        OutputExistsError
            If a file exists that may not be replaced.
        SourceNotFoundError
            If the folder does not exist.
        """
        path, format = picture_format(output)
        check_free(path, overwrite=overwrite)
        place = Path(path)
        FileFolder(str(place.parent)).write(place.name, self.encoded(format))
        return path

    def _repr_png_(self) -> bytes:
        return self.encoded()


def picture_format(output: str | os.PathLike[str]) -> tuple[str, str]:
    """Return the path and the name of the format that its ending chooses; raise InvalidArgumentError if it chooses none."""
    path = os.path.expanduser(path_text(output))  # noqa: PTH111 - a text stays a text
    if is_url(path):
        raise InvalidArgumentError(f"a picture is written into a local file, and {path!r} is a URL")
    ending = Path(path).suffix.lower()
    Image.init()
    known = {e: n for e, n in Image.registered_extensions().items() if n in _FORMATS and n in Image.SAVE}
    if ending not in known:
        said = f"the ending {ending!r}" if ending else "no ending"
        raise InvalidArgumentError(
            f"{path!r} has {said}, which is not that of a picture format: choose one of {', '.join(sorted(known))}"
        )
    return path, known[ending]


def check_free(path: str, *, overwrite: bool) -> None:
    """Raise if a picture cannot be put at a path, before anything is read."""
    place = Path(path)
    if place.is_dir():
        raise OutputExistsError(
            f"{path!r} is a folder: give the name of a file, such as {str(place / 'preview.png')!r}"
        )
    if os.path.lexists(path) and not overwrite:
        raise OutputExistsError(
            f"{path!r} already exists",
            hints=[Hint("give another name"), Hint.of("or, to replace it, give {}", overwrite=True)],
        )
    if not place.parent.is_dir():
        raise SourceNotFoundError(
            f"there is no folder {str(place.parent)!r} to write {place.name!r} into: make it first"
        )


class Proportions(NamedTuple):
    """How axes are drawn: the extent of each in pixels, how large a pixel is, and the unit that all of them have."""

    pixels: dict[int, int]
    meters_per_pixel: float | None
    unit: str | None = None


def drawn_sizes(
    shape: Sequence[int], axes: Sequence[int], metadata: ImageMetadata, longest: int
) -> Proportions:
    """Return how many pixels each axis takes, the longest one at most `longest`.

    Axes keep the proportion of their voxel sizes, units included. Where a voxel size is not known, voxels are cubes.
    """
    known = metadata.fitting(len(shape))
    units = {axis: known.units[axis] if known.units else None for axis in axes}
    size = {axis: known.voxel_size[axis] if known.voxel_size else 1.0 for axis in axes}
    factors = [unit_ratio(unit, "meter") for unit in units.values()]
    in_meters = known.voxel_size is not None and None not in factors
    if in_meters:
        size = {axis: size[axis] * (factor or 1.0) for axis, factor in zip(axes, factors, strict=True)}
    per_length = min(
        longest / max(shape[axis] * size[axis] for axis in axes), _LARGEST_VOXEL / min(size.values())
    )
    pixels = {axis: max(1, round(shape[axis] * size[axis] * per_length)) for axis in axes}
    unit = units[axes[0]] if len(set(units.values())) == 1 else None
    return Proportions(pixels, 1 / per_length if in_meters else None, unit)


def scale_bar(meters_per_pixel: float | None, widest: int, unit: str | None = None) -> ScaleBar | None:
    """Return the longest bar of 1, 2 or 5 times a power of ten that takes a third of `widest` pixels at most.

    Its length is in a unit of SI, or in Å where that is the `unit` of the image and the bar is shorter than 10 nm. There is
    none where the size of a pixel is not known, or where it would be shorter than a few pixels.
    """
    if meters_per_pixel is None:
        return None
    most = meters_per_pixel * widest * _BAR
    power = math.floor(math.log10(most))
    # A limit that is itself a round length must not be missed by the last bit.
    digit = max(d for d in (1, 2, 5, 10) if d * 10.0**power <= most * (1 + 1e-9) or d == 1)
    length = digit * 10.0**power
    pixels = round(length / meters_per_pixel)
    if pixels < 4:
        return None
    if unit == "angstrom" and length < 0.99e-8:
        return ScaleBar(pixels, f"{length / 1e-10:g} Å")
    symbol, factor = next((one for one in _SHOWN if length >= one[1] * (1 - 1e-9)), _SHOWN[-1])
    return ScaleBar(pixels, f"{length / factor:g} {symbol}")


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
    square = (round(0.7 * font_size), round(0.7 * font_size))
    first = [] if bar is None else [_Item((bar.pixels, _BAR_HEIGHT), "black", bar.text)]
    items = [_Item(square, color, name) for name, color in channels]
    last = [_Item((0, 0), _FAINT, note) for note in notes]
    left = placed[0].left
    width = max([width, *(left + item.width(letters) + _MARGIN for item in (*first, *items, *last))])
    lines = [*([item] for item in first), *_wrapped(items, letters, width - left), *([item] for item in last)]
    line_height = round(1.2 * letters.line)
    page = Image.new("RGB", (width, height + _MARGIN + len(lines) * line_height), "white")
    draw = ImageDraw.Draw(page)
    for panel in placed:
        _draw_panel(page, draw, panel, letters)
    for n, line in enumerate(lines):
        x = left
        for item in line:
            item.draw(draw, (x, height + _MARGIN // 2 + n * line_height), letters)
            x += item.width(letters) + _GAP
    return np.asarray(page), placed


def _placed(panels: Sequence[Panel], letters: Lettering) -> tuple[list[Panel], tuple[int, int]]:
    """Put panels into a grid whose columns and rows are as wide and high as their panels need."""
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

    mark: tuple[int, int]
    color: str
    text: str

    def width(self, letters: Lettering) -> int:
        return (self.mark[0] + _MARK_GAP if self.mark[0] else 0) + letters.width(self.text)

    def draw(self, draw: ImageDraw.ImageDraw, at: tuple[int, int], letters: Lettering) -> None:
        (x, top), (width, height) = at, self.mark
        if width:
            upper = top + round(0.55 * letters.size) - height // 2
            outline = None if height == _BAR_HEIGHT else _FRAME
            draw.rectangle((x, upper, x + width - 1, upper + height - 1), fill=self.color, outline=outline)
            x += width + _MARK_GAP
        letters.draw(draw, (x, top), self.text, "black" if width else self.color)


def _wrapped(items: Sequence[_Item], letters: Lettering, width: int) -> list[list[_Item]]:
    """Return lines with as many items as fit."""
    lines: list[list[_Item]] = []
    x = 0
    for item in items:
        needed = item.width(letters) + _GAP
        if not lines or x + needed > width:
            lines.append([])
            x = 0
        lines[-1].append(item)
        x += needed
    return lines


class Lettering:
    """Measures and draws lines of text in Pillow's own font, which is the same on every computer and has hardly more than ASCII.

    The signs of units that it lacks are put together: µ is a u with a tail, Å an A below a ring. Greek letters are spelled.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.line = round(1.3 * size)  # height of a line, with what stands below it
        self._font = ImageFont.load_default(size)

    def width(self, text: str) -> int:
        return round(self._font.getlength(self._known(text).translate(_BASES))) + 1

    def draw(self, draw: ImageDraw.ImageDraw, at: tuple[int, int], text: str, color: str = "black") -> None:
        """Draw a text to the right of and below a point."""
        known = self._known(text)
        plain = known.translate(_BASES)
        draw.text(at, plain, fill=color, font=self._font, anchor="la")
        stroke = max(1, round(self.size / 12))
        for n, letter in enumerate(known):
            left, top, right, bottom = self._font.getbbox(plain[n], anchor="la")
            x = at[0] + round(self._font.getlength(plain[:n]) + left)
            if letter == "µ":
                foot = at[1] + round(bottom)
                tail = (x + 1, foot - self.size // 4, x + stroke, foot + self.size // 5)
                draw.rectangle(tail, fill=color)
            elif letter == "Å":
                radius, head = max(1, round(self.size / 9)), at[1] + round(top)
                middle = x + round(right - left) // 2
                draw.ellipse((middle - radius, head - 2 * radius, middle + radius, head), None, color, stroke)

    def _known(self, text: str) -> str:
        """Return a text of letters that can be drawn: others without their accents, spelled, or as a question mark."""
        return "".join(_drawable(self._font, letter) for letter in text if letter.isprintable())


@cache
def _drawable(font: Any, letter: str) -> str:
    if letter in _SPELLED:
        return _SPELLED[letter]
    base = unicodedata.normalize("NFKD", letter)[:1]
    # The font draws one and the same box for every letter that it lacks.
    for one in (letter, base):
        if one == " " or bytes(font.getmask(one)) != bytes(font.getmask("\u4e2d")):
            return one
    name = unicodedata.name(base, "")
    return name.split()[-1].lower() if name.startswith("GREEK SMALL") else "?"
