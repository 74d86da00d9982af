"""Export and import: all of it or nothing, and nothing that is not what was exported."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.unit.gallery.files import DIGEST, SIZE, reopen, templates, units
from verifykit.errors import (
    GalleryError,
    GalleryFormatError,
    InputError,
    TemplateMismatchError,
    VerifyKitError,
)
from verifykit.gallery import (
    ExportHeader,
    MemoryGallery,
    SqliteGallery,
    TransferReport,
    export_gallery,
    import_gallery,
    read_export_header,
)
from verifykit.types import Template


@pytest.fixture
def exported(gallery: SqliteGallery, tmp_path: Path) -> Path:
    """Three subjects, one of them with reasons, metadata and a name that needs escaping."""
    gallery.add("alice", templates(1, 2), {"team": "blue"})
    gallery.add('b/"ö"🙂', [Template(units(2, 1)[0], DIGEST, reasons=("too_dark",))])
    gallery.add("carol", templates(3, 3))
    destination = tmp_path / "out.jsonl"
    assert export_gallery(gallery, destination) == TransferReport(3, 6)
    return destination


def memory() -> MemoryGallery:
    return MemoryGallery(spec_digest=DIGEST, embedding_size=SIZE)


def content(gallery: MemoryGallery | SqliteGallery) -> list[dict[str, Any]]:
    # An export does not say when somebody was enrolled.
    return [{**gallery.get(s).to_dict(), "enrolled_at": None} for s in gallery.subject_ids()]


def encrypted(lines: list[dict[str, Any]]) -> bytes:
    """A file with a last line that agrees with it, whatever it holds."""
    body = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    end = {
        "subjects": len(lines) - 1,
        "templates": sum(len(list(line.get("templates") or ())) for line in lines[1:]),
        "sha256": hashlib.sha256(body).hexdigest(),
    }
    return body + json.dumps({"end": end}).encode() + b"\n"


def test_what_comes_out_goes_in_to_the_bit(
    gallery: SqliteGallery, exported: Path, tmp_path: Path
) -> None:
    other, third = memory(), reopen(tmp_path / "other.db")
    assert import_gallery(other, exported) == TransferReport(3, 6)
    with third:
        assert import_gallery(third, exported) == TransferReport(3, 6)
        assert content(gallery) == content(other) == content(third)
        again = tmp_path / "again.jsonl"
        export_gallery(third, again)
    strip = lambda path: path.read_bytes().splitlines()[1:-1]  # noqa: E731
    assert strip(again) == strip(exported)


def test_the_format_is_the_documented_one(exported: Path) -> None:
    """Read by hand, from the text of the docstring."""
    *before, last = exported.read_bytes().splitlines(keepends=True)
    header, *subjects = [json.loads(line) for line in before]
    assert header == {
        "format": "verifykit-gallery",
        "version": 1,
        "spec_digest": DIGEST,
        "embedding_size": SIZE,
        "model": "face",
    }
    raw = base64.b64decode(subjects[0]["templates"][1]["embedding"])
    assert np.array_equal(np.frombuffer(raw, "<f4"), units(1, 2)[1])
    assert subjects[1]["templates"][0]["reasons"] == ["too_dark"]
    digest = hashlib.sha256(b"".join(before)).hexdigest()
    assert json.loads(last) == {"end": {"subjects": 3, "templates": 6, "sha256": digest}}
    assert read_export_header(exported) == ExportHeader(DIGEST, SIZE, "face")
    assert exported.stat().st_mode & 0o077 == 0


def test_every_cut_and_every_flipped_byte_is_noticed(exported: Path, tmp_path: Path) -> None:
    whole = exported.read_bytes()
    damaged = tmp_path / "damaged.jsonl"
    versions = [whole[:at] for at in range(0, len(whole), 61)] + [whole[:-1], whole + b"x"]
    versions += [
        whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in range(0, len(whole), 61)
    ]
    for version in versions:
        damaged.write_bytes(version)
        gallery = memory()
        with pytest.raises(VerifyKitError):
            import_gallery(gallery, damaged)
        assert len(gallery) == 0


def _first(body: dict[str, Any]) -> dict[str, Any]:
    return body["templates"][0]  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda line: line.pop("metadata"),
        lambda line: line.update(extra=1),
        lambda line: line.update(subject_id=""),
        lambda line: line.update(subject_id=None),
        lambda line: line.update(metadata=[]),
        lambda line: line.update(metadata=None, templates=[]),
        lambda line: line.update(templates=[]),
        lambda line: line.update(templates="ab"),
        lambda line: line.update(subject_id="carol"),
        lambda line: _first(line).update(embedding="AAAA"),
        lambda line: _first(line).update(embedding="no base64"),
        lambda line: _first(line).update(embedding=[0.1]),
        lambda line: _first(line).update(
            embedding=base64.b64encode(np.full(SIZE, np.nan, "<f4").tobytes()).decode()
        ),
        lambda line: _first(line).pop("reasons"),
    ],
)
def test_a_file_with_one_bad_subject_imports_nothing(
    exported: Path, tmp_path: Path, spoil: Callable[[dict[str, Any]], object]
) -> None:
    lines = [json.loads(line) for line in exported.read_bytes().splitlines()[:-1]]
    exported.write_bytes(encrypted(lines))
    import_gallery(memory(), exported)  # encrypted() itself is right
    spoil(lines[1])
    exported.write_bytes(encrypted(lines))
    with reopen(tmp_path / "target.db") as target:
        target.add("zoe", templates(9))
        with pytest.raises(GalleryFormatError, match="line"):
            import_gallery(target, exported)
        assert list(target.subject_ids()) == ["zoe"]


def test_files_that_are_no_export_are_refused(tmp_path: Path, path: Path) -> None:
    reopen(path).close()
    text = tmp_path / "notes.txt"
    text.write_text("hello\nworld\n")
    newer = tmp_path / "newer.jsonl"
    newer.write_bytes(encrypted([{"format": "verifykit-gallery", "version": 2}]))
    for file, error in (
        (path, GalleryFormatError),
        (text, GalleryFormatError),
        (tmp_path, GalleryError),
    ):
        with pytest.raises(error):
            import_gallery(memory(), file)
        with pytest.raises(error):
            read_export_header(file)
    with pytest.raises(GalleryFormatError, match="version 2"):
        import_gallery(memory(), newer)
    with pytest.raises(GalleryError, match="none"):
        import_gallery(memory(), tmp_path / "none")


def test_another_models_export_is_refused(exported: Path) -> None:
    other = MemoryGallery(spec_digest="e" * 64, embedding_size=SIZE, model="other")
    with pytest.raises(TemplateMismatchError, match="face"):
        import_gallery(other, exported)


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_subjects_who_are_enrolled_already(kind: str, exported: Path, tmp_path: Path) -> None:
    with reopen(tmp_path / "target.db") as file:
        target = memory() if kind == "memory" else file
        target.add("carol", templates(9), {"kept": True})
        with pytest.raises(GalleryError, match="'carol' is already enrolled"):
            import_gallery(target, exported)
        assert list(target.subject_ids()) == ["carol"]
        with pytest.raises(InputError, match="on_existing"):
            import_gallery(target, exported, on_existing="replace")  # type: ignore[arg-type]
        assert import_gallery(target, exported, on_existing="skip") == TransferReport(2, 3, 1)
        assert len(target.get("carol").templates) == 1
        assert import_gallery(target, exported, on_existing="append") == TransferReport(3, 6)
        assert len(target.get("carol").templates) == 4
        assert target.get("carol").metadata == {}


def test_an_export_appears_whole_or_not_at_all(
    gallery: SqliteGallery, exported: Path, tmp_path: Path
) -> None:
    before = exported.read_bytes()
    with pytest.raises(InputError, match="exists"):
        export_gallery(gallery, exported)

    class Breaking(MemoryGallery):
        def get(self, subject_id: str) -> Any:
            raise GalleryError("the disk refused to read")

    broken = Breaking(spec_digest=DIGEST, embedding_size=SIZE)
    broken.add("alice", templates(1))
    with pytest.raises(GalleryError, match="refused"):
        export_gallery(broken, exported, overwrite=True)
    with pytest.raises(GalleryError, match="cannot be written"):
        export_gallery(gallery, tmp_path / "none" / "out.jsonl")
    assert exported.read_bytes() == before
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]
    gallery.remove("alice")
    assert export_gallery(gallery, exported, overwrite=True) == TransferReport(2, 4)
