"""Where objects are in a store behind an s3:// or gs:// URL, and how the store is reached."""

from __future__ import annotations

import configparser
import contextlib
import functools
import os
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from bioimage_py.errors import Hint, InvalidArgumentError
from bioimage_py.system import machine_vendors

URL_OPTIONS = ("endpoint", "region", "anonymous", "profile")
"""What a URL needs to be reached, beyond itself; credentials are not among them."""

_access: ContextVar[Mapping[str, Any] | None] = ContextVar("access to stores", default=None)


def url_options(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return how a URL that is open already was reached: all there is to say, so that `stores_reached` adds nothing."""
    return {name: spec.get(name) for name in URL_OPTIONS}


@contextlib.contextmanager
def stores_reached(options: Mapping[str, Any]) -> Iterator[None]:
    """Reach s3:// URLs that are opened meanwhile in this thread as the options say, unless they have options of their own."""
    token = _access.set(options or _access.get())
    try:
        yield
    finally:
        _access.reset(token)


def checked_access(path: str, scheme: str, options: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the options of a URL, or those in force where it has none."""
    if not options and scheme == "s3":
        options = _access.get()
    found = {name: value for name, value in (options or {}).items() if value is not None}
    endpoint = found.get("endpoint", "http://")
    if not isinstance(endpoint, str) or not endpoint.lower().startswith(("http://", "https://")):
        raise InvalidArgumentError(
            f"endpoint must be the URL of a server, such as 'https://s3.example.org', got {endpoint!r}"
        )
    if found.get("anonymous") and found.get("profile"):
        raise InvalidArgumentError(f"{path} can be reached either with a profile or anonymously")
    return found


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


def credentials_of(kvstore: Any) -> Any:
    """Return where an open key-value store of TensorStore has its credentials for S3 from; None for the usual places."""
    spec = kvstore.spec(retain_context=True).to_json()
    said = spec.get("aws_credentials")
    return spec.get("context", {}).get(said) if isinstance(said, str) else said


def s3_access(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return how TensorStore reaches S3: as the options say, else the environment, else the profile in use, as other tools have it."""
    profile = options.get("profile")
    said = functools.partial(_first_set, os.environ)
    settings = _profiles().get(profile or said("AWS_PROFILE") or "default", {})
    endpoint = (
        options.get("endpoint")
        or said("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
        or settings.get("endpoint_url")
    )
    region = options.get("region") or said("AWS_REGION", "AWS_DEFAULT_REGION") or settings.get("region")
    found: dict[str, Any] = {}
    if endpoint:
        found["endpoint"] = endpoint
        # Other makers' stores take any region, but TensorStore would ask a non-AWS endpoint for it in vain.
        region = region or "us-east-1"
    if region:
        found["aws_region"] = region
    if options.get("anonymous"):
        credentials: dict[str, str] | None = {"type": "anonymous"}
    else:
        credentials = usual_credentials() if profile is None else _of_profile(profile)
    if credentials is not None:
        found["aws_credentials"] = credentials
    return found


def _first_set(where: Mapping[str, str], *names: str) -> str | None:
    return next((where[name] for name in names if where.get(name)), None)


def _of_profile(profile: str) -> dict[str, str]:
    if profile not in (known := _profiles()):
        files = " and ".join(str(file) for file in _profile_files())
        raise InvalidArgumentError(
            f"there is no AWS profile {profile!r} in {files}"
            + (f"; there is {', '.join(sorted(known))}" if known else ""),
            hints=[Hint.of("name another one with {}, or set AWS_PROFILE", profile=...)],
        )
    # TensorStore finds these only where all three are named.
    config, keys = (str(file) if file.exists() else os.devnull for file in _profile_files())
    return {"type": "profile", "profile": profile, "config_file": config, "credentials_file": keys}


def usual_credentials() -> dict[str, str] | None:
    """Return where TensorStore looks for credentials, as its spec has it; None for all places.

    Only the place that has some is named: for each that it tries in vain it writes lines to stderr.
    """
    found = os.environ
    if found.get("AWS_ACCESS_KEY_ID") and found.get("AWS_SECRET_ACCESS_KEY"):
        return {"type": "environment"}
    profile = found.get("AWS_PROFILE") or "default"
    if found.get("AWS_PROFILE") or profile in _profiles():
        return _of_profile(profile)
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


_RETRIES = {"max_retries": 4, "retry_timeout": timedelta(seconds=20)}
_PATIENT_RETRIES = {
    "max_retries": 12,
    "retry_timeout": timedelta(seconds=90),
    "backoff": {"init_backoff": timedelta(seconds=0.5), "max_backoff": timedelta(seconds=8), "base": 2},
}


def open_bucket(place: StorePlace, timeout: float = 30.0, *, patient: bool = False) -> Any:
    """Return obstore's client of a bucket, or why there cannot be one, as it follows "because".

    An answer may take so many seconds; with `patient`, a store that does not answer is asked for longer than a person waits.
    """
    login = find_login(place.credentials)
    if isinstance(login, str):
        return login
    if place.region is None:
        return f"nobody said the region of bucket {place.bucket!r} (region=, or AWS_REGION)"
    from obstore.store import S3Store

    maker = "amazonaws.com.cn" if place.region.startswith("cn-") else "amazonaws.com"
    # All is said here: obstore reads more of the environment than TensorStore does.
    endpoint = place.endpoint or f"https://s3.{place.region}.{maker}"
    return S3Store(
        place.bucket,
        endpoint=endpoint,
        region=place.region,
        virtual_hosted_style_request=False,
        client_options={"allow_http": endpoint.startswith("http://"), "timeout": timedelta(seconds=timeout)},
        retry_config=_PATIENT_RETRIES if patient else _RETRIES,
        **login,
    )


def _profile_files() -> list[Path]:
    names = (("AWS_CONFIG_FILE", "~/.aws/config"), ("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"))
    return [Path(os.environ.get(variable) or usual).expanduser() for variable, usual in names]


def _profiles() -> dict[str, dict[str, str]]:
    """Return the settings of the profiles in the files of other AWS tools, by their names; keys are among them."""
    found: dict[str, dict[str, str]] = {}
    for file in _profile_files():
        with contextlib.suppress(OSError):
            for name, settings in _sections(file, file.stat().st_mtime_ns).items():
                found.setdefault(name.removeprefix("profile "), {}).update(settings)
    return found


@functools.lru_cache(maxsize=8)
def _sections(file: Path, changed: int) -> dict[str, dict[str, str]]:
    del changed
    parser = configparser.RawConfigParser(strict=False, default_section="")
    try:
        parser.read(file, encoding="utf-8")
    except (configparser.Error, ValueError) as error:
        raise InvalidArgumentError(f"the profiles in {str(file)!r} cannot be read: {error}") from error
    return {name: dict(parser[name]) for name in parser.sections()}


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
