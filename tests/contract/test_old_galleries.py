"""Galleries that earlier versions wrote stay readable for ever.

``galleries/schema-N.gallery`` and ``galleries/schema-N.jsonl`` (an export) hold what ``_require_contents``
says; they were written by the first version of that schema, and are never written again. From schema 2 on
there is ``schema-N-sealed.gallery`` as well, encrypted with ``KEY``. For a new schema add files, and rows
below. ``draft.gallery`` is of the code of commit 355773e, which nobody was given: it
numbered another schema 1 on the day before; what matters is that it is refused and not misread.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from verifykit.errors import GalleryFormatError
from verifykit.gallery import MemoryGallery, SqliteGallery, StoredGallery, import_gallery
from verifykit.gallery.sqlite.schema import SCHEMA_VERSION
from verifykit.types import Template

FOLDER = Path(__file__).parent / "galleries"
DIGEST = "d" * 64
SIZE = 8
KEY = bytes(range(32))
FILES: dict[str, bytes | None] = {
    "schema-1": None,
    "schema-2": None,
    "schema-2-sealed": KEY,
    "schema-3": None,
    "schema-3-sealed": KEY,
}


def row(place: int) -> NDArray[np.float32]:
    values = np.zeros(SIZE, np.float32)
    values[place], values[place + 1] = 0.6, 0.8
    return values


@dataclass(frozen=True)
class OldFile:
    """A copy: a test must not write to the file itself."""

    path: Path
    key: bytes | None


@pytest.fixture(params=FILES)
def old(request: pytest.FixtureRequest, tmp_path: Path) -> OldFile:
    copy = shutil.copy(FOLDER / f"{request.param}.gallery", tmp_path / "old.gallery")
    return OldFile(Path(copy), FILES[request.param])


def test_every_schema_has_its_file() -> None:
    names = {path.stem for path in FOLDER.glob("schema-*.gallery")}
    assert names == set(FILES)
    assert f"schema-{SCHEMA_VERSION}" in names


def test_an_old_file_is_read_as_it_was_written(old: OldFile) -> None:
    before = old.path.read_bytes()
    with SqliteGallery.open_existing(old.path, key=old.key) as gallery:
        assert (gallery.spec_digest, gallery.model) == (DIGEST, "face")
        _require_contents(gallery)
        assert gallery.check() == []
        assert set(_enrolled_at(gallery)) == {"alice", "bob 🙂"}
        if old.key:
            assert gallery.crops("alice") == [b"one", b"two"]
    assert old.path.read_bytes() == before


def test_an_old_file_is_migrated_by_the_first_change(old: OldFile) -> None:
    with SqliteGallery.open_existing(old.path, key=old.key) as reader:
        version = reader.info()["schema_version"]
        with SqliteGallery.open_existing(old.path, key=old.key, read_only=False) as gallery:
            assert gallery.info()["schema_version"] == version
            before = _enrolled_at(gallery)
            gallery.add("dora", [Template(row(6), DIGEST)])
            gallery.remove("dora")
            gallery.add("carol", [Template(row(5), DIGEST)])
            after = _enrolled_at(gallery)
            assert abs(after.pop("carol") - time.time()) < 60  # type: ignore[operator]
            assert after == before
        assert reader.info()["schema_version"] == SCHEMA_VERSION
        assert reader.search(row(5)[None], 1, 0.99)[0][0].subject_id == "carol"
        assert reader.check() == []


def test_an_old_file_can_be_written_to(old: OldFile) -> None:
    with SqliteGallery(old.path, spec_digest=DIGEST, embedding_size=SIZE, key=old.key) as gallery:
        gallery.add("dora", [Template(row(6), DIGEST)])
        gallery.remove("dora")
        gallery.add("carol", [Template(row(5), DIGEST)])
        assert gallery.search(row(5)[None], 1, 0.99)[0][0].subject_id == "carol"
        gallery.remove("carol")
        _require_contents(gallery)
        assert gallery.check() == []


@pytest.mark.parametrize("name", ["schema-1.jsonl"])
def test_an_old_export_is_imported(name: str) -> None:
    gallery = MemoryGallery(spec_digest=DIGEST, embedding_size=SIZE)
    report = import_gallery(gallery, FOLDER / name)
    assert (report.subject_count, report.template_count) == (2, 4)
    _require_contents(gallery)


def test_a_draft_of_the_schema_is_refused_and_not_changed(tmp_path: Path) -> None:
    draft = Path(shutil.copy(FOLDER / "draft.gallery", tmp_path / "draft.gallery"))
    before = draft.read_bytes()
    with pytest.raises(GalleryFormatError):
        SqliteGallery.open_existing(draft)
    with pytest.raises(GalleryFormatError):
        SqliteGallery(draft, spec_digest=DIGEST, embedding_size=SIZE)
    assert draft.read_bytes() == before


def _enrolled_at(gallery: SqliteGallery) -> dict[str, int | None]:
    return {enrolment.subject_id: enrolment.enrolled_at for enrolment in gallery.enrolments()}


def _require_contents(gallery: StoredGallery) -> None:
    assert list(gallery.subject_ids()) == ["alice", "bob 🙂"]
    alice, bob = gallery.get("alice"), gallery.get("bob 🙂")
    assert [t.embedding.tobytes() for t in alice.templates] == [row(i).tobytes() for i in range(3)]
    assert [(t.embedding.tobytes(), t.reasons) for t in bob.templates] == [
        (row(3).tobytes(), ("too_dark",))
    ]
    assert (alice.metadata, bob.metadata) == ({"team": "blue"}, {})
    found = gallery.search(np.stack([row(2), row(3), row(5)]), 1, 0.9)
    assert [[candidate.subject_id for candidate in each] for each in found] == [
        ["alice"],
        ["bob 🙂"],
        [],
    ]
