"""The parser of the command line: its verbs and options, and what was probably meant by others."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from bioimage_py.cli import values
from bioimage_py.cli.failure import PROGRAM, UsageError
from bioimage_py.cli.options import TASKS_AT_ONCE, add_fields, add_opening
from bioimage_py.cli.verbs import ABOUT, EXAMPLES, VERBS
from bioimage_py.errors import MissingDependencyError
from bioimage_py.operations import CopyOptions, InputMetadata, NewArray, PyramidOptions, RunOptions
from bioimage_py.report import Look
from bioimage_py.runner import RunnerConfig, all_backends

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
            listed, word, advice = " ".join(map(repr, left)), left[0], ""
            if word.startswith("--"):
                advice = _near(word.partition("=")[0], self.options.get(parsed.verb, ()))
            if word.startswith("-") and not advice:
                advice = "; put '--' before a name that begins with a dash"
            raise UsageError(f"unexpected: {listed}{advice}")
        return parsed

    def error(self, message: str) -> NoReturn:
        """Raise instead of exiting, so that `--json` gets its document."""
        wrong = _WRONG_CHOICE.search(message)
        if wrong:
            message += _near(wrong[1], re.findall(r"'([^']*)'", wrong[2]))
        raise UsageError(message)


def _near(word: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, known, 1)
    return f"; did you mean {near[0]}?" if near else ""


def build_parser() -> Parser:
    """Return the parser of the whole command."""
    parser = Parser(prog=PROGRAM, description=ABOUT, epilog=EXAMPLES)
    _flag(parser, "--version", "show the version and exit")
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


def _metadata(parser: Parser) -> None:
    add_fields(parser.add_argument_group("metadata that the input lacks or has wrong"), InputMetadata)


def _layout(parser: Parser) -> None:
    add_fields(parser.add_argument_group("layout of a new output"), NewArray, without=("overwrite",))
    _metadata(parser)


def _where(parser: Parser) -> None:
    """Add the options of where a copy runs, and of how it can be finished later: those of all backends, and of each."""
    where = parser.add_argument_group("where it runs")
    kinds = "; ".join(f"{name!r}: {backend.about}" for name, backend in all_backends().items())
    where.add_argument(
        "--job-type", choices=tuple(all_backends()), default="local", help=f"{kinds} (default: 'local')"
    )
    where.add_argument(
        "--workers", type=values.workers, metavar="N",
        help=f"threads, processes or tasks at once (default: all cores, here {values.available_cores()}; on a cluster "
        f"{TASKS_AT_ONCE})",
    )  # fmt: skip
    add_fields(where, RunOptions, "memory_limit")
    add_fields(parser.add_argument_group("run folders and worker processes"), RunnerConfig)
    for backend in all_backends().values():
        title = f"with --job-type {backend.name}"
        try:
            if backend.config_class is not RunnerConfig:
                group = parser.add_argument_group(title, backend.options or None)
                add_fields(group, backend.config_class, prefix=backend.prefix)
        except MissingDependencyError as error:
            parser.add_argument_group(title, str(error))


def _info(parser: Parser) -> None:
    parser.add_argument("path", metavar="PATH", help="the image")
    add_opening(parser.add_argument_group("which array"))
    parser.add_argument(
        "--picture", metavar="FILE", help="also make a picture of it, as 'bioimage-py preview' does"
    )
    _flag(parser, "--overwrite", "with --picture: replace an existing picture")


def _preview(parser: Parser) -> None:
    parser.add_argument("path", metavar="SOURCE", help="the image")
    parser.add_argument(
        "-o", "--output", required=True, metavar="FILE", help="the picture; its extension chooses the format: .png, .jpg, .pdf ..."
    )  # fmt: skip
    _flag(parser, "--overwrite", "replace an existing picture")
    add_opening(parser.add_argument_group("which array"))
    shown = parser.add_argument_group("what is shown")
    add_fields(shown.add_mutually_exclusive_group(), Look, "position", "projection")
    add_fields(shown, Look, "time", "channels")
    look = parser.add_argument_group("how it looks")
    add_fields(look, Look, without=("position", "projection", "time", "channels"))
    _metadata(parser)


def _view(parser: Parser) -> None:
    parser.add_argument("paths", nargs="+", metavar="SOURCE", help="the images, bottom layer first")
    add_opening(parser.add_argument_group("which array (for a single SOURCE)"))
    parser.add_argument(
        "--labels", action="append", default=[], metavar="SOURCE", help="a label image; can be repeated"
    )
    served = parser.add_argument_group("how it is served")
    served.add_argument(
        "--port", type=values.count, default=0, metavar="N", help="port on this computer (default: a free one)"
    )  # fmt: skip
    _flag(served, "--no-browser", "print the address only")
    _metadata(parser)


def _plan(parser: Parser) -> None:
    parser.add_argument("input", metavar="INPUT", help="the image to read")
    parser.add_argument("output", metavar="OUTPUT", help="where to write")
    places = parser.add_argument_group("which array")
    add_opening(places)
    places.add_argument("--output-key", metavar="KEY", help="name of the array in the output container")
    there = parser.add_argument_group("if the output exists").add_mutually_exclusive_group()
    add_fields(there, NewArray, "overwrite")
    _flag(there, "--into-existing", "write into the existing array, which keeps its layout")
    _layout(parser)
    work = parser.add_argument_group("what is copied, and how")
    add_fields(work, CopyOptions)
    add_fields(work, RunOptions, without=("memory_limit",))
    levels = parser.add_argument_group("downsampled levels")
    _flag(levels, "--pyramid", "make an OME-Zarr with all levels, as 'bioimage-py pyramid' does")
    add_fields(levels, PyramidOptions)
    _where(parser)


def _copy(parser: Parser) -> None:
    _plan(parser)
    after = parser.add_argument_group("before and after")
    _flag(after, "--dry-run", "only show what would be done, as 'bioimage-py plan' does")
    _flag(after, "--verify", "compare input and output voxel by voxel afterwards")


def _pyramid(parser: Parser) -> None:
    parser.add_argument("input", metavar="INPUT", help="the image to read")
    where = "where to write, such as image.ome.zarr (default: add levels to INPUT, an OME-Zarr)"
    parser.add_argument("output", nargs="?", metavar="OUTPUT", help=where)
    add_opening(parser.add_argument_group("which array"))
    add_fields(parser.add_argument_group("the levels"), PyramidOptions)
    add_fields(parser.add_argument_group("if the output exists"), NewArray, "overwrite")
    _layout(parser)
    add_fields(parser.add_argument_group("how it is made"), RunOptions, without=("memory_limit",))
    _where(parser)
    _flag(parser, "--dry-run", "only show what would be done; nothing is written")


def _verify(parser: Parser) -> None:
    parser.add_argument("a", metavar="A", help="one image")
    parser.add_argument("b", metavar="B", help="the other image")
    add_opening(parser.add_argument_group("which array of A"), "-a", " A")
    add_opening(parser.add_argument_group("which array of B"), "-b", " B")
    group = parser.add_argument_group("resources")
    _workers(group, "threads")
    add_fields(group, RunOptions, "memory_limit")


def _bench(parser: Parser) -> None:
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


def _runs(parser: Parser) -> None:
    parser.add_argument("folders", nargs="*", metavar="FOLDER", help="where to look")


def _cancel(parser: Parser) -> None:
    parser.add_argument("folder", metavar="RUN", help="the run folder")


def _status(parser: Parser) -> None:
    _cancel(parser)
    _flag(parser, "--watch", "show the status until the run ends")
    parser.add_argument(
        "--interval", type=values.seconds, default=2.0, metavar="TIME", help="with --watch: time between updates (default: 2s)"
    )  # fmt: skip


def _resume(parser: Parser) -> None:
    _cancel(parser)
    parser.add_argument(
        "--workers", type=values.workers, metavar="N",
        help="threads, processes or tasks at once (default: as the run was started)",
    )  # fmt: skip


def _config(parser: Parser) -> None:
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
    "info": _info,
    "preview": _preview,
    "view": _view,
    "plan": _plan,
    "copy": _copy,
    "pyramid": _pyramid,
    "verify": _verify,
    "bench": _bench,
    "runs": _runs,
    "status": _status,
    "resume": _resume,
    "cancel": _cancel,
    "config": _config,
}
