"""The figures of the roads as text: verdicts for the terminal, a table for the documentation."""

from __future__ import annotations

import statistics
from typing import Any

NAMES = {
    "cp": "`cp -r`",
    "floor": "decoding and encoding in memory",
    "files": "plain file calls",
    "naive": "a Python loop with temporary names",
    "tensorstore": "TensorStore loop",
    "zarrs": "zarrs loop",
    "peer": "bioimage-py 0.2.2",
}


def way_text(way: dict[str, Any]) -> str:
    words = [way["style"]] if way.get("style") else []
    if way.get("block"):
        words.append("×".join(map(str, way["block"])))
    return ", ".join(words)


def seconds_text(seconds: float) -> str:
    return f"{seconds:.2f}" if seconds < 10 else f"{seconds:.1f}"


def lines_of(result: dict[str, Any]) -> list[list[str]]:
    """Return the cells of a row's lines: work, ours, reference, ratio, promised, met."""
    if "pages" in result:
        return _pages_lines(result)
    middle = {name: statistics.median(some) for name, some in result["seconds"].items() if some}
    ours = middle["ours"]
    lines, shown = [], set()
    for limit in result["limits"]:
        best = min(limit["engines"], key=lambda name: middle[name])
        shown |= set(limit["engines"])
        lines.append(
            [*_beside(best, result, ours, middle[best]), *_verdict(ours / middle[best], limit["most"])]
        )
    lines += [
        [*_beside(name, result, ours, seconds), "", ""]
        for name, seconds in middle.items()
        if name not in shown | {"ours"}
    ]
    if "bytes_read" in result:
        share = result["bytes_read"] / result["bytes_stored"]
        lines.append(
            [
                seconds_text(ours),
                "bytes of the input read",
                f"{100 * share:.2f} %",
                "at most 2 %",
                _met(share <= 0.02),
            ]
        )
    if "growth" in result:
        grown = result["growth"]
        times = list(grown.values())
        text = ", ".join(f"{edge} {seconds_text(seconds)}" for edge, seconds in grown.items())
        lines.append(
            [text, "the same chunks in a larger grid", f"{times[-1] / times[0]:.2f}", "64 times the grid", ""]
        )
    return [[result["title"], *line] for line in lines]


def _beside(name: str, result: dict[str, Any], ours: float, seconds: float) -> list[str]:
    way = way_text(result["ways"].get(name) or {})
    reference = f"{NAMES[name]} {seconds_text(seconds)}" + (f" ({way})" if way else "")
    return [seconds_text(ours), reference, f"{ours / seconds:.2f}"]


def _verdict(ratio: float, most: float) -> list[str]:
    promised = f"≤ {most:g}" if most >= 1 else f"≤ {most:.2f} (≥ {1 / most:g}× faster)"
    return [promised, _met(ratio <= most)]


def _met(held: bool) -> str:
    return "yes" if held else "**no**"


def _pages_lines(result: dict[str, Any]) -> list[list[str]]:
    decodes = result["decodes"] / result["pages"]
    peak, limit = result["peak_bytes"], result["memory_limit"]
    return [
        [result["title"], seconds_text(result["seconds"]), f"decodes of {result['pages']:,} pages",
         f"{decodes:.2f} each", "≤ 1, or 2 in two passes", _met(decodes <= (2 if result.get("two_passes") else 1))],
        [result["title"], "", "largest resident set, interpreter included",
         f"{peak / 2**20:,.0f} MiB", f"≤ {limit / 2**20:,.0f} + 200 MiB", _met(peak <= limit + 200 * 2**20)],
    ]  # fmt: skip


def verdicts(result: dict[str, Any]) -> list[str]:
    """Return one line per promise, for the terminal."""
    return [f"ours {line[1]}; {'; '.join(word for word in line[2:] if word)}" for line in lines_of(result)]


def machine_text(machine: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in machine["ours"].items())
    return f"{machine['cores']} cores of {machine['processor']}, {machine['system']}, Python {machine['python']}; {versions}."


def table(facts: dict[str, Any]) -> str:
    """Return the markdown table."""
    rows = facts["rows"].values()
    lines = [
        "| work | ours (s) | reference (s) | ratio | promised | met |",
        "| --- | ---: | --- | ---: | --- | --- |",
    ]
    for result in rows:
        lines += [f"| {' | '.join(line)} |" for line in lines_of(result)]
    load = max(result["load"] for result in rows)
    rounds = sorted({result["rounds"] for result in rows})
    busy = " The machine was busy with other work: the ratios are rough." if load > 0.3 else ""
    lines += [
        "",
        f"{machine_text(facts['machine'])} Medians of {' or '.join(map(str, rounds))} interleaved rounds, warm page cache.{busy}",
    ]
    return "\n".join(lines) + "\n"
