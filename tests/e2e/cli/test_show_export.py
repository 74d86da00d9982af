"""`gallery show --export`: all that is stored of one person, and nothing of another."""

from __future__ import annotations

import base64
import json
import stat
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.command_results import Invoke, body
from tests.helpers.postgres_server import PostgresServer
from verifykit.audit import AuditLog
from verifykit.gallery import SqliteGallery
from verifykit.image import load_image

LOG = "staff.db.audit.jsonl"


@pytest.fixture
def staff(invoke: Invoke) -> str:
    """Ada, with a crop, and Bob, in an encrypted gallery with an audit log."""
    invoke("gallery", "new-key", "k", status=0)
    kept = ("-g", "staff.db", "--key-file", "k", "--keep-crops")
    invoke("enroll", "ada", "person_a_1.jpg", *kept, "--metadata", "team=blue", status=0)
    invoke("enroll", "bob", "person_b_1.jpg", *kept, status=0)
    log = AuditLog(LOG)
    log.append("enroll", subject_id="ada", decision="enrolled")
    log.append("enroll", subject_id="bob", decision="enrolled")
    log.append("verify", subject_id="ada", decision="match", score=0.61, threshold=0.42)
    return "staff.db"


def test_it_holds_everything(invoke: Invoke, staff: str) -> None:
    asked = ("gallery", "show", staff, "ada", "--key-file", "k", "--export", "ada.json")
    assert invoke(*asked, status=0).stdout == (
        f"exported ada: 1 template, 1 kept crop, 2 audit entries of {LOG}: ada.json\n"
    )
    assert stat.S_IMODE(Path("ada.json").stat().st_mode) == 0o600
    record = json.loads(Path("ada.json").read_text(encoding="utf-8"))
    assert "bob" not in json.dumps({**record, "crops": []})
    with SqliteGallery.open_existing(staff, key="k") as gallery:
        stored = gallery.get("ada")
        assert record["model"] == {
            "name": "face",
            "spec_digest": gallery.spec_digest,
            "embedding_size": 128,
        }
    assert (record["subject_id"], record["metadata"]) == ("ada", {"team": "blue"})
    (template,) = record["templates"]
    assert np.array_equal(np.float32(template["embedding"]), stored.templates[0].embedding)
    assert template["reasons"] == []
    assert record["enrolled_at"].endswith("+00:00")
    (crop,) = record["crops"]
    assert crop["media_type"] == "image/png"
    picture = load_image(base64.b64decode(crop["base64"], validate=True))
    assert np.array_equal(picture, load_image("person_a_1.jpg"))  # which is little more than a face
    assert [(e["verb"], e["decision"], e["score"]) for e in record["audit"]] == [
        ("enroll", "enrolled", None),
        ("verify", "match", 0.61),
    ]


def test_a_file_that_is_there_is_kept(invoke: Invoke, staff: str) -> None:
    Path("ada.json").write_text("mine")
    asked = ("gallery", "show", staff, "ada", "--key-file", "k", "--export", "ada.json")
    assert "ada.json exists" in invoke(*asked, status=2).stderr
    assert Path("ada.json").read_text() == "mine"
    told = body(invoke(*asked, "--overwrite", "--json", status=0))
    assert (told["template_count"], told["crop_count"], told["audit_entry_count"]) == (1, 1, 2)


def test_to_standard_output_and_with_a_log_elsewhere(invoke: Invoke, staff: str) -> None:
    Path(LOG).rename("elsewhere.jsonl")
    Path(f"{LOG}.head").rename("elsewhere.jsonl.head")
    asked = ("gallery", "show", staff, "bob", "--key-file", "k", "--export", "-")
    assert json.loads(invoke(*asked, status=0).stdout)["audit"] is None
    record = json.loads(invoke(*asked, "--audit", "elsewhere.jsonl", status=0).stdout)
    assert [entry["subject_id"] for entry in record["audit"]] == ["bob"]
    assert "AuditError" in invoke(*asked, "--audit", "missing.jsonl", status=2).stderr


def test_who_is_not_there_leaves_no_file(invoke: Invoke, staff: str) -> None:
    asked = ("gallery", "show", staff, "cy", "--key-file", "k", "--export", "cy.json")
    assert "SubjectNotFoundError" in invoke(*asked, status=2).stderr
    keyless = ("gallery", "show", staff, "ada", "--export", "cy.json")
    assert "GalleryKeyError" in invoke(*keyless, status=2).stderr
    assert not Path("cy.json").exists()


def test_from_a_server(invoke: Invoke, postgres: PostgresServer) -> None:
    url = postgres.url(gallery="shown")
    invoke("enroll", "ada", "person_a_1.jpg", "-g", url, status=0)
    record = json.loads(invoke("gallery", "show", url, "ada", "--export", "-", status=0).stdout)
    assert (record["enrolled_at"], record["crops"], record["audit"]) == (None, [], None)
    assert len(record["templates"][0]["embedding"]) == 128
