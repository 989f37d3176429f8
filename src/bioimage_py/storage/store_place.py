"""Where objects are in a store behind an s3:// or gs:// URL, and how the store is reached."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bioimage_py.system import machine_vendors

_SCHEMES = {"s3": "s3", "gcs": "gs"}


@dataclass(frozen=True)
class StorePlace:
    """The prefix that the names of some objects share, in a bucket of an object store."""

    scheme: str  # `"s3"` or `"gs"`
    bucket: str
    begin: str  # of the names; ends with a slash unless it is empty
    endpoint: str | None = None  # URL of the server, None: the maker's own
    region: str | None = None
    credentials: str = "default"  # or `"anonymous"`, or another of TensorStore's words

    @classmethod
    def of_spec(cls, spec: Mapping[str, Any]) -> StorePlace | None:
        """Return the place that TensorStore's JSON of a key-value store names; None for other stores."""
        scheme = _SCHEMES.get(spec.get("driver", ""))
        if scheme is None:
            return None
        said = spec.get("aws_credentials")
        if not isinstance(said, Mapping) or said == usual_credentials():
            said = {}
        bucket, begin = str(spec["bucket"]), str(spec.get("path", ""))
        kind = str(said.get("type", "default"))
        return cls(scheme, bucket, begin, spec.get("endpoint"), spec.get("aws_region"), kind)


def usual_credentials() -> dict[str, str] | None:
    """Return where TensorStore looks for credentials, as its spec has it; None for all places.

    Only the place that has some is named: for each that it tries in vain it writes lines to stderr.
    """
    found = os.environ
    if found.get("AWS_ACCESS_KEY_ID") and found.get("AWS_SECRET_ACCESS_KEY"):
        return {"type": "environment"}
    if found.get("AWS_PROFILE") or any(file.exists() for file in _profile_files()):
        # It finds these only where all three are named.
        config, keys = (str(file) if file.exists() else os.devnull for file in _profile_files())
        profile = found.get("AWS_PROFILE") or "default"
        return {"type": "profile", "profile": profile, "config_file": config, "credentials_file": keys}
    return None if _machine_may_know() else {"type": "anonymous"}


def find_login(credentials: str) -> dict[str, Any] | str:
    """Return what obstore's `S3Store` needs to log in to S3 as TensorStore does, or why it cannot, as it follows "because"."""
    if credentials == "anonymous":
        return {"skip_signature": True}
    if credentials != "default":
        return f"credentials of the kind {credentials!r} are not known to obstore"
    # Releases of TensorStore differ in what else they read, and a key of somebody else would be worse than none.
    kind = (usual_credentials() or {}).get("type")
    if kind == "profile":
        return "AWS profiles are not read for that: it takes AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    if kind != "environment":
        return {"skip_signature": kind == "anonymous"}
    keys = {
        "access_key_id": os.environ["AWS_ACCESS_KEY_ID"],
        "secret_access_key": os.environ["AWS_SECRET_ACCESS_KEY"],
        "token": os.environ.get("AWS_SESSION_TOKEN") or None,
    }
    # Said, because obstore would listen to AWS_SKIP_SIGNATURE, and TensorStore does not.
    return {"skip_signature": False, "credential_provider": lambda: {**keys, "expires_at": None}}


def _profile_files() -> list[Path]:
    names = (("AWS_CONFIG_FILE", "~/.aws/config"), ("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"))
    return [Path(os.environ.get(variable) or usual).expanduser() for variable, usual in names]


_NAMED_BY_AMAZON = (
    "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"
)  # fmt: skip


def _machine_may_know() -> bool:
    """Whether this is a machine, or a container, of Amazon's that hands out credentials."""
    found = os.environ
    if any(map(found.get, _NAMED_BY_AMAZON)):
        return True
    if found.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true":
        return False
    if found.get("AWS_EC2_METADATA_SERVICE_ENDPOINT"):
        return True
    vendors = machine_vendors()
    return vendors is None or any("amazon" in said.lower() for said in vendors)
