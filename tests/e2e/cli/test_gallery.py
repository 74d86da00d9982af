"""``verifykit gallery`` on a gallery of real portraits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.helpers.command_results import Invoke, body
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
