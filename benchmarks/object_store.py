"""Copies from and to an object store that takes its time: `python benchmarks/object_store.py --latency 100 --rounds 5`.

A server on this machine, in a process of its own, keeps objects in memory and answers each request of S3 after `--latency` milliseconds. A row per road: `copy` with its
defaults against a loop over the same objects with obstore, 256 requests at a time, in turn; medians, and the ratio. `in flight` is the most requests that the server had at the
same time, `before` the requests that it answered before the first voxel was asked for or stored.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

IN_FLIGHT = 256
SHAPE, CHUNKS = (256, 256, 256), (32, 32, 32)


class Server:
    """As much of S3 as obstore and TensorStore ask for: objects by path, ranges, lists, sizes, removal."""

    def __init__(self, latency: float) -> None:
        self.latency, self.objects = latency, dict[str, bytes]()
        self.now = self.most = 0
        self.asked: list[tuple[str, str]] = []

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                line, *rest = head.decode("latin1").split("\r\n")
                method, target, _ = line.split(" ")
                headers = {k.lower(): v.strip() for k, _, v in (each.partition(":") for each in rest if each)}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                self.now += 1
                self.most = max(self.most, self.now)
                await asyncio.sleep(self.latency)
                writer.write(self.answer(method, target, headers, body))
                self.now -= 1
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    def answer(self, method: str, target: str, headers: dict[str, str], body: bytes) -> bytes:
        parts = urlsplit(target)
        path, query = unquote(parts.path).lstrip("/"), parse_qs(parts.query, keep_blank_values=True)
        if path == "_/seen":
            text = f"{self.most} " + " ".join(f"{m}:{p}" for m, p in self.asked)
            self.most, self.asked = 0, []
            return _answer(200, text.encode())
        self.asked.append((method if "list-type" not in query else "LIST", path))
        if method == "GET" and "list-type" in query:
            return _answer(
                200, self.listed(path.rstrip("/"), query).encode(), "Content-Type: application/xml"
            )
        if method == "PUT":
            self.objects[path] = body
            return _answer(200, b"", 'ETag: "1"')
        if method == "DELETE":
            self.objects.pop(path, None)
            return _answer(204, b"")
        data = self.objects.get(path)
        if data is None:
            return _answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
        about = ('ETag: "1"', "Last-Modified: Sat, 28 Nov 2026 00:00:00 GMT", "Accept-Ranges: bytes")
        if method == "HEAD":
            return _answer(200, b"", *about, length=len(data))
        if "range" in headers:
            first, _, last = headers["range"].removeprefix("bytes=").partition("-")
            begin = int(first) if first else max(0, len(data) - int(last))
            end = min(len(data), int(last) + 1) if first and last else len(data)
            return _answer(
                206, data[begin:end], *about, f"Content-Range: bytes {begin}-{end - 1}/{len(data)}"
            )
        return _answer(200, data, *about)

    def listed(self, bucket: str, query: dict[str, list[str]]) -> str:
        prefix, delimiter = query.get("prefix", [""])[0], query.get("delimiter", [""])[0]
        keys, folders = list[str](), set[str]()
        for key in sorted(
            k.removeprefix(f"{bucket}/") for k in self.objects if k.startswith(f"{bucket}/{prefix}")
        ):
            at = key.find(delimiter, len(prefix)) if delimiter else -1
            folders.add(key[: at + 1]) if at >= 0 else keys.append(key)
        contents = "".join(
            f'<Contents><Key>{escape(k)}</Key><Size>{len(self.objects[f"{bucket}/{k}"])}</Size><ETag>"1"</ETag>'
            "<LastModified>2026-11-28T00:00:00.000Z</LastModified></Contents>"
            for k in keys
        )
        prefixes = "".join(
            f"<CommonPrefixes><Prefix>{escape(f)}</Prefix></CommonPrefixes>" for f in sorted(folders)
        )
        return (
            f"<ListBucketResult><Name>{bucket}</Name><Prefix>{escape(prefix)}</Prefix><KeyCount>{len(keys)}</KeyCount>"
            f"<IsTruncated>false</IsTruncated>{contents}{prefixes}</ListBucketResult>"
        )


def _answer(status: int, body: bytes, *headers: str, length: int | None = None) -> bytes:
    lines = (f"HTTP/1.1 {status} -", f"Content-Length: {len(body) if length is None else length}", *headers)
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def serve(latency: float, port: Any) -> None:
    async def run() -> None:
        server = Server(latency)
        listening = await asyncio.start_server(server.connected, "127.0.0.1", 0, limit=2**26, backlog=1024)
        port.send(listening.sockets[0].getsockname()[1])
        await listening.serve_forever()

    asyncio.run(run())


def seen(endpoint: str) -> tuple[int, list[str]]:
    import urllib.request

    with urllib.request.urlopen(f"{endpoint}/_/seen") as answer:
        most, *asked = answer.read().decode().split(" ")
    return int(most), asked


def by_loop(endpoint: str, source: str, output: str) -> None:
    """Read all objects of a place and store them at another one, with obstore; a place is a bucket or a folder."""
    import obstore
    from obstore.store import LocalStore, S3Store

    def opened(place: str) -> Any:
        if place.startswith("s3://"):
            return S3Store(
                place[5:],
                endpoint=endpoint,
                skip_signature=True,
                region="us-east-1",
                client_options={"allow_http": True},
            )
        return LocalStore(place, mkdir=True)

    async def run() -> None:
        a, b = opened(source), opened(output)
        at_once = asyncio.Semaphore(IN_FLIGHT)

        async def one(key: str) -> None:
            async with at_once:
                data = await (await obstore.get_async(a, key)).bytes_async()
                await obstore.put_async(b, key, bytes(data), use_multipart=False)

        names = [each["path"] for page in obstore.list(a) for each in page]
        await asyncio.gather(*map(one, names))

    asyncio.run(run())


def roads(local: Path) -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    yield "bucket to folder, verbatim", "s3://input", str(local / "a{}"), {}
    yield "folder to bucket, verbatim", str(local / "in.zarr"), "s3://out{}", {}
    yield "bucket to bucket, recode", "s3://input", "s3://new{}", {"codec": "gzip:1"}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--latency", type=float, default=100, help="milliseconds (100)")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    # In the environment, so that the loop and the copies reach the store alike.
    os.environ.update(
        AWS_ACCESS_KEY_ID="a",
        AWS_SECRET_ACCESS_KEY="b",
        AWS_REGION="us-east-1",
        AWS_EC2_METADATA_DISABLED="true",
    )
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=serve, args=(arguments.latency / 1000, theirs), daemon=True
    )
    process.start()
    endpoint = f"http://127.0.0.1:{ours.recv()}"
    import bioimage_py as bp

    with tempfile.TemporaryDirectory() as folder:
        local = Path(folder)
        voxels = np.random.default_rng(1).integers(0, 2**12, SHAPE, "u2")
        bp.copy(
            voxels,
            bp.create_output(local / "in.zarr", shape=SHAPE, dtype="u2", chunks=CHUNKS, codec="zstd:1"),
        )
        by_loop(endpoint, str(local / "in.zarr"), "s3://input")
        print(
            f"{'latency ' + format(arguments.latency, 'g') + ' ms':<30}{'copy':>9}{'loop':>9}{'ratio':>7}{'in flight':>11}{'before':>8}"
        )
        for name, source, output, options in roads(local):
            times: dict[str, list[float]] = {"copy": [], "loop": []}
            most, before = 0, 0
            for turn in range(arguments.rounds):
                for which, run in _both(bp, endpoint, source, options):
                    seen(endpoint)
                    began = time.perf_counter()
                    run(output.format(f"-{which}-{turn}"))
                    times[which].append(time.perf_counter() - began)
                    if which == "copy":
                        most, asked = seen(endpoint)
                        before = sum(
                            1
                            for _ in itertools.takewhile(
                                lambda each: "/c/" not in each or not each.startswith(("GET", "PUT")), asked
                            )
                        )
            copy, loop = (statistics.median(times[which]) for which in ("copy", "loop"))
            print(f"{name:<30}{copy:>8.2f}s{loop:>8.2f}s{copy / loop:>7.2f}{most:>11}{before:>8}")
    process.kill()


def _both(
    bp: Any, endpoint: str, source: str, options: dict[str, Any]
) -> Iterator[tuple[str, Callable[[str], Any]]]:

    def copy(output: str) -> None:
        bp.copy(source, output + "/a.zarr", endpoint=endpoint, **options)

    yield "copy", copy
    yield "loop", lambda output: by_loop(endpoint, source, output)


if __name__ == "__main__":
    main()
