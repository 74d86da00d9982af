"""``verifykit gallery expire``: erase who was enrolled too long ago."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from verifykit.audit import AuditLog
from verifykit.cli._run import emit, outcome
from verifykit.cli.gallery.opening import audit_log_of, existing
from verifykit.cli.options import DebugOption, JsonOption, KeyFileOption, parse_duration
from verifykit.cli.render import counted
from verifykit.gallery import shown_location
from verifykit.privacy import ExpiryReport, expire, require_expiry


def expire_(
    gallery: Annotated[str, typer.Argument(metavar="GALLERY", help="The gallery's file.")],
    after: Annotated[
        str,
        typer.Option("--expire", metavar="TIME", help="Longest time since an enrolment: 365d."),
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say who it would be.")] = False,
    audit: Annotated[
        Path | None,
        typer.Option(
            "--audit", metavar="FILE", help="The audit log, if it is not GALLERY.audit.jsonl."
        ),
    ] = None,
    key_file: KeyFileOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Erase subjects whose last enrolment is longer ago, and write it into the audit log, if there is one.

    Who was enrolled by a verifykit that did not note the time counts from the making of the gallery.
    """
    with outcome(as_json=as_json, debug=debug):
        age, log = parse_duration(after), audit_log_of(gallery, audit)
        with existing(gallery, key_file, read_only=dry_run) as opened:
            require_expiry(opened)  # before a log is made
            written = None if log is None or dry_run else AuditLog(log)
            report = expire(opened, age, audit=written, dry_run=dry_run)
        body = {
            "gallery": shown_location(gallery),
            "audit": None if written is None else str(log),
            **report.to_dict(),
        }
        emit(body, _text(report, None if written is None else log), as_json=as_json)


def _text(report: ExpiryReport, log: Path | None) -> str:
    verb = "would erase" if report.dry_run else "erased"
    lines = [
        f"{verb} {each.subject_id}: {counted(each.template_count, 'template')}, "
        f"{f'enrolled {each.enrolled_at[:10]}' if each.enrolled_at else 'enrolled at an unknown time'}"
        for each in report.expired
    ]
    lines.append(f"{verb} {counted(len(report.expired), 'subject')}")
    lines.append(f"limit  last enrolled before {report.before[:10]}")
    if any(each.enrolled_at is None for each in report.expired):
        lines.append(
            f"note: an unknown time counts as {report.gallery_created[:10]}, when the gallery was made"
        )
    if report.expired and not report.dry_run:
        lines.append(f"audit log: {log}" if log else "audit log: none")
        if not report.erased:
            lines.append(
                "note: another process is reading, so bytes are still in the write-ahead log: run this again"
            )
    return "\n".join(lines)
