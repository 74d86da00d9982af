"""Subjects over HTTP: listed a page at a time, shown without embeddings, erased."""

from __future__ import annotations

import pytest

from tests.unit.server.conftest import OwnService
from tests.unit.server.running import files, problem
from verifykit.audit import read_log
from verifykit.errors import GalleryLockedError
from verifykit.gallery import SqliteGallery


def test_pages_follow_one_another_by_id(
    own_service: OwnService, pictures: dict[str, bytes]
) -> None:
    with own_service(with_signatures=False) as found:
        gallery = found.service.model(None).verifier.gallery
        (template,) = found.service.model(None).verifier.encoder.templates(pictures["person_a_1"])
        ids = ["Zoë", "a", "a/b", "b c", "é", "名"]
        for count, subject_id in enumerate(ids, start=1):
            gallery.add(subject_id, [template] * count, {"count": count})
        seen, after, pages = [], None, 0
        while True:
            query = {"limit": "2"} if after is None else {"limit": "2", "after": after}
            page = found.client.get("/v1/subjects", params=query).json()
            seen += page["subjects"]
            pages, after = pages + 1, page["next"]
            if after is None:
                break
        assert pages == 3
        assert [row["subject_id"] for row in seen] == sorted(ids)
        assert {row["subject_id"]: row["template_count"] for row in seen} == {
            subject_id: count for count, subject_id in enumerate(ids, start=1)
        }
        assert all(row["metadata"] == {"count": row["template_count"]} for row in seen)
        assert found.client.get("/v1/subjects").json() == {"subjects": seen, "next": None}
        for wrong in ("limit=0", "limit=1001", "limit=x", "before=a"):
            problem(found.client.get(f"/v1/subjects?{wrong}"), 422, "invalid_value")


def test_a_subject_is_shown_without_its_embedding_and_erased_whole(
    own_service: OwnService, pictures: dict[str, bytes]
) -> None:
    with own_service(with_signatures=False) as found:
        two = files(image=[pictures["person_a_1"], pictures["person_a_2"]])
        found.client.put("/v1/subjects/dora", files=two).raise_for_status()
        shown = found.client.get("/v1/subjects/dora").json()
        assert shown == {"subject_id": "dora", "metadata": {}, "templates": [{"reasons": []}] * 2}
        answer = found.client.delete("/v1/subjects/dora")
        assert answer.json() == {"subject_id": "dora", "removed_templates": 2, "erased": True}
        for gone in (found.client.delete, found.client.get):
            problem(gone("/v1/subjects/dora"), 404, "subject_not_found")
        assert found.client.get("/v1/subjects").json()["subjects"] == []
        entries = [(e.verb, e.decision) for e in read_log(found.service.audit.path)]
        assert entries[1:] == [("remove", "removed"), ("remove", "refused")]


def test_a_subject_is_gone_also_while_another_process_keeps_the_log(
    own_service: OwnService, pictures: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`remove` raises then: it has removed, and cannot wipe the write-ahead log yet."""
    erase = SqliteGallery.remove

    def remove(self: SqliteGallery, subject_id: str) -> int:
        erase(self, subject_id)
        raise GalleryLockedError("removed, but another process is reading")

    with own_service(with_signatures=False) as found:
        one = files(image=pictures["person_a_1"])
        found.client.put("/v1/subjects/dora", files=one).raise_for_status()
        monkeypatch.setattr(SqliteGallery, "remove", remove)
        answer = found.client.delete("/v1/subjects/dora")
        assert answer.json() == {"subject_id": "dora", "removed_templates": 1, "erased": False}
        problem(found.client.get("/v1/subjects/dora"), 404, "subject_not_found")


def test_a_subject_that_could_not_be_removed_is_an_error(
    own_service: OwnService, pictures: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def remove(self: SqliteGallery, subject_id: str) -> int:
        raise GalleryLockedError("another process is writing")

    with own_service(with_signatures=False) as found:
        one = files(image=pictures["person_a_1"])
        found.client.put("/v1/subjects/dora", files=one).raise_for_status()
        monkeypatch.setattr(SqliteGallery, "remove", remove)
        answer = found.client.delete("/v1/subjects/dora")
        problem(answer, 503, "gallery_unavailable")
        assert int(answer.headers["retry-after"]) >= 1
        assert found.client.get("/v1/subjects/dora").status_code == 200


def test_a_name_is_one_subject_in_every_path_and_in_the_log(
    own_service: OwnService, pictures: dict[str, bytes]
) -> None:
    composed, decomposed = "/v1/subjects/Zo%C3%AB", "/v1/subjects/Zoe%CC%88"
    one = files(image=pictures["person_a_1"])
    with own_service(with_signatures=False, failed_verifications=2) as found:
        assert found.client.put(decomposed, files=one).json()["subject_id"] == "Zo\u00eb"
        problem(found.client.put(composed, files=one), 409, "subject_exists")
        more = found.client.put(f"{composed}?on_existing=append", files=one)
        assert more.json()["template_count"] == 2
        for path in (composed, decomposed):
            assert found.client.get(path).json()["subject_id"] == "Zo\u00eb"
            stranger = files(image=pictures["person_b_1"])
            assert found.client.post(f"{path}/verify", files=stranger).json()["match"] is False
        answer = found.client.post(f"{composed}/verify", files=one)  # both counted for one subject
        problem(answer, 429, "too_many_failed_verifications")
        for hidden in ("Zo%E2%80%8B%C3%AB", "Zo%C3%AB%20", "%EF%BB%BFZo%C3%AB"):
            path = f"/v1/subjects/{hidden}"
            for call in (
                lambda p: found.client.put(p, files=one),
                found.client.get,
                found.client.delete,
                lambda p: found.client.post(f"{p}/verify", files=one),
            ):
                assert "U+" in problem(call(path), 422, "invalid_value")["detail"]
        assert found.client.delete(decomposed).json()["removed_templates"] == 2
        assert {entry.subject_id for entry in read_log(found.service.audit.path)} == {"Zo\u00eb"}
