"""What README and docs say is run: Python blocks, values behind arrows, commands, and links."""

from __future__ import annotations

import http.server
import re
import shlex
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import yaml

from bioimage_py.cli import main

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
WITHOUT_EXAMPLES = {"glossary.md", "comparison.md", "releasing.md", "systems.md"}
REPOSITORY = re.compile(
    r"https://(?:github|raw\.githubusercontent)\.com/bioimage-py/bioimage-py/(?:blob/)?main/"
)
ALL_PAGES = [*PAGES, *(ROOT / f"{name}.md" for name in ("ARCHITECTURE", "CHANGELOG", "CONTRIBUTING"))]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CLAIM = re.compile(r"^(?P<expression>\S.*?)  # → (?P<value>.*)$")
COMMAND = Path(sys.executable).with_name("bioimage-py")
SHAPE = (32, 128, 128)


def page_id(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


class Fence(NamedTuple):
    language: str
    line: int
    text: str


def fences(page: Path) -> list[Fence]:
    text = page.read_text(encoding="utf-8")
    return [Fence(m[1], text[: m.start()].count("\n") + 1, m[2]) for m in FENCE.finditer(text)]


def voxels() -> np.ndarray[Any, Any]:
    z, y, x = np.indices(SHAPE)
    return (100 + 900 * (np.sin(z / 5) * np.cos(y / 9) * np.sin(x / 11) > 0.3) + (x + y) % 7).astype("uint16")


@pytest.fixture
def samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder, made the working directory, with the small files that the pages speak of."""
    import h5py
    import tifffile

    import bioimage_py as bp

    monkeypatch.chdir(tmp_path)
    image = voxels()
    tifffile.imwrite(
        "stack.tif",
        image,
        imagej=True,
        compression="zlib",
        resolution=(2, 2),
        metadata={"axes": "ZYX", "spacing": 2.0, "unit": "um"},
    )
    Path("slices").mkdir()
    for z, plane in enumerate(image):
        tifffile.imwrite(f"slices/s{z}.tif", plane, compression="zlib")
    with h5py.File("scan.h5", "w") as file:
        data = (image // 8).astype("uint16")
        file.create_dataset("volumes/raw", data=data, chunks=(16, 64, 64), compression="gzip")
        file.create_dataset("volumes/labels", data=(image > 500).astype("uint8"))
    bp.copy(image, "data.n5/raw", chunks=(16, 64, 64), codec="gzip")
    bp.copy(image > 500, "mask.zarr", chunks=(32, 64, 64))
    return tmp_path


def write_volume_files(folder: Path) -> None:
    import tifffile

    from tests.sources.volume_files import halved, write_bdv, write_ims

    image = voxels()
    write_ims(folder / "cells.ims", halved(np.stack([[image, image // 2]]), 2), chunks=(8, 64, 64))
    write_bdv(folder / "embryo.xml", [[image, image], [image // 2, image // 2]], chunks=(16, 64, 64))
    with tifffile.TiffWriter(folder / "plate.ome.tif", ome=True) as writer:
        for n in range(3):
            writer.write(image[n], metadata={"axes": "YX"}, photometric="minisblack")
    wells = ((0, 0, (0, 1)), (1, 2, (2,)))
    samples = (
        f'<Well ID="Well:{row}" Row="{row}" Column="{column}">'
        + "".join(
            f'<WellSample ID="WellSample:{n}" Index="{n}"><ImageRef ID="Image:{n}"/></WellSample>'
            for n in fields
        )
        + "</Well>"
        for row, column, fields in wells
    )
    plate = f'<Plate ID="Plate:0" Name="screen">{"".join(samples)}</Plate>'
    with tifffile.TiffFile(folder / "plate.ome.tif") as file:
        xml = file.ome_metadata or ""
    tifffile.tiffcomment(folder / "plate.ome.tif", xml.replace("<Image ", f"{plate}<Image ", 1).encode())


def run_python(code: str, names: dict[str, Any], where: str) -> None:
    """Run a block; a line `expression  # → value` must have that repr."""
    lines = []
    for line in code.splitlines():
        claim = CLAIM.match(line)
        if claim:
            lines.append(f"__check__(({claim['expression'].strip()}), {claim['value'].strip()!r})")
        else:
            lines.append(line)

    def check(value: Any, expected: str) -> None:
        assert repr(value) == expected, f"{where}: {value!r} is not {expected}"

    names["__check__"] = check
    exec(compile("\n".join(lines), where, "exec"), names)


def run_command(line: str, where: str) -> None:
    """Run one `bioimage-py` line; `# exit N` says that it ends so."""
    wanted = re.search(r"# exit (\d+)", line)
    words = shlex.split(line, comments=True)
    assert main(words[1:]) == (int(wanted[1]) if wanted else 0), f"{where}: {line}"


def known_targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_what_the_page_says_works(page: Path, samples: Path, request: pytest.FixtureRequest) -> None:
    found = fences(page)
    assert found or page.name in WITHOUT_EXAMPLES
    text = page.read_text(encoding="utf-8")
    if "s3://lab" in text:
        request.getfixturevalue("bucket")
    if "cells.ims" in text:
        write_volume_files(samples)
    names: dict[str, Any] = {"__name__": "__docs__"}
    for fence in found:
        where = f"{page.name}:{fence.line}"
        if fence.language == "python":
            run_python(fence.text, names, where)
        elif fence.language == "bash":
            for line in fence.text.splitlines():
                if line.startswith("bioimage-py "):
                    run_command(line, where)
                elif line.startswith("make "):
                    assert line.split()[1] in known_targets(), f"{where}: {line}"


def test_the_readme_is_short_and_its_links_hold_where_it_is_shown() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) < 120
    languages = [fence.language for fence in fences(ROOT / "README.md")]
    assert languages.count("python") >= 1
    assert languages.count("bash") >= 2
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert [link for link in links if not link.startswith("https://")] == []


def test_two_clicks_lead_from_the_start_page_to_a_converted_file() -> None:
    """The first link leads to a page whose first block, which has a button that copies it, converts a file."""
    first = re.search(r"\]\(([^)]+)\)", (ROOT / "docs" / "index.md").read_text(encoding="utf-8"))
    assert first is not None
    block = fences(ROOT / "docs" / first[1])[0].text
    assert "pip install" in block
    assert "bioimage-py copy" in block


@pytest.mark.parametrize("page", ALL_PAGES, ids=page_id)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)]+)\)", text):
        target, in_repository = REPOSITORY.subn("", link)
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        linked = ((ROOT if in_repository else page.parent) / path).resolve() if path else page
        assert linked.exists(), f"{page.name}: {target}"
        if anchor:
            titles = re.findall(r"^#+ (.*)$", linked.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
            assert anchor in slugs, f"{page.name}: {target}"


def test_the_scripts_for_schedulers_are_well_formed() -> None:
    page = ROOT / "docs" / "schedulers.md"
    for fence in fences(page):
        if fence.language == "sh":
            subprocess.run(["bash", "-n", "-c", fence.text], check=True)
        if fence.language == "yaml":
            [container] = yaml.safe_load(fence.text)["spec"]["template"]["spec"]["containers"]
            subprocess.run(["sh", "-n", "-c", *container["args"]], check=True)
    known = "".join(
        subprocess.check_output([str(COMMAND), verb, "--help"], text=True) for verb in ("copy", "worker")
    )
    said = set(re.findall(r"--[a-z][a-z-]+", page.read_text(encoding="utf-8")))
    assert said - set(re.findall(r"--[a-z][a-z-]+", known)) == {"--cores", "--jobs"}  # of Snakemake


class _Pages(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response({"/there": 200, "/gone": 404}.get(self.path, 403))
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


def test_links_to_other_sites_are_asked_for_and_a_missing_network_is_no_error(tmp_path: Path) -> None:
    def check(*paths: str) -> tuple[int, str]:
        page.write_text(" ".join(f"[a]({site}/{path}#anchor)" for path in paths), encoding="utf-8")
        script = [sys.executable, str(ROOT / "docs/links.py"), str(page)]
        done = subprocess.run(script, capture_output=True, text=True, check=False, timeout=120)
        return done.returncode, done.stdout + done.stderr

    page = tmp_path / "page.md"
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Pages) as server:
        site = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            code, text = check("there", "gone", "asked")
            assert (code, text.splitlines()[-1]) == (1, "3 links to other sites, 1 broken")
            assert f"broken: {site}/gone in page.md: 404 Not Found" in text
            assert f"not known: {site}/asked in page.md: 403 Forbidden" in text
            assert check("there", "asked")[0] == 0
        finally:
            server.shutdown()
            thread.join()
    code, text = check("there")
    assert (code, text.startswith("skipped: none of 1 links could be asked for")) == (0, True), text


MARKED = {
    "speed": ROOT / "docs/performance.md",
    "roads": ROOT / "docs/performance.md",
    "scaling": ROOT / "docs/performance.md",
}


@pytest.mark.parametrize("name", MARKED)
def test_tables_are_those_that_were_measured(name: str) -> None:
    page = MARKED[name].read_text(encoding="utf-8")
    shown = page.partition(f"<!-- {name}:begin")[2].partition("-->")[2].partition(f"<!-- {name}:end")[0]
    measured = ROOT / "benchmarks" / "results" / f"{name}.md"
    assert shown.strip() == measured.read_text(encoding="utf-8").strip()
