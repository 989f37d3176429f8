"""Credentials for S3: those that TensorStore finds are found, and none of them can be seen."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bioimage_py.storage import find_login
from tests.kernels.stored import Storing, files_below, store
from tests.kernels.test_moving_urls import download, upload
from tests.s3_lab import SECRET, S3Lab, s3_lab
from tests.sources.contract import textured

COPY = "import sys, bioimage_py as bp; bp.copy(sys.argv[1], sys.argv[2])"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without credentials; the folder is where profiles are kept."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".aws").mkdir()
    return tmp_path / ".aws"


def keys_of(login: Any) -> tuple[str, str, str | None]:
    found = login["credential_provider"]()
    assert found["expires_at"] is None
    assert SECRET not in repr(login)
    return found["access_key_id"], found["secret_access_key"], found["token"]


def test_keys_in_the_environment(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "credentials").write_text("[default]")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "set")
    assert isinstance(find_login("default"), str)  # half of a pair is none
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    assert keys_of(find_login("default")) == ("set", SECRET, None)
    monkeypatch.setenv("AWS_SESSION_TOKEN", "for an hour")
    assert keys_of(find_login("default")) == ("set", SECRET, "for an hour")


@pytest.mark.parametrize("where", ["credentials", "config", "AWS_PROFILE", "AWS_SHARED_CREDENTIALS_FILE"])
def test_profiles_have_keys_or_are_left_to_tensorstore(
    home: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    name, file, title = "default", home / where, "default"
    if where == "AWS_PROFILE":
        name, file, title = "work", home / "config", "profile work"
        monkeypatch.setenv(where, "work")
    elif where.startswith("AWS"):
        file = home / "elsewhere"
        monkeypatch.setenv(where, str(file))
    for text in (
        "",
        "aws_access_key_id = a",
        f"aws_access_key_id = a\naws_secret_access_key = {SECRET}\nrole_arn = b",
    ):
        file.write_text(f"[{title}]\n{text}\n")
        assert f"the AWS profile {name!r} has no keys of its own" in str(find_login("default"))
    file.write_text(f"[{title}]\naws_access_key_id = of-profile\naws_secret_access_key = {SECRET}  \n")
    for kind in ("default", f"profile {name}"):
        assert keys_of(find_login(kind)) == ("of-profile", SECRET, None)


def test_credentials_of_another_kind() -> None:
    assert "'imds'" in str(find_login("imds"))


def test_without_keys(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a machine of Amazon's knows of itself is left to obstore; where it shall not be asked, requests are not signed."""
    assert find_login("default") == {"skip_signature": True}
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", "/token")
    assert find_login("default") == {"skip_signature": False}
    monkeypatch.delenv("AWS_WEB_IDENTITY_TOKEN_FILE")
    monkeypatch.delenv("AWS_EC2_METADATA_DISABLED")
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:9")
    assert find_login("default") == {"skip_signature": False}
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "set")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    assert find_login("anonymous") == {"skip_signature": True}


@pytest.fixture(scope="module")
def lab() -> Iterator[S3Lab]:
    with s3_lab() as lab:
        yield lab


def test_the_same_as_tensorstore(lab: S3Lab, tmp_path: Path) -> None:
    """All requests of a copy, whichever library makes them, are signed with the same key."""
    array = textured((9, 11, 13), "uint16")
    store(tmp_path / "in", Storing("v3", "lz4"), array, [(slice(4), slice(5), slice(6)), (slice(8, 9),) * 3])
    upload(tmp_path / "in", "s3://lab/in.zarr")
    said = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    said |= {"AWS_EC2_METADATA_DISABLED": "true", "AWS_ENDPOINT_URL": lab.endpoint}
    said |= {"AWS_ACCESS_KEY_ID": "somebody-else", "AWS_SECRET_ACCESS_KEY": SECRET}
    # obstore would listen to these, and TensorStore does not.
    said |= {"AWS_ENDPOINT": "http://127.0.0.1:9", "AWS_SKIP_SIGNATURE": "true"}
    lab.asked.clear()
    command = [sys.executable, "-c", COPY, "s3://lab/in.zarr", "s3://lab/out.zarr"]
    done = subprocess.run(command, env=said, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    assert {asked.access_key for asked in lab.asked} == {"somebody-else"}
    assert len(lab.of("COPY")) == 2
    assert files_below(download("s3://lab/out.zarr", tmp_path / "found")) == files_below(tmp_path / "in")


@pytest.mark.parametrize("how", ["nothing", "environment", "profile"])
def test_places_without_credentials_are_not_asked_and_nothing_is_written_to_stderr(
    home: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_EC2_METADATA_DISABLED")
    if how == "environment":
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "set")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    elif how == "profile":
        for name in ("config", "credentials"):
            text = f"[default]\naws_access_key_id = set\naws_secret_access_key = {SECRET}\n"
            (home / name).write_text(text)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    words = [sys.executable, "-m", "bioimage_py", "info", "s3://nobody/x.zarr"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 4
    assert done.stderr.startswith("bioimage-py: error: s3://nobody/x.zarr")
    assert len(done.stderr.splitlines()) == 1
