"""The page on encryption, with two fixed keys: fingerprints come out as shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.documents import DOCS
from tests.helpers.run_document import Run, run_document
from verifykit.gallery.sqlite import encryption

PAGE = DOCS / "how-to" / "encrypt-a-gallery.md"


@pytest.mark.usefixtures("portrait_folder", "face_model")
def test_the_page_on_encryption_runs(
    in_process: Run, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    random, keys = encryption.secrets.token_bytes, iter((b"1" * 32, b"2" * 32))

    def drawn(size: int) -> bytes:
        return next(keys) if size == encryption.KEY_BYTES else random(size)

    monkeypatch.setattr(encryption.secrets, "token_bytes", drawn)
    assert run_document(PAGE, run=in_process) == {"python": 1, "console": 8}
    assert b"bob" not in Path("old.db").read_bytes()
