"""Ask the servers that README and docs link to whether the pages are still there: `make links`.

Not a part of `make test`: a server of others may be down, or there is no network. Links into this repository are checked by
`tests/test_docs.py`. Exit code 1 if a link leads nowhere, else 0.
"""

from __future__ import annotations

import re
import socket
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OURS = ".com/bioimage-py/bioimage-py"
LINK = re.compile(r"\]\((https?://[^)\s#]+)|<(https?://[^>\s#]+)")
GONE = (HTTPStatus.NOT_FOUND, HTTPStatus.GONE)
SECONDS = 20


def links(page: Path) -> set[str]:
    """Return the addresses of other people's pages that a page links to."""
    found = {one or other for one, other in LINK.findall(page.read_text(encoding="utf-8"))}
    return {url for url in found if OURS not in url}


def problem(url: str) -> tuple[bool | None, str]:
    """Return whether a page is there, and what was said; None if that could not be found out."""
    request = urllib.request.Request(url, headers={"User-Agent": "Mozilla/5.0 (check of links)"})
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            return True, str(answer.status)
    except urllib.error.HTTPError as error:
        return (False if error.code in GONE else None), f"{error.code} {error.reason}"
    except urllib.error.URLError as error:
        return (False if isinstance(error.reason, socket.gaierror) else None), str(error.reason)
    except OSError as error:
        return None, str(error)


def main(names: list[str]) -> int:
    pages = [Path(name) for name in names] or [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    where = {url: page for page in pages for url in links(page)}
    with ThreadPoolExecutor(8) as pool:
        answers = dict(zip(where, pool.map(problem, where), strict=True))
    if where and not any(there for there, _ in answers.values()):
        url, (_, said) = next(iter(answers.items()))
        print(f"skipped: none of {len(where)} links could be asked for, as without a network; {url}: {said}")
        return 0
    for url, (there, said) in sorted(answers.items()):
        if not there:
            print(f"{'broken' if there is False else 'not known'}: {url} in {where[url].name}: {said}")
    n_broken = sum(there is False for there, _ in answers.values())
    print(f"{len(where)} links to other sites, {n_broken} broken")
    return 1 if n_broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
