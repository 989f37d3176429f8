"""The parser of the command line: its verbs and options, and what was probably meant by others."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from bioimage_py.cli import values
from bioimage_py.cli.failure import PROGRAM, UsageError
from bioimage_py.cli.options import (
    add_copy_options,
    add_fields,
    add_memory,
    add_opening,
    add_preview_options,
    add_pyramid_options,
    add_run_options,
    add_view_options,
)
from bioimage_py.cli.verbs import ABOUT, EXAMPLES, VERBS
from bioimage_py.operations import NewArray

_WRONG_CHOICE = re.compile(r"invalid choice: '([^']*)' \(choose from (.*)\)")


class Parser(argparse.ArgumentParser):
    """An argparse parser that raises `UsageError`, takes no abbreviations, and keeps the layout of its texts."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **options)
        self.options: dict[str, list[str]] = {}  # of each verb, to guess what was meant

    def parse(self, words: Sequence[str]) -> argparse.Namespace:
        """Parse all arguments; one that is left over is an error of its verb."""
        parsed, left = self.parse_known_args(words)
        if left:
            listed = " ".join(repr(word) for word in left)
            program = f"{PROGRAM} {parsed.verb}" if parsed.verb else PROGRAM
            raise UsageError(f"unexpected: {listed}{self._advice(parsed.verb, left[0])}", program)
        return parsed

    def _advice(self, verb: str | None, word: str) -> str:
        near = (
            _near(word.partition("=")[0], self.options.get(verb or "", ())) if word.startswith("--") else ""
        )
        return near or ("; put '--' before a name that begins with a dash" if word.startswith("-") else "")

    def error(self, message: str) -> NoReturn:
        """Raise instead of exiting, so that `--json` gets its document."""
        wrong = _WRONG_CHOICE.search(message)
        if wrong:
            message += _near(wrong[1], re.findall(r"'([^']*)'", wrong[2]))
        raise UsageError(message, self.prog)


def _near(word: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, known, 1)
    return f"; did you mean {near[0]}?" if near else ""


def build_parser() -> Parser:
    """Return the parser of the whole command."""
    parser = Parser(prog=PROGRAM, description=ABOUT, epilog=EXAMPLES)
    parser.add_argument("--version", action="store_true", help="show the version and exit")
    verbs = parser.add_subparsers(title="verbs", dest="verb", metavar="VERB")
    for name, text in VERBS.items():
        verb = verbs.add_parser(name, help=text.summary, description=text.about, epilog=text.epilog)
        _OPTIONS[name](verb)
        if name in ("copy", "pyramid", "verify", "resume", "cancel"):
            _flag(verb, "--quiet", "print only warnings and errors")
        _flag(verb, "--json", "print one JSON document, also for errors, and nothing else")
        _flag(verb, "--debug", "show the Python traceback of an error")
        parser.options[name] = [option for action in verb._actions for option in action.option_strings]  # noqa: SLF001
    return parser


def _flag(group: Any, option: str, help: str) -> None:
    group.add_argument(option, action="store_true", help=help)


def _workers(group: Any, help: str) -> None:
    group.add_argument(
        "--workers", type=values.workers, default=values.available_cores(), metavar="N",
        help=f"{help} (default: all cores, here %(default)s)",
    )  # fmt: skip


def _add_info(parser: Parser) -> None:
    parser.add_argument("path", metavar="PATH", help="the image")
    add_opening(parser.add_argument_group("which array"))
    parser.add_argument(
        "--picture", metavar="FILE", help="also make a picture of it, as 'bioimage-py preview' does"
    )
    _flag(parser, "--overwrite", "with --picture: replace an existing picture")


def _add_plan(parser: Parser) -> None:
    add_copy_options(parser)
    add_run_options(parser)


def _add_copy(parser: Parser) -> None:
    _add_plan(parser)
    after = parser.add_argument_group("before and after")
    _flag(after, "--dry-run", "only show what would be done, as 'bioimage-py plan' does")
    _flag(after, "--verify", "compare input and output voxel by voxel afterwards")


def _add_pyramid(parser: Parser) -> None:
    add_pyramid_options(parser)
    add_run_options(parser)
    _flag(parser, "--dry-run", "only show what would be done; nothing is written")


def _add_verify(parser: Parser) -> None:
    parser.add_argument("a", metavar="A", help="one image")
    parser.add_argument("b", metavar="B", help="the other image")
    add_opening(parser.add_argument_group("which array of A"), "-a", " A")
    add_opening(parser.add_argument_group("which array of B"), "-b", " B")
    group = parser.add_argument_group("resources")
    _workers(group, "threads")
    add_memory(group)


def _add_bench(parser: Parser) -> None:
    parser.add_argument("input", metavar="SOURCE", help="the image to read")
    add_opening(parser.add_argument_group("which array"))
    parser.add_argument(
        "--output", default=".", metavar="FOLDER", help="where to write (default: the working directory)"
    )
    parser.add_argument(
        "--sample", default="256MiB", metavar="SIZE", help="voxels to measure with (default: 256MiB)"
    )
    _workers(parser, "threads, measured in addition to a single one")
    add_fields(parser.add_argument_group("layout of what is written"), NewArray, "chunks", "shards", "codec")


def _add_runs(parser: Parser) -> None:
    parser.add_argument("folders", nargs="*", metavar="FOLDER", help="where to look")


def _add_run(parser: Parser) -> None:
    parser.add_argument("folder", metavar="RUN", help="the run folder")


def _add_status(parser: Parser) -> None:
    _add_run(parser)
    _flag(parser, "--watch", "show the status until the run ends")
    parser.add_argument(
        "--interval", type=values.seconds, default=2.0, metavar="TIME", help="with --watch: time between updates (default: 2s)"
    )  # fmt: skip


def _add_resume(parser: Parser) -> None:
    _add_run(parser)
    parser.add_argument(
        "--workers", type=values.workers, metavar="N",
        help="threads, processes or tasks at once (default: as the run was started)",
    )  # fmt: skip


def _add_config(parser: Parser) -> None:
    parser.add_argument(
        "action", nargs="?", default="show", metavar="show|set", help="what to do (default: show)"
    )
    parser.add_argument(
        "settings", nargs="*", metavar="KEY VALUE", help="with set: names and values of settings"
    )
    parser.add_argument(
        "--unset", action="append", default=[], metavar="KEY", help="with set: remove this setting; can be repeated"
    )  # fmt: skip


_OPTIONS: Mapping[str, Callable[[Parser], None]] = {
    "info": _add_info,
    "preview": add_preview_options,
    "view": add_view_options,
    "plan": _add_plan,
    "copy": _add_copy,
    "pyramid": _add_pyramid,
    "verify": _add_verify,
    "bench": _add_bench,
    "runs": _add_runs,
    "status": _add_status,
    "resume": _add_resume,
    "cancel": _add_run,
    "config": _add_config,
}
