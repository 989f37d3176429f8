"""Where objects are in a store behind an s3://, gs:// or az:// URL, and how the store is reached."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bioimage_py.errors import Hint, InvalidArgumentError, MissingDependencyError
from bioimage_py.storage.names import unknown_options, url_decoded
from bioimage_py.system import machine_vendors

URL_OPTIONS = ("endpoint", "region", "anonymous", "profile")
"""What a URL needs to be reached, beyond itself; credentials are not among them."""

_TAKEN = {"s3": URL_OPTIONS, "az": ("endpoint", "anonymous")}
"""Those of them that URLs take, by scheme."""

_access: ContextVar[Mapping[str, Any] | None] = ContextVar("access to stores", default=None)


def url_options(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return how a URL that is open already was reached: all there is to say, so that `stores_reached` adds nothing."""
    return {name: spec.get(name) for name in URL_OPTIONS}


@contextlib.contextmanager
def stores_reached(options: Mapping[str, Any]) -> Iterator[None]:
    """Reach s3:// and az:// URLs that are opened meanwhile in this thread as the options say, unless they have options of their own."""
    token = _access.set(options or _access.get())
    try:
        yield
    finally:
        _access.reset(token)


def checked_access(path: str, scheme: str, options: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the options of a URL, or those in force where it has none."""
    known = _TAKEN.get(scheme, ())
    if not options and known:
        options = _access.get()
    found = {name: value for name, value in (options or {}).items() if value is not None}
    if unknown := sorted(name for name, value in found.items() if value is not False and name not in known):
        raise unknown_options(repr(path), unknown, known)
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

    scheme: str  # `"s3"`, `"gs"` or `"az"`
    bucket: str
    begin: str  # of the names; ends with a slash unless it is empty
    endpoint: str | None = None  # URL of the server, None: the maker's own; of the account in Azure
    region: str | None = None
    credentials: str = "default"  # or `"anonymous"`, `"profile NAME"`, or another of TensorStore's words

    @classmethod
    def at(cls, url: str, options: Mapping[str, Any]) -> StorePlace:
        """Return the place at an s3:// or az:// URL that is reached as the options say, else the environment."""
        parts = urlsplit(url)
        name = url_decoded(parts.path).strip("/")
        begin = f"{name}/" if name else ""
        if parts.scheme == "az":
            kind = "anonymous" if options.get("anonymous") else "default"
            return cls("az", parts.netloc, begin, _azure_endpoint(options), credentials=kind)
        found = cls.of_spec({"driver": "s3", "bucket": parts.netloc, "path": begin, **s3_access(options)})
        assert found is not None
        return found

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
        kind = " ".join(str(said[name]) for name in ("type", "profile") if name in said) or "default"
        return cls(scheme, bucket, begin, spec.get("endpoint"), spec.get("aws_region"), kind)


def credentials_of(kvstore: Any) -> Any:
    """Return where an open key-value store of TensorStore has its credentials for S3 from; None for the usual places."""
    spec = kvstore.spec(retain_context=True).to_json()
    said = spec.get("base", spec).get("aws_credentials")  # a zip file in a bucket has that as its base
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
    kind, _, profile = credentials.partition(" ")
    if kind == "default":
        usual = usual_credentials() or {}
        kind, profile = usual.get("type", kind), usual.get("profile", "")
    if kind in ("default", "anonymous"):
        return {"skip_signature": kind == "anonymous"}
    if kind not in ("environment", "profile"):
        return f"credentials of the kind {credentials!r} are not known to obstore"
    said: Mapping[str, str] = os.environ
    if kind == "profile":
        said = {name.upper(): value for name, value in _profiles().get(profile, {}).items()}
        # Others lead to keys by ways that TensorStore goes by itself, and a key of somebody else would be worse than none.
        if not {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} <= said.keys() or _OTHER_WAYS & said.keys():
            return f"the AWS profile {profile!r} has no keys of its own, and no others are asked for here"
    keys = {name: said.get(f"AWS_{name.upper()}") for name in ("access_key_id", "secret_access_key")}
    keys["token"] = said.get("AWS_SESSION_TOKEN") or None
    # Said, because obstore would listen to AWS_SKIP_SIGNATURE, and TensorStore does not.
    return {"skip_signature": False, "credential_provider": lambda: {**keys, "expires_at": None}}


_OTHER_WAYS = {"ROLE_ARN", "CREDENTIAL_PROCESS", "CREDENTIAL_SOURCE", "SSO_SESSION", "SSO_START_URL"}

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
    how = {
        "client_options": {
            "allow_http": (place.endpoint or "").startswith("http://"),
            "timeout": timedelta(seconds=timeout),
        },
        "retry_config": _PATIENT_RETRIES if patient else _RETRIES,
    }
    if place.scheme == "az":
        from obstore.store import AzureStore

        return AzureStore(place.bucket, endpoint=place.endpoint, **_azure_login(place), **how)
    login = find_login(place.credentials)
    if place.scheme != "s3" or isinstance(login, str):
        return login if isinstance(login, str) else f"obstore is not asked for {place.scheme}:// here"
    if place.region is None:
        return f"nobody said the region of bucket {place.bucket!r} (region=, or AWS_REGION)"
    from obstore.store import S3Store

    maker = "amazonaws.com.cn" if place.region.startswith("cn-") else "amazonaws.com"
    # All is said here: obstore reads more of the environment than TensorStore does.
    return S3Store(
        place.bucket,
        endpoint=place.endpoint or f"https://s3.{place.region}.{maker}",
        region=place.region,
        virtual_hosted_style_request=False,
        **how,
        **login,
    )


def opened_bucket(place: StorePlace, what: str, *, patient: bool = False) -> Any:
    """Return the client as `open_bucket` does, the same one for all that is in a bucket; `what` needs it, in words for errors."""
    return _opened(replace(place, begin=""), what, patient)


@functools.lru_cache(maxsize=16)
def _opened(place: StorePlace, what: str, patient: bool) -> Any:
    try:
        import obstore  # noqa: F401 - only whether it is there
    except ImportError as error:
        raise MissingDependencyError.of(f"{what} needs obstore", "obstore") from error
    found = open_bucket(place, patient=patient)
    if isinstance(found, str):
        raise InvalidArgumentError(f"{what} cannot be at {place.scheme}://{place.bucket}, because {found}")
    return found


# What obstore calls it, the variables of the environment, and its name in a connection string.
_OF_AZURE = {
    "endpoint": ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT", "BlobEndpoint"),
    "account_name": ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT", "AccountName"),
    "account_key": ("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_KEY", "AccountKey"),
    "sas_key": ("AZURE_STORAGE_SAS_TOKEN", "AZURE_STORAGE_SAS_KEY", "SharedAccessSignature"),
}
_CONNECTION = "AZURE_STORAGE_CONNECTION_STRING"


def _azure_settings() -> dict[str, str]:
    parts = (part.partition("=") for part in os.environ.get(_CONNECTION, "").split(";"))
    said = {**{name: value for name, _, value in parts}, **os.environ}
    found = {name: _first_set(said, *names) for name, names in _OF_AZURE.items()}
    return {name: value for name, value in found.items() if value}


def _azure_endpoint(options: Mapping[str, Any]) -> str:
    said = _azure_settings()
    endpoint = options.get("endpoint") or said.get("endpoint")
    if endpoint is None and "account_name" not in said:
        raise InvalidArgumentError(
            "nobody said in which account of Azure the containers of az:// URLs are",
            hints=[
                Hint.of("give {}", endpoint="https://ACCOUNT.blob.core.windows.net"),
                Hint("or set AZURE_STORAGE_ACCOUNT_NAME"),
            ],
        )
    return str(endpoint or f"https://{said['account_name']}.blob.core.windows.net").rstrip("/")


def _azure_login(place: StorePlace) -> dict[str, Any]:
    said, parts = _azure_settings(), urlsplit(place.endpoint or "")
    host = (parts.hostname or "").split(".")
    # Servers that are not Microsoft's have the account in the path.
    named = parts.path.strip("/") or (host[0] if "blob" in host else "")
    found: dict[str, Any] = {"account_name": named or said.get("account_name") or host[0]}
    if place.credentials == "anonymous":
        return {**found, "skip_signature": True}
    keys: dict[str, Any] = {
        name: said[name].removeprefix("?") for name in ("account_key", "sas_key") if name in said
    }
    # Everything else, such as a client's secret or what a machine of Azure's knows, obstore finds by itself.
    usual = {_CONNECTION, *(name for names in _OF_AZURE.values() for name in names)}
    others = [name for name in os.environ if name.startswith("AZURE_") and name not in usual]
    if not keys and not others and not _machine_of("microsoft"):
        return {**found, "skip_signature": True}
    return {**found, **keys}


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
    import configparser

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
    return _machine_of("amazon")


def _machine_of(maker: str) -> bool:
    vendors = machine_vendors()
    return vendors is None or any(maker in said.lower() for said in vendors)
