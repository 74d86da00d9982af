"""Every example of a document is run or parsed, and every command has a page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import tomli

from tests.helpers.documents import (
    CHECKOUT,
    DOCS,
    EXTRAS,
    PAGES,
    blocks,
    commands,
    programs,
    require_understood,
    verbs,
)

# Each page with examples, and the test that runs them; a page that is not listed is an error. Examples
# that take hours or several machines are not run, but their commands are parsed.
_UNDERSTOOD = "test_documents.py::test_every_command_is_understood"
_HOW_TO = "test_how_to_pages.py::test_a_page_runs"
RUN_BY = {
    "README.md": _HOW_TO,
    "tutorial/first-steps.md": _HOW_TO,
    "tutorial/train-your-own.md": "test_docs.py::test_the_tutorial_runs_on_drawn_people",
    "how-to/change-the-model.md": "test_reenrollment.py::test_the_page_on_changing_the_model_runs",
    "how-to/audit-log.md": "test_audit_docs.py::test_the_page_on_the_audit_log_runs",
    "how-to/choose-an-operating-point.md": "test_operating_point_docs.py::"
    "test_the_page_on_choosing_a_point_runs",
    "how-to/compare.md": _HOW_TO,
    "how-to/encrypt-a-gallery.md": "test_encryption_docs.py::test_the_page_on_encryption_runs",
    "how-to/enroll-and-verify.md": "test_docs.py::test_a_how_to_page_runs",
    "how-to/duplicates-and-clusters.md": "test_duplicates_docs.py::"
    "test_the_page_on_duplicates_and_clusters_runs",
    "how-to/batch-identification.md": "test_batch_docs.py::test_the_page_runs",
    "how-to/identify.md": _HOW_TO,
    "how-to/import-an-encoder.md": "test_docs.py::test_the_page_on_importing_runs",
    "how-to/import-a-published-encoder.md": _UNDERSTOOD,
    "how-to/install.md": _HOW_TO,
    "how-to/manage-a-gallery.md": _HOW_TO,
    "how-to/models.md": _HOW_TO,
    "how-to/offline-installation.md": "test_docs.py::test_a_how_to_page_runs",
    "how-to/process-models.md": "test_process_models.py::test_a_server_with_two_workers_answers_and_ends",
    "how-to/distil-an-encoder.md": _UNDERSTOOD,
    "how-to/from-keras.md": "test_textbook_docs.py::test_the_page_on_keras_runs",
    "how-to/textbook-examples.md": "test_textbook_docs.py::test_the_page_on_textbook_examples_runs",
    "how-to/large-batches.md": _UNDERSTOOD,
    "how-to/own-loop.md": "test_own_loop_docs.py::test_the_page_on_an_own_loop_runs",
    "how-to/postgresql.md": "test_postgres_docs.py::test_the_page_on_postgresql_runs",
    "how-to/serve.md": "test_serve_docs.py::test_the_page_on_serving_runs",
    "how-to/multiple-faces-and-quality.md": "test_docs.py::test_a_how_to_page_runs",
    "how-to/distributed-training.md": _UNDERSTOOD,
    "how-to/signatures.md": "test_docs.py::test_the_page_on_signatures_runs",
    "how-to/reduced-precision.md": _UNDERSTOOD,
    "how-to/templates.md": _HOW_TO,
    "how-to/watch-scores.md": _HOW_TO,
    "how-to/train-an-encoder.md": _UNDERSTOOD,
    "how-to/execution-providers.md": _HOW_TO,
    "explanation/signatures.md": _UNDERSTOOD,
    "explanation/training-runs.md": _UNDERSTOOD,
    "explanation/what-a-threshold-means.md": "test_operating_point_docs.py::"
    "test_the_page_on_thresholds_prints_what_it_shows",
}
PICTURE = re.compile(r"^!\[[^]]+\]\(([^)]+)\)\n(?:<!-- made by: (.+) -->\n)?", re.MULTILINE)
INDEX = DOCS / "how-to" / "README.md"
SHOWN_IN = re.compile(r"\]\(([\w./-]+\.md)(?:#[\w-]+)?\)")


def test_every_page_with_examples_is_run_by_a_test() -> None:
    with_examples = {
        page.relative_to(DOCS).as_posix()
        for page in PAGES
        if {"python", "console", "sh"} & {language for language, _ in blocks(page)}
    }
    assert with_examples == set(RUN_BY)


@pytest.mark.parametrize("page", RUN_BY)
def test_the_test_of_a_page_exists_and_names_it(page: str) -> None:
    file, _, name = RUN_BY[page].partition("::")
    source = Path(__file__).with_name(file).read_text(encoding="utf-8")
    assert f"\ndef {name}(" in source
    assert f'"{Path(page).stem}' in source or f'/{Path(page).stem}"' in source or page in source
    if RUN_BY[page] == _UNDERSTOOD:
        assert "python" not in {language for language, _ in blocks(DOCS / page)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(DOCS).as_posix())
def test_every_block_says_what_it_is(page: Path) -> None:
    assert {language for language, _ in blocks(page)} <= {"python", "console", "sh", "text", "toml"}


@pytest.mark.parametrize(
    "page",
    [page for page in (CHECKOUT / "README.md", *PAGES) if commands(page)],
    ids=lambda page: page.relative_to(CHECKOUT).as_posix(),
)
def test_every_command_is_understood(page: Path) -> None:
    for command in commands(page):
        require_understood(command)


@pytest.mark.parametrize(
    "wrong",
    [
        "python -m benchmarks.nothing",
        "python docs/how-to/nothing.py",
        "make nothing",
        'pip install ".[cpu,nothing]"',
        "frobnicate",
        "verifykit compare a.jpg b.jpg --nothing",
        "verifykit gallery info",
    ],
)
def test_a_command_that_does_not_exist_is_not_understood(wrong: str) -> None:
    with pytest.raises(Exception, match=r"nothing|[Mm]issing|frobnicate"):
        require_understood(wrong)


def test_every_verb_and_every_extra_has_a_page_that_shows_it() -> None:
    listed: dict[str, list[str]] = {}
    for line in INDEX.read_text(encoding="utf-8").splitlines():
        if row := re.match(r"\| `([\w -]+)` \|", line):
            listed[row[1]] = SHOWN_IN.findall(line)
    stated = {name for name in listed if name.startswith("verifykit")}
    assert {name for name in stated if name.split()[0] in programs()} == verbs()
    assert set(listed) - stated == set(EXTRAS)
    for name, shown_in in listed.items():
        assert shown_in, name
        texts = [(INDEX.parent / page).read_text(encoding="utf-8") for page in shown_in]
        # `run` and `train` are what a command without a verb does.
        word = name.removesuffix(" run").removesuffix(" train")
        assert any(word in text for text in texts), f"{name} is not on {shown_in}"


def test_every_image_was_made_by_a_command_of_this_repository() -> None:
    shown = set()
    for page in PAGES:
        for target, command in PICTURE.findall(page.read_text(encoding="utf-8")):
            shown.add((page.parent / target).resolve())
            assert command, f"{page.name} does not say what made {target}"
            require_understood(command)
    there = {path for path in DOCS.rglob("*") if path.suffix in (".png", ".jpg", ".webp", ".gif")}
    assert shown == there


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(DOCS).as_posix())
def test_what_the_text_names_in_this_repository_is_there(page: Path) -> None:
    text = re.sub(r"\s+", " ", page.read_text(encoding="utf-8"))
    for path in re.findall(r"`((?:benchmarks|configs|demo|docs|tests|verifykit)/[\w./-]+)`", text):
        assert any((CHECKOUT / f"{path}{end}").exists() for end in ("", ".py")), path
    for module in re.findall(r"`python -m ([\w.]+)[ `]", text):
        require_understood(f"python -m {module}")


def test_the_page_on_the_design_has_every_module() -> None:
    project = tomli.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = project["tool"]["importlinter"]["contracts"]
    (layers,) = (each["layers"] for each in contracts if each.get("containers") == ["verifykit"])
    names = re.findall(r"\w+", " ".join(layers))
    rooms = {name for name in names if not name.startswith("_")}
    text = (DOCS / "explanation" / "design.md").read_text(encoding="utf-8")
    assert rooms == {
        room
        for row in re.findall(r"^\| (`[^|]+) \|", text, re.MULTILINE)
        for room in re.findall(r"`(\w+)`", row)
    }
