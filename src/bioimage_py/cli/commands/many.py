"""Several inputs of one command, each into an output of its own in a folder."""

from __future__ import annotations

import argparse
import glob
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from bioimage_py.cli.console import Console
from bioimage_py.cli.failure import DIFFERENT, INTERRUPTED, OK, TERMINATED, UsageError, failure_of
from bioimage_py.sources import families, locate
from bioimage_py.storage import is_url
from bioimage_py.text import counted, duration

_FOR_ONE = ("output_key", "into_existing", "mask", "block_ids", "page")
_PLAIN = {"ome-zarr": ".ome.zarr", "ome-tiff": ".ome.tif"}


class _Part(Console):
    """Prints the results of one input, and keeps its document for that of all."""

    def __init__(self, whole: Console) -> None:
        super().__init__(as_json=whole.json, quiet=whole.quiet)
        self.content: Mapping[str, Any] = {}

    def remark(self, text: str) -> None:
        del text  # there is one table for all

    def document(self, content: Mapping[str, Any]) -> None:
        self.content = content


def run_many(
    args: argparse.Namespace, console: Console, run: Callable[[argparse.Namespace, Console], int]
) -> int:
    """Run a command for each input, whatever becomes of the others, and print what became of each; returns the exit code."""
    if given := [f"--{name.replace('_', '-')}" for name in _FOR_ONE if getattr(args, name, None)]:
        raise UsageError(
            f"{' and '.join(given)} can be given for a single output only, and --to makes one of each input"
        )
    outputs = _outputs(args)
    if args.verb == "copy" and not args.dry_run and not is_url(args.output):
        Path(args.output).mkdir(parents=True, exist_ok=True)
    files: list[dict[str, Any]] = []
    try:
        for given_path, output in outputs.items():
            part, began = _Part(console), time.perf_counter()
            files.append({"input": given_path, "output": output, "outcome": "stopped"})
            try:
                code = run(
                    argparse.Namespace(**{**vars(args), "input": given_path, "output": output, "to": None}),
                    part,
                )
            except BrokenPipeError:
                raise
            except Exception as error:  # the others go on, and the end says which failed
                failure = failure_of(error, args.verb)
                if failure.exit_code in (INTERRUPTED, TERMINATED):
                    raise
                if not console.json:
                    console.failure(failure, args.verb)
                found: dict[str, Any] = {"outcome": "failed", "error": failure.to_json()}
            else:
                found = {"outcome": "done" if code == OK else "differs", "result": part.content}
            files[-1] |= {**found, "seconds": time.perf_counter() - began}
    finally:
        bad = [one for one in files if one["outcome"] != "done"]
        width = max(len(one["input"]) for one in files)
        for one in files:
            what = one["error"]["message"].splitlines()[0] if "error" in one else one["output"]
            took = f"  ({duration(one['seconds'])})" if "seconds" in one and "error" not in one else ""
            (console.line if one in bad else console.remark)(
                f"{one['outcome']:8} {one['input']:{width}}  {what}{took}"
            )
    rest = f", {len(bad):,} not" if bad else ""
    console.remark(f"{len(files) - len(bad):,} of {counted(len(files), 'input')} done{rest}")
    console.document({"command": args.verb, "files": files})
    return DIFFERENT if bad else OK


def _outputs(args: argparse.Namespace) -> dict[str, str]:
    """Return the output of each input; UsageError for two that are the same, before anything is written."""
    ending, folder = _ending(args.to), args.output
    if not is_url(folder) and (locate(folder).family is not None or Path(folder).is_file()):
        raise UsageError(
            f"with --to, OUTPUT is the folder in which an output for each input is made, but {folder!r} is not"
        )
    found: dict[str, str] = {}
    owners: dict[str, str] = {}
    for path in [one for text in (args.input, *args.more) for one in _matches(text)]:
        output = f"{folder.rstrip('/')}/{_stem(path)}{ending}"
        other = owners.setdefault(os.path.normcase(output), path)
        if other != path or path in found:
            raise UsageError(
                f"{other} and {path} would both become {output}: copy them into different folders"
            )
        found[path] = output
    return found


def _ending(wanted: str) -> str:
    if wanted.startswith("."):
        return wanted
    known = _PLAIN | {
        one.kind: one.suffixes[0] for one in families() if one.writes and one.suffixes and not one.patterns
    }
    if wanted.lower() not in known:
        raise UsageError(f"--to takes {', '.join(known)}, or an ending such as .nii.gz, not {wanted!r}")
    return known[wanted.lower()]


def _matches(text: str) -> Iterator[str]:
    """Yield the paths that a pattern leads to, or what is no pattern itself."""
    if is_url(text) or not glob.has_magic(text) or os.path.lexists(text):
        yield text
        return
    found = sorted(path for path in glob.glob(text, recursive=True) if not path.endswith(".bioimage-py"))  # noqa: PTH207 - paths stay as typed
    if not found:
        raise UsageError(f"no file or folder matches {text!r}")
    yield from found


def _stem(path: str) -> str:
    """Return the name of an input without the ending of its format, with that of the array in a container."""
    place = locate(path)
    name = os.path.basename(place.path.rstrip("/"))  # noqa: PTH119 - of a URL as well
    endings = {ending for one in families() for ending in one.suffixes}
    zipped = name[:-3] if name.lower().endswith(".gz") else name
    found = max((one for one in endings if zipped.lower().endswith(one)), key=len, default="")
    if found:
        name = zipped[: -len(found)]
    elif Path(path).is_file():
        name = Path(name).stem
    name = name[:-4] if name.lower().endswith(".ome") else name
    return name if place.key is None else f"{name}_{place.key.replace('/', '_')}"
