"""The connection of a run to its Dask scheduler."""

from __future__ import annotations

import socket
import time
from typing import Any
from urllib.parse import urlsplit

from bioimage_py.errors import InvalidArgumentError
from bioimage_py.runner.dask.config import DaskConfig, distributed_library, shareable_address
from bioimage_py.runner.dask.local import LocalHost, UnreachableError
from bioimage_py.runner.run import RunFolder

_DEFAULT_PORT = 8786


class Connection:
    """The client of one run: the user's own, one that is made for an address, or one of workers started here."""

    def __init__(self, config: DaskConfig) -> None:
        self._config = config
        self._client: Any = config.client
        self._host: LocalHost | None = None
        distributed_library()
        try:
            if config.client is not None:
                self._await_user_client()
            elif config.address is not None:
                self._client = _connected(config.address, config.connect_timeout)
        except UnreachableError as error:
            raise InvalidArgumentError(str(error)) from error

    def client(self, folder: RunFolder, number: int, n_workers: int) -> Any:
        """Return a client that is connected, after a loss of the connection as well, or raise UnreachableError.

        Workers that are started here, `n_workers` at most, write into the log of the round.
        """
        if self._config.client is not None:
            self._await_user_client()
        elif self._client is None or self._client.status != "running":
            self._close_client()
            if self._config.address is not None:
                self._client = _connected(self._config.address, self._config.connect_timeout)
            else:
                self._client = self._started(folder, number, n_workers)
        return self._client

    def shareable_address(self) -> str | None:
        """Return where other processes reach the scheduler, if they can."""
        if self._client is None or not self._config.on_other_machines:
            return None
        return self._config.address or shareable_address(self._client)

    def close(self, *, at_once: bool = False) -> None:
        """Close what was made for this run; `at_once` where workers may be in the middle of something."""
        if self._config.client is None:
            self._close_client()
        if self._host is not None:
            self._host.close(at_once=at_once)
            self._host = None

    def _close_client(self) -> None:
        if self._client is not None:
            self._client.close(timeout=self._config.connect_timeout)
            self._client = None

    def _started(self, folder: RunFolder, number: int, n_workers: int) -> Any:
        if self._host is not None and not self._host.alive:
            self._host.close(at_once=True)
            self._host = None
        if self._host is None:
            log = folder.log(number, "dask-workers")
            self._host = LocalHost(n_workers, self._config.python_executable, log)
        return _connected(self._host.address, self._config.connect_timeout, self._host.security)

    def _await_user_client(self) -> None:
        client = self._config.client
        end = time.monotonic() + self._config.connect_timeout
        while client.status == "connecting" and time.monotonic() < end:
            time.sleep(0.05)
        if client.status != "running":
            raise UnreachableError(
                f"the Dask client is {client.status}: give one that is connected to a running scheduler"
            )


def _connected(address: str, timeout: float, security: Any = None) -> Any:
    parts = urlsplit(address if "://" in address else f"tcp://{address}")
    try:
        if parts.scheme in ("tcp", "tls", "ws", "wss"):
            # A Dask client that finds nobody leaves threads behind.
            socket.create_connection((parts.hostname, parts.port or _DEFAULT_PORT), timeout).close()
        return distributed_library().Client(
            address, timeout=timeout, security=security, set_as_default=False, name="bioimage-py"
        )
    except Exception as error:
        raise UnreachableError(
            f"no Dask scheduler answered at {address!r} within {timeout:g} s ({error}). Give the address that the scheduler printed "
            "when it started, such as 'tcp://host:8786'; to go on with a run whose scheduler is gone, call it again with "
            "resume_from= its folder and a job_config= that leads to another"
        ) from error
