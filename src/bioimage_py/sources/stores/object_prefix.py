"""All objects of a store whose names begin alike, as a folder on a disk would hold them: found by name, and removed together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bioimage_py.errors import InvalidArgumentError
from bioimage_py.sources.base import Source
from bioimage_py.storage import url_options


def options_of(source: Source) -> Mapping[str, Any] | None:
    """Return how the URL of a source is reached; None for a live handle, which knows that by itself."""
    try:
        spec = source.to_spec()
    except InvalidArgumentError:
        return None
    return None if "tensorstore" in spec else url_options(spec)
