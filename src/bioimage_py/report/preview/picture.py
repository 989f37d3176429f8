"""A picture in memory, and writing it into a file."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from bioimage_py.chunks import AnyArray
from bioimage_py.errors import Hint, InvalidArgumentError, OutputExistsError, SourceNotFoundError
from bioimage_py.report.preview.page import Panel
from bioimage_py.report.proportions import ScaleBar
from bioimage_py.storage import FileFolder, is_url, path_text


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture of an image. In a notebook it shows itself.

    Attributes
    ----------
    pixels
        Height × width × 3 bytes: red, green, blue.
    panels
        What is on it, the main panel first: title, names of the axes, and where it lies.
    scale_bar
        Its length in pixels, and what is written beside it; None where the size of a voxel is not known.
    level
        Name of the array that was read: the image itself, or a coarser level of it.
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
            If the ending names no format of pictures.
        OutputExistsError
            If something is there that may not be replaced.
        SourceNotFoundError
            If the folder is not there.
        """
        path, format = picture_format(output)
        check_free(path, overwrite=overwrite)
        place = Path(path)
        FileFolder(str(place.parent)).write(place.name, self.encoded(format))
        return path

    def _repr_png_(self) -> bytes:
        return self.encoded()


_FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF", "PDF")
"""What people take pictures in; Pillow knows many more endings, also such that hold no picture."""


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
            f"{path!r} has {said}, which names no format of pictures: choose one of {', '.join(sorted(known))}"
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
            f"{path!r} is there already",
            hints=[Hint("give another name"), Hint.of("or, to replace it, give {}", overwrite=True)],
        )
    if not place.parent.is_dir():
        raise SourceNotFoundError(
            f"there is no folder {str(place.parent)!r} to write {place.name!r} into: make it first"
        )
