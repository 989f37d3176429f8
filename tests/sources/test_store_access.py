"""`endpoint`, `region`, `anonymous` and `profile`: how s3:// URLs are reached, said by keywords, options and the files of the AWS tools."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import bioimage_py as bp
from bioimage_py.errors import InvalidArgumentError, RunnerError, StorageError
from tests.cli.conftest import Call, call  # noqa: F401 - the fixture
from tests.s3_lab import SECRET, S3Lab, s3_lab

IMAGE = np.arange(32**3, dtype="uint16").reshape(32, 32, 32)
CHUNKS = {"chunks": (16, 16, 16)}


@pytest.fixture(scope="module")
def server() -> Iterator[S3Lab]:
    with s3_lab() as lab:
        yield lab


@pytest.fixture
def lab(server: S3Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Lab]:
    """The server, of which the environment says nothing; there is a profile called 'lab'."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".aws").mkdir()
    keys = f"aws_access_key_id = of-profile\naws_secret_access_key = {SECRET}\n"
    (tmp_path / ".aws" / "credentials").write_text(f"[lab]\n{keys}[here]\n{keys}")
    (tmp_path / ".aws" / "config").write_text(
        f"[profile here]\nendpoint_url = {server.endpoint}\nregion = eu-central-1\n"
    )
    server.asked.clear()
    yield server
    server.refused = lambda asked: False


def make_public(lab: S3Lab, begin: str) -> None:
    import boto3

    keys = {"aws_access_key_id": "somebody", "aws_secret_access_key": SECRET}
    client = boto3.client("s3", endpoint_url=lab.endpoint, region_name="us-east-1", **keys)
    for found in client.list_objects_v2(Bucket="lab", Prefix=begin)["Contents"]:
        client.put_object_acl(Bucket="lab", Key=found["Key"], ACL="public-read")
    client.close()


def test_a_profile_signs_all_requests_of_a_copy_whoever_makes_them(lab: S3Lab, tmp_path: Path) -> None:
    how = {"endpoint": lab.endpoint, "region": "us-east-1", "profile": "lab"}
    lab.refused = lambda asked: asked.access_key != "of-profile"
    bp.pyramid(IMAGE, "s3://lab/access/a.ome.zarr", levels=2, overwrite=True, **CHUNKS, **how)
    bp.copy(
        "s3://lab/access/a.ome.zarr",
        "s3://lab/access/b.ome.zarr",
        num_workers=2,
        codec="gzip",
        overwrite=True,
        **how,
    )
    config = bp.RunnerConfig(tmp_root=tmp_path)
    apart = {"job_type": "subprocess", "job_config": config, "overwrite": True}
    made = bp.copy("s3://lab/access/b.ome.zarr/0", "s3://lab/access/c.zarr", **apart, **how)
    np.testing.assert_array_equal(made[...], IMAGE)
    assert bp.verify("s3://lab/access/a.ome.zarr", "s3://lab/access/b.ome.zarr", **how)
    assert bp.plan("s3://lab/access/c.zarr", "s3://lab/access/d.zarr", **how).road == "verbatim"
    assert len(lab.of("COPY", "access/c.zarr/c/")) == 8, "the store copies, by the same keys"
    assert {asked.access_key for asked in lab.asked} == {"of-profile"}


def test_a_run_folder_is_reached_as_the_call_says(
    lab: S3Lab,
    tmp_path: Path,
    call: Call,  # noqa: F811
) -> None:
    """And resumed without saying it again."""
    bp.copy(IMAGE, tmp_path / "a.zarr", **CHUNKS)
    how = {
        "endpoint": lab.endpoint,
        "profile": "lab",
        "job_type": "subprocess",
        "num_workers": 2,
        "overwrite": True,
    }
    config = bp.RunnerConfig(tmp_root="s3://lab/access_runs", retries=0)
    lab.refused = lambda asked: asked.method == "PUT" and asked.key.endswith("c/1/1/1")
    with pytest.raises(RunnerError) as raised:
        bp.copy(tmp_path / "a.zarr", "s3://lab/access/kept.zarr", job_config=config, **how)
    lab.refused = lambda asked: False
    folder = str(raised.value.tmp_folder)
    assert "profile=lab" in folder
    assert call("status", folder.partition("?")[0], "--endpoint", lab.endpoint, "--profile", "lab").code == 0
    assert call("resume", folder).code == 0
    with bp.open_source("s3://lab/access/kept.zarr", endpoint=lab.endpoint, profile="lab") as source:
        np.testing.assert_array_equal(source[...], IMAGE)
    assert {asked.access_key for asked in lab.asked} == {"of-profile"}


