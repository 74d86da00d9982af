"""The words that the glossary replaces do not come back, in sources, in the web page, in documents."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.source_sizes import sources
from tests.architecture.snapshot import assert_allowed

CHECKOUT = Path(__file__).parents[2]
GLOSSARY = CHECKOUT / "docs" / "reference" / "glossary.md"
REPLACED = re.compile(
    r"(?<![a-z])(pictures?|rooms?|houses?|nobody|somebody|whoever|anew|likewise|beside|told|asked|wanted|"
    r"at nought|in clear|time-outs?|for people|(?:must )?come again|lies|stands? for|"
    r"legibility|disclosure|intake|impatience|seal(?:ed|s|ing)?|resealed)(?![a-z])",
    re.IGNORECASE,
)


def texts() -> list[Path]:
    """Return what the rule is about; generated pages come from sources, the glossary lists the words."""
    page = CHECKOUT / "verifykit" / "server" / "page"
    documents = [
        *(CHECKOUT / "docs").rglob("*.md"),
        CHECKOUT / "README.md",
        CHECKOUT / "CONTRIBUTING.md",
    ]
    shown = [path for path in page.iterdir() if path.suffix in (".js", ".html", ".css")]
    templates = (CHECKOUT / "verifykit" / "evaluation" / "report").glob("*.j2")
    changelog = CHECKOUT / "docs" / "changelog.md"
    configs = (CHECKOUT / "configs").glob("*.toml")
    found = {*sources(CHECKOUT), *documents, *shown, *templates, *configs}
    return sorted(found - {GLOSSARY, changelog})


def offences(paths: list[Path], root: Path) -> Counter[str]:
    """Return how often each file uses a replaced word."""
    found: Counter[str] = Counter()
    for path in paths:
        words = [m.lower() for m in REPLACED.findall(path.read_text(encoding="utf-8"))]
        for word in words:
            found[f"{path.relative_to(root).as_posix()} {word.replace(' ', '-')}"] += 1
    return found


def test_replaced_words_do_not_come_back() -> None:
    paths = texts()
    assert len(paths) > 250
    found = offences(paths, CHECKOUT)
    assert_allowed(found, Path(__file__).with_name("words.txt"), Path(__file__).name)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Nobody is enrolled", ["nobody"]),
        ("def asked(picture_px): ...", ["asked", "picture"]),
        ("the file lies in a folder; it stands for none", ["lies", "stands-for"]),
        ("besides, an unsealedness of clearings told_off", ["told"]),
        ("an image of a house", ["house"]),
        ("A plain sentence about images.", []),
    ],
)
def test_the_rule_finds_words(text: str, words: list[str], tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text(text)
    found = offences([tmp_path / "a.md"], tmp_path)
    assert sorted(found) == [f"a.md {word}" for word in words]


def test_the_glossary_lists_the_words() -> None:
    text = GLOSSARY.read_text(encoding="utf-8").lower()
    for word in ("picture", "nobody", "anew", "likewise", "beside", "told", "asked", "wanted"):
        assert word in text, word
