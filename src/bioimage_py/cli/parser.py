"""The words of the command line: verbs and options, and what was probably meant by those that are none."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Callable, Sequence
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
from bioimage_py.cli.verbs import ABOUT, EXAMPLES, EXITS, PATHS, VERBS
from bioimage_py.operations import NewArray

_WRONG_CHOICE = re.compile(r"invalid choice: '([^']*)' \(choose from (.*)\)")


class Parser(argparse.ArgumentParser):
    """An argparse parser that raises `UsageError`, takes no abbreviations, and keeps the layout of its texts.

    Attributes
    ----------
    options
        For each verb the options that it takes, to guess what was meant.
    """

    def __init__(self, **options: Any) -> None:
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **options)
        self.options: dict[str, list[str]] = {}

    def parse(self, words: Sequence[str]) -> argparse.Namespace:
        """Parse, and say for words that are left over which verb they were given to."""
        parsed, left = self.parse_known_args(words)
        if left:
            listed = " ".join(repr(word) for word in left)
            program = f"{PROGRAM} {parsed.verb}" if parsed.verb else PROGRAM
            raise UsageError(f"{listed} is not understood; {self._advice(parsed.verb, left[0])}", program)
        return parsed

    def _advice(self, verb: str | None, word: str) -> str:
        if word.startswith("--") and verb in self.options:
            near = difflib.get_close_matches(word.partition("=")[0], self.options[verb], 1)
            if near:
                return f"did you mean {near[0]}?"
        return (
            "a name that begins with a dash goes after '--'" if word.startswith("-") else "it is one too many"
        )

    def error(self, message: str) -> NoReturn:
        """Raise instead of exiting, so that `--json` gets its document."""
        wrong = _WRONG_CHOICE.search(message)
        if wrong:
            near = difflib.get_close_matches(wrong[1], re.findall(r"'([^']*)'", wrong[2]), 1)
            message += f"; did you mean {near[0]}?" if near else ""
        raise UsageError(message, self.prog)


def build_parser(run: dict[str, Callable[..., int]]) -> Parser:
    """Return the parser of the whole command.

    Parameters
    ----------
    run
        For each verb the function that carries it out; it is set as `run` on the parsed arguments.
    """
    parser = Parser(prog=PROGRAM, description=ABOUT, epilog=f"{EXAMPLES}\n\n{PATHS}\n\n{EXITS}")
    parser.add_argument("--version", action="store_true", help="show the version and exit")
    verbs = parser.add_subparsers(title="verbs", dest="verb", metavar="VERB")
    for name, add_options in _ADDED.items():
        text = VERBS[name]
        epilog = "\n\n".join((text.examples, *text.notes, EXITS))
        verb = verbs.add_parser(name, help=text.summary, description=text.about, epilog=epilog)
        verb.set_defaults(run=run[name])
        add_options(verb)
        _add_machine_options(verb)
        parser.options[name] = [option for action in verb._actions for option in action.option_strings]  # noqa: SLF001
    return parser


def _add_info(parser: Parser) -> None:
    parser.add_argument("path", metavar="PATH", help="the image")
    add_opening(parser.add_argument_group("which array"))
    parser.add_argument(
        "--picture", metavar="FILE", help="make a picture of it too, as 'bioimage-py preview' does"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="with --picture: replace a picture that is there"
    )


def _add_plan(parser: Parser) -> None:
    add_copy_options(parser)
    add_run_options(parser)


def _add_copy(parser: Parser) -> None:
    add_copy_options(parser)
    add_run_options(parser)
    after = parser.add_argument_group("before and after")
    after.add_argument(
        "--dry-run", action="store_true", help="only show what would be done, as 'bioimage-py plan' does"
    )
    after.add_argument(
        "--verify", action="store_true", help="compare input and output voxel by voxel afterwards"
    )
    _add_quiet(parser)


def _add_pyramid(parser: Parser) -> None:
    add_pyramid_options(parser)
    add_run_options(parser)
    parser.add_argument(
        "--dry-run", action="store_true", help="only show what would be done; nothing is written"
    )
    _add_quiet(parser)


def _add_verify(parser: Parser) -> None:
    parser.add_argument("a", metavar="A", help="one image")
    parser.add_argument("b", metavar="B", help="the other image")
    add_opening(parser.add_argument_group("which array of A"), "-a", "A")
    add_opening(parser.add_argument_group("which array of B"), "-b", "B")
    group = parser.add_argument_group("how much of the computer is used")
    group.add_argument(
        "--workers", type=values.workers, default=values.available_cores(), metavar="N",
        help="threads (default: all cores, here %(default)s)",
    )  # fmt: skip
    add_memory(group)
    _add_quiet(parser)


def _add_bench(parser: Parser) -> None:
    parser.add_argument("input", metavar="SOURCE", help="the image to read")
    add_opening(parser.add_argument_group("which array"))
    parser.add_argument(
        "--output", default=".", metavar="FOLDER", help="where to write (default: the working directory)"
    )
    parser.add_argument(
        "--sample", default="256MiB", metavar="SIZE", help="voxels to measure with (default: 256MiB)"
    )
    parser.add_argument(
        "--workers", type=values.workers, default=values.available_cores(), metavar="N",
        help="threads, beside a measurement with one (default: all cores, here %(default)s)",
    )  # fmt: skip
    group = parser.add_argument_group("layout of what is written")
    add_fields(group, NewArray, "chunks", "shards", "codec")


def _add_runs(parser: Parser) -> None:
    parser.add_argument("folders", nargs="*", metavar="FOLDER", help="where to look")


def _add_status(parser: Parser) -> None:
    _add_run(parser)
    parser.add_argument("--watch", action="store_true", help="look again and again, until the run ends")
    parser.add_argument(
        "--interval", type=values.seconds, default=2.0, metavar="TIME",
        help="with --watch: time between two looks (default: 2s)",
    )  # fmt: skip


def _add_resume(parser: Parser) -> None:
    _add_run(parser)
    parser.add_argument(
        "--workers", type=values.workers, metavar="N",
        help="threads, processes or tasks at once (default: as the run was begun)",
    )  # fmt: skip
    _add_quiet(parser)


def _add_cancel(parser: Parser) -> None:
    _add_run(parser)
    _add_quiet(parser)


def _add_config(parser: Parser) -> None:
    parser.add_argument(
        "action", nargs="?", default="show", metavar="show|set", help="what to do (default: show)"
    )
    parser.add_argument("settings", nargs="*", metavar="KEY VALUE", help="with set: what, and to what")
    parser.add_argument(
        "--unset", action="append", default=[], metavar="KEY", help="with set: forget this setting; can be given again"
    )  # fmt: skip


def _add_run(parser: Parser) -> None:
    parser.add_argument("folder", metavar="RUN", help="the run folder")


def _add_quiet(parser: Parser) -> None:
    parser.add_argument("--quiet", action="store_true", help="print nothing but warnings and errors")


def _add_machine_options(parser: Parser) -> None:
    parser.add_argument(
        "--json", action="store_true", help="print one JSON document, for errors too, and nothing else"
    )
    parser.add_argument("--debug", action="store_true", help="show the Python traceback of an error")


_ADDED: dict[str, Callable[[Parser], None]] = {
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
    "cancel": _add_cancel,
    "config": _add_config,
}
