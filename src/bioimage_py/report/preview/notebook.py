"""How a source shows itself in a notebook: a table of what is known of it, and a small picture where that costs little."""

from __future__ import annotations

import base64
import warnings

from bioimage_py.errors import InvalidArgumentError
from bioimage_py.planning import format_bytes
from bioimage_py.report.description import source_rows
from bioimage_py.sources import FileSource, NumpySource, Source, leaves
from bioimage_py.storage import is_url
from bioimage_py.text import escaped, rows_html

_READ_LIMIT = 64 * 2**20
_SIZE = 256
_BY_HAND = "bioimage_py.preview(source) makes one"


def source_html(source: Source) -> str:
    """Return HTML with a table and, where that costs little, a picture; it never raises and never reads much.

    There is a picture where it takes at most 64 MiB of decoded voxels from memory or local files. Of wrappers, whose costs
    are not known, all inputs must be as small. Otherwise the reason is given below the table.
    """
    try:
        rows = [*source_rows(source), ("size", f"{format_bytes(source.nbytes)} uncompressed")]
    except Exception as error:  # noqa: BLE001 - a notebook must show something; the reason is shown
        rows = [("image", type(source).__name__), ("not known", _reason(error))]
    try:
        picture, remarks = _picture(source)
    except Exception as error:  # noqa: BLE001 - the same
        picture, remarks = "", [f"no picture: {_reason(error)}"]
    below = "".join(f"<div><small>{escaped(remark)}</small></div>" for remark in remarks)
    return (
        '<div style="display:flex;flex-wrap:wrap;gap:1em;align-items:flex-start">'
        f"<div>{rows_html(rows)}{below}</div>{picture}</div>"
    )


def _picture(source: Source) -> tuple[str, list[str]]:
    """Return the picture as HTML, and remarks on it."""
    _check_cheap(source)
    from bioimage_py.report.look import Look
    from bioimage_py.report.preview.show import picture_of

    with warnings.catch_warnings(record=True) as issued:
        warnings.simplefilter("always")
        picture = picture_of(source, Look(size=_SIZE, read_limit=_READ_LIMIT))
    data = base64.b64encode(picture.encoded()).decode("ascii")
    remarks = [_reason(warning.message) for warning in issued]
    return f'<img alt="{escaped(repr(picture))}" src="data:image/png;base64,{data}">', remarks


def _check_cheap(source: Source) -> None:
    """Raise if reading a few voxels may take long, or may take reading all of them."""
    below = list(leaves(source))
    computed = getattr(source, "kind", None) != "described" and below != [source]
    n_bytes = sum(leaf.nbytes for leaf in below)
    for leaf in below:
        if isinstance(leaf, NumpySource):
            continue
        if not isinstance(leaf, FileSource):
            raise InvalidArgumentError(f"reading {leaf.name} may take long; {_BY_HAND}")
        if is_url(leaf.path):
            raise InvalidArgumentError(f"{leaf.name} is behind a network; {_BY_HAND}")
        computed = computed or leaf.path.lower().endswith(".gz")
    if computed and n_bytes > _READ_LIMIT:
        raise InvalidArgumentError(
            f"it may take reading all of {format_bytes(n_bytes)}, and {format_bytes(_READ_LIMIT)} is the limit here; {_BY_HAND}"
        )


def _reason(error: object) -> str:
    return " ".join(str(error).split()) or type(error).__name__
