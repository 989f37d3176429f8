"""An S3 server on this machine that keeps a record of what it was asked, and can be told to refuse."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import pytest

SECRET = "correct-horse"


class Asked(NamedTuple):
    """A request: `COPY` is a PUT that names what to copy; `key` is empty for the bucket itself."""

    method: str
    bucket: str
    key: str
    range: str | None
    access_key: str | None


class S3Lab:
    """The server's application, between its socket and moto."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self.endpoint = ""
        self.asked: list[Asked] = []
        self.refused: Callable[[Asked], bool] = lambda asked: False
        self.knows_conditions = True
        self._one_at_a_time = threading.Lock()

    def __call__(self, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        path = environ["PATH_INFO"].encode("latin1").decode().lstrip("/")
        bucket, _, key = path.partition("/")
        copied = "HTTP_X_AMZ_COPY_SOURCE" in environ
        who = re.search(r"Credential=([^/]+)/", environ.get("HTTP_AUTHORIZATION", ""))
        asked = Asked(
            "COPY" if copied else environ["REQUEST_METHOD"],
            bucket,
            key,
            environ.get("HTTP_RANGE"),
            None if who is None else who[1],
        )
        self.asked.append(asked)
        if self.refused(asked):
            body = b"<Error><Code>AccessDenied</Code><Message>not for you</Message></Error>"
            start("403 Forbidden", [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
            return [body]
        if not self.knows_conditions:
            environ.pop("HTTP_IF_NONE_MATCH", None)
        # moto looks whether there is an object, and then makes it; a store does both at once.
        conditional = "HTTP_IF_NONE_MATCH" in environ or "HTTP_IF_MATCH" in environ
        with self._one_at_a_time if conditional else contextlib.nullcontext():
            found: Iterable[bytes] = self._app(environ, start)
        return found

    def of(self, method: str, begin: str = "") -> list[str]:
        """Return the names of objects below a place for which a method was asked.

        Single bytes do not count: they are asked for to see what chunks are called, when an array is opened.
        """
        asked = (a for a in self.asked if a.range != "bytes=0-0")
        return sorted(a.key for a in asked if a.method == method and a.key.startswith(begin))


@contextlib.contextmanager
def s3_lab() -> Iterator[S3Lab]:
    """Serve the buckets 'lab' and 'other'; how they are reached is in the environment."""
    pytest.importorskip("moto.server")
    import boto3
    from moto.server import create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        def log_request(self, *args: Any) -> None:
            pass

    lab = S3Lab(
        create_backend_app("s3")
    )  # without the one that looks which service is meant, at half of the cost
    server = make_server("127.0.0.1", 0, lab, threaded=True, request_handler=Quiet)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    lab.endpoint = f"http://127.0.0.1:{server.server_port}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "somebody")
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("AWS_ENDPOINT_URL", lab.endpoint)
        client = boto3.client("s3", endpoint_url=lab.endpoint, region_name="us-east-1")
        for bucket in ("lab", "other"):
            client.create_bucket(Bucket=bucket)
        client.close()
        yield lab
    server.shutdown()
    thread.join()
    server.server_close()
