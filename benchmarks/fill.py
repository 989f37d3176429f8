"""Put the tables of `results/*.md` between their marks in docs: `python benchmarks/fill.py`."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"


def filled(text: str, results: Path = RESULTS) -> str:
    """Return a page with every part between `<!-- NAME:begin … -->` and `<!-- NAME:end -->` taken from `NAME.md`."""

    def put(mark: re.Match[str]) -> str:
        table = results / f"{mark['name']}.md"
        if not table.exists():
            return mark[0]
        return f"{mark['begin']}\n{table.read_text(encoding='utf-8').strip()}\n{mark['end']}"

    pattern = r"(?P<begin><!-- (?P<name>\w+):begin[^>]*-->)\n.*?(?P<end><!-- (?P=name):end -->)"
    return re.sub(pattern, put, text, flags=re.DOTALL)


def main() -> None:
    for page in sorted((ROOT / "docs").rglob("*.md")):
        old = page.read_text(encoding="utf-8")
        new = filled(old)
        if new != old:
            page.write_text(new, encoding="utf-8")
            print(f"filled {page.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
