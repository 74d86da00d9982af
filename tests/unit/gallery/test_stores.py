"""Stores of other packages by entry point, and galleries that applications wrote for version 0.1."""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast

import pytest
from typer.testing import CliRunner

import verifykit as vk
from tests.helpers import dummy_store
from tests.helpers.fake_encoder import encoder
from tests.helpers.fake_encoder import solid_image as picture
from tests.helpers.model_specs import plain_spec
from verifykit.cli.app import app
from verifykit.gallery import (
    Gallery,
    MemoryGallery,
    StoredGallery,
    SupportsCheck,
    SupportsCrops,
    SupportsExpiry,
    SupportsPaging,
    SupportsRekey,
    SupportsTransfer,
    open_existing,
    open_for,
    open_gallery,
    shown_location,
    stored_fusion,
)
from verifykit.gallery.base import gallery_info, subject_page

SPEC = plain_spec()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a gallery that does not exist."""
    dummy_store.install(tmp_path, monkeypatch)
    return f"dummy://staff:secret@host/{tmp_path.name}?token=secret"


def test_the_library_opens_it(place: str) -> None:
    assert shown_location(place) == f"dummy://staff@host/{place.partition('host/')[2][:-13]}"
    assert stored_fusion(place) is None
    with pytest.raises(vk.GalleryError, match="no such"):
        open_existing(place)
    verifier = vk.Verifier(encoder(), place)
    verifier.enroll("anna", picture(255, 0, 0), on_existing="error")
    with pytest.raises(vk.SubjectExistsError):
        verifier.enroll("anna", picture(255, 0, 0), on_existing="error")
    assert stored_fusion(place) == SPEC.fusion
    again = open_gallery(place)
    assert isinstance(again, StoredGallery)
    assert list(again.subject_ids()) == ["anna"]
    with pytest.raises(vk.GalleryKeyError):
        open_gallery(place, SPEC, key=bytes(32))
    with pytest.raises(vk.TemplateMismatchError, match="enrol the subjects again"):
        open_for(place, spec_digest="f" * 64, embedding_size=4, fusion="max", model="other")


def test_the_command_line_opens_it(place: str, tmp_path: Path) -> None:
    vk.Verifier(encoder(), place).enroll("anna", picture(255, 0, 0))

    def run(*arguments: str, status: int = 0) -> str:
        ended = CliRunner().invoke(app, ["gallery", *arguments])
        assert ended.exit_code == status, ended.output
        assert "secret" not in ended.output
        return ended.output

    assert json.loads(run("info", place, "--json"))["subject_count"] == 1
    assert run("list", place) == "anna\n"
    assert "1 template" in run("show", place, "anna")
    exported, copied = str(tmp_path / "staff.jsonl"), str(tmp_path / "staff.db")
    run("export", place, exported)
    assert "copied 1 subject" in run("copy", place, copied)
    assert "erased" in run("remove", place, "anna")
    assert "imported 1 subject" in run("import", place, exported)
    for verb, refusal in (("check", "cannot be checked"), ("encrypt", "is not encrypted by")):
        key = ["--key-file", str(tmp_path / "key")] if verb == "encrypt" else []
        if key:
            run("new-key", key[1])
        assert refusal in run(verb, place, *key, status=2)
    assert "does not note" in run("expire", place, "--expire", "1d", status=2)


def test_an_unknown_scheme_names_the_known_ones(place: str) -> None:
    for ask in (open_existing, shown_location, stored_fusion, lambda url: open_gallery(url, SPEC)):
        with pytest.raises(
            vk.InputError,
            match=r"redis://.*dummy://, postgres://, postgresql://.*verifykit.galleries",
        ):
            ask("redis://secret@host")
    with pytest.raises(vk.InputError, match="redis") as refused:
        open_existing("redis://secret@host")
    assert "secret" not in str(refused.value)
    assert place.startswith("dummy")


def test_an_entry_point_that_cannot_be_loaded_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dummy_store.install(tmp_path, monkeypatch, "no_such_package:open")
    with pytest.raises(vk.GalleryError, match="no_such_package:open"):
        open_existing("dummy://host")


class OldGallery(dummy_store.GalleryOfVersion01):
    """A gallery as an application wrote it for version 0.1."""

    def __init__(self) -> None:
        super().__init__(MemoryGallery(spec_digest=SPEC.digest, embedding_size=SPEC.embedding_size))


class NewGallery(OldGallery, Gallery):
    """The same, with the protocol as its base."""


def test_a_gallery_of_version_0_1_works_and_the_protocol_completes_it() -> None:
    old = cast("Gallery", OldGallery())
    assert not hasattr(old, "close")
    verifier = vk.Verifier(encoder(), old)
    assert verifier.gallery is old
    verifier.enroll("anna", picture(255, 0, 0))
    assert verifier.verify("anna", picture(255, 0, 0)).match
    assert [found.subject_id for found in verifier.identify(picture(255, 0, 0))] == ["anna"]
    assert gallery_info(old) == {"spec_digest": SPEC.digest, "subject_count": 1}
    with pytest.raises(vk.InputError, match="add_entries"):
        verifier.enroll("bob", picture(0, 255, 0), on_existing="error")
    assert verifier.remove("anna") == 1

    new: Gallery = NewGallery()
    assert isinstance(new, Gallery)
    assert new.info() == {"spec_digest": SPEC.digest, "subject_count": 0}
    new.close()
    assert open_gallery(new, SPEC) is new


def test_a_page_of_ids_is_the_same_with_and_without_paging() -> None:
    gallery = vk.MemoryGallery(spec_digest=SPEC.digest, embedding_size=SPEC.embedding_size)
    template = encoder().templates(picture(255, 0, 0))[0]
    for name in "dacbe":
        gallery.add(name, [template])
    assert subject_page(gallery, None, 2) == ["a", "b"]
    assert subject_page(gallery, "b", 2) == ["c", "d"]
    assert subject_page(gallery, "bb", 9) == ["c", "d", "e"]


def test_what_each_gallery_can_do(tmp_path: Path) -> None:
    of = {"spec_digest": SPEC.digest, "embedding_size": SPEC.embedding_size}
    memory = vk.MemoryGallery(**of)  # type: ignore[arg-type]
    with vk.SqliteGallery(tmp_path / "a.db", **of) as file:  # type: ignore[arg-type]
        for capability in (SupportsTransfer, SupportsCrops, SupportsExpiry, SupportsRekey):
            assert isinstance(file, capability)
        assert isinstance(file, SupportsCheck)
        report = file.rekey(bytes(32))
        assert not report.already
        file.add("anna", encoder().templates(picture(255, 0, 0)))
        assert file.encrypted
        assert file.info()["key_fingerprint"] == report.key_fingerprint
        assert file.rekey(b"k" * 32).key_fingerprint != report.key_fingerprint
        assert file.get("anna").subject_id == "anna"
    assert isinstance(memory, SupportsTransfer)
    for capability in (SupportsCrops, SupportsExpiry, SupportsRekey, SupportsPaging, SupportsCheck):
        assert not isinstance(memory, capability)
