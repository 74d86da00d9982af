"""Somebody who may write to an encrypted file, but has no key: found and named, never a wrong answer."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from pathlib import Path

import pytest

from tests.unit.gallery.files import reopen, templates, units
from verifykit.errors import GalleryError, GalleryFormatError
from verifykit.gallery import SqliteGallery
from verifykit.spec import Fusion

KEY = bytes(range(32))

# Rows: subjects 1 alice, 2 bob, 3 carol, 5 dora; templates 1-2 alice's, 3 bob's, 4-5 carol's, 7 dora's.
FLIP = "CAST(substr(embedding, 1, 100) || x'0000000000000000' || substr(embedding, 109) AS BLOB)"
OF_3 = "(SELECT embedding, reasons FROM template WHERE row = 3)"
RECORD = "(SELECT metadata_content FROM subject s WHERE s.row = 3)"
SWAP = (
    "CREATE TEMP TABLE was AS SELECT row, {1} AS value FROM {0};"
    "UPDATE {0} SET {1} = (SELECT value FROM was WHERE was.row = {2} - {0}.row) WHERE row IN (1, {2} - 1)"
)
DOUBLE = (
    "INSERT INTO template (subject, embedding, reasons) "
    "SELECT {}, embedding, reasons FROM template WHERE row = 3"
)

ATTACKS = {
    "bytes of an embedding": (f"UPDATE template SET embedding = {FLIP} WHERE row = 3", "bob"),
    "a nonce": ("UPDATE template SET embedding = zeroblob(540) WHERE row = 3", "bob"),
    "a template cut": (
        "UPDATE template SET embedding = substr(embedding, 1, 99) WHERE row = 3",
        "bob",
    ),
    "a number for a template": ("UPDATE template SET embedding = 7 WHERE row = 3", "bob"),
    "a text for a template": ("UPDATE template SET embedding = 'x' WHERE row = 3", "bob"),
    "embeddings of two swapped": (SWAP.format("template", "embedding", 4), "alice"),
    "embeddings of one swapped": (SWAP.format("template", "embedding", 3), "alice"),
    "a template moved": ("UPDATE template SET subject = 1 WHERE row = 3", "alice"),
    "a template's row": ("UPDATE template SET row = 9 WHERE row = 2", "alice"),
    "a template doubled": (DOUBLE.format(2), "bob"),
    "a template doubled for another": (DOUBLE.format(1), "alice"),
    "a template for another's": (
        f"UPDATE template SET (embedding, reasons) = {OF_3} WHERE row = 1",
        "alice",
    ),
    "a template deleted": ("DELETE FROM template WHERE row = 2", "alice"),
    "all templates deleted": ("DELETE FROM template WHERE subject = 2", "bob"),
    "records swapped": (SWAP.format("subject", "metadata_content", 3), "alice"),
    "a revision": ("UPDATE subject SET revision = revision - 1 WHERE row = 3", "carol"),
    "a time": ("UPDATE subject SET enrolled_at = 1 WHERE row = 3", "carol"),
    "a record erased": (f"UPDATE content SET body = zeroblob(44) WHERE row = {RECORD}", "carol"),
    "a record deleted": (f"DELETE FROM content WHERE row = {RECORD}", "carol"),
}


@pytest.fixture
def encrypted(path: Path) -> Path:
    with reopen(path, key=KEY) as gallery:
        gallery.add("alice", templates(1, 2), {"n": 1})
        gallery.add("bob", templates(2))
        gallery.add("carol", templates(3), {"n": 3})
        gallery.add("carol", templates(4))
        gallery.add("erin", templates(5))
        gallery.remove("erin")
        gallery.add("dora", templates(6))
        assert gallery.check() == []
    return path


def tamper(path: Path, statements: str) -> None:
    connection = sqlite3.connect(path)
    for statement in statements.split(";"):
        connection.execute(statement)
    connection.commit()
    connection.close()


def require_refused(path: Path, who: str, fusion: Fusion) -> None:
    """By whoever opens the file; or by the search, and by all that touches this person."""
    try:
        with SqliteGallery.open_existing(path, key=KEY, fusion=fusion, read_only=False) as gallery:
            with pytest.raises(GalleryFormatError, match=f"'{who}'"):
                gallery.search(units(1, 1), 5, -1.0)
            with pytest.raises(GalleryFormatError, match=f"'{who}'"):
                gallery.get(who)
            with contextlib.suppress(GalleryError):  # adding does not heal it
                gallery.add(who, templates(9))
            with pytest.raises(GalleryFormatError, match=f"'{who}'"):
                gallery.search(units(1, 1), 5, -1.0)
            assert any(f"'{who}'" in problem for problem in gallery.check())
            assert gallery.get("dora").templates[0].embedding.tobytes() == units(6, 1).tobytes()
    except GalleryFormatError as error:
        assert "different moments" in str(error)  # noqa: PT017 - it may open, too


@pytest.mark.parametrize("fusion", ["max", "mean"])
@pytest.mark.parametrize("attack", ATTACKS)
def test_a_change_is_found_and_named(encrypted: Path, attack: str, fusion: Fusion) -> None:
    statement, who = ATTACKS[attack]
    tamper(encrypted, statement)
    require_refused(encrypted, who, fusion)


@pytest.mark.parametrize("fusion", ["max", "mean"])
def test_a_change_under_an_open_gallery_is_found_with_the_next_enrolment(
    encrypted: Path, fusion: Fusion
) -> None:
    """What is in memory is what was stored; a subject that is read again is checked as a whole."""
    with reopen(encrypted, key=KEY, fusion=fusion) as gallery:
        before = gallery.search(units(1, 1), 5, -1.0)
        tamper(encrypted, ATTACKS["a template moved"][0])
        assert gallery.search(units(1, 1), 5, -1.0) == before
        with pytest.raises(GalleryFormatError, match="'alice'"):
            gallery.get("alice")
        with pytest.raises(GalleryFormatError):
            gallery.add("alice", templates(9))
        assert gallery.search(units(1, 1), 5, -1.0) == before


def test_ids_that_were_swapped_answer_for_nobody(encrypted: Path) -> None:
    tamper(encrypted, SWAP.format("subject", "id_content", 3))
    with SqliteGallery.open_existing(encrypted, key=KEY) as gallery:
        assert any("row 1" in problem for problem in gallery.check())
        for name in ("alice", "bob"):
            with pytest.raises(GalleryFormatError):
                gallery.get(name)
        with pytest.raises(GalleryFormatError):
            gallery.subject_ids()


def test_a_subject_that_cannot_be_found_by_its_id_is_named_by_check(encrypted: Path) -> None:
    tamper(encrypted, "UPDATE subject SET id_key = 7 WHERE row = 2")
    with SqliteGallery.open_existing(encrypted, key=KEY) as gallery:
        assert gallery.check() == ["subject 'bob': it cannot be found by its id"]


def test_a_template_of_before_cannot_be_put_back(path: Path) -> None:
    """Alice was enrolled with a picture of Mallory, was removed, and enrolled rebuilt."""
    old = path.with_name("old.db")
    with reopen(path, key=KEY) as gallery:
        gallery.add("alice", templates(66))
        gallery.add("dora", templates(6))
    shutil.copy(path, old)
    with reopen(path, key=KEY) as gallery:
        gallery.remove("alice")
        gallery.add("alice", templates(1))
    connection = sqlite3.connect(path)
    connection.execute("ATTACH ? AS old", (str(old),))
    # Row 1 was hers, and has been zeros since: hers again.
    connection.execute(
        "UPDATE template SET subject = 3, (embedding, reasons) = "
        "(SELECT embedding, reasons FROM old.template WHERE row = 1) WHERE row = 1"
    )
    connection.commit()
    connection.close()
    require_refused(path, "alice", "max")


def test_a_template_of_a_file_that_went_another_way_cannot_be_put_in(path: Path) -> None:
    """A backup was restored: in both files row 3 is Alice's second template, of the same revision."""
    other = path.with_name("other.db")
    with reopen(path, key=KEY) as gallery:
        gallery.add("alice", templates(1))
        gallery.add("dora", templates(6))
    shutil.copy(path, other)
    for file, seed in ((path, 2), (other, 66)):
        with reopen(file, key=KEY) as gallery:
            gallery.add("alice", templates(seed))
    connection = sqlite3.connect(path)
    connection.execute("ATTACH ? AS other", (str(other),))
    connection.execute(
        "UPDATE template SET (embedding, reasons) = "
        "(SELECT embedding, reasons FROM other.template WHERE row = 3) WHERE row = 3"
    )
    connection.commit()
    connection.close()
    require_refused(path, "alice", "max")


def test_crops_and_reasons_stay_where_they_belong(path: Path) -> None:
    with reopen(path, key=KEY) as gallery:
        gallery.add("alice", templates(1, 2), crops=[b"one", b"two"])
        gallery.add("bob", templates(2), crops=[b"bob"])
    crops, reasons = path.with_name("crops.db"), path.with_name("reasons.db")
    for copy, statement in (
        (crops, SWAP.format("crop", "body", 3)),
        (reasons, SWAP.format("template", "reasons", 3)),
    ):
        shutil.copy(path, copy)
        tamper(copy, statement)
        with SqliteGallery.open_existing(copy, key=KEY) as gallery:
            with pytest.raises(GalleryFormatError):
                gallery.crops("alice") if copy == crops else gallery.get("alice")
            assert any("'alice'" in problem for problem in gallery.check())
            assert gallery.crops("bob") == [b"bob"]
            assert len(gallery.get("bob").templates) == 1
