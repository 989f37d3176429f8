"""Arrays behind URLs: http and S3 servers on this machine, memory://, and secrets that must not leak."""

from __future__ import annotations

import functools
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorstore as ts

import bioimage_py as bp
from bioimage_py.errors import (
    BioimagePyError,
    InvalidArgumentError,
    OutputExistsError,
    ReadOnlyError,
    SourceNotFoundError,
    StorageError,
)
from bioimage_py.metadata import ImageMetadata
from bioimage_py.sources import ArraySpec, Source, family_of, from_spec, open_source
from bioimage_py.sources.ome_zarr import list_ome_zarr
from tests.s3_lab import SECRET
from tests.sources.contract import SourceContract, textured
from tests.sources.ome_trees import chunks_in, image_with_labels

n5, precomputed, zarr = family_of("n5"), family_of("precomputed"), family_of("zarr")

EXPECTED = textured((7, 10, 13), "uint16")


def spec_of(shape: tuple[int, ...] = EXPECTED.shape, **how: Any) -> ArraySpec:
    return ArraySpec(shape, np.dtype("uint16"), (3, 4, 5), **how)


class Server(http.server.ThreadingHTTPServer):
    """Takes all connections that TensorStore opens at once: those that it turns away are retried seconds later."""

    request_queue_size = 128
    daemon_threads = True


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves files, and below /private only to those who know the password; keeps quiet."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        given = self.headers.get("Authorization", "")
        if self.path.startswith("/private") and not given.startswith("Basic "):
            self.send_error(401)
            return
        super().do_GET()

    do_HEAD = do_GET

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    folder = tmp_path_factory.mktemp("web")
    server = Server(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", folder
    server.shutdown()
    thread.join()
    server.server_close()


class TestHttp(SourceContract):
    @pytest.fixture(autouse=True)
    def server(self, web: tuple[str, Path]) -> None:
        self.url, self.folder = web

    def make(self, array: np.ndarray, folder: Path) -> Source:
        place = self.folder / folder.name
        zarr.create(str(place / "a.zarr"), "g/raw", spec_of(array.shape), overwrite=True)[...] = array
        return open_source(f"{self.url}/{folder.name}/a.zarr/g/raw")


def test_other_formats_over_http(web: tuple[str, Path]) -> None:
    url, folder = web
    for store, name, key in (
        (n5, "a.n5", "raw"),
        (precomputed, "a.precomputed", None),
        (zarr, "v2.zarr", "raw"),
    ):
        store.create(str(folder / name), key, spec_of(), overwrite=True)[...] = EXPECTED
        np.testing.assert_array_equal(open_source(f"{url}/{name}", key)[2:5, 3:], EXPECTED[2:5, 3:])


def test_urls_without_a_known_ending(web: tuple[str, Path]) -> None:
    url, folder = web
    zarr.create(str(folder / "three"), None, spec_of(), overwrite=True)
    zarr.create(str(folder / "two"), None, spec_of(zarr_format=2), overwrite=True)
    n5.create(str(folder / "five"), None, spec_of(), overwrite=True)
    precomputed.create(str(folder / "pre"), None, spec_of(), overwrite=True)
    kinds = [open_source(f"{url}/{name}").kind for name in ("three", "two", "five", "pre")]
    assert kinds == ["zarr", "zarr", "n5", "precomputed"]
    with pytest.raises(SourceNotFoundError, match=r"zarr\.json, \.zarray"):
        open_source(f"{url}/nothing")


def test_groups_over_http(web: tuple[str, Path]) -> None:
    import zarr as zarr_python

    url, folder = web
    for zarr_format in (2, 3):
        path = folder / f"group{zarr_format}.zarr"
        group = zarr_python.open_group(path, mode="w", zarr_format=zarr_format)
        for key in ("a", "in/b"):
            group.create_array(key, shape=(3, 4), dtype="u1")
        with pytest.raises(SourceNotFoundError, match="Give the key"):
            open_source(f"{url}/{path.name}")
        assert open_source(f"{url}/{path.name}", "in/b").shape == (3, 4)
        with pytest.raises(SourceNotFoundError, match="'c'"):
            open_source(f"{url}/{path.name}", "c")
    group = zarr_python.open_group(
        folder / "image.zarr", mode="w", attributes={"ome": {"multiscales": [{"datasets": [{"path": "0"}]}]}}
    )
    group.create_array("0", shape=(3, 4), dtype="u1")
    assert open_source(f"{url}/image.zarr").key == "0"


def test_consolidated_groups_are_listed(web: tuple[str, Path]) -> None:
    import zarr as zarr_python

    url, folder = web
    group = zarr_python.open_group(folder / "consolidated.zarr", mode="w", zarr_format=2)
    for key in ("a", "in/b"):
        group.create_array(key, shape=(3, 4), dtype="u1")
    zarr_python.consolidate_metadata(folder / "consolidated.zarr", zarr_format=2)
    assert zarr.list_arrays(f"{url}/consolidated.zarr") == ["a", "in/b"]
    with pytest.raises(SourceNotFoundError, match="there is a, in/b"):
        open_source(f"{url}/consolidated.zarr", "c")


def test_http_is_read_only(web: tuple[str, Path]) -> None:
    url, folder = web
    zarr.create(str(folder / "readonly.zarr"), None, spec_of(), overwrite=True)
    source = open_source(f"{url}/readonly.zarr")
    with pytest.raises(ReadOnlyError):
        source[...] = 0
    with pytest.raises(ReadOnlyError, match="http only reads"):
        open_source(f"{url}/readonly.zarr", mode="r+")
    with pytest.raises(ReadOnlyError, match="http only reads"):
        zarr.create(f"{url}/new.zarr", None, spec_of(), overwrite=False)


def test_a_server_that_is_not_there() -> None:
    with pytest.raises(StorageError, match=r"127\.0\.0\.1:1/a\.zarr"):
        open_source("http://127.0.0.1:1/a.zarr", "raw")


def test_passwords_do_not_leak(
    web: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, folder = web
    zarr.create(str(folder / "private/a.zarr"), "raw", spec_of(), overwrite=True)[...] = EXPECTED
    with_password = url.replace("://", f"://somebody:{SECRET}@") + "/private/a.zarr"
    source = open_source(with_password, "raw")
    np.testing.assert_array_equal(source[2:4], EXPECTED[2:4])
    np.testing.assert_array_equal(source.for_run(2, 0)[2:4], EXPECTED[2:4])
    told = [json.dumps(source.to_spec()), repr(source), source.name, str(source.identities())]
    chunk = folder / "private/a.zarr/raw/c/0/0/0"
    chunk.write_bytes(b"nonsense")
    for wrong in (
        lambda: source[...],
        lambda: open_source(with_password, "none"),
        lambda: open_source(with_password, "raw", mode="r+"),
    ):
        with pytest.raises(BioimagePyError) as raised:
            wrong()
        told.append(str(raised.value))
    assert not [text for text in told if SECRET in text or "Basic" in text]
    with pytest.raises(OSError, match="401"):
        from_spec(source.to_spec())
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine 127.0.0.1 login somebody password {SECRET}\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    np.testing.assert_array_equal(from_spec(source.to_spec())[3:4], EXPECTED[3:4])


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_credentials_in_bucket_urls_are_refused_without_saying_them(scheme: str) -> None:
    with pytest.raises(InvalidArgumentError, match="environment") as raised:
        open_source(f"{scheme}://somebody:{SECRET}@lab/a.zarr")
    assert SECRET not in str(raised.value)


def test_unknown_schemes_and_options() -> None:
    with pytest.raises(InvalidArgumentError, match="s3://"):
        open_source("ftp://host/a.zarr")
    with pytest.raises(InvalidArgumentError, match="endpoint"):
        open_source("s3://lab/a.zarr", colour="red")


class TestS3(SourceContract):
    @pytest.fixture(autouse=True)
    def server(self, bucket: str) -> None:
        self.endpoint = bucket

    def make(self, array: np.ndarray, folder: Path) -> Source:
        path = f"s3://lab/{folder.name}/a.zarr"
        zarr.create(path, "g/raw", spec_of(array.shape), overwrite=False)[...] = array
        return open_source(f"{path}/g/raw")


@pytest.mark.parametrize(
    ("family", "name", "how"),
    [(zarr, "v2.zarr", {"zarr_format": 2}), (zarr, "v3.zarr", {"shards": (6, 8, 10)}), (n5, "a.n5", {}), (precomputed, "a.precomputed", {})],
)  # fmt: skip
def test_writing_to_s3(bucket: str, family: Any, name: str, how: dict[str, Any]) -> None:
    metadata = ImageMetadata(("z", "y", "x"), (2.0, 1.0, 1.0), ("micrometer",) * 3, attributes={"sample": 3})
    path = f"s3://lab/writing/{name}"
    key = None if family is precomputed else "g/raw"
    made = family.create(path, key, spec_of(metadata=metadata, **how), overwrite=False)
    assert made.metadata == metadata
    assert made.stored_size() is None
    for block in (slice(0, 6), slice(6, 7)):
        made[block] = EXPECTED[block]
    with from_spec({**made.to_spec(), "mode": "r"}) as again:
        assert not again.writable
        np.testing.assert_array_equal(again[...], EXPECTED)
        assert again.metadata == metadata
        assert again.identities() == made.identities()
    assert SECRET not in json.dumps(made.to_spec())
    with pytest.raises(OutputExistsError, match="overwrite=True"):
        family.create(path, key, spec_of(**how), overwrite=False)
    assert not family.create(path, key, spec_of(**how), overwrite=True)[...].any()


def test_options_of_s3(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import boto3

    zarr.create("s3://lab/options.zarr", None, spec_of(), overwrite=True)[...] = EXPECTED
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    source = open_source("s3://lab/options.zarr", endpoint=bucket, region="us-east-1")
    assert source.to_spec() == {
        "kind": "zarr",
        "path": "s3://lab/options.zarr",
        "mode": "r",
        "endpoint": bucket,
        "region": "us-east-1",
    }
    np.testing.assert_array_equal(from_spec(source.to_spec())[...], EXPECTED)
    with pytest.raises(StorageError, match="PERMISSION_DENIED"):
        open_source("s3://lab/options.zarr", endpoint=bucket, anonymous=True)
    client = boto3.client("s3", endpoint_url=bucket, region_name="us-east-1")
    for found in client.list_objects_v2(Bucket="lab", Prefix="options.zarr")["Contents"]:
        client.put_object_acl(Bucket="lab", Key=found["Key"], ACL="public-read")
    client.close()
    anonymous = open_source("s3://lab/options.zarr", endpoint=bucket, anonymous=True)
    np.testing.assert_array_equal(anonymous[1:2], EXPECTED[1:2])


def test_s3_places_that_are_not_there(bucket: str) -> None:
    with pytest.raises(SourceNotFoundError, match="none"):
        open_source("s3://lab/none.zarr")
    with pytest.raises(SourceNotFoundError, match="no-such-bucket"):
        zarr.create("s3://no-such-bucket/a.zarr", None, spec_of(), overwrite=False)


def test_memory_urls() -> None:
    made = zarr.create("memory://test_memory_urls/a.zarr", "raw", spec_of(), overwrite=False)
    made[...] = EXPECTED
    np.testing.assert_array_equal(open_source("memory://test_memory_urls/a.zarr", "raw")[...], EXPECTED)
    np.testing.assert_array_equal(made.for_run(2, 100)[...], EXPECTED)
    with pytest.raises(InvalidArgumentError, match="local runs"):
        made.to_spec()


def test_a_whole_ome_zarr_from_s3_and_to_it(bucket: str, tmp_path: Path) -> None:
    path, url = tmp_path / "in.ome.zarr", "s3://lab/whole/in.ome.zarr"
    image_with_labels(path)
    assert bp.plan(path, url).road == "verbatim"
    bp.copy(path, url)
    with pytest.raises(OutputExistsError, match="overwrite=True"):
        bp.copy(path, url)
    assert bp.plan(url, tmp_path / "out.ome.zarr").road == "verbatim"
    assert bp.copy(url, tmp_path / "out.ome.zarr", num_workers=2).metadata == open_source(path).metadata
    assert [level.levels for level in list_ome_zarr(url)[0].labels] == [
        tuple(f"labels/cells/{n}" for n in range(3))
    ]
    assert chunks_in(tmp_path / "out.ome.zarr") == chunks_in(path)
    for key in ("0", "1", "2", "labels/cells/0", "labels/cells/1", "labels/cells/2"):
        with open_source(tmp_path / "out.ome.zarr", key) as made, open_source(path, key) as source:
            np.testing.assert_array_equal(made[...], source[...])
            assert (made.chunks, made.codec) == (source.chunks, source.codec)


def test_zip_files_behind_urls(web: tuple[str, Path], bucket: str, tmp_path: Path) -> None:
    image_with_labels(tmp_path / "in.ome.zarr")
    bp.copy(tmp_path / "in.ome.zarr", web[1] / "a.ozx")
    place = ts.KvStore.open(
        {"driver": "s3", "bucket": "lab", "endpoint": bucket, "aws_region": "us-east-1"}
    ).result()
    place.write("zips/a.ozx", (web[1] / "a.ozx").read_bytes()).result()
    url = "s3://lab/zips/a.ozx"
    assert bp.verify(tmp_path / "in.ome.zarr", url)
    (image,) = list_ome_zarr(url)
    assert [label.key for label in image.labels] == ["labels/cells"]
    bp.copy(url, tmp_path / "out.ome.zarr")
    assert bp.verify(tmp_path / "in.ome.zarr", tmp_path / "out.ome.zarr")
    with pytest.raises(
        StorageError, match=r"a\.ozx cannot be read as a zip file: the server does not send parts"
    ):
        open_source(f"{web[0]}/a.ozx")
