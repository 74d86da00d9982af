"""``--key-file`` and ``VERIFYKIT_GALLERY_KEY`` on every verb, and the verbs that make and exchange keys."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.helpers.command_results import Invoke, body
from verifykit.gallery import key_fingerprint


@pytest.fixture
def key(invoke: Invoke) -> list[str]:
    invoke("gallery", "new-key", "staff.key", status=0)
    return ["--key-file", "staff.key"]


@pytest.fixture
def encrypted(invoke: Invoke, key: list[str]) -> str:
    invoke(
        "enroll", "ada", "person_a_1.jpg", "-g", "s.db", "--metadata", "team=blue", *key, status=0
    )
    invoke("enroll", "bea", "person_b_1.jpg", "-g", "s.db", *key, status=0)
    return "s.db"


VERBS = {
    "enroll": ["enroll", "ada", "person_a_2.jpg", "-g", "s.db"],
    "verify": ["verify", "ada", "person_a_2.jpg", "-g", "s.db"],
    "identify": ["identify", "person_a_2.jpg", "-g", "s.db"],
    "identify-batch": ["identify-batch", "list.txt", "-g", "s.db", "--out", "out.jsonl"],
    "info": ["gallery", "info", "s.db"],
    "list": ["gallery", "list", "s.db"],
    "show": ["gallery", "show", "s.db", "ada"],
    "check": ["gallery", "check", "s.db"],
    "duplicates": ["gallery", "duplicates", "s.db"],
    "export": ["gallery", "export", "s.db", "e.jsonl"],
    "copy": ["gallery", "copy", "s.db", "c.db"],
    "import": ["gallery", "import", "s.db", "one.jsonl", "--on-existing", "skip"],
    "remove": ["gallery", "remove", "s.db", "ada"],
}


def test_every_verb_takes_the_key_and_none_goes_without(
    invoke: Invoke, encrypted: str, key: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("list.txt").write_text("person_a_2.jpg\n")
    invoke("gallery", "export", encrypted, "one.jsonl", *key, status=0)
    invoke("gallery", "new-key", "other.key", status=0)
    before = Path(encrypted).read_bytes()
    for verb in VERBS.values():
        for wrong in ([], ["--key-file", "other.key"], ["--key-file", "none.key"]):
            said = invoke(*verb, *wrong, status=2).stderr
            assert "GalleryKeyError" in said
            assert "ada" not in said
    assert Path(encrypted).read_bytes() == before
    assert not {"e.jsonl", "c.db", "out.jsonl"} & {path.name for path in Path().iterdir()}
    for number, verb in enumerate(VERBS.values()):
        if number % 2:
            invoke(*verb, *key, status=0)
        else:
            with monkeypatch.context() as patch:
                patch.setenv("VERIFYKIT_GALLERY_KEY", Path("staff.key").read_text())
                invoke(*verb, status=0)
    assert invoke("gallery", "list", encrypted, *key, status=0).stdout == "bea\n"
    assert json.loads(Path("out.jsonl").read_text().splitlines()[-1])


def test_the_option_comes_before_the_environment(
    invoke: Invoke, encrypted: str, key: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VERIFYKIT_GALLERY_KEY", "00" * 32)
    assert "was given" in invoke("gallery", "list", encrypted, status=2).stderr
    assert invoke("gallery", "list", encrypted, *key, status=0).stdout == "ada\nbea\n"
    monkeypatch.setenv("VERIFYKIT_GALLERY_KEY", "no key")
    said = invoke("gallery", "list", encrypted, status=2).stderr
    assert "VERIFYKIT_GALLERY_KEY holds no key" in said


def test_what_leaves_an_encrypted_gallery_in_clear_is_said(
    invoke: Invoke, encrypted: str, key: list[str]
) -> None:
    said = invoke("gallery", "export", encrypted, "e.jsonl", *key, status=0)
    assert said.stderr == "warning: e.jsonl is not encrypted, as every export\n"
    assert "ada" in Path("e.jsonl").read_text()
    said = invoke("gallery", "copy", encrypted, "clear.db", *key, status=0)
    assert said.stderr == "warning: clear.db is not encrypted\n"
    invoke("gallery", "new-key", "to.key", status=0)
    to = ["--to-key-file", "to.key"]
    assert invoke("gallery", "copy", encrypted, "to.db", *key, *to, status=0).stderr == ""
    assert b"blue" not in Path("to.db").read_bytes()
    assert body(invoke("gallery", "info", "to.db", "--key-file", "to.key", "--json", status=0))[
        "key_fingerprint"
    ] == key_fingerprint("to.key")
    assert invoke("gallery", "copy", "clear.db", "again.db", *to, status=0).stderr == ""
    assert "encrypted       no" in invoke("gallery", "info", "clear.db", status=0).stdout


def test_a_gallery_is_encrypted_and_its_key_exchanged(invoke: Invoke, gallery: str) -> None:
    for name in ("a.key", "b.key"):
        made = body(invoke("gallery", "new-key", name, "--json", status=0))
        assert made == {"file": name, "key_fingerprint": key_fingerprint(name)}
        if os.name == "posix":
            assert Path(name).stat().st_mode & 0o777 == 0o600
    assert "there already" in invoke("gallery", "new-key", "a.key", status=2).stderr
    assert "there is no key" in invoke("gallery", "encrypt", gallery, status=2).stderr
    a, b = key_fingerprint("a.key"), key_fingerprint("b.key")
    done = ["gallery", "encrypt", gallery, "--key-file", "a.key", "--json"]
    wanted = {"gallery": gallery, "subject_count": 2, "key_fingerprint": a, "already": False}
    assert body(invoke(*done, status=0)) == wanted
    assert body(invoke(*done, status=0)) == wanted | {"already": True}
    said = invoke(*done[:-1], status=0).stdout
    assert said == f"{gallery} is encrypted with key {a} already\n"
    said = invoke("gallery", "encrypt", gallery, "--key-file", "b.key", status=2).stderr
    assert "rotate-key" in said
    rotate = ["gallery", "rotate-key", gallery, "--key-file", "a.key", "--new-key-file", "b.key"]
    assert (
        invoke(*rotate, status=0).stdout
        == f"encrypted with the new key: {gallery}, 2 subjects, key {b}\n"
    )
    assert invoke(*rotate, status=0).stdout == f"{gallery} is encrypted with key {b} already\n"
    invoke("verify", "bea", "person_b_2.jpg", "-g", gallery, "--key-file", "b.key", status=0)
    said = invoke("verify", "bea", "person_b_2.jpg", "-g", gallery, "--key-file", "a.key", status=2)
    assert b in said.stderr
    shown = invoke("gallery", "info", gallery, "--key-file", "b.key", status=0).stdout
    assert "encrypted        AES-256-GCM\n" in shown
    assert f"key_fingerprint  {b}\n" in shown


def test_what_cannot_be_encrypted_is_named(invoke: Invoke, key: list[str]) -> None:
    Path("text.db").write_text("x" * 5000)
    assert "GalleryFormatError" in invoke("gallery", "encrypt", "text.db", *key, status=2).stderr
    assert Path("text.db").read_text() == "x" * 5000
    assert "no such file" in invoke("gallery", "encrypt", "none.db", *key, status=2).stderr
    url = "postgresql://127.0.0.1:1/none"
    assert "only a gallery in a file" in invoke("gallery", "info", url, *key, status=2).stderr
