"""Neuroglancer's own server on loopback, with one more address: the chunks of the images that it shows."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Mapping, Sequence
from typing import Any

import neuroglancer.server
import neuroglancer.viewer_base
from tornado.web import RequestHandler

from bioimage_py.errors import InvalidArgumentError, StorageError
from bioimage_py.report.view.served_image import ServedImage

LOOPBACK = "127.0.0.1"
_log = logging.getLogger(__name__)


class NeuroglancerServer:
    """Serves a viewer and its images to this computer only; addresses hold a random token that others cannot guess."""

    def __init__(self, images: Sequence[ServedImage], port: int) -> None:
        self._viewer = _Viewer(allow_credentials=False)
        try:
            _check_free(port)
            self._server = _Server(images, self._viewer.token, port)
        except OSError as error:
            in_use = error.errno == errno.EADDRINUSE
            why = "is in use" if in_use else f"cannot be used ({error.strerror})"
            raise InvalidArgumentError(
                f"port {port} of {LOOPBACK} {why}: give another port, or none to take one that is free"
            ) from error
        self._server.viewers[self._viewer.token] = self._viewer
        self.url = f"http://{LOOPBACK}:{self._server.port}/v/{self._viewer.token}/"
        self.image_urls = tuple(
            f"http://{LOOPBACK}:{self._server.port}/image/{self._viewer.token}/{n}/"
            for n in range(len(images))
        )

    def show(self, state: Mapping[str, Any]) -> None:
        self._viewer.set_state(dict(state))

    def state(self) -> dict[str, Any]:
        return dict(self._viewer.state.to_json())

    def close(self) -> None:
        """Stop serving; pages that are open show nothing new."""
        self._server.stop()
        self._server.executor.shutdown(cancel_futures=True)


def _check_free(port: int) -> None:
    """Raise OSError if a port cannot be had: the library would leave its socket open."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((LOOPBACK, port))


class _Viewer(neuroglancer.viewer_base.ViewerBase):  # type: ignore[misc] # the library has no types
    """A viewer that belongs to one server, not to the one that the library shares in a process."""


class _Server(neuroglancer.server.Server):  # type: ignore[misc] # the library has no types
    def __init__(self, images: Sequence[ServedImage], token: str, port: int) -> None:
        super().__init__(bind_address=LOOPBACK, bind_port=port)
        self._images = tuple(images)
        self._image_token = token

    def _attempt_to_start_server(self) -> None:
        super()._attempt_to_start_server()
        address = rf"/image/{self._image_token}/([0-9]{{1,9}})/(.+)"
        self.app.add_handlers(".*", [(address, _ImageHandler, {"server": self, "images": self._images})])


class _ImageHandler(RequestHandler):  # type: ignore[misc] # the library has no types
    def initialize(self, server: _Server, images: Sequence[ServedImage]) -> None:
        self._server = server
        self._images = images

    async def get(self, number: str, path: str) -> None:
        """Send one file of an image; reading is done on other threads."""
        content, status = None, 404
        if int(number) < len(self._images):
            image = self._images[int(number)]
            loop = asyncio.get_running_loop()
            try:
                content = await loop.run_in_executor(self._server.executor, image.answer, path)
            except (StorageError, OSError) as error:
                _log.warning("%s of %s cannot be shown: %s", path, image.layer.name, error)
                content, status = str(error).encode(), 500
            else:
                status = 404 if content is None else 200
        _log.debug("%s %s/%s", status, number, path)
        self.set_status(status)
        if status == 200:
            self.set_header("Content-Type", "application/octet-stream")
            self.set_header("Cache-Control", "no-store")
        self.finish(content)
