"""One engine of the table of roads, in a process of its own: reads a line of JSON per copy, and answers with one.

It runs under the environment of its engine, so it imports nothing of the benchmark. The clock holds the opening of the
input and of the output, and the copy; making the output is before it, but for ours, which makes its own.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

Job = dict[str, Any]
CACHE_BYTES = 2**30
AHEAD = 4
"""Blocks that a loop has under way at once where it does not wait for each."""


def blocks(shape: Any, step: Any) -> Iterator[tuple[slice, ...]]:
    spans = [[slice(b, min(b + s, n)) for b in range(0, n, s)] for n, s in zip(shape, step, strict=True)]
    return itertools.product(*spans)


def make_output(job: Job) -> None:
    """Make the empty array that a reference writes into, with zarr-python."""
    import zarr

    chunks, shards = (
        None if extents is None else tuple(min(c, n) for c, n in zip(extents, job["shape"], strict=True))
        for extents in (job["chunks"], job["shards"])
    )
    zarr.create_array(
        job["out"], shape=job["shape"], chunks=chunks, shards=shards, dtype="uint16",
        compressors=zarr.codecs.BloscCodec(**job["codec"]["configuration"]) if job["codec"]["name"] == "blosc"
        else [job["codec"]], fill_value=0,
    )  # fmt: skip


def ours(job: Job) -> Any:
    import bioimage_py as bp

    source = job["source"] if job["key"] is None else bp.open_source(job["source"], job["key"])
    options = {name: tuple(v) if isinstance(v, list) else v for name, v in job["ours"].items()}
    if job["mask"] is not None:
        options["mask"] = job["mask"]
    return bp.copy(source, job["out"], **options)


def peer(job: Job) -> None:
    import zarr

    import bioimage_py as bp

    def opened(path: str) -> Any:
        if path.endswith(".zarr"):
            return zarr.open(path, mode="r")
        return bp.open_source(path, job["key"])

    options: dict[str, Any] = {"num_workers": 2}
    if job["block"] is not None:
        options["block_shape"] = tuple(job["block"])
    if job["mask"] is not None:
        options["mask"] = opened(job["mask"])
    bp.copy(opened(job["source"]), zarr.open(job["out"], mode="r+"), **options)


def tensorstore(job: Job) -> None:
    """Copy with TensorStore: on two threads, or with some blocks under way, or all in one call."""
    import tensorstore as ts

    context = ts.Context(
        {
            "data_copy_concurrency": {"limit": 2},
            "file_io_sync": False,
            "cache_pool": {"total_bytes_limit": CACHE_BYTES if job["style"] == "whole" else 0},
        }
    )

    def opened(driver: str, path: str) -> Any:
        spec = {"driver": driver, "kvstore": {"driver": "file", "path": path}}
        return ts.open(spec, open=True, context=context).result()

    n5 = job["source"].endswith(".n5")
    reader = opened("n5", f"{job['source']}/{job['key']}").T if n5 else opened("zarr3", job["source"])
    writer = opened("zarr3", job["out"])
    if job["style"] == "whole":
        writer.write(reader).result()
        return
    parts = blocks(reader.shape, job["block"])
    if job["style"] == "threads":

        def copy_block(at: tuple[slice, ...]) -> None:
            writer[at].write(reader[at].read().result()).result()

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(copy_block, parts))
        return
    under_way: list[Any] = []
    for at in parts:
        under_way.append(writer[at].write(reader[at]))
        if len(under_way) > AHEAD:
            under_way.pop(0).result()
    for future in under_way:
        future.result()


def zarrs(job: Job) -> None:
    """Copy with zarr-python on the codec pipeline of zarrs, block by block on one thread or two."""
    import zarr

    zarr.config.set(
        {"codec_pipeline.path": "zarrs.ZarrsCodecPipeline", "codec_pipeline.strict": True,
         "threading.max_workers": 2, "array.write_empty_chunks": True}
    )  # fmt: skip
    reader, writer = zarr.open_array(job["source"], mode="r"), zarr.open_array(job["out"], mode="r+")

    def copy_block(at: tuple[slice, ...]) -> None:
        writer[at] = reader[at]

    with ThreadPoolExecutor(1 if job["style"] == "one thread" else 2) as pool:
        list(pool.map(copy_block, blocks(reader.shape, job["block"])))


def files(job: Job) -> None:
    """Append the file of each chunk to the file of its shard, with plain Python file calls."""
    source, out = Path(job["source"]) / "c", Path(job["out"]) / "c"
    n = job["shards"][0] // job["chunks"][0]
    shards: dict[tuple[int, ...], list[Path]] = {}
    for path in source.rglob("*"):
        if path.is_file():
            at = tuple(int(part) // n for part in path.relative_to(source).parts)
            shards.setdefault(at, []).append(path)

    def write(at: tuple[int, ...]) -> None:
        target = out.joinpath(*map(str, at))
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as file:
            for path in shards[at]:
                file.write(path.read_bytes())

    with ThreadPoolExecutor(1 if job["style"] == "one thread" else 2) as pool:
        list(pool.map(write, shards))


def naive(job: Job) -> None:
    """Move each chunk with a temporary name and a rename, as one writes it down first."""
    source, out = Path(job["source"]) / "c", Path(job["out"]) / "c"
    for path in source.rglob("*"):
        if path.is_file():
            target = out / path.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_name(target.name + ".tmp")
            partial.write_bytes(path.read_bytes())
            partial.rename(target)


_Calls = list[Callable[[], Any]]
_prepared: dict[str, tuple[_Calls, _Calls]] = {}


def codec_calls(job: Job) -> tuple[_Calls, _Calls]:
    """Return a call for each chunk of the input that decodes it from memory, and one for each of the output that encodes it."""
    key = json.dumps([job[name] for name in ("source", "codec", "chunks")])
    if key not in _prepared:
        _prepared.clear()
        _prepared[key] = _decoding(job["source"]), _encoding(job)
    return _prepared[key]


def _decoding(source: str) -> _Calls:
    import imagecodecs
    import tifffile

    if source.endswith(".zarr"):
        metadata = json.loads(Path(source, "zarr.json").read_text())
        decode = {
            "zstd": imagecodecs.zstd_decode,
            "blosc": imagecodecs.blosc_decode,
            "gzip": imagecodecs.gzip_decode,
        }[metadata["codecs"][-1]["name"]]
        size = 2 * math.prod(metadata["chunk_grid"]["configuration"]["chunk_shape"])
        return [
            partial(decode, path.read_bytes(), out=size)
            for path in Path(source, "c").rglob("*")
            if path.is_file()
        ]
    calls: _Calls = []
    for path in sorted(Path(source).glob("*.tif")) if Path(source).is_dir() else [Path(source)]:
        data = path.read_bytes()
        with tifffile.TiffFile(path) as file:
            for page in file.pages:
                decode = bytearray if page.compression == 1 else imagecodecs.zlib_decode
                spans = zip(page.dataoffsets, page.databytecounts, strict=True)
                calls += [partial(decode, data[begin : begin + n]) for begin, n in spans]
    return calls


def _encoding(job: Job) -> _Calls:
    import imagecodecs
    import numpy as np

    import bioimage_py as bp

    name, how = job["codec"]["name"], job["codec"]["configuration"]
    encode = {
        "zstd": lambda chunk: imagecodecs.zstd_encode(chunk, level=how["level"]),
        "blosc": lambda chunk: imagecodecs.blosc_encode(
            chunk,
            compressor=how["cname"],
            level=how["clevel"],
            shuffle=how["shuffle"],
            typesize=2,
            numthreads=1,
        ),
    }[name]
    voxels = bp.open_source(job["source"], job["key"])[...]
    return [partial(encode, np.ascontiguousarray(voxels[at])) for at in blocks(voxels.shape, job["chunks"])]


def floor(job: Job) -> None:
    """Decode each chunk of the input and encode each of the output, in memory, on two threads: nothing is read or written."""
    with ThreadPoolExecutor(2) as pool:
        for calls in codec_calls(job):
            list(pool.map(lambda call: call() and None, calls))


ENGINES: dict[str, Callable[[Job], Any]] = {
    "ours": ours, "peer": peer, "tensorstore": tensorstore, "zarrs": zarrs, "files": files, "naive": naive, "floor": floor,
}  # fmt: skip


def counted_pages() -> list[int]:
    """Let every segment of a TIFF that is decoded be counted; return the count, as a list of one."""
    from bioimage_py.sources.tiff import array as tiff

    count = [0]
    decode = tiff.TiffSource._decode  # noqa: SLF001

    def counting(self: Any, *arguments: Any) -> Any:
        count[0] += 1
        return decode(self, *arguments)

    tiff.TiffSource._decode = counting  # type: ignore[method-assign]  # noqa: SLF001
    return count


def bytes_read() -> int:
    """Return the bytes that this process has read from files so far, from the page cache or not."""
    return int(Path("/proc/self/io").read_text().split()[1])


def peak_resident_bytes() -> int:
    text = Path("/proc/self/status").read_text()
    return int(text.partition("VmHWM:")[2].split()[0]) * 1024


def main() -> None:
    engine = sys.argv[1]
    count = counted_pages() if "--count-pages" in sys.argv else [0]
    for line in sys.stdin:
        job = json.loads(line)
        if engine == "floor":
            codec_calls(job)
        elif engine != "ours":
            make_output(job)
        os.sync()
        read, decoded = bytes_read(), count[0]
        start = time.perf_counter()
        result = ENGINES[engine](job)
        seconds = time.perf_counter() - start
        del result
        answer = {
            "seconds": seconds,
            "bytes_read": bytes_read() - read,
            "pages": count[0] - decoded,
            "peak_bytes": peak_resident_bytes(),
        }
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
