"""Settings of runs on Dask, and the library they need."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from bioimage_py.errors import InvalidArgumentError, MissingDependencyError
from bioimage_py.option import option
from bioimage_py.runner.config import RunnerConfig, check_seconds

DASK_PACKAGES = ("dask[array,distributed]", "cloudpickle", "cryptography")


def distributed_library() -> Any:
    """Return the module `distributed`, or raise MissingDependencyError."""
    try:
        return importlib.import_module("distributed")
    except ImportError as error:
        raise MissingDependencyError.of(
            f"job_type 'dask' needs Dask's scheduler ({error})", *DASK_PACKAGES
        ) from error


@dataclass(frozen=True)
class DaskConfig(RunnerConfig):
    """Settings of runs on Dask: those of every backend, and where the scheduler is.

    With neither `client` nor `address`, worker processes are started on this machine for the run, and ended after it.

    Parameters
    ----------
    client
        A `distributed.Client` that is connected; it is left open. Any cluster has one: `cluster.get_client()`.
    address
        Where a scheduler listens, such as `"tcp://host:8786"`.
    connect_timeout
        Seconds to wait for the scheduler to answer.
    python_executable
        Interpreter of the workers that are started here; those of a cluster have their own.
    threads_per_worker
        Threads that a task works with. A task takes one thread of a Dask worker, however many it starts.
    task_timeout
        Seconds that one task may take, or None. It is told to stop and ends after the block in hand; a block that takes
        much longer is given up and may go on in its worker, because Dask cannot end a thread.

    Raises
    ------
    InvalidArgumentError
        For a value out of range, something else than a client, or both a client and an address.
    """

    client: Any = None
    address: str | None = option(
        "the scheduler, such as tcp://host:8786 (default: a cluster on this computer)", metavar="URL"
    )
    connect_timeout: float = 10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_seconds("connect_timeout", self.connect_timeout)
        if self.client is not None and self.address is not None:
            raise InvalidArgumentError("give client or address, not both: a client knows its scheduler")
        if self.client is not None and (
            not isinstance(self.client, distributed_library().Client) or self.client.asynchronous
        ):
            raise InvalidArgumentError(
                f"client must be a distributed.Client that is not asynchronous, got {type(self.client).__name__}. Any cluster has "
                "one: cluster.get_client(); give an address as address="
            )
        if self.address is not None:
            _check_address(self.address)
        if self.python_executable is not None and self.on_other_machines:
            raise InvalidArgumentError(
                "python_executable is for workers that are started here: those of a cluster have their own Python. Leave it out"
            )

    @property
    def on_other_machines(self) -> bool:
        return self.client is not None or self.address is not None

    def given(self) -> dict[str, Any]:
        """Return the fields that differ from their defaults; a client as the address of its scheduler.

        A client of a cluster on this machine is left out: that cluster ends with its process, and whoever resumes the run
        starts one. Certificates and passwords of a client are never part of it.
        """
        found = super().given()
        client = found.pop("client", None)
        if client is not None:
            address = shareable_address(client)
            if address is not None:
                found["address"] = address
        return found


def shareable_address(client: Any) -> str | None:
    """Return where another process reaches a client's scheduler, None if only this one or its own cluster does."""
    library = distributed_library()
    if isinstance(client.cluster, library.LocalCluster) or client.scheduler is None:
        return None
    address = str(client.scheduler.address)
    protocol = address.partition("://")[0]
    # Proxied schedulers are reached with what their gateway asks for, which is the client's secret.
    return address if protocol in ("tcp", "tls", "ws", "wss", "ucx") else None


def _check_address(address: Any) -> None:
    try:
        parts = urlsplit(address if "://" in address else f"tcp://{address}")
        well = isinstance(address, str) and parts.hostname and parts.port != -1
        well = well and parts.username is None and not parts.query
    except (TypeError, ValueError):
        well = False
    if not well:
        # The address is not repeated: it can hold a secret.
        raise InvalidArgumentError(
            "address must be that of a Dask scheduler, such as 'tcp://host:8786', without user name, password or query. A cluster "
            "that asks for credentials is reached with client="
        )
