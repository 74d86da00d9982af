"""Keys, and values encrypted for one place, against the standards they follow."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from verifykit.errors import GalleryFormatError, GalleryKeyError
from verifykit.gallery import key_fingerprint, new_key_file
from verifykit.gallery.sqlite.encryption import EncryptedValues, KeySource, read_key

KEY, SALT = bytes(range(32)), bytes(range(16))


def hkdf(key: bytes, salt: bytes, info: bytes) -> bytes:
    """RFC 5869 for one block of SHA-256."""
    inner = hmac.new(salt or bytes(32), key, hashlib.sha256).digest()
    return hmac.new(inner, info + b"\1", hashlib.sha256).digest()


def test_a_value_is_aes_gcm_with_a_key_of_hkdf_and_its_place_as_associated_data() -> None:
    encrypted = EncryptedValues(KEY, SALT).encrypt(b"embedding", b"place")
    key = hkdf(KEY, SALT, b"verifykit gallery 2 values")
    assert AESGCM(key).decrypt(encrypted[:12], encrypted[12:], b"place") == b"embedding"
    assert len(encrypted) == 12 + len(b"embedding") + 16
    again = EncryptedValues(KEY, SALT)
    assert again.decrypt(encrypted, b"place") == b"embedding"
    assert again.encrypt(b"embedding", b"place")[:12] != encrypted[:12]


def test_ids_are_hashed_with_a_key_of_their_own_for_each_file() -> None:
    key = hkdf(KEY, SALT, b"verifykit gallery 2 subject ids")
    digest = hashlib.blake2b("ålice".encode(), digest_size=8, key=key).digest()
    assert EncryptedValues(KEY, SALT).id_key("ålice") == int.from_bytes(
        digest, "little", signed=True
    )
    assert EncryptedValues(KEY, SALT).id_key("a") != EncryptedValues(KEY, SALT[::-1]).id_key("a")


def test_a_fingerprint_is_of_the_key_and_not_of_the_file() -> None:
    wanted = hkdf(KEY, b"", b"verifykit gallery 2 fingerprint")[:8].hex()
    assert (
        EncryptedValues(KEY, SALT).fingerprint
        == EncryptedValues(KEY, SALT[::-1]).fingerprint
        == wanted
    )
    assert key_fingerprint(KEY) == wanted != key_fingerprint(bytes(32))


def test_nothing_that_was_changed_opens() -> None:
    encrypting = EncryptedValues(KEY, SALT)
    encrypted = encrypting.encrypt(b"embedding", b"place")
    for bit in range(8 * len(encrypted)):
        changed = bytearray(encrypted)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(GalleryFormatError):
            encrypting.decrypt(bytes(changed), b"place")
    for cut in range(len(encrypted)):
        with pytest.raises(GalleryFormatError):
            encrypting.decrypt(encrypted[:cut], b"place")
    for wrong in ("text", 7, None):
        with pytest.raises(GalleryFormatError):
            encrypting.decrypt(wrong, b"place")  # type: ignore[arg-type]
    for other in (EncryptedValues(KEY, SALT[::-1]), EncryptedValues(KEY[::-1], SALT)):
        with pytest.raises(GalleryFormatError):
            other.decrypt(encrypted, b"place")
    with pytest.raises(GalleryFormatError):
        encrypting.decrypt(encrypted, b"plac")


def test_a_key_is_read_from_wherever_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = secrets.token_bytes(32)
    file = tmp_path / "key"
    for content in (
        key,
        key.hex().encode(),
        base64.b64encode(key) + b"\n",
        key.hex().upper().encode(),
    ):
        file.write_bytes(content)
        file.chmod(0o600)
        assert read_key(file) == read_key(str(file)) == key
    for text in (key.hex(), base64.b64encode(key).decode()):
        monkeypatch.setenv("A_KEY", text)
        assert read_key("env:A_KEY") == key
    assert read_key(key) == read_key(lambda: key) == key


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (b"short", "the key is not a key: 32 bytes are required, got 5 bytes"),
        (lambda: "text", "callable returned is not a key: 32 bytes are required, got str"),
        ("env:NO_SUCH_KEY", "variable NO_SUCH_KEY holds no key"),
        ("/no/such/key", "key file /no/such/key: No such file or directory"),
    ],
)
def test_what_is_no_key_is_named(source: KeySource, message: str) -> None:
    with pytest.raises(GalleryKeyError, match=message):
        read_key(source)


def test_what_a_key_service_raises_is_not_hidden() -> None:
    def service() -> bytes:
        raise ConnectionRefusedError("key service")

    with pytest.raises(ConnectionRefusedError):
        read_key(service)


def test_a_file_that_holds_no_key_is_named_and_not_quoted(tmp_path: Path) -> None:
    file = tmp_path / "key"
    for content in (b"", b"x" * 31, b"hunter2" * 9, b"g" * 64):
        file.write_bytes(content)
        file.chmod(0o600)
        with pytest.raises(GalleryKeyError, match="holds no key: 32 bytes") as caught:
            read_key(file)
        assert "hunter2" not in str(caught.value)


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
def test_a_key_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_bytes(KEY)
    for mode in (0o644, 0o640, 0o604, 0o660, 0o610):
        file.chmod(mode)
        with pytest.raises(GalleryKeyError, match=f"mode {mode:o}.*chmod 600"):
            read_key(file)
    for mode in (0o600, 0o400):
        file.chmod(mode)
        assert read_key(file) == KEY


def test_a_new_key_file_is_for_its_owner_and_never_written_over(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    new_key_file(one)
    new_key_file(str(two))
    assert read_key(one) != read_key(two)
    if os.name == "posix":
        assert one.stat().st_mode & 0o777 == 0o600
    before = one.read_bytes()
    with pytest.raises(GalleryKeyError, match="there already"):
        new_key_file(one)
    assert one.read_bytes() == before
    with pytest.raises(GalleryKeyError, match="cannot be written"):
        new_key_file(tmp_path / "none" / "key")


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.ciphers.aead", None)
    with pytest.raises(GalleryKeyError, match=r"verifykit-sdk\[encrypt\]"):
        EncryptedValues(KEY, SALT)
