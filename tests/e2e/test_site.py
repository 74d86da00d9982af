"""The documentation as a site: built without a warning, complete, and asking nothing of another machine."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path

import pytest

import verifykit
from tests.helpers.documents import CHECKOUT, PAGES

pytestmark = pytest.mark.skipif(not find_spec("mkdocs"), reason="needs the extra docs")
# Attributes by which a browser fetches something without being asked to; of a link, by its `rel`.
FETCHED = {"src", "srcset", "poster", "data", "action", "formaction"}
NOT_FETCHED = {"alternate", "author", "canonical", "next", "prev"}
ELSEWHERE = re.compile(r"^\s*(?:[a-z][a-z0-9+.-]*:)?//", re.IGNORECASE)
ITEM = re.compile(r"^( *)(?:[-*]|\d+\.) ")


class Fetches(HTMLParser):
    """Collects the addresses that a page would fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        stated = dict(attrs)
        self.found += [value for name, value in attrs if name in FETCHED and value]
        if tag == "link" and not NOT_FETCHED & set((stated.get("rel") or "").split()):
            self.found.append(stated.get("href") or "")


def _build(folder: Path, site: Path) -> tuple[int, str]:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    run = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    return run.returncode, run.stdout + run.stderr


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` builds it."""
    folder = tmp_path_factory.mktemp("site")
    status, said = _build(CHECKOUT, folder)
    assert status == 0, said
    assert "WARNING" not in said
    return folder


def test_every_page_is_there_and_can_be_reached(site: Path) -> None:
    index = (site / "index.html").read_text(encoding="utf-8")
    reached = set(re.findall(r'href="([^"#?]+\.html)"', index))
    for page in PAGES:
        name = page.relative_to(CHECKOUT / "docs").with_suffix(".html").as_posix()
        name = name.replace("README.html", "index.html")
        assert (site / name).is_file(), name
        assert name in reached, f"{name} is not in the navigation of mkdocs.yml"


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    looked_at = 0
    for page in site.rglob("*.html"):
        fetched = Fetches(page.read_text(encoding="utf-8")).found
        looked_at += len(fetched)
        assert [address for address in fetched if ELSEWHERE.match(address)] == [], page
    assert looked_at > 5 * len(PAGES)
    for sheet in site.rglob("*.css"):
        text = sheet.read_text(encoding="utf-8")
        addresses = re.findall(r"(?:url\(|@import )[\"']?([^\"')]+)", text)
        assert [address for address in addresses if ELSEWHERE.match(address)] == [], sheet


def test_what_is_fetched_from_elsewhere_is_found() -> None:
    page = """<link rel=stylesheet href=//a/b><img src="https://c/d"><script src=e.js></script>
        <link rel="canonical" href="https://f"><a href="https://g">h</a>"""
    assert Fetches(page).found == ["//a/b", "https://c/d", "e.js"]
    assert [bool(ELSEWHERE.match(address)) for address in Fetches(page).found] == [
        True,
        True,
        False,
    ]


def test_the_search_runs_from_disk_by_our_own_copy_of_the_shim(site: Path) -> None:
    assert 'src="assets/iframe-worker.js"' in (site / "index.html").read_text(encoding="utf-8")
    assert "IFrameWorker" in (site / "assets" / "iframe-worker.js").read_text(encoding="utf-8")
    assert (site / "search" / "search_index.js").is_file()


def test_every_public_name_is_in_the_reference_in_plain_words(site: Path) -> None:
    texts = [page.read_text("utf-8") for page in (site / "reference" / "python").glob("*.html")]
    anchors = [name for text in texts for name in re.findall(r' id="(verifykit\.[\w.]+)"', text)]
    shown = {anchor.rpartition(".")[2] for anchor in anchors}
    assert set(verifykit.__all__) - shown == set()
    for text in texts:
        assert not re.search(r":(?:attr|class|data|exc|func|meth|mod):", text)
        assert "::</p>" not in text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(CHECKOUT).as_posix())
def test_a_list_is_one_for_every_reader_of_markdown(page: Path) -> None:
    """The site's reader wants an empty line before a list and four spaces before an inner item."""
    before, fenced = "", False
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        fenced ^= line.startswith("```")
        if not fenced and (item := ITEM.match(line)):
            follows = not before.strip() or ITEM.match(before) or before.startswith(" ")
            assert follows, f"line {number}"
            assert len(item[1]) % 4 == 0, f"line {number}"
        before = line


@pytest.mark.parametrize(
    ("text", "files", "complaint"),
    [
        ("[over there](there.md#nowhere)", ["there.md"], "no such anchor"),
        ("[nowhere](nowhere.md)", ["there.md"], "not found among documentation files"),
        ("[root](/there.md)", ["there.md"], "absolute link"),
        ("Nothing.", ["there.md", "left_out.md"], "not included in the"),
        ("[here](there.md)", ["there.md"], ""),
    ],
)
def test_a_broken_link_or_a_page_outside_of_the_navigation_is_an_error(
    tmp_path: Path, text: str, files: list[str], complaint: str
) -> None:
    import yaml

    settings = yaml.safe_load((CHECKOUT / "mkdocs.yml").read_text(encoding="utf-8"))
    small = {"site_name": "small", "theme": "mkdocs", "plugins": [], "nav": ["there.md"]}
    small["validation"] = settings["validation"]
    (tmp_path / "mkdocs.yml").write_text(yaml.safe_dump(small))
    (tmp_path / "docs").mkdir()
    for name in files:
        (tmp_path / "docs" / name).write_text(f"# There\n\n{text}\n")
    status, said = _build(tmp_path, tmp_path / "site")
    assert bool(status) == bool(complaint)
    assert complaint in said
