"""What MkDocs makes when it builds the site: the API reference from the public names, the command reference from the parser."""

from __future__ import annotations

import argparse
import importlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import bioimage_py
from bioimage_py.cli import build_parser

REPOSITORY = "https://github.com/bioimage-py/bioimage-py/blob/main/"
LINK = re.compile(r"\]\((?P<target>[^)#:\s]+)(?P<anchor>#[^)\s]*)?\)")
LOCAL = re.compile(r", here \d+")  # a default that is that of this machine

API: dict[str, tuple[str, str, str, tuple[str, ...]]] = {
    "copying": (
        "Copying and comparing",
        "One call each. All take paths, URLs, arrays, handles and sources.",
        "bioimage_py",
        (
            "copy", "plan", "verify", "check", "repair", "digest", "resume", "status", "run_page", "pyramid", "pyramid_plan", "downsample", "bench",
            "create_output",
            "VerifyResult", "CheckResult", "BenchResult",
        ),
    ),
    "sources": (
        "Sources",
        "What can be read, and perhaps written. The last four are for [formats of your own](../tutorials/own-format.md).",
        "bioimage_py.sources",
        (
            "open_source", "as_source", "with_metadata", "from_spec", "Source", "FileSource", "ChunkedFileSource", "NumpySource",
            "Family", "FamilyEntry",
        ),
    ),
    "wrapper": (
        "Wrappers",
        "Sources that transform others when they are read. [How they are used](../wrappers.md).",
        "bioimage_py.wrapper",
        (),
    ),
    "runner": (
        "Runners",
        "Where blocks are processed, and how a run is set up. [Monitor, cancel, resume](../runs.md).",
        "bioimage_py",
        (
            "get_runner", "Runner", "LocalRunner", "SubprocessRunner", "SlurmRunner", "DaskRunner", "RunnerConfig", "SlurmConfig",
            "DaskConfig", "write_slurm_config", "config_file_path", "Progress", "Blocking", "Block", "BlockWithHalo", "to_roi",
        ),
    ),
    "pictures": (
        "Pictures and viewers",
        "[Make pictures](../preview.md), [look at images](../viewers.md).",
        "bioimage_py",
        ("preview", "Picture", "view", "View"),
    ),
    "napari": (
        "Layers of napari",
        "What the [plugin](../viewers.md#napari) makes of a path.",
        "bioimage_py.napari",
        ("open_layers",),
    ),
    "errors": (
        "Errors",
        "Every error is a `BioimagePyError` and the builtin that you would expect. [What to do about them](../copy.md#errors).",
        "bioimage_py.errors",
        (),
    ),
}  # fmt: skip


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the reference."""
    os.environ["COLUMNS"] = "80"
    made = {name: "\n".join(_api_page(*page)) for name, page in API.items()}
    shown = {word for _, _, _, names in API.values() for word in names} | {"BioimagePyError", "RunnerError"}
    missing = {name for name in bioimage_py.__all__ if not name.startswith("__")} - shown
    if missing:
        raise ValueError(f"the API reference lacks {sorted(missing)}: add them to API in docs/hooks.py")
    made["command"] = "\n".join(_command_page())
    for name, text in made.items():
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links that lead out of docs/ lead to the repository."""
    docs = Path(config.docs_dir)
    here = (docs / page.file.src_uri).parent

    def outside(link: re.Match[str]) -> str:
        target = (here / link["target"]).resolve()
        if target.is_relative_to(docs) or not target.exists():
            return link[0]
        return f"]({REPOSITORY}{target.relative_to(docs.parent).as_posix()}{link['anchor'] or ''})"

    return LINK.sub(outside, markdown)


def _api_page(title: str, about: str, module: str, names: tuple[str, ...]) -> Iterator[str]:
    room = importlib.import_module(module)
    public = names or tuple(
        name
        for name, found in ((name, getattr(room, name)) for name in dir(room) if not name.startswith("_"))
        if str(getattr(found, "__module__", "")).startswith(module) and found.__doc__
    )
    yield f"# {title}\n\n{about}\n"
    for name in public:
        found = getattr(room, name)
        yield f"::: {found.__module__}.{found.__qualname__}\n"


def _command_page() -> Iterator[str]:
    parser = build_parser()
    verbs = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction))  # noqa: SLF001  # argparse tells them in no other way
    yield "# Command line\n\nWhat `bioimage-py VERB --help` prints.\n"
    yield "| verb | |\n| --- | --- |"
    for choice in verbs._choices_actions:  # noqa: SLF001  # as above
        yield f"| [`{choice.dest}`](#{choice.dest}) | {choice.help} |"
    for name, verb in verbs.choices.items():
        yield f"\n## {name}\n\n{verb.description}\n"
        for group in verb._action_groups:  # noqa: SLF001  # as above
            yield from _options(group.title or "options", group._group_actions)  # noqa: SLF001  # as above
        yield f"\n```text\n{(verb.epilog or '').partition('exit codes:')[0].strip()}\n```\n"
    yield f"\n## Getting started\n\n```text\n{(parser.epilog or '').partition('how to name')[0]}```\n"
    yield "Exit codes are listed in [Copying](../copy.md#exit-codes)."


def _options(title: str, actions: list[Any]) -> Iterator[str]:
    if actions:
        yield f"\n| {title} | |\n| --- | --- |"
    for action in actions:
        value = action.metavar or ("{" + ",".join(map(str, action.choices)) + "}" if action.choices else "")
        names = [f"`{name} {value}`" if value else f"`{name}`" for name in action.option_strings] or [
            f"`{value}`"
        ]
        help_ = (action.help or "").replace("%(default)s", str(action.default)).replace("%%", "%")
        yield f"| {', '.join(names)} | {LOCAL.sub('', help_)} |"
