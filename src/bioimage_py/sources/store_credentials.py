"""The credentials for S3 that TensorStore would find, for another library that looks in fewer places."""

from __future__ import annotations

import configparser
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["S3Login", "UnknownLogin", "find_login"]


@dataclass(frozen=True)
class S3Login:
    """How to prove to S3 who is asking.

    Attributes
    ----------
    anonymous
        Whether requests are not signed.
    provider
        Returns the keys, as obstore wants them; None where obstore finds them itself: it asks the machine that it runs on.
    """

    anonymous: bool = False
    provider: Callable[[], Any] | None = field(default=None, repr=False)


@dataclass(frozen=True)
class UnknownLogin:
    """The answer where only TensorStore can log in, and the reason in words that follow "because"."""

    why: str


def find_login(credentials: str) -> S3Login | UnknownLogin:
    """Return how to log in to S3 as TensorStore would: by the environment, a profile, or what the machine itself has.

    Parameters
    ----------
    credentials
        As in `StorePlace`.
    """
    if credentials == "anonymous":
        return S3Login(anonymous=True)
    if credentials != "default":
        return UnknownLogin(f"credentials of the kind {credentials!r} are not known to obstore")
    found = os.environ
    keys = [found.get(f"AWS_{name}") for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN")]
    if not (keys[0] and keys[1]):
        try:
            profile = _profile()
        except (configparser.Error, OSError, UnicodeDecodeError):
            # What is in it stays unsaid: the error would show lines of a file that holds secrets.
            return UnknownLogin("the files of AWS profiles cannot be read")
        if profile.get("role_arn"):
            return UnknownLogin("the AWS profile takes a role, which obstore cannot do")
        keys = [
            profile.get(f"aws_{name}") for name in ("access_key_id", "secret_access_key", "session_token")
        ]
    if not (keys[0] and keys[1]):
        return S3Login(anonymous=not _machine_may_know())
    said = {"access_key_id": keys[0], "secret_access_key": keys[1], "token": keys[2] or None}
    return S3Login(provider=lambda: {**said, "expires_at": None})


def _profile() -> dict[str, str]:
    """Return what the files of profiles say of the one that is named; the file of credentials has the last word."""
    name = os.environ.get("AWS_PROFILE") or "default"
    in_config = name if name == "default" else f"profile {name}"
    found: dict[str, str] = {}
    for variable, file, section in (
        ("AWS_CONFIG_FILE", "config", in_config),
        ("AWS_SHARED_CREDENTIALS_FILE", "credentials", name),
    ):
        place = Path(os.environ.get(variable) or Path("~/.aws", file)).expanduser()
        parsed = configparser.ConfigParser(interpolation=None, strict=False, default_section="")
        parsed.read(place, encoding="utf-8")
        if parsed.has_section(section):
            found |= parsed[section]
    return found


def _machine_may_know() -> bool:
    """Whether TensorStore would ask the machine for credentials; if not, and if there are none, it goes without."""
    found = os.environ
    named = (
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    )
    return any(found.get(name) for name in named) or (
        found.get("AWS_EC2_METADATA_DISABLED", "").lower() != "true"
    )
