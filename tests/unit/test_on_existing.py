"""Enrollment of new subjects only: of several calls at once, one enrolls."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import verifykit as vk
from tests.helpers.fake_encoder import encoder, solid_image


def test_an_enrolled_subject_is_refused_and_unchanged() -> None:
    verifier = vk.Verifier(encoder())
    verifier.enroll("a", solid_image(255, 0, 0), {"team": "red"}, on_existing="error")
    with pytest.raises(vk.SubjectExistsError, match="'a' is already enrolled"):
        verifier.enroll("a", solid_image(0, 255, 0), {"team": "green"}, on_existing="error")
    stored = verifier.gallery.get("a")
    assert (len(stored.templates), stored.metadata) == (1, {"team": "red"})
    assert verifier.enroll("a", solid_image(0, 255, 0), on_existing="append").template_count == 2


def test_an_unknown_value_is_refused() -> None:
    with pytest.raises(vk.InputError, match="on_existing is one of"):
        vk.Verifier(encoder()).enroll("a", solid_image(1, 2, 3), on_existing="skip")  # type: ignore[arg-type]


def test_a_gallery_without_add_entries_is_refused() -> None:
    inner = vk.MemoryGallery(spec_digest=encoder().spec.digest, embedding_size=4)

    class Bare:
        spec_digest = inner.spec_digest
        add, get, remove = inner.add, inner.get, inner.remove
        search, subject_ids = inner.search, inner.subject_ids

        def __len__(self) -> int:
            return len(inner)

    verifier = vk.Verifier(encoder(), Bare())
    with pytest.raises(vk.InputError, match="Bare cannot check and store"):
        verifier.enroll("a", solid_image(1, 2, 3), on_existing="error")
    assert verifier.enroll("a", solid_image(1, 2, 3)).template_count == 1


def _enroll(path: Path) -> str:
    try:
        vk.Verifier(encoder(), path).enroll("a", solid_image(255, 0, 0), on_existing="error")
    except vk.SubjectExistsError:
        return "exists"
    return "enrolled"


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_of_several_calls_at_once_one_enrolls(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "gallery.db"
    vk.Verifier(encoder(), path).enroll("b", solid_image(1, 2, 3))
    if kind == "threads":
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(_enroll, [path] * 8))
    else:
        with multiprocessing.get_context("spawn").Pool(2) as processes:
            answers = processes.map(_enroll, [path] * 8, chunksize=1)
    assert sorted(answers) == ["enrolled"] + ["exists"] * 7
    assert len(vk.Verifier(encoder(), path).gallery.get("a").templates) == 1
