"""``verifykit gallery show``: what is stored of one subject, human-readable or as JSON for that person."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from verifykit._files import atomic_write
from verifykit.cli._run import emit
from verifykit.cli.gallery.opening import GalleryArgument, audit_log_of, existing
from verifykit.cli.options import (
    JsonOption,
    KeyFileOption,
    SubjectArgument,
    command,
)
from verifykit.cli.render import counted
from verifykit.errors import InputError, shortened
from verifykit.privacy import subject_record
from verifykit.types import Subject


@command
def show(
    gallery: GalleryArgument,
    subject_id: SubjectArgument,
    embeddings: Annotated[
        bool, typer.Option("--embeddings", help="Also the embeddings: they are biometric data.")
    ] = False,
    export: Annotated[
        str | None,
        typer.Option(
            "--export",
            metavar="FILE",
            help="Write all that is stored of the subject as JSON; - for standard output.",
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace that file.")] = False,
    audit: Annotated[
        Path | None,
        typer.Option(
            "--audit",
            metavar="FILE",
            help="With --export: the audit log, if it is not GALLERY.audit.jsonl.",
        ),
    ] = None,
    key_file: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print what is stored of one subject; no embeddings unless requested.

    --export writes all of it, embeddings, kept crops and audit entries included: for that person's own
    request, GDPR articles 15 and 20.
    """
    with existing(gallery, key_file) as opened:
        if export is None:
            subject = opened.get(subject_id)
            body = _subject_body(subject, embeddings)
            emit(body, _subject_text(subject, embeddings), as_json=as_json)
            return
        log = audit_log_of(gallery, audit)
        record = subject_record(opened, subject_id, log)
        if export == "-":
            typer.echo(json.dumps(record, indent=1, allow_nan=False))
            return
        _write(Path(export), record, overwrite=overwrite)
        counts = {
            "template_count": len(record["templates"]),
            "crop_count": len(record["crops"]),
            "audit_entry_count": None if log is None else len(record["audit"]),
        }
        body = {"subject_id": subject_id, "file": export, **counts}
        emit(body, _export_text(body, log), as_json=as_json)


def _write(path: Path, record: Mapping[str, Any], *, overwrite: bool) -> None:
    if path.exists() and not overwrite:
        raise InputError(f"{shortened(path)} exists: choose another path, or --overwrite")
    text = json.dumps(record, indent=1, allow_nan=False) + "\n"
    atomic_write(path, text, mode=0o600)


def _export_text(body: Mapping[str, Any], log: Path | None) -> str:
    logged = "no audit log was looked at"
    if log is not None:
        entries = counted(body["audit_entry_count"], "audit entry", "audit entries")
        logged = f"{entries} of {shortened(log)}"
    return (
        f"exported {shortened(body['subject_id'])}: {counted(body['template_count'], 'template')}, "
        f"{counted(body['crop_count'], 'kept crop')}, {logged}: {shortened(body['file'])}"
    )


def _subject_body(subject: Subject, embeddings: bool) -> dict[str, Any]:
    templates = []
    for template in subject.templates:
        body: dict[str, Any] = {"reasons": list(template.reasons)}
        if embeddings:
            body["embedding"] = template.embedding.tolist()
        templates.append(body)
    return {
        "subject_id": subject.subject_id,
        "metadata": dict(subject.metadata),
        "templates": templates,
    }


def _subject_text(subject: Subject, embeddings: bool) -> str:
    lines = [f"{subject.subject_id}: {counted(len(subject.templates), 'template')}"]
    lines += [f"{key}={value}" for key, value in subject.metadata.items()]
    for number, template in enumerate(subject.templates, start=1):
        reasons = f"warnings {', '.join(template.reasons)}" if template.reasons else "no warnings"
        values = (
            f"  {' '.join(f'{value:.6f}' for value in template.embedding)}" if embeddings else ""
        )
        lines.append(f"template {number}  {reasons}{values}")
    return "\n".join(lines)
