"""``verifykit gallery`` on a gallery of real portraits."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.command_results import Invoke, body
from verifykit.gallery import SqliteGallery, checked_entry
from verifykit.verifier import Verifier


def test_gallery_verbs(invoke: Invoke, gallery: str) -> None:
    told = body(invoke("gallery", "info", gallery, "--json", status=0))
    assert (told["subject_count"], told["model"]) == (2, "face")
    assert "subject_count   2" in invoke("gallery", "info", gallery, status=0).stdout
    listed = body(invoke("gallery", "list", gallery, "--json", status=0))
    assert listed == {"subject_ids": ["Ada 🙂/1", "bea"]}
    shown = invoke("gallery", "show", gallery, "Ada 🙂/1", status=0).stdout
    assert shown == "Ada 🙂/1: 1 template\nteam=a=b\ntemplate 1  no warnings\n"
    plain = body(invoke("gallery", "show", gallery, "bea", "--json", status=0))
    assert plain["templates"] == [{"reasons": []}]
    asked = ["gallery", "show", gallery, "bea", "--embeddings", "--json"]
    (template,) = body(invoke(*asked, status=0))["templates"]
    assert np.linalg.norm(template["embedding"]) == pytest.approx(1.0, abs=1e-5)
    assert "sound" in invoke("gallery", "check", gallery, status=0).stdout

    invoke("gallery", "export", gallery, "e.jsonl", status=0)
    invoke("gallery", "export", gallery, "e.jsonl", status=2)
    invoke("gallery", "export", gallery, "e.jsonl", "--overwrite", status=0)
    said = invoke("gallery", "import", "copy.db", "e.jsonl", status=0).stdout
    assert said == "imported 2 subjects, 2 templates\n"
    invoke("gallery", "import", "copy.db", "e.jsonl", status=2)
    again = ["gallery", "import", "copy.db", "e.jsonl", "--on-existing", "skip", "--json"]
    assert body(invoke(*again, status=0))["skipped_count"] == 2
    invoke("verify", "bea", "person_b_2.jpg", "-g", "copy.db", status=0)

    assert "1 template erased" in invoke("gallery", "remove", "copy.db", "bea", status=0).stdout
    invoke("gallery", "remove", "copy.db", "bea", status=2)
    assert invoke("gallery", "list", "copy.db", status=0).stdout == "Ada 🙂/1\n"
    said = invoke("gallery", "export", "copy.db", "one.jsonl", status=0).stdout
    assert said == "exported 1 subject, 1 template: one.jsonl\n"


def test_gallery_verbs_on_what_is_no_gallery(invoke: Invoke) -> None:
    Path("text.db").write_text("x" * 5000)
    for verb in ("info", "list", "check"):
        assert "GalleryFormatError" in invoke("gallery", verb, "text.db", status=2).stderr
    assert Path("text.db").read_text() == "x" * 5000


def test_gallery_check_finds_damage(invoke: Invoke, gallery: str) -> None:
    data = bytearray(Path(gallery).read_bytes())
    at = data.index(np.float32(Verifier("face").extract("person_a_1.jpg").embedding[0]).tobytes())
    data[at : at + 4] = np.float32(7.0).tobytes()
    Path(gallery).write_bytes(data)
    result = invoke("gallery", "check", gallery, status=2)
    assert "problem: subject 'Ada" in result.stdout


def test_ids_that_look_the_same_are_named_by_info_and_check(invoke: Invoke, gallery: str) -> None:
    assert "id_problems" not in body(invoke("gallery", "info", gallery, "--json", status=0))
    with SqliteGallery.open_existing(gallery, read_only=False) as opened:
        for name in ("be\u0301a", "b\u00e9a"):
            entry = checked_entry(
                name,
                opened.get("bea").templates,
                None,
                spec_digest=opened.spec_digest,
                embedding_size=opened.embedding_size,
                keep_id=True,
            )
            opened.add_entries([entry], "error")
    alike = "subject ids that look the same: 'be\\u0301a', 'b\\xe9a': remove all but one"
    assert f"problem: {alike}" in invoke("gallery", "info", gallery, status=0).stdout
    assert alike in body(invoke("gallery", "info", gallery, "--json", status=0))["id_problems"]
    assert alike in invoke("gallery", "check", gallery, status=2).stdout
    invoke("gallery", "export", gallery, "old.jsonl", status=0)
    assert "there twice" in invoke("gallery", "import", "new.db", "old.jsonl", status=2).stderr
    invoke("gallery", "import", "new.db", "old.jsonl", "--keep-ids", status=0)
    invoke("gallery", "remove", "new.db", "be\u0301a", status=0)
    assert "sound" in invoke("gallery", "check", "new.db", status=0).stdout


def test_a_copy_without_its_log_is_accepted_by_a_command(invoke: Invoke, gallery: str) -> None:
    said = invoke("gallery", "accept-copy", gallery, status=0).stdout
    assert "no copy without its log, nothing was changed: 2 subjects" in said
    with SqliteGallery.open_existing(gallery, read_only=False) as opened:
        opened.add("new", opened.get("bea").templates)
        shutil.copy(gallery, "copy.db")
    assert "accept-copy" in invoke("gallery", "list", "copy.db", status=2).stderr
    told = body(invoke("gallery", "accept-copy", "copy.db", "--json", status=0))
    assert (told["accepted"], told["subject_count"]) == (True, 3)
    invoke("gallery", "list", "copy.db", status=0)
