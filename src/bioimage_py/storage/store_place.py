"""Where objects are in a store behind an s3:// or gs:// URL, and how the store is reached."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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


@dataclass(frozen=True)
class S3Login:
    """How to prove to S3 who is asking."""

    anonymous: bool = False  # whether requests are not signed
    # Returns the keys for obstore; None: it asks the machine that it runs on.
    provider: Callable[[], Any] | None = field(default=None, repr=False)


@dataclass(frozen=True)
class UnknownLogin:
    """Only TensorStore can log in; `why` follows "because"."""

    why: str


def usual_credentials() -> dict[str, str] | None:
    """Return where TensorStore looks for credentials, as its spec has it; None for all places.

    Only the place that has some is named: for each that it tries in vain it writes lines to stderr.
    """
    found = os.environ
    if found.get("AWS_ACCESS_KEY_ID") and found.get("AWS_SECRET_ACCESS_KEY"):
        return {"type": "environment"}
    if _has_profiles():
        # It finds these only where all three are named.
        config, keys = (str(file) if file.exists() else os.devnull for file in _profile_files())
        profile = found.get("AWS_PROFILE") or "default"
        return {"type": "profile", "profile": profile, "config_file": config, "credentials_file": keys}
    return None if _machine_may_know() else {"type": "anonymous"}


def find_login(credentials: str) -> S3Login | UnknownLogin:
    """Return how to log in to S3 as TensorStore does: with keys from the environment, or what the machine has."""
    if credentials == "anonymous":
        return S3Login(anonymous=True)
    if credentials != "default":
        return UnknownLogin(f"credentials of the kind {credentials!r} are not known to obstore")
    # Releases of TensorStore differ in what else they read, and a key of somebody else would be worse than none.
    kind = (usual_credentials() or {}).get("type")
    if kind == "profile":
        return UnknownLogin(
            "AWS profiles are not read for that: it takes AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    if kind != "environment":
        return S3Login(anonymous=kind == "anonymous")
    keys = {
        "access_key_id": os.environ["AWS_ACCESS_KEY_ID"],
        "secret_access_key": os.environ["AWS_SECRET_ACCESS_KEY"],
        "token": os.environ.get("AWS_SESSION_TOKEN") or None,
    }
    return S3Login(provider=lambda: {**keys, "expires_at": None})


def _has_profiles() -> bool:
    return bool(os.environ.get("AWS_PROFILE")) or any(file.exists() for file in _profile_files())


def _profile_files() -> list[Path]:
    names = (("AWS_CONFIG_FILE", "~/.aws/config"), ("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"))
    return [Path(os.environ.get(variable) or usual).expanduser() for variable, usual in names]


def _machine_may_know() -> bool:
    """Whether this is a machine, or a container, of Amazon's that hands out credentials."""
    found = os.environ
    named = (
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    )
    if any(found.get(name) for name in named):
        return True
    return found.get("AWS_EC2_METADATA_DISABLED", "").lower() != "true" and _is_amazons()


def _is_amazons() -> bool:
    if os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT"):
        return True
    for name in ("sys_vendor", "bios_vendor", "product_version"):
        with contextlib.suppress(OSError):
            if "amazon" in Path("/sys/class/dmi/id", name).read_text(errors="replace").lower():
                return True
    return sys.platform == "win32"  # it does not say
