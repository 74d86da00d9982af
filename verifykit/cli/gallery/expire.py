"""``verifykit gallery expire``: erase who was enrolled too long ago."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from verifykit.audit import AuditLog
from verifykit.cli._run import emit
from verifykit.cli.gallery.opening import audit_log_of, existing
from verifykit.cli.options import JsonOption, KeyFileOption, command, parse_duration
from verifykit.cli.render import counted
from verifykit.expiry_check import MAX_SHARE
from verifykit.gallery import shown_location
from verifykit.privacy import ExpiryReport, expire, require_expiry


@command
def expire_(
    gallery: Annotated[str, typer.Argument(metavar="GALLERY", help="The gallery's file.")],
    after: Annotated[
        str,
        typer.Option("--expire", metavar="TIME", help="Longest time since an enrolment: 365d."),
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say who it would be.")] = False,
    max_share: Annotated[
        float,
        typer.Option(
            "--max-share", min=0.0, max=1.0, help="Share of the subjects that may go at once."
        ),
    ] = MAX_SHARE,
    confirm_all: Annotated[
        bool,
        typer.Option("--confirm-all", help="Clock and subjects were looked at: refuse nothing."),
    ] = False,
    audit: Annotated[
        Path | None,
        typer.Option(
            "--audit", metavar="FILE", help="The audit log, if it is not GALLERY.audit.jsonl."
        ),
    ] = None,
    key_file: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Erase subjects whose last enrolment is longer ago, and write it into the audit log, if there is one.

    Who was enrolled by a verifykit that did not note the time counts from the making of the gallery. Nothing
    is erased where the clock, a time or the number of subjects is not plausible, unless that is confirmed.
    """
    age, log = parse_duration(after), audit_log_of(gallery, audit)
    with existing(gallery, key_file, read_only=dry_run) as opened:
        require_expiry(opened)  # before a log is made
        held = log is not None and (log.is_file() or not dry_run)
        written = AuditLog(log) if log is not None and held else None
        report = expire(
            opened,
            age,
            audit=written,
            dry_run=dry_run,
            max_share=max_share,
            confirmed=confirm_all,
        )
    body = {
        "gallery": shown_location(gallery),
        "audit": None if written is None or dry_run else str(log),
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
    lines += [f"note: subject {subject_id}: {problem}" for subject_id, problem in report.suspect]
    if report.refusal:
        lines.append(f"would be refused: {report.refusal}")
    if report.expired and not report.dry_run:
        lines.append(f"audit log: {log}" if log else "audit log: none")
        if not report.erased:
            lines.append(
                "note: another process is reading, so bytes are still in the write-ahead log: run this again"
            )
    return "\n".join(lines)
