"""`bioimage-py config`: whether bars are shown, and what is asked of Slurm by default."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

from bioimage_py.cli import values
from bioimage_py.cli.console import Console
from bioimage_py.cli.failure import OK, PROGRAM, UsageError
from bioimage_py.runner import bars_are_wanted, bars_in_file
from bioimage_py.runner.slurm import (
    SlurmConfig,
    check_names,
    config_file_path,
    is_ignored,
    user_defaults,
    write_settings,
    write_slurm_config,
)

_PROGRAM = f"{PROGRAM} config"
_BARS = "progress"
"""The one setting that is not for Slurm."""


def run_config(args: argparse.Namespace, console: Console) -> int:
    """Show the settings, get single ones, or set them."""
    if args.action == "show":
        if args.settings or args.unset:
            given = args.settings[0] if args.settings else "--unset"
            raise UsageError(f"'show' takes no arguments, got {given!r}; to set something: {_PROGRAM} set")
        return _show(console)
    return _set(args, console) if args.action == "set" else _get(args, console)


def _get(args: argparse.Namespace, console: Console) -> int:
    if args.unset or not args.settings:
        raise UsageError(f"'get' takes the names of settings, such as '{_PROGRAM} get partition'")
    names = [name.replace("-", "_") for name in args.settings]
    check_names(names, "the configuration", [_BARS])
    config = SlurmConfig.load()
    found = {name: _bars() if name == _BARS else getattr(config, name) for name in names}
    for value in found.values():
        console.line(_shown(value))
    console.document({"command": "config", **found})
    return OK


def _show(console: Console) -> int:
    path, there, ignored = config_file_path(), config_file_path().is_file(), is_ignored()
    config, bars = SlurmConfig.load(), _bars()
    from_file = [*([] if bars_in_file() is None else [_BARS]), *user_defaults()]
    in_force = {f.name: getattr(config, f.name) for f in fields(config)}
    remark = "" if there else " (does not exist yet)"
    remark = " (ignored: BIOIMAGE_PY_NO_CONFIG is set)" if ignored else remark
    console.line(f"file: {path}{remark}")
    width = max(map(len, in_force))
    for title, settings in (
        ("for all runs ('*': from the file; all others: defaults):", {_BARS: bars}),
        ("for runs on Slurm:", in_force),
    ):
        console.line(title)
        for name, value in settings.items():
            console.line(f"  {'*' if name in from_file else ' '} {name:{width}}  {_shown(value)}".rstrip())
    console.document(
        {
            "command": "config",
            "file": str(path),
            "exists": there,
            "ignored": ignored,
            "from_file": sorted(from_file),
            _BARS: bars,
            "slurm": in_force,
        }
    )
    return OK


def _bars() -> bool:
    bars_in_file()  # a wrong value is an error here, and nowhere else
    return bars_are_wanted()


def _shown(value: object) -> str:
    if value is None or value == ():
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return "; ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _set(args: argparse.Namespace, console: Console) -> int:
    changes = _pairs(args.settings)
    check_names([*changes, *args.unset], "the configuration", [_BARS])
    both = [name for name in args.unset if name in changes]
    if both:
        raise UsageError(f"{both[0]} cannot be set and unset at once")
    if not changes and not args.unset:
        raise UsageError(f"nothing to set: give KEY VALUE, such as '{_PROGRAM} set partition cpu'")
    types = {**{f.name: str(f.type) for f in fields(SlurmConfig)}, _BARS: "bool"}
    typed = {name: _typed(name, text, types[name]) for name, text in changes.items()}
    settings = {**typed, **dict.fromkeys(args.unset)}
    bars = {_BARS: settings.pop(_BARS)} if _BARS in settings else {}
    path = write_slurm_config(**settings) if settings else config_file_path()
    if bars:
        path = write_settings(bars)
    for name, value in typed.items():
        console.remark(f"{name} = {_shown(value)}")
    for name in args.unset:
        console.remark(f"{name} is unset")
    console.remark(f"written to {path}")
    console.document({"command": "config", "file": str(path), "set": typed, "unset": args.unset})
    return OK


def _pairs(words: Sequence[str]) -> dict[str, str]:
    """Read `KEY VALUE KEY VALUE` and `KEY=VALUE`, in any mixture."""
    found: dict[str, str] = {}
    left = list(words)
    while left:
        name, sign, value = left.pop(0).partition("=")
        if not sign:
            if not left:
                raise UsageError(f"{name!r} has no value: give KEY VALUE, or --unset {name}")
            value = left.pop(0)
        found[name.replace("-", "_")] = value
    return found


def _typed(name: str, text: str, kind: str) -> Any:
    """Return a value of the type that the setting has; what it may be is for the configuration to check."""
    read, meant = next(how for start, how in _READ.items() if kind.startswith(start))
    try:
        return read(text)
    except (ValueError, KeyError, argparse.ArgumentTypeError) as error:
        raise UsageError(f"{name} must be {meant}, got {text!r}") from error


_READ: dict[str, tuple[Callable[[str], Any], str]] = {
    "str": (str, "a string"),
    "int | str": (str, "a string"),
    "int": (int, "a whole number"),
    "float": (
        lambda text: values.seconds(text) if text[-1:].isalpha() else float(text),
        "a number of seconds, or a time such as 15min",
    ),
    "bool": (
        lambda text: {"yes": True, "true": True, "no": False, "false": False}[text.lower()],
        "yes or no",
    ),
    "Sequence": (
        lambda text: json.loads(text) if text.lstrip().startswith("[") else [text],
        "a JSON list of strings",
    ),
}
"""How the text of a setting is read, and what it must be, by the beginning of its type."""
