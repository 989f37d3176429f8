"""The parser of the command line: its verbs and options, and what was probably meant by others."""

from __future__ import annotations

import argparse
import difflib
import itertools
import os
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

from bioimage_py.cli import values
from bioimage_py.cli.completion import SHELLS
from bioimage_py.cli.failure import PROGRAM, UsageError
from bioimage_py.cli.layout import HelpFormatter
from bioimage_py.cli.options import add_fields, add_opening
from bioimage_py.cli.verbs import ABOUT, EXAMPLES, VERBS
from bioimage_py.errors import MissingDependencyError
from bioimage_py.operations import (
    CopyOptions,
    InputMetadata,
    NewArray,
    PyramidOptions,
    Reduction,
    RunOptions,
    StoreAccess,
)
from bioimage_py.report import Look
from bioimage_py.runner import TASKS_AT_ONCE, RunnerConfig, all_backends, find_backend
from bioimage_py.system import available_cores

_QUIET = (
    "copy",
    "downsample",
    "pyramid",
    "verify",
    "check",
    "repair",
    "preview",
    "page",
    "resume",
    "cancel",
    "worker",
    "config",
)
_SEVERAL = (
    values.shape,
    values.sizes,
    values.scale_factors,
    values.indices,
    values.position,
    values.pair,
    values.limits,
    values.block_ids,
)
"""Readers of options that take several numbers as one word."""

_NUMBER = re.compile(r"[\d.]+(e-?\d+)?([,xX×][\d.]+)*")
_NEGATIVE = re.compile(r"-\d+[.\d]*[,:]")
_SLICES = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".bmp")
_WRONG_CHOICE = re.compile(r"invalid choice: '([^']*)' \(choose from (.*)\)")


