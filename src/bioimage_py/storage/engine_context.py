"""TensorStore's limits and patience; loading it takes long, so that what looks at local files only does without this module."""

from __future__ import annotations

import functools
import os
from typing import Any

import tensorstore as ts

# TensorStore's own 32 tries take many minutes to say that a server is gone. These take some four seconds where a person
# waits for an array to open, and a quarter of a minute in a run, for each of the few requests that are made before the
# server is given up (see `store_errors`).
_RETRIES = {"max_retries": 4, "initial_delay": "300ms", "max_delay": "2s"}

_PATIENT_RETRIES = {"max_retries": 4, "initial_delay": "1s", "max_delay": "8s"}

# Far servers take 100 ms for each request: TensorStore's own 32 at a time leave the line idle.
_REQUESTS = 256

# A request that transfers nothing for so long is tried again: by itself TensorStore waits for the system to close the connection.
for _name, _value in (("TIME_SECONDS", "30"), ("LIMIT_BYTES", "1")):
    os.environ.setdefault(f"TENSORSTORE_CURL_LOW_SPEED_{_name}", _value)

# Arrays at memory:// URLs live as long as the process: every context has to lead to the same ones.
_MEMORY = ts.Context({"memory_key_value_store": {}})


def store_context(
    threads: int, cache_bytes: int, *, patient: bool = False, credentials: Any = None
) -> ts.Context:
    """Return TensorStore's limits; with `patient`, a server that does not answer is asked for longer than a person waits."""
    retries = _PATIENT_RETRIES if patient else _RETRIES
    return ts.Context(
        {
            "data_copy_concurrency": {"limit": max(1, threads)},
            "file_io_concurrency": {"limit": max(4, 2 * threads)},
            "cache_pool": {"total_bytes_limit": cache_bytes},
            "file_io_sync": False,
            "file_io_locking": {"mode": "none"},
            "http_request_retries": retries,
            "s3_request_retries": retries,
            "gcs_request_retries": retries,
            **{f"{scheme}_request_concurrency": {"limit": _REQUESTS} for scheme in ("http", "s3", "gcs")},
            **({} if credentials is None else {"aws_credentials": credentials}),
        },
        parent=_MEMORY,
    )


@functools.cache
def metadata_context() -> ts.Context:
    return store_context(1, 0)
