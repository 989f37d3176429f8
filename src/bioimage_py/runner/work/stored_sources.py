"""Sources in a run folder: how other processes open them again, and by what it is found that one was changed."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from bioimage_py.errors import InvalidArgumentError, NotPortableError
from bioimage_py.sources import Source, SourceSpec, from_spec, leaves
from bioimage_py.storage import is_url


def input_spec(source: Source) -> SourceSpec:
    """Return a source as JSON, to be read; raises NotPortableError if it exists in this process only."""
    return {**_spec(source), "mode": "r"}


def output_spec(source: Source, *, alone: bool = False) -> SourceSpec:
    """Return a source as JSON, to be written by several processes at once unless `alone`; raises NotPortableError if that cannot be."""
    if not (source.concurrent_writes or (alone and source.mark_place() is not None)):
        raise NotPortableError(
            f"output {source.name} is {source.format}, which several processes cannot write at once: distributed runs need a "
            "chunked output such as Zarr or N5"
        )
    return {**_spec(source), "mode": "r+"}


def opened_sources(
    stored: Mapping[str, Any], threads: int, cache_bytes: int
) -> tuple[list[Source], list[Source], Source | None]:
    """Open inputs, outputs and mask of stored work."""
    mask = stored["mask"]
    return (
        [from_spec(spec).for_run(threads, cache_bytes) for spec in stored["inputs"]],
        [from_spec(spec).for_run(threads, 0) for spec in stored["outputs"]],
        None if mask is None else from_spec(mask).for_run(threads, 0),
    )


def _spec(source: Source) -> SourceSpec:
    try:
        spec = source.to_spec()
    except InvalidArgumentError as error:
        raise NotPortableError(str(error)) from error
    _refuse_secrets(spec)
    return spec


def _refuse_secrets(spec: Any) -> None:
    """Raise NotPortableError for URLs that may hold a credential: what is in a run folder is written to a disk."""
    if isinstance(spec, (Mapping, list, tuple)):
        for value in spec.values() if isinstance(spec, Mapping) else spec:
            _refuse_secrets(value)
    elif isinstance(spec, str) and is_url(spec):
        parts = urlsplit(spec)
        if parts.query or parts.fragment or "@" in parts.netloc:
            where = "a query ('?…')" if parts.query else "a user or a fragment"
            raise NotPortableError(
                f"the URL {urlunsplit((parts.scheme, parts.netloc.rpartition('@')[2], parts.path, '', ''))} has {where}, which can "
                "hold a credential, and credentials are not written into run folders: give it without, and the credential in the "
                "environment (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, GOOGLE_APPLICATION_CREDENTIALS, NETRC), or run it "
                "locally without a run folder"
            )


def input_fingerprint(source: Source | None, written: Collection[Any] = ()) -> dict[str, Any] | None:
    """Return the layout of a source that is read, and what shows that it was changed; not for what the run itself writes."""
    if source is None:
        return None
    stamps = {
        os.path.abspath(leaf.name) if "://" not in leaf.name else leaf.name: leaf.stored_stamp()  # noqa: PTH100 - a text
        for leaf in leaves(source)
        if not leaf.identities().intersection(written)
    }
    return {**output_fingerprint(source), "voxels stored in": stamps}


def output_fingerprint(source: Source) -> dict[str, Any]:
    return {
        "stored": _without_pickles({k: v for k, v in source.to_spec().items() if k != "mode"}),
        "shape": list(source.shape),
        "dtype": source.dtype.str,
        "chunks": None if source.chunks is None else list(source.chunks),
        "shards": None if source.shards is None else list(source.shards),
        "codec": source.codec,
        "fill value": str(source.fill_value),
    }


def _without_pickles(spec: Any) -> Any:
    """Return a spec without its pickled functions: the same function's pickle differs from one process to the next."""
    if isinstance(spec, dict):
        return {k: "a function" if k == "$pickle" else _without_pickles(v) for k, v in spec.items()}
    if isinstance(spec, list):
        return [_without_pickles(item) for item in spec]
    return spec
