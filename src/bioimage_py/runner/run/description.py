"""What a run folder is about, in a line for people; no credentials are in it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from bioimage_py.errors import StorageError
from bioimage_py.runner.run.run_folder import RunFolder

_USER_PART = re.compile(r"([a-z][a-z0-9+.-]*://)[^/\s'\"]*@", re.IGNORECASE)
_QUERY_PART = re.compile(r"([a-z][a-z0-9+.-]*://[^\s'\"?]*)\?[^\s'\"]*", re.IGNORECASE)


def what_is_run(work: Mapping[str, Any]) -> str:
    """Return what is done with what, such as `"copy a.zarr to b.zarr"`, from the plan in a run folder."""
    if work["kind"] == "map":
        return "a function over items"
    if "parts" in work:
        first, *others = work["parts"]
        if work.get("temporary") is not None:
            return _in_two_passes(work["parts"], work["n_asked"])
        if first["kind"] == "pyramid":
            # The parts after the first make what is left of the same image.
            others = []
        return what_is_run(first) + (f", and {len(others)} more" if others else "")
    inputs = ", ".join(_place(spec) for spec in work["inputs"])
    outputs = ", ".join(_place(spec) for spec in work["outputs"])
    verb = {"copy": "copy", "pyramid": "pyramid of"}.get(work["kind"], "a function over")
    return f"{verb} {inputs}" + (f" to {outputs}" if outputs else "")


def _in_two_passes(parts: Sequence[Mapping[str, Any]], n_asked: int) -> str:
    first = parts[0]
    filling = [part for part in parts[n_asked:] if _place(part["outputs"][0]) == _place(first["inputs"][0])]
    inputs = filling[0]["inputs"] if filling else first["inputs"]
    others = f", and {n_asked - 1} more" if n_asked > 1 else ""
    return f"{what_is_run({**first, 'inputs': inputs})}{others}, in two passes"


def _place(spec: Mapping[str, Any]) -> str:
    """Return the path of a source with its key; of a wrapper, what it wraps."""
    if isinstance(spec.get("path"), str):
        key = spec.get("key")
        return without_credentials(f"{spec['path']} ({key})" if key else spec["path"])
    inner = [_place(value) for value in spec.values() if isinstance(value, Mapping)]
    kind = str(spec.get("kind", "source"))
    return f"{kind} of {', '.join(inner)}" if inner else kind


def without_credentials(text: str) -> str:
    """Return a text with user names, passwords and signatures taken out of the URLs in it."""
    return _QUERY_PART.sub(r"\1", _USER_PART.sub(r"\1", text))


def handle_text(folder: RunFolder, number: int) -> str:
    """Return what the backend calls a round, such as `"job 17"`, empty where it has no name for it."""
    try:
        handle = folder.read_handle(number) if number >= 0 else None
    except StorageError:
        return ""
    if handle is None:
        return ""
    jobs, address = handle.get("jobs"), handle.get("address")
    if isinstance(jobs, list) and jobs:
        return f"job{'s' if len(jobs) > 1 else ''} {', '.join(map(str, jobs))}"
    return without_credentials(f"at {address}") if isinstance(address, str) else ""
