"""From one real model to another, with real portraits and drawn signatures, by what was kept."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

import verifykit as vk
from demo.signature_files import write_signatures
from tests.helpers.documents import DOCS
from tests.helpers.run_document import Run, run_document
from tests.helpers.second_model import write_second_model
from verifykit.encoder import Encoder
from verifykit.gallery import SqliteGallery
from verifykit.models import load
from verifykit.reenrollment import needs_reenroll, plan_reenroll, reenroll

KEY = bytes(range(32))


@pytest.fixture(scope="module")
def second(face_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    folder = tmp_path_factory.mktemp("second")
    return Encoder.open(write_second_model(face_model, folder / "second.onnx"), threads=2)


def new_gallery(path: Path, encoder: Encoder) -> SqliteGallery:
    spec = encoder.spec
    return SqliteGallery(
        path, spec_digest=spec.digest, embedding_size=spec.embedding_size, model=spec.name, key=KEY
    )


def test_people_are_recognised_by_the_next_model(
    encoder: Encoder, second: Encoder, portraits: Mapping[str, Path], tmp_path: Path
) -> None:
    path = tmp_path / "staff.db"
    verifier = vk.Verifier(encoder, path, key=KEY, keep_crops=True)
    verifier.enroll("ada", portraits["person_a_1"], {"team": "blue"})
    verifier.enroll("bob", [portraits["person_b_1"], portraits["obama"]])
    vk.Verifier(encoder, path, key=KEY).enroll("cy", portraits["biden"])

    assert needs_reenroll(path, second.spec, key=KEY)
    with pytest.raises(vk.TemplateMismatchError):
        vk.Verifier(second, path, key=KEY)
    with (
        SqliteGallery.open_existing(path, key=KEY) as old,
        new_gallery(tmp_path / "next.db", second) as new,
    ):
        assert [each.subject_id for each in plan_reenroll(old, second.spec).must_come] == ["cy"]
        report = reenroll(old, second, new)
        assert (report.subject_count, report.template_count, report.refused) == (2, 3, ())
        assert report.must_come == ("cy",)
        kept = np.stack([t.embedding for t in new.get("bob").templates])

    again = vk.Verifier(second, tmp_path / "next.db", key=KEY)
    assert again.gallery.get("ada").metadata == {"team": "blue"}
    assert again.verify("ada", portraits["person_a_2"])
    assert again.verify("bob", portraits["person_b_2"])
    assert not again.verify("ada", portraits["person_b_2"])
    assert [found.subject_id for found in again.identify(portraits["person_a_2"])] == ["ada"]
    # The reference: what the second model makes of the pictures themselves. The detector looks at a reduced
    # copy of a large picture and at the crop as it is, so its landmarks differ a little.
    pictures = [second.templates(portraits[name])[0] for name in ("person_b_1", "obama")]
    whole = np.stack([template.embedding for template in pictures])
    assert np.sum(kept * whole, axis=1) == pytest.approx([1.0, 0.98], abs=0.02)


def test_what_is_kept_of_a_signature_is_all_of_it(tmp_path: Path) -> None:
    scans = {scan.stem: scan for scan in write_signatures(tmp_path)}
    opened = Encoder.open(load("signature"), threads=2)
    verifier = vk.Verifier(opened, tmp_path / "signatures.db", key=KEY, keep_crops=True)
    names = ["ada_1", "ada_2", "ada_3"]
    verifier.enroll("ada", [scans[name] for name in names])
    with SqliteGallery.open_existing(tmp_path / "signatures.db", key=KEY) as gallery:
        stored = [template.embedding for template in gallery.get("ada").templates]
        again = [opened.templates(crop)[0].embedding for crop in gallery.crops("ada")]
    assert np.array_equal(stored, again)


@pytest.mark.usefixtures("portrait_folder")
def test_the_page_on_changing_the_model_runs(face_model: Path, in_process: Run) -> None:
    write_second_model(face_model, Path("new-face.onnx"))
    ran = run_document(DOCS / "how-to" / "change-the-model.md", run=in_process)
    assert ran == {"python": 1, "console": 6}
