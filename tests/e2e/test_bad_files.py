"""Bad subject ids, galleries, models and disks: an error of the right class, nothing lost."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest

import verifykit as vk
from tests.helpers.gallery_contents import contents
from tests.helpers.privileges import without_privileges
from verifykit.encoder import Encoder
from verifykit.image import load_image


def saved(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("subject_id", ["", "a" * 256, "é" * 128, "a\nb", "a\0b", "\x7f", "\x85"])
def test_subject_ids_that_are_refused(
    verifier: vk.Verifier, portraits: Mapping[str, Path], subject_id: str
) -> None:
    before = contents(verifier)
    with pytest.raises(vk.InputError):
        verifier.enroll(subject_id, portraits["impostor_1"])
    assert contents(verifier) == before


@pytest.mark.parametrize("subject_id", ["staff/../7", "👩🏽‍🚀", "a" * 255, "O'Neill; --", "名前"])
def test_subject_ids_that_work(
    verifier: vk.Verifier, portraits: Mapping[str, Path], subject_id: str
) -> None:
    verifier.enroll(subject_id, portraits["impostor_1"])
    assert verifier.verify(subject_id, portraits["impostor_1"]).match
    assert verifier.identify(portraits["impostor_1"])[0].subject_id == subject_id
    assert verifier.remove(subject_id) == 1
    assert sorted(contents(verifier)) == ["person_a", "person_b"]


def test_a_gallery_that_is_a_text_file(encoder: Encoder, tmp_path: Path) -> None:
    text = saved(tmp_path / "people.db", b"alice, bob\n" * 500)
    with pytest.raises(vk.GalleryFormatError, match=r"people\.db"):
        vk.Verifier(encoder, gallery=text)
    assert text.read_bytes() == b"alice, bob\n" * 500


def test_a_model_with_one_flipped_byte(face_model: Path, tmp_path: Path) -> None:
    size = face_model.stat().st_size
    for place in (100, size // 2, size - 5):
        damaged = tmp_path / f"flipped_{place}.onnx"
        shutil.copyfile(face_model, damaged)
        with damaged.open("r+b") as file:
            file.seek(place)
            byte = file.read(1)[0]
            file.seek(place)
            file.write(bytes([byte ^ 1]))
        with pytest.raises(vk.ModelIntegrityError, match=damaged.name):
            vk.Verifier(damaged)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="POSIX permissions")
def test_a_read_only_folder(encoder: Encoder, portraits: Mapping[str, Path]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        verifier = vk.Verifier(encoder, gallery=folder / "old.db")
        verifier.enroll("person_a", portraits["person_a_1"])
        verifier.gallery.close()
        image = load_image(portraits["person_a_2"])
        folder.chmod(0o555)
        try:
            with without_privileges():
                with pytest.raises(vk.GalleryError, match=r"new\.db"):
                    vk.Verifier(encoder, gallery=folder / "new.db")
                with pytest.raises(vk.GalleryError):
                    vk.Verifier(encoder, gallery=folder / "old.db").enroll("newcomer", image)
        finally:
            folder.chmod(0o755)
        verifier = vk.Verifier(encoder, gallery=folder / "old.db")
        assert list(contents(verifier)) == ["person_a"]
        assert verifier.verify("person_a", image).match


FILL_THE_DISK = """
import resource, sys
import verifykit as vk
from verifykit.image import load_image
verifier = vk.Verifier(sys.argv[1], gallery=sys.argv[2], threads=2)
image = load_image(sys.argv[3])
resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000))
try:
    for number in range(1000):
        verifier.enroll(f"subject {number}", image)
        print(f"subject {number}", flush=True)
except vk.GalleryError as error:
    sys.exit(f"GalleryError: {error}")
"""


def test_a_full_disk(
    encoder: Encoder, face_model: Path, portraits: Mapping[str, Path], tmp_path: Path
) -> None:
    """No file may grow beyond 150,000 bytes: to SQLite that is a write that failed."""
    pytest.importorskip("resource")
    gallery = tmp_path / "full.db"
    run = subprocess.run(
        [sys.executable, "-c", FILL_THE_DISK, face_model, gallery, portraits["person_a_1"]],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    acknowledged = run.stdout.splitlines()
    assert run.returncode == 1, run.stderr
    assert run.stderr.startswith("GalleryError"), run.stderr
    assert "full.db" in run.stderr
    assert acknowledged
    verifier = vk.Verifier(encoder, gallery=gallery)
    assert set(verifier.gallery.subject_ids()) == set(acknowledged)
    assert verifier.verify(acknowledged[-1], portraits["person_a_2"]).match
    verifier.enroll("after", portraits["person_b_1"])
