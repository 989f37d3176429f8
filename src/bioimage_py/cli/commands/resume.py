"""`bioimage-py resume`: do what is missing of a run."""

from __future__ import annotations

import argparse
import time

from bioimage_py.cli.commands.finish import telling_how_to_finish
from bioimage_py.cli.console import Console
from bioimage_py.cli.failure import OK, PROGRAM
from bioimage_py.cli.options import named_run, shown_path
from bioimage_py.cli.progress import ProgressLine
from bioimage_py.cli.text import duration, rate
from bioimage_py.errors import Call, InvalidArgumentError
from bioimage_py.planning import format_bytes
from bioimage_py.runner.run import RunFolder, RunStatus, StatusReader, remove_remains


def run_resume(args: argparse.Namespace, console: Console) -> int:
    from bioimage_py.resume import resume

    if remove_remains(args.folder):
        console.remark("nothing was missing: the run had finished; the rest of its folder has been removed")
        console.document({"command": "resume", "run_folder": args.folder, "blocks": 0})
        return OK
    folder = named_run(args.folder)
    before = StatusReader(folder).look()
    _check_no_results(folder)
    verb = "copying" if before.what.startswith("copy ") else "working"
    started = time.perf_counter()
    # A local run counts the bytes of this process only.
    bytes_before = before.bytes_done
    again = [PROGRAM, "resume", shown_path(folder.path)]
    again += [] if args.workers is None else ["--workers", str(args.workers)]
    progress = ProgressLine(verb, console, before=(before.blocks_done, bytes_before))
    with progress, telling_how_to_finish(resume=again):
        resume(folder.path, num_workers=args.workers, progress=progress)
    seconds = time.perf_counter() - started
    n_blocks = before.blocks_total - before.blocks_done
    n_bytes = 0 if progress.last is None else max(0, progress.last.bytes_done - bytes_before)
    console.remark(_summary(before, n_blocks, n_bytes, seconds))
    account = progress.tell_account()
    if folder.path.exists():
        console.remark(f"its run folder is kept: {shown_path(folder.path)}")
    console.document(
        {
            "command": "resume",
            "run_folder": str(folder.path),
            "what": before.what,
            "blocks_total": before.blocks_total,
            "blocks_done_before": before.blocks_done,
            "blocks": n_blocks,
            "bytes": n_bytes,
            "seconds": seconds,
            "account": account,
        }
    )
    return OK


def _summary(before: RunStatus, n_blocks: int, n_bytes: int, seconds: float) -> str:
    if not n_blocks:
        return f"nothing was missing: {before.blocks_done:,} of {before.blocks_total:,} blocks were done ({before.what})"
    moved = f"{format_bytes(n_bytes)} in {duration(seconds)}, {rate(n_bytes, seconds)}"
    how = f" ({moved if n_bytes else duration(seconds)})"
    earlier = f", {before.blocks_done:,} before" if before.blocks_done else ""
    return f"finished: {before.what}; {n_blocks:,} of {before.blocks_total:,} blocks now{how}{earlier}"


def _check_no_results(folder: RunFolder) -> None:
    """Refuse a run whose results a program waits for: they would be lost here, with the run folder."""
    if folder.read_run()["work"].get("keep_results"):
        raise InvalidArgumentError(
            "this run returns results to the Python program that began it, and a command would lose them: finish it there, "
            f"with {Call('resume', (str(folder.path),))}"
        )
