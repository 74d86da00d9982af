"""Which subject ids are possible: one visible name is one subject."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import verifykit as vk
from tests.unit.gallery.files import DIGEST, SIZE, reopen, templates, units
from verifykit.errors import GalleryFormatError, InputError, SubjectExistsError
from verifykit.gallery import (
    MemoryGallery,
    SqliteGallery,
    checked_entry,
    checked_subject_id,
    copy_gallery,
    export_gallery,
    import_gallery,
)
from verifykit.gallery.base import stored_subject_id
from verifykit.gallery.subject_ids import id_problems
from verifykit.privacy import subject_record

NFC, NFD = "Zo\u00eb", "Zoe\u0308"


@pytest.mark.parametrize(
    "value",
    [
        "alice",
        "team/blue",
        "👩‍👩‍👧 family",
        "👩🏽\u200d🚀",
        "Zoë Ångström",
        "名前",
        "עברית",
        "علی\u200cرضا",  # noqa: RUF001  Persian: the letters would join without it
        "क्\u200dष",  # Hindi: another form than without it
        "a" * 255,
        "é" * 127,
        "'; DROP TABLE subject",
        "../x",
        "...",
        "a  b",
    ],
)
def test_ordinary_names_are_kept_as_they_are(value: str) -> None:
    assert checked_subject_id(value) == value


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        "\u00a0\t",
        "a\nb",
        "a\x00b",
        "a\x7fb",
        "a\x85b",
        "\ud800",
        "a\u2028b",
        "\u202eecila",
        "a\u2066b",
        "a\ufdd0",
        "\uffff",
        "a\U0010fffeb",
        "a" * 256,
        "é" * 128,
        None,
        7,
        b"alice",
    ],
)
def test_others_are_refused_with_the_reason(value: object) -> None:
    with pytest.raises(InputError) as caught:
        checked_subject_id(value)
    str(caught.value).encode()  # the message can be printed


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("Zoë ", r"white space at its start or end \(U\+0020 SPACE\) at position 3"),
        ("\tZoë", r"\(U\+0009\) at position 0"),
        ("Zoë\u00a0", r"white space at its start or end \(U\+00A0 NO-BREAK SPACE\)"),
        ("\u3000Zoë", r"U\+3000 IDEOGRAPHIC SPACE"),
        ("Zoë\u00a0Ng", r"a space other than U\+0020 \(U\+00A0 NO-BREAK SPACE\)"),
        ("Zoë\u2009Ng", r"U\+2009 THIN SPACE"),
        ("Zo\u200bë", r"an invisible character \(U\+200B ZERO WIDTH SPACE\) at position 2"),
        ("Zo\u200cë", r"U\+200C ZERO WIDTH NON-JOINER"),
        ("Zo\u200dë", r"U\+200D ZERO WIDTH JOINER"),
        ("Zoë\u200d", r"U\+200D"),
        ("👩\u200d", r"U\+200D"),
        ("دا\u200cد", r"U\+200C"),  # alef does not join to the left: it would not be seen
        ("\ufeffZoë", r"U\+FEFF ZERO WIDTH NO-BREAK SPACE"),
        ("Zo\u2060ë", r"U\+2060 WORD JOINER"),
        ("Zo\u00adë", r"U\+00AD SOFT HYPHEN"),
        ("Zo\u200eë", r"U\+200E LEFT-TO-RIGHT MARK"),
        ("Zo\u061cë", r"U\+061C ARABIC LETTER MARK"),
        ("Zo\u2067ë", r"U\+2067 RIGHT-TO-LEFT ISOLATE"),
        ("Zo\U000e0041ë", r"U\+E0041 TAG LATIN CAPITAL LETTER A"),
        ("Zo\ufe0fë", r"U\+FE0F VARIATION SELECTOR-16"),
        ("Zo\u034fë", r"U\+034F COMBINING GRAPHEME JOINER"),
        ("Zo\u3164ë", r"U\+3164 HANGUL FILLER"),
        ("Zo\u2800ë", r"U\+2800 BRAILLE PATTERN BLANK"),
        (".", r"'\.' \(U\+002E\) names a folder"),
        ("..", r"'\.\.' \(U\+002E\) names a folder"),
    ],
)
def test_what_cannot_be_seen_is_refused_and_its_code_point_named(value: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        checked_subject_id(value)


def test_a_decomposed_name_is_the_composed_one() -> None:
    assert checked_subject_id(NFD) == NFC
    assert checked_subject_id("\u212b") == "\u00c5"  # the sign of a unit, and the letter
    assert checked_subject_id("\u1112\u1161\u11ab") == "\ud55c"


@given(st.text())
def test_whatever_is_accepted_can_be_stored_and_printed_on_one_line(value: str) -> None:
    try:
        accepted = checked_subject_id(value)
    except InputError:
        return
    assert 1 <= len(accepted.encode()) <= 255
    assert len(accepted.splitlines()) == 1
    assert checked_subject_id(accepted) == accepted == unicodedata.normalize("NFC", value)
    assert accepted == accepted.strip()
    for form in ("NFC", "NFD"):
        assert checked_subject_id(unicodedata.normalize(form, value)) == accepted
    assert id_problems([accepted]) == []


_INVISIBLE = st.sampled_from(
    "\u200b\u200e\u2060\ufeff\u00ad\u202e\u2066\ufe0f\u034f\U000e0020 \u00a0\n"
)


@given(st.text("aeZ\u0308\u00eb名", min_size=1, max_size=8), _INVISIBLE, st.integers(0, 8))
def test_nothing_invisible_makes_a_second_subject(name: str, character: str, place: int) -> None:
    other = name[:place] + character + name[place:]
    stored = checked_subject_id(name)
    if character == " " and 0 < place < len(name):
        assert checked_subject_id(other) != stored  # it can be seen
    else:
        with pytest.raises(InputError, match=rf"U\+{ord(character):04X}"):
            checked_subject_id(other)
    assert id_problems([stored]) == []


@pytest.fixture
def empty() -> MemoryGallery:
    return MemoryGallery(spec_digest=DIGEST, embedding_size=SIZE)


def test_every_entrance_of_a_gallery_takes_both_forms(
    gallery: SqliteGallery, empty: MemoryGallery, tmp_path: Path
) -> None:
    for each in (gallery, empty):
        each.add(NFD, templates(1))
        each.add(NFC, templates(2))
        assert list(each.subject_ids()) == [NFC]
        assert (each.get(NFD).subject_id, len(each.get(NFD).templates)) == (NFC, 2)
        assert stored_subject_id(each, NFD) == NFC
        assert each.remove(NFD) == 2
        for value in ("Zoë ", "Zo\u200bë", ".."):
            for call in (each.get, each.remove, lambda v, g=each: g.add(v, templates(1))):
                with pytest.raises(InputError, match=r"U\+"):
                    call(value)
        assert len(each) == 0


OLD = [NFC, NFD, f"{NFC} ", "Zo\u200bë", f"\ufeff{NFC}", f"{NFC}\u00a0", ".."]


@pytest.fixture(params=[None, bytes(32)], ids=["plain", "encrypted"])
def old(path: Path, request: pytest.FixtureRequest) -> Iterator[SqliteGallery]:
    """What an earlier version has stored: names that look the same."""
    with reopen(path, key=request.param) as gallery:
        fill(gallery)
        yield gallery


def fill(gallery: SqliteGallery | MemoryGallery) -> None:
    for number, name in enumerate(OLD):
        entry = checked_entry(
            name, templates(number), None, spec_digest=DIGEST, embedding_size=SIZE, keep_id=True
        )
        gallery.add_entries([entry], "error")


def test_ids_of_old_galleries_are_found_and_removed_as_they_are_stored(old: SqliteGallery) -> None:
    for number, name in enumerate(OLD):
        assert old.get(name).subject_id == name
        assert stored_subject_id(old, name) == name
        assert (old.get(name).templates[0].embedding == units(number, 1)[0]).all()
        assert subject_record(old, name)["subject_id"] == name
        assert old.search(units(number, 1), 1, 0.9)[0][0].subject_id == name
    left = set(OLD)
    for name in reversed(OLD):
        assert old.remove(name) == 1
        left.remove(name)
        assert set(old.subject_ids()) == left


def test_ids_of_old_galleries_are_reported(old: SqliteGallery) -> None:
    said = "\n".join(old.check())
    for code in ("U+0020", "U+200B", "U+FEFF", "U+00A0", "U+002E"):
        assert code in said
    assert f"subject id {NFD!a} is not in normalization form C" in said
    alike = ", ".join(map(ascii, sorted(OLD[:-1])))
    assert f"subject ids that look the same: {alike}: remove all but one" in said


def test_a_name_that_is_enrolled_in_another_form_is_not_enrolled_a_second_time(
    path: Path, empty: MemoryGallery
) -> None:
    with reopen(path) as stored:
        for gallery in (stored, empty):
            entry = checked_entry(
                NFD, templates(1), None, spec_digest=DIGEST, embedding_size=SIZE, keep_id=True
            )
            gallery.add_entries([entry], "error")
            for name in (NFC, NFD):
                with pytest.raises(SubjectExistsError, match=r"enrolled as 'Zoe\\u0308'"):
                    gallery.add(name, templates(2))
            with pytest.raises(vk.SubjectNotFoundError):
                gallery.get(NFC)  # no guess
            gallery.remove(NFD)
            gallery.add(NFD, templates(2))
            assert list(gallery.subject_ids()) == [NFC]


def test_a_copy_keeps_ids_and_an_import_only_if_requested(
    old: SqliteGallery, empty: MemoryGallery, tmp_path: Path
) -> None:
    assert copy_gallery(old, empty).subject_count == len(OLD)
    assert copy_gallery(old, empty).skipped_count == len(OLD)
    assert set(empty.subject_ids()) == set(OLD)
    file = tmp_path / "old.jsonl"
    export_gallery(old, file)
    with reopen(tmp_path / "new.db") as new:
        with pytest.raises(GalleryFormatError, match=r"line \d+: .*(U\+|twice)"):
            import_gallery(new, file)
        assert len(new) == 0
        import_gallery(new, file, keep_ids=True)
        assert set(new.subject_ids()) == set(OLD)


def test_an_import_brings_names_to_one_form_and_refuses_two_of_one(
    gallery: SqliteGallery, tmp_path: Path
) -> None:
    file = tmp_path / "export.jsonl"
    source = MemoryGallery(spec_digest=DIGEST, embedding_size=SIZE)
    for name in (NFD, NFC):
        entry = checked_entry(
            name, templates(1), None, spec_digest=DIGEST, embedding_size=SIZE, keep_id=True
        )
        source.add_entries([entry], "error")
        export_gallery(source, file, overwrite=True)
        if name == NFD:
            import_gallery(gallery, file)
            assert list(gallery.subject_ids()) == [NFC]
    with pytest.raises(GalleryFormatError, match="there twice"):
        import_gallery(gallery, file, on_existing="skip")


def test_metadata_are_kept_as_they_are(gallery: SqliteGallery) -> None:
    metadata = {NFD: NFD, "zero\u200bwidth": [" "]}
    gallery.add("alice", templates(1), metadata)
    assert json.dumps(gallery.get("alice").metadata) == json.dumps(metadata)


@pytest.mark.parametrize("value", ["\0" * 5, "\ud800", ""])
def test_what_no_version_could_store_is_not_looked_for(gallery: SqliteGallery, value: str) -> None:
    gallery.add("alice", templates(1))
    gallery.remove("alice")  # which leaves zeros
    with pytest.raises(InputError):
        gallery.get(value)
