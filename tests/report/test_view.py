"""`view`: what is served is what the source holds, and a real browser asks for it and shows it."""

from __future__ import annotations

import http.server
import io
import json
import logging
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import bioimage_py as bp
from bioimage_py.errors import (
    InvalidArgumentError,
    MissingDependencyError,
    SourceNotFoundError,
    UnsupportedFormatError,
)
from bioimage_py.metadata import ImageMetadata
from bioimage_py.report.view import View, view
from bioimage_py.sources import NumpySource, with_metadata
from bioimage_py.sources.ome_zarr import create_ome_zarr
from bioimage_py.wrapper.resampling import ReducedSource
from bioimage_py.wrapper.shape import RoiSource
from tests.report.chromium import open_page
from tests.sources.contract import textured
from tests.waiting import PATIENCE

pytest.importorskip("neuroglancer", reason="neuroglancer is not installed (extra 'view')")
COMMAND = Path(sys.executable).with_name("bioimage-py")


def served(url: str) -> Any:
    """An image put together from all the files that the server has of it."""

    group = json.loads(fetch(url + ".zattrs"))
    arrays = []
    for dataset in group["multiscales"][0]["datasets"]:
        about = json.loads(fetch(f"{url}{dataset['path']}/.zarray"))
        out = np.zeros(about["shape"], about["dtype"])
        for index in np.ndindex(*[-(-n // c) for n, c in zip(about["shape"], about["chunks"], strict=True)]):
            raw = fetch(f"{url}{dataset['path']}/{'.'.join(map(str, index))}")
            chunk = np.frombuffer(raw, about["dtype"]).reshape(about["chunks"])
            at = tuple(slice(i * c, (i + 1) * c) for i, c in zip(index, about["chunks"], strict=True))
            out[at] = chunk[tuple(slice(n) for n in out[at].shape)]
        arrays.append(out)
    return group, arrays


def fetch(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return bytes(answer.read())


def images_of(shown: View) -> list[str]:
    sources = [layer["source"] for layer in shown.state()["layers"]]
    urls = [one if isinstance(one, str) else one[0]["url"] for one in sources]
    return [url.removeprefix("zarr2://") for url in urls]


def an_image(path: Path) -> Path:
    """Two channels in two levels, with labels: blobs that can be seen."""
    z, y, x = np.indices((24, 96, 128))
    radius = ((z - 12) / 11) ** 2 + ((y - 48) / 44) ** 2 + ((x - 64) / 60) ** 2
    dna = (3000 * np.exp(-4 * radius) * (1 + np.sin(x / 6) * np.cos(y / 7))).astype("uint16")
    actin = (2000 * (abs(radius - 0.6) < 0.15)).astype("uint16")
    metadata = ImageMetadata(
        axes=tuple("czyx"),
        voxel_size=(1, 2.0, 0.5, 0.5),
        units=(None, *("micrometer",) * 3),
        origin=(0, 10.0, 0.0, 0.0),
        channel_names=("dna", "actin"),
        channel_colors=("00B4FF", "FFC800"),
        contrast_limits=((0, 2500), (0, 2000)),
    )
    source = NumpySource(np.stack([dna, actin]), metadata)
    full, half = create_ome_zarr(path, like=source, levels=[(1, 1, 2, 2)])
    full[...] = source[...]
    half[...] = ReducedSource(source, (1, 1, 2, 2))[...]
    labels = ((x // 32 + 4 * (y // 32) + 1) * (radius < 0.5)).astype("uint16")
    cells, small = create_ome_zarr(path / "labels/cells", like=labels, levels=[(1, 2, 2)])
    cells[...] = labels
    small[...] = labels[:, ::2, ::2]
    return path


def test_a_browser_shows_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = an_image(tmp_path / "cells.ome.zarr")
    caplog.set_level(logging.DEBUG, logger="bioimage_py.report.view.neuroglancer_server")
    chunk = re.compile(r"^200 ([012])/\d/\d+\.\d+\.\d+$")

    def layers_with_chunks() -> set[str]:
        return {match[1] for record in caplog.records if (match := chunk.match(record.getMessage()))}

    with view(path) as shown, open_page(tmp_path) as page:
        page.open(shown.url)
        page.wait_until(lambda: layers_with_chunks() == {"0", "1", "2"})
        assert (shown.url, 200) in page.responses
        seen = _until_drawn(page)
        assert not page.failures
    # The nucleus in its blue, under the colours of the labels; nothing is what the page is made of.
    assert (np.ptp(seen[60:300, 60:440].astype(int), axis=2) > 30).mean() > 0.2
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


class _Files(http.server.SimpleHTTPRequestHandler):
    """Files for pages from elsewhere, whose names are remembered."""

    sent: ClassVar[set[str]] = set()

    def end_headers(self) -> None:
        self.send_header("Access-Control-Allow-Origin", "*")
        super().end_headers()

    def log_request(self, code: Any = "-", size: Any = "-") -> None:
        if int(code) == 200:
            self.sent.add(self.path)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.mark.parametrize("unit", ["um", "angstrom", "inch"])
def test_a_browser_opens_n5(unit: str, tmp_path: Path) -> None:
    from bioimage_py.report.view import NeuroglancerServer

    image = textured((2, 8, 16, 16), "uint16")
    bp.copy(
        image, tmp_path / "a.n5", chunks=(2, 8, 16, 16), axes="czyx", voxel_size=(2, 0.5, 0.5), units=unit
    )
    _Files.sent.clear()
    files = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(_Files, directory=str(tmp_path)))
    serving = threading.Thread(target=files.serve_forever)
    serving.start()
    server = NeuroglancerServer([], 0)
    try:
        url = f"n5://http://127.0.0.1:{files.server_port}/a.n5/"
        server.show({"layers": [{"type": "image", "source": url, "name": "a"}], "layout": "xy"})
        with open_page(tmp_path) as page:
            page.open(server.url)
            page.wait_until(lambda: "/a.n5/0/0/0/0" in _Files.sent)
    finally:
        server.close()
        files.shutdown()
        serving.join()
        files.server_close()


def _until_drawn(page: Any) -> np.ndarray:
    """The picture, once the voxels are in it."""
    from PIL import Image

    last: list[np.ndarray] = []

    def drawn() -> bool:
        last[:] = [np.asarray(Image.open(io.BytesIO(page.picture())).convert("RGB"))]
        return bool((np.ptp(last[0][60:300, 60:440].astype(int), axis=2) > 30).mean() > 0.2)

    page.wait_until(drawn)
    return last[0]


def test_levels_channels_and_labels(tmp_path: Path) -> None:
    path = an_image(tmp_path / "cells.ome.zarr")
    source = bp.open_source(path)
    with view(path) as shown:
        state = shown.state()
        urls = images_of(shown)
        assert shown.layers == (
            "cells.ome.zarr/0 dna",
            "cells.ome.zarr/0 actin",
            "cells.ome.zarr/labels/cells/0",
        )
        assert [layer["type"] for layer in state["layers"]] == ["image", "image", "segmentation"]
        assert [layer.get("shaderControls", {}).get("contrast") for layer in state["layers"]] == [
            {"range": [0, 2500]}, {"range": [0, 2000]}, None,
        ]  # fmt: skip
        assert "#00b4ff" in state["layers"][0]["shader"]
        assert state["dimensions"] == {"x": [5e-07, "m"], "y": [5e-07, "m"], "z": [2e-06, "m"]}
        assert state["position"] == [64.5, 48.5, 17.5]
        group, levels = served(urls[1])
        image = group["multiscales"][0]
        assert [axis["name"] for axis in image["axes"]] == list("zyx")
        assert [d["coordinateTransformations"][0]["scale"] for d in image["datasets"]] == [
            [2.0, 0.5, 0.5], [2.0, 1.0, 1.0],
        ]  # fmt: skip
        assert image["datasets"][1]["coordinateTransformations"][1]["translation"] == [10.0, 0.25, 0.25]
        np.testing.assert_array_equal(levels[0], source[1])
        np.testing.assert_array_equal(levels[1], bp.open_source(path, "1")[1])
        group, levels = served(urls[2])
        # Labels that do not say so lie where their image lies.
        assert group["multiscales"][0]["datasets"][0]["coordinateTransformations"][0]["scale"] == [
            2.0,
            0.5,
            0.5,
        ]
        np.testing.assert_array_equal(levels[0], bp.open_source(path, "labels/cells")[...])
        assert levels[0].dtype == "uint32"


@pytest.mark.parametrize(
    ("dtype", "sent"),
    [("bool", "u1"), (">u2", "<u2"), ("float64", "<f4"), ("float16", "<f4"), ("int16", "<i2"), ("int8", "i1"), ("uint64", "<u8")],
)  # fmt: skip
def test_every_dtype_is_sent_as_one_that_can_be_shown(dtype: str, sent: str) -> None:
    array = textured((3, 20, 30), dtype)
    with view(array) as shown:
        (url,) = images_of(shown)
        _, levels = served(url)
    assert levels[0].dtype == sent or (dtype == "bool" and levels[0].dtype == "u1")
    np.testing.assert_array_equal(levels[0], array.astype(sent))


def test_wrappers_are_computed_as_far_as_they_are_looked_at() -> None:
    reads: list[int] = []

    class Counted(NumpySource):
        def _read(self, box: Any) -> Any:
            reads.append(box.size)
            return super()._read(box)

    source = Counted(textured((200, 300, 260), "uint8"), ImageMetadata(axes=tuple("zyx")))
    with view(RoiSource(source, np.s_[:, 20:, :])) as shown:
        (url,) = images_of(shown)
        group = json.loads(fetch(url + ".zattrs"))
        before = sum(reads)
        assert fetch(url + "0/1.1.1") == source[64:128, 84:148, 64:128].tobytes()
        assert sum(reads) - before == 2 * 64**3
        paths = [d["path"] for d in group["multiscales"][0]["datasets"]]
        assert paths == ["0", "1", "2"]  # halves and quarters that are stored nowhere
        half = np.frombuffer(fetch(url + "1/0.0.0"), "u1").reshape(64, 64, 64)
    np.testing.assert_array_equal(half, ReducedSource(source, 2)[:64, 10:74, :64])


def test_axes_that_come_in_another_order_and_pictures_in_colour() -> None:
    stack = with_metadata(textured((4, 2, 20, 30), "uint8"), axes="zcyx")
    rgb = textured((20, 30, 3), "uint16")
    movie = with_metadata(textured((20, 30, 5), "uint8"), axes="yxt")
    with view(stack, rgb, movie) as shown:
        urls = images_of(shown)
        for n in range(2):
            np.testing.assert_array_equal(served(urls[n])[1][0], stack[:, n])
        for n in range(3):
            np.testing.assert_array_equal(served(urls[2 + n])[1][0], rgb[..., n])
        np.testing.assert_array_equal(served(urls[5])[1][0], np.moveaxis(movie[...], 2, 0))
        assert "#ff0000" in shown.state()["layers"][2]["shader"]
        assert len(set(shown.layers)) == 6


def test_labels_may_be_said(tmp_path: Path) -> None:
    cells = textured((8, 9), "uint8")
    with view(np.zeros((8, 9), "u1"), labels=cells) as shown:
        assert [layer["type"] for layer in shown.state()["layers"]] == ["image", "segmentation"]
    with pytest.raises(InvalidArgumentError, match=r"labels are integers.*float32"):
        view(labels=[np.zeros((8, 9), "f4")])


def test_only_who_knows_the_address_is_served() -> None:
    with view(np.zeros((8, 9), "u1")) as shown:
        (url,) = images_of(shown)
        assert url.startswith("http://127.0.0.1:")
        long = "9" * 5000
        many = (url.replace("/0/", f"/{long}/"), f"{url}{long}/0.0", f"{url}0/{long}.0")
        for wrong in (
            url.replace("/image/", "/image/x"),
            url + "9/0.0",
            url + "0/7.7",
            url + "../../x",
            *many,
        ):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                fetch(wrong)
        assert shown.url in shown._repr_html_()
    with pytest.raises(OSError, match="refused"):
        fetch(url + ".zattrs")


@pytest.mark.parametrize(
    ("source", "error", "says"),
    [
        (np.zeros(5), InvalidArgumentError, "2 to 5 axes"),
        (np.zeros((1,) * 6), InvalidArgumentError, "2 to 5 axes"),
        (np.zeros((0, 5)), InvalidArgumentError, "empty"),
        (np.zeros((4, 5), "c8"), UnsupportedFormatError, "complex64"),
        (with_metadata(np.zeros((4, 5, 6)), axes="qrx"), InvalidArgumentError, "q, r, x"),
        ("nowhere.zarr", SourceNotFoundError, "nowhere.zarr"),
    ],
    ids=["1-D", "6-D", "empty", "complex", "axes", "path"],
)
def test_what_cannot_be_shown_is_one_clear_error(source: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        view(source)


def test_ports() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InvalidArgumentError, match=f"port {port} of 127.0.0.1 is in use"):
            view(np.zeros((4, 5)), port=port)
    with view(np.zeros((4, 5)), port=port) as shown:
        assert f":{port}/" in shown.url
    for wrong in (-1, 70000, "8080"):
        with pytest.raises(InvalidArgumentError, match="port"):
            view(np.zeros((4, 5)), port=wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="at least one"):
        view()


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bioimage_py.report.view.neuroglancer_server", None)
    with pytest.raises(MissingDependencyError, match="pip install neuroglancer"):
        view(np.zeros((4, 5)))


def test_the_command_serves_until_it_is_stopped(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", textured((6, 20, 30), "uint16"))
    words = [
        str(COMMAND),
        "view",
        "a.npy",
        "--no-browser",
        "--axes",
        "zyx",
        "--voxel-size",
        "2",
        "--units",
        "um",
    ]
    command = subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert command.stdout is not None
        assert command.stdout.readline().strip() == "a.npy"
        url = command.stdout.readline().split()[2]
        assert b"<html" in fetch(url).lower()
        command.send_signal(signal.SIGINT)
        out, err = command.communicate(timeout=PATIENCE)
    finally:
        command.kill()
        command.communicate()
    assert (command.returncode, err) == (130, ""), out


def test_the_command_says_what_is_wrong(tmp_path: Path) -> None:
    from bioimage_py.cli import main

    assert main(["view", str(tmp_path / "none.zarr"), "--no-browser"]) == 2
    assert main(["view", "a.n5", "b.n5", "--key", "raw", "--no-browser"]) == 2
