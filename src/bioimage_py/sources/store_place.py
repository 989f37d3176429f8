"""Where objects are in a store behind an s3:// or gs:// URL, and how the store is reached."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bioimage_py.sources.store_credentials import usual_credentials

__all__ = ["StorePlace"]

_SCHEMES = {"s3": "s3", "gcs": "gs"}


@dataclass(frozen=True)
class StorePlace:
    """The beginning that the names of some objects share, in a bucket of an object store.

    Attributes
    ----------
    scheme
        `"s3"` or `"gs"`.
    bucket
        Its name.
    begin
        What the names begin with; ends with a slash unless it is empty.
    endpoint
        URL of the server, None for the maker's own.
    region
        Of the bucket, None where nobody said it.
    credentials
        How whoever reads and writes here proves who it is, in TensorStore's words: `"default"`, `"anonymous"`, or another.
    """

    scheme: str
    bucket: str
    begin: str
    endpoint: str | None = None
    region: str | None = None
    credentials: str = "default"

    @classmethod
    def of_spec(cls, spec: Mapping[str, Any]) -> StorePlace | None:
        """Return the place that TensorStore's JSON of a key-value store means; None if that is no object store."""
        scheme = _SCHEMES.get(spec.get("driver", ""))
        if scheme is None:
            return None
        said = spec.get("aws_credentials")
        return cls(
            scheme,
            str(spec["bucket"]),
            str(spec.get("path", "")),
            spec.get("endpoint"),
            spec.get("aws_region"),
            str(said.get("type", "default"))
            if isinstance(said, Mapping) and said != usual_credentials()
            else "default",
        )
