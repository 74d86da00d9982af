"""``verifykit gallery new-key``, ``encrypt`` and ``rotate-key``: what protects a gallery's file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from verifykit.cli._run import emit, outcome, progress
from verifykit.cli.options import DebugOption, JsonOption, KeyFileOption, gallery_key
from verifykit.cli.render import counted
from verifykit.errors import GalleryKeyError
from verifykit.gallery import KeySource, SealReport, key_fingerprint, new_key_file, seal_gallery

_FileArgument = Annotated[Path, typer.Argument(metavar="GALLERY", help="The gallery's file.")]


def new_key(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The key file, to be made.")],
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Make a key file, which only you can read. Keep a copy of it: without it, nobody opens the gallery."""
    with outcome(as_json=as_json, debug=debug):
        new_key_file(file)
        fingerprint = key_fingerprint(file)
        body = {"file": str(file), "key_fingerprint": fingerprint}
        text = f"made key {fingerprint}: {file}\nkeep a copy elsewhere: what it seals is lost without it"
        emit(body, text, as_json=as_json)


def encrypt(
    gallery: _FileArgument,
    key_file: KeyFileOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Encrypt a gallery in its place; run it again when it was interrupted.

    It may be in use meanwhile: whoever has it open without the key gets an error afterwards.
    """
    with outcome(as_json=as_json, debug=debug):
        report = _sealed(gallery, _required(key_file), None)
        emit(_body(gallery, report), _text(gallery, report, "encrypted"), as_json=as_json)


def rotate_key(
    gallery: _FileArgument,
    next_key_file: Annotated[
        Path, typer.Option("--new-key-file", metavar="FILE", help="The key to seal with.")
    ],
    key_file: KeyFileOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Encrypt a gallery with another key, in its place; run it again when it was interrupted."""
    with outcome(as_json=as_json, debug=debug):
        report = _sealed(gallery, next_key_file, _required(key_file))
        emit(_body(gallery, report), _text(gallery, report, "encrypted anew"), as_json=as_json)


def _required(key_file: Path | None) -> KeySource:
    key = gallery_key(key_file)
    if key is None:
        raise GalleryKeyError(
            "there is no key: give --key-file FILE (`verifykit gallery new-key FILE` makes one), or set "
            "VERIFYKIT_GALLERY_KEY"
        )
    return key


def _sealed(gallery: Path, key: KeySource, old_key: KeySource | None) -> SealReport:
    with progress("encrypt") as on_subject:
        return seal_gallery(gallery, key, old_key=old_key, progress=on_subject)


def _body(gallery: Path, report: SealReport) -> dict[str, object]:
    return {
        "gallery": str(gallery),
        "subject_count": report.subject_count,
        "key_fingerprint": report.key_fingerprint,
        "already": report.already,
    }


def _text(gallery: Path, report: SealReport, done: str) -> str:
    if report.already:
        return f"{gallery} is encrypted with key {report.key_fingerprint} already"
    subjects = counted(report.subject_count, "subject")
    return f"{done}: {gallery}, {subjects}, key {report.key_fingerprint}"
