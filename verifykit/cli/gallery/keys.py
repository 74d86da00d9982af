"""``verifykit gallery new-key``, ``encrypt`` and ``rotate-key``: what protects a gallery's file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from verifykit.cli._run import emit, progress
from verifykit.cli.options import JsonOption, KeyFileOption, command, gallery_key
from verifykit.cli.render import counted
from verifykit.errors import GalleryKeyError, InputError, shortened
from verifykit.gallery import (
    KeySource,
    RekeyReport,
    SupportsRekey,
    encrypt_gallery,
    key_fingerprint,
    new_key_file,
    open_existing,
)
from verifykit.gallery.open import gallery_path

_FileArgument = Annotated[str, typer.Argument(metavar="GALLERY", help="The gallery's file.")]


@command
def new_key(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The key file, to be made.")],
    as_json: JsonOption = False,
) -> None:
    """Make a key file, which only you can read. Keep a copy: without it, the gallery cannot be opened."""
    new_key_file(file)
    fingerprint = key_fingerprint(file)
    body = {"file": str(file), "key_fingerprint": fingerprint}
    text = (
        f"made key {fingerprint}: {shortened(file)}\n"
        "keep a copy elsewhere: what it encrypts is lost without it"
    )
    emit(body, text, as_json=as_json)


@command
def encrypt(
    gallery: _FileArgument,
    key_file: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Encrypt a gallery in its place; run it again when it was interrupted.

    It may be in use meanwhile: any process that has it open without the key gets an error afterwards.
    """
    report = _rekeyed(gallery, _required(key_file), None)
    emit(_body(gallery, report), _text(gallery, report, "encrypted"), as_json=as_json)


@command
def rotate_key(
    gallery: _FileArgument,
    next_key_file: Annotated[
        Path, typer.Option("--new-key-file", metavar="FILE", help="The key to encrypt with.")
    ],
    key_file: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Encrypt a gallery with another key, in its place; run it again when it was interrupted."""
    report = _rekeyed(gallery, next_key_file, _required(key_file))
    emit(
        _body(gallery, report),
        _text(gallery, report, "encrypted with the new key"),
        as_json=as_json,
    )


def _required(key_file: Path | None) -> KeySource:
    key = gallery_key(key_file)
    if key is None:
        raise GalleryKeyError(
            "there is no key: give --key-file FILE (`verifykit gallery new-key FILE` makes one), or set "
            "VERIFYKIT_GALLERY_KEY"
        )
    return key


def _rekeyed(gallery: str, key: KeySource, old_key: KeySource | None) -> RekeyReport:
    with progress("encrypt") as on_progress:
        if path := gallery_path(gallery):
            return encrypt_gallery(path, key, old_key=old_key, on_progress=on_progress)
        with open_existing(gallery, key=old_key, read_only=False) as opened:
            if not isinstance(opened, SupportsRekey):
                raise InputError(f"{type(opened).__name__} is not encrypted by verifykit")
            return opened.rekey(key, on_progress=on_progress)


def _body(gallery: str, report: RekeyReport) -> dict[str, object]:
    return {
        "gallery": gallery,
        "subject_count": report.subject_count,
        "key_fingerprint": report.key_fingerprint,
        "already": report.already,
    }


def _text(gallery: str, report: RekeyReport, done: str) -> str:
    if report.already:
        return f"{shortened(gallery)} is encrypted with key {report.key_fingerprint} already"
    subjects = counted(report.subject_count, "subject")
    return f"{done}: {shortened(gallery)}, {subjects}, key {report.key_fingerprint}"