class Parser(argparse.ArgumentParser):
    """An argparse parser that raises `UsageError`, takes no abbreviations, and lays its texts out for the terminal."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("formatter_class", HelpFormatter)
        super().__init__(allow_abbrev=False, **options)
        self.verbs: dict[str, Parser] = {}
        self.all_backends = True

    def parse(self, words: Sequence[str]) -> argparse.Namespace:
        """Parse all arguments; one that is left over is an error of its verb."""
        verb = self.verbs.get(next((word for word in words if not word.startswith("-")), ""))
        if verb is not None:
            words = list(verb.joined(words))
            verb.check_lists(words)
        parsed, left = self.parse_known_args(words)
        if left and getattr(parsed, "to", None) is not None and not any(w.startswith("-") for w in left):
            parsed.more, parsed.output = [parsed.output, *left[:-1]], left[-1]
        elif left:
            word, advice = left[0], ""
            listed = " ".join(map(repr, left[:3])) + (f" and {len(left) - 3:,} more" if len(left) > 3 else "")
            if verb is not None:
                advice = (
                    _near(word.partition("=")[0], verb.options)
                    if word.startswith("--")
                    else verb.unquoted(words)
                )
            if verb is not None and "--to" in verb.options and not word.startswith("-") and not advice:
                advice = "; several inputs are copied into a folder with --to FORMAT, such as --to ome-zarr"
            if word.startswith("-") and not advice:
                advice = "; put '--' before a name that begins with a dash"
            raise UsageError(f"unexpected: {listed}{advice}")
        return parsed

    @property
    def options(self) -> list[str]:
        """All options as they are spelled, to guess what was meant."""
        return [option for action in self._actions for option in action.option_strings]

    def joined(self, words: Sequence[str]) -> Iterator[str]:
        """Yield words in which a value that begins with a minus, such as -512:,: or -1000,400, is one word with its option."""
        takes = {name for action in self._actions if action.nargs is None for name in action.option_strings}
        waiting = iter(words)
        for word in waiting:
            after = next(waiting, None) if word in takes else None
            if after is not None and _NEGATIVE.match(after):
                yield f"{word}={after}"
            else:
                yield word
                if after is not None:
                    yield after

    def check_lists(self, words: Sequence[str]) -> None:
        """Raise UsageError where the numbers of one option are several words."""
        several = {
            name for action in self._actions if action.type in _SEVERAL for name in action.option_strings
        }
        for n, word in enumerate(words):
            option, _, first = word.partition("=")
            if option in several:
                rest = itertools.takewhile(_NUMBER.fullmatch, words[n + 1 :])
                numbers = [*([first] if first else []), *rest]
                if len(numbers) > 1:
                    raise UsageError(f"{option} takes its numbers as one word: {option} {','.join(numbers)}")

    def unquoted(self, words: Sequence[str]) -> str:
        """Return what to say where a shell has replaced an unquoted pattern by the names of files."""
        if "--pattern" not in self.options:
            return ""
        kinds = [
            (os.path.dirname(word), os.path.splitext(word)[1]) for word in words  # noqa: PTH120, PTH122 - as it was typed
        ]  # fmt: skip
        slices = [kind for kind in kinds if kind[1].lower() in _SLICES]
        found = max(slices, key=slices.count, default=("", ""))
        if slices.count(found) < 3:
            return ""
        rest = [word for word, kind in zip(words, kinds, strict=True) if kind != found]
        again = [PROGRAM, rest[0], f"{found[0] or '.'}/", "--pattern", f"*{found[1]}", *rest[1:]]
        return f"; if the shell has replaced a pattern by {kinds.count(found):,} names, quote it: {shlex.join(again)}"

    def error(self, message: str) -> NoReturn:
        """Raise instead of exiting, so that `--json` gets its document."""
        wrong = _WRONG_CHOICE.search(message)
        if wrong:
            message += _near(wrong[1], re.findall(r"'([^']*)'", wrong[2]))
        raise UsageError(message)


def _near(word: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, known, 1)
    return f"; did you mean {near[0]}?" if near else ""


def build_parser(only: str | None = None, *, all_backends: bool = True) -> Parser:
    """Return the parser of the whole command, or one that knows the options of one verb only, or only those of local runs."""
    parser = Parser(prog=PROGRAM, description=ABOUT, epilog=EXAMPLES, usage=f"{PROGRAM} VERB [arguments]")
    _flag(parser, "-V", "--version", help="show the version and exit")
    verbs = parser.add_subparsers(title="verbs", dest="verb", metavar="VERB", prog=PROGRAM)
    for name, text in VERBS.items():
        verb = verbs.add_parser(name, help=text.summary, description=text.about, epilog=text.epilog)
        if only not in (None, name):
            continue
        verb.all_backends = all_backends
        _OPTIONS[name](verb)
        if name in _QUIET:
            _flag(verb, "-q", "--quiet", help="print errors only: no progress, no warnings")
        _flag(verb, "-v", "--verbose", help="also print on stderr what is decided and done")
        _flag(verb, "--json", help="print one JSON document, also for errors, and nothing else")
        _flag(verb, "--debug", help="show the Python traceback of an error")
        verb.usage = _usage(verb)
        parser.verbs[name] = verb
    return parser


def _usage(verb: Parser) -> str:
    """Return the usage without the options, which the help lists."""
    nargs = {None: "{}", "?": "[{}]", "*": "[{} ...]", "+": "{} [{} ...]"}
    words = []
    for action in verb._actions:  # noqa: SLF001 - argparse has no other way to ask for them
        if not action.option_strings:
            words.append(nargs[action.nargs].replace("{}", str(action.metavar)))  # type: ignore[index]
        elif action.required:
            words.append(f"{action.option_strings[-1]} {action.metavar}")
    return " ".join([verb.prog, *words, "[options]"])


def _flag(group: Any, *options: str, help: str) -> None:
    group.add_argument(*options, action="store_true", help=help)


def _workers(group: Any, help: str) -> None:
    group.add_argument(
        "-j", "--workers", type=values.workers, default=available_cores(), metavar="N",
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
    known = all_backends() if parser.all_backends else {"local": find_backend("local")}
    parser.set_defaults(backends=tuple(known.values()))
    kinds = "; ".join(f"{name!r}: {backend.about}" for name, backend in known.items())
    where.add_argument(
        "--job-type",
        choices=tuple(known),
        default="local",
        metavar="NAME",
        help=f"{kinds} (default: 'local')",
    )
    where.add_argument(
        "-j", "--workers", type=values.workers, metavar="N",
        help=f"threads, processes or tasks at once (default: all cores, here {available_cores()}; on a cluster "
        f"{TASKS_AT_ONCE})",
    )  # fmt: skip
    add_fields(where, RunOptions, "memory_limit")
    add_fields(parser.add_argument_group("run folders and worker processes"), RunnerConfig)
    for backend in known.values():
        title = f"with --job-type {backend.name}"
        try:
            if backend.config_class is not RunnerConfig:
                group = parser.add_argument_group(title, backend.options or None)
                add_fields(group, backend.config_class, prefix=backend.prefix)
        except MissingDependencyError as error:
            parser.add_argument_group(title, str(error))


def _stores(parser: Parser) -> None:
    add_fields(parser.add_argument_group("how s3:// and az:// are reached"), StoreAccess)


def _info(parser: Parser) -> None:
    parser.add_argument("path", metavar="PATH", help="the image")
    add_opening(parser.add_argument_group("which array"))
    parser.add_argument(
        "--picture", metavar="FILE", help="also make a picture of it, as 'bioimage-py preview' does"
    )
    _flag(parser, "--overwrite", help="with --picture: replace an existing picture")
    _stores(parser)


def _preview(parser: Parser) -> None:
    parser.add_argument("path", metavar="SOURCE", help="the image")
    parser.add_argument(
        "-o", "--output", required=True, metavar="FILE", help="the picture; its extension chooses the format: .png, .jpg, .pdf ..."
    )  # fmt: skip
    _flag(parser, "--overwrite", help="replace an existing picture")
    add_opening(parser.add_argument_group("which array"), without=("channel", "time_points"))
    shown = parser.add_argument_group("what is shown")
    add_fields(shown.add_mutually_exclusive_group(), Look, "position", "projection")
    add_fields(shown, Look, "time", "channels")
    look = parser.add_argument_group("how it looks")
    add_fields(look, Look, without=("position", "projection", "time", "channels"))
    _metadata(parser)
    _stores(parser)


def _view(parser: Parser) -> None:
    parser.add_argument("paths", nargs="+", metavar="SOURCE", help="the images, bottom layer first")
    add_opening(parser.add_argument_group("which array (for a single SOURCE)"))
    parser.add_argument(
        "--labels", action="append", default=[], metavar="SOURCE", help="a label image; can be repeated"
    )
    _served(parser.add_argument_group("how it is served"))
    _metadata(parser)
    _stores(parser)


def _plan(parser: Parser) -> None:
    parser.add_argument(
        "input",
        metavar="INPUT",
        help="the image to read; with --to, further ones follow, or a pattern such as '*.czi'",
    )
    parser.add_argument("output", metavar="OUTPUT", help="where to write; with --to, a folder")
    parser.set_defaults(more=())
    parser.add_argument(
        "--to", metavar="FORMAT", help="write each INPUT into the folder OUTPUT, in this format, such as ome-zarr, n5, hdf5 or ome-tiff, or with "
        "an ending such as .nii.gz; one that fails does not stop the others",
    )  # fmt: skip
    work = _writing(parser)
    work.add_argument(
        "--update-content", dest="update", action="store_const", const="content",
        help="as --update, but compare all voxels, whatever files or objects say of themselves",
    )  # fmt: skip
    work.add_argument(
        "--record-full", dest="record", action="store_const", const="full",
        help="as --record, with the names of user and host, and whole paths",
    )  # fmt: skip
    levels = parser.add_argument_group("downsampled levels")
    _flag(levels, "--pyramid", help="make an OME-Zarr with all levels, as 'bioimage-py pyramid' does")
    add_fields(levels, PyramidOptions)


def _writing(parser: Parser, without: Sequence[str] = ()) -> Any:
    """Add the options of what is read, written and run, without some; return the group of how it is copied."""
    places = parser.add_argument_group("which array")
    add_opening(places)
    places.add_argument("--output-key", metavar="KEY", help="name of the array in the output container")
    there = parser.add_argument_group("if the output exists").add_mutually_exclusive_group()
    add_fields(there, NewArray, "overwrite")
    _flag(there, "--into-existing", help="write into the existing array, which keeps its layout")
    _layout(parser)
    work = parser.add_argument_group("what is copied, and how")
    add_fields(work, CopyOptions, without=without)
    add_fields(work, RunOptions, without=("memory_limit", "page"))
    _clip(work)
    _stores(parser)
    _where(parser)
    return work


def _downsample(parser: Parser) -> None:
    parser.add_argument("input", metavar="INPUT", help="the image to read")
    parser.add_argument("output", metavar="OUTPUT", help="where to write")
    how = parser.add_argument_group("how voxels become one")
    add_fields(how, Reduction)
    add_fields(how, PyramidOptions, "method", "kind")
    add_fields(_writing(parser, ("update", "record")), RunOptions, "page")


def _clip(group: Any) -> None:
    group.add_argument(
        "--clip", dest="casting", action="store_const", const="clip", help="the same as --casting clip"
    )


def _copy(parser: Parser) -> None:
    _plan(parser)
    after = parser.add_argument_group("before and after")
    _flag(after, "--dry-run", help="only show what would be done, as 'bioimage-py plan' does")
    _flag(after, "--verify", help="compare input and output voxel by voxel afterwards")
    add_fields(after, RunOptions, "page")


def _pyramid(parser: Parser) -> None:
    parser.add_argument("input", metavar="INPUT", help="the image to read")
    where = "where to write, such as image.ome.zarr (default: add levels to INPUT, an OME-Zarr)"
    parser.add_argument("output", nargs="?", metavar="OUTPUT", help=where)
    add_opening(parser.add_argument_group("which array"))
    add_fields(parser.add_argument_group("the levels"), PyramidOptions)
    add_fields(parser.add_argument_group("if the output exists"), NewArray, "overwrite")
    _layout(parser)
    made = parser.add_argument_group("how it is made")
    add_fields(made, RunOptions, without=("memory_limit",))
    _clip(made)
    _stores(parser)
    _where(parser)
    _flag(parser, "--dry-run", help="only show what would be done; nothing is written")


def _verify(parser: Parser) -> None:
    parser.add_argument("a", metavar="A", help="one image")
    parser.add_argument(
        "b", nargs="?", metavar="B", help="the other image (default: the digest that is kept for A)"
    )
    _flag(parser, "--by-digest", help="compare the digests that are kept, or compute those that are missing")
    _flag(parser, "--decode", help="decode all chunks, also those whose stored bytes are equal")
    add_opening(parser.add_argument_group("which array of A"), "-a", " A")
    add_opening(parser.add_argument_group("which array of B"), "-b", " B")
    _resources(parser)


def _resources(parser: Parser) -> None:
    group = parser.add_argument_group("resources")
    _workers(group, "threads")
    add_fields(group, RunOptions, "memory_limit")
    _stores(parser)


def _check(parser: Parser) -> None:
    parser.add_argument(
        "path", metavar="PATH", help="an image, an array, a container, a plate, or a folder of these"
    )
    parser.add_argument(
        "--sample",
        metavar="SHARE",
        help="decode this share of the stored chunks only, such as 1%%, always the same ones",
    )
    _resources(parser)


def _repair(parser: Parser) -> None:
    parser.add_argument("path", metavar="PATH", help="what is damaged")
    parser.add_argument("source", metavar="SOURCE", help="what it was copied from, or another copy")
    add_opening(parser.add_argument_group("which array of SOURCE"))
    _resources(parser)


def _digest(parser: Parser) -> None:
    parser.add_argument("paths", nargs="+", metavar="PATH", help="an image")
    add_opening(parser.add_argument_group("which array"))
    _resources(parser)


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
    _stores(parser)


def _runs(parser: Parser) -> None:
    parser.add_argument(
        "folders", nargs="*", metavar="FOLDER", help="where to look, also in the folders below"
    )
    _stores(parser)


def _cancel(parser: Parser) -> None:
    parser.add_argument("folder", metavar="RUN", help="the run folder")
    _stores(parser)


def _status(parser: Parser) -> None:
    _cancel(parser)
    shown = parser.add_mutually_exclusive_group()
    _flag(shown, "--watch", help="show the status until the run ends")
    _flag(shown, "--serve", help="show a page about the run in the browser, until the run ends")
    parser.add_argument(
        "--interval", type=values.seconds, default=2.0, metavar="TIME", help="with --watch and --serve: time between updates (default: 2s)"
    )  # fmt: skip
    served = parser.add_argument_group("with --serve")
    _served(served)


def _page(parser: Parser) -> None:
    _cancel(parser)
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="the page, such as run.html")


def _served(group: Any) -> None:
    group.add_argument(
        "--port", type=values.count, default=0, metavar="N", help="port on this computer (default: a free one)"
    )  # fmt: skip
    _flag(group, "--no-browser", help="print the address only")


def _resume(parser: Parser) -> None:
    _cancel(parser)
    parser.add_argument(
        "-j", "--workers", type=values.workers, metavar="N",
        help="threads, processes or tasks at once (default: as the run was started)",
    )  # fmt: skip
    add_fields(parser, RunOptions, "page")


def _worker(parser: Parser) -> None:
    parser.add_argument("folder", metavar="RUN", help="the run folder, or a folder with one unfinished run")
    _stores(parser)
    _flag(parser, "--join", help="stay until the run has ended, through all its rounds")
    parser.add_argument(
        "--wait", type=values.seconds, default=60.0, metavar="TIME",
        help="how long to wait for RUN to appear, and where there is nothing to do and no process waits for the run (default: 1min)",
    )  # fmt: skip


def _config(parser: Parser) -> None:
    parser.add_argument(
        "action", nargs="?", default="show", choices=("show", "get", "set"), metavar="show|get|set", help="what to do (default: show)"
    )  # fmt: skip
    parser.add_argument(
        "settings", nargs="*", metavar="KEY [VALUE]", help="with get: names of settings; with set: names and values"
    )  # fmt: skip
    parser.add_argument(
        "--unset", action="append", default=[], metavar="KEY", help="with set: remove this setting; can be repeated"
    )  # fmt: skip


def _completion(parser: Parser) -> None:
    parser.add_argument("shell", choices=SHELLS, metavar="SHELL", help=f"one of {', '.join(SHELLS)}")


_OPTIONS: Mapping[str, Callable[[Parser], None]] = {
    "info": _info,
    "preview": _preview,
    "view": _view,
    "plan": _plan,
    "copy": _copy,
    "downsample": _downsample,
    "pyramid": _pyramid,
    "verify": _verify,
    "check": _check,
    "repair": _repair,
    "digest": _digest,
    "bench": _bench,
    "runs": _runs,
    "status": _status,
    "page": _page,
    "resume": _resume,
    "cancel": _cancel,
    "worker": _worker,
    "config": _config,
    "completion": _completion,
}
