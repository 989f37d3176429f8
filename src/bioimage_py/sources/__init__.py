"""Sources: one contract, one module per storage family, all behind one lazy registry."""

from bioimage_py.sources.array_spec import ArraySpec, Codec
from bioimage_py.sources.base import AnyArray, FileSource, Source, SourceSpec, StoredSize
from bioimage_py.sources.creating import create_output
from bioimage_py.sources.described import with_metadata
from bioimage_py.sources.opening import as_source, from_spec, open_source

__all__ = [
    "AnyArray",
    "ArraySpec",
    "Codec",
    "FileSource",
    "Source",
    "SourceSpec",
    "StoredSize",
    "as_source",
    "create_output",
    "from_spec",
    "open_source",
    "with_metadata",
]