def test_a_profile_names_its_server(lab: S3Lab) -> None:
    bp.copy(IMAGE, "s3://lab/access/of_profile.zarr", profile="here", overwrite=True)
    with bp.open_source("s3://lab/access/of_profile.zarr", profile="here") as source:
        np.testing.assert_array_equal(source[:2], IMAGE[:2])
    assert {asked.access_key for asked in lab.asked} == {"of-profile"}


def test_the_options_of_the_command(lab: S3Lab, tmp_path: Path, call: Call) -> None:  # noqa: F811
    bp.copy(IMAGE, "s3://lab/access/of_command.zarr", profile="here", overwrite=True)
    make_public(lab, "access/of_command.zarr")
    lab.asked.clear()
    lab.refused = lambda asked: asked.access_key is not None
    how = ("--endpoint", lab.endpoint, "--anonymous")
    copied = call(
        "copy", "s3://lab/access/of_command.zarr", str(tmp_path / "a.zarr"), "--verify", "--json", *how
    )
    assert (copied.code, copied.document["verify"]["equal"]) == (0, True)
    assert call("info", "s3://lab/access/of_command.zarr", *how).code == 0
    assert {asked.access_key for asked in lab.asked} == {None}
    here = call("copy", str(tmp_path / "a.zarr"), str(tmp_path / "b.zarr"), *how)
    assert here.code == 2
    assert "--endpoint and --anonymous can be given for s3:// and az:// URLs only" in here.err
    for words, said in (
        (("--profile", "nobody"), "there is no AWS profile 'nobody' in"),
        (("--endpoint", "localhost"), "endpoint must be the URL of a server"),
        (("--profile", "lab", "--anonymous"), "either with a profile or anonymously"),
        (("--endpoint", lab.endpoint, "--profile", "lab"), "PERMISSION_DENIED"),
    ):
        outcome = call("info", "s3://lab/access/of_command.zarr", *words)
        assert outcome.code in (2, 4)
        assert said in outcome.err
        assert outcome.err.count("\n") <= 2


def test_errors_say_what_to_look_at(lab: S3Lab, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match=r"no AWS profile 'nobody' .*; there is here, lab"):
        bp.plan("s3://lab/access/a.zarr", tmp_path / "a.zarr", profile="nobody")
    with pytest.raises(InvalidArgumentError, match=r"profile can be given for s3:// and az:// URLs only"):
        bp.copy(IMAGE, tmp_path / "a.zarr", profile="lab")
    with pytest.raises(
        StorageError, match=r"the server does not answer .*Could not connect.*Check its address"
    ):
        bp.open_source("s3://lab/access/a.zarr", endpoint="http://127.0.0.1:9", anonymous=True)
    lab.refused = lambda asked: asked.access_key is None
    with pytest.raises(
        StorageError, match=r"not for you.*Check the keys, the profile, or whether the bucket"
    ):
        bp.open_source("s3://lab/access/a.zarr", endpoint=lab.endpoint, anonymous=True)
    (tmp_path / ".aws" / "config").write_text("what is this")
    with pytest.raises(InvalidArgumentError, match=r"the profiles in .*config' cannot be read"):
        bp.open_source("s3://lab/access/a.zarr", profile="lab")


def test_what_is_open_already_stays_reached_as_it_was(lab: S3Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    bp.copy(IMAGE, "s3://lab/access/first.zarr", profile="here", overwrite=True, **CHUNKS)
    with s3_lab() as other:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "of-environment")
        first = bp.open_source("s3://lab/access/first.zarr")
        lab.asked.clear()
        how = {"endpoint": lab.endpoint, "profile": "lab", "memory_limit": "64MiB"}
        for more in ({}, {"codec": "gzip"}):
            bp.copy(first, "s3://lab/access/second.zarr", overwrite=True, **how, **more)
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    assert {asked.access_key for asked in lab.asked} == {"of-profile"}
    assert {asked.access_key for asked in other.asked} - {"somebody"} == {"of-environment"}
    assert not [asked for asked in lab.asked if asked.key.startswith("access/first")]
    assert not [asked for asked in other.asked if asked.key.startswith("access/second")]
