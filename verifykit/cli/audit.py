"""``verifykit audit``: verify an audit log, print its last entries, export entries."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from verifykit.audit import (
    AuditEntry,
    AuditReport,
    ExportFormat,
    examine_log,
    export_log,
    parse_time,
    tail_log,
)
from verifykit.cli._run import emit
from verifykit.cli.options import JsonOption, command
from verifykit.cli.render import columns, counted
from verifykit.errors import shortened

FOUND = 1  # the exit status if there are problems, as of `verifykit gallery duplicates`

LogArgument = Annotated[Path, typer.Argument(metavar="FILE", help="The audit log.")]

app = typer.Typer(help="Verify an audit log, print or export its entries.", no_args_is_help=True)


@app.command()
@command
def verify(
    log: LogArgument,
    count: Annotated[
        int | None,
        typer.Option("--count", metavar="N", help="Number of an entry, noted elsewhere."),
    ] = None,
    head: Annotated[
        str | None,
        typer.Option(
            "--head", metavar="HASH", help="Its hash, noted elsewhere: it must be in the log."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Find where lines were changed, removed, inserted or moved.

    Prints the line at which the chain first breaks, and the line at which it resumes. For a sound log, prints
    the last entry's number and hash: note them elsewhere, and give them later as --count and --head. Status
    0 if the log is sound, 1 if there are problems.
    """
    report = examine_log(log, count=count, head=head)
    emit({"log": str(log), **report.to_dict()}, _report_text(report, log), as_json=as_json)
    if report.problems:
        raise typer.Exit(FOUND)


@app.command()
@command
def tail(
    log: LogArgument,
    count: Annotated[
        int, typer.Option("--lines", "-n", min=1, help="The most entries to print.")
    ] = 10,
    as_json: JsonOption = False,
) -> None:
    """Print the last entries, oldest first."""
    entries = tail_log(log, count)
    body = {"entries": [entry.to_dict() for entry in entries]}
    titles = (
        "entry",
        "time",
        "key",
        "verb",
        "subject",
        "decision",
        "score",
        "threshold",
        "reason",
    )
    text = columns(titles, map(_row, entries)) if entries else "no entries yet"
    emit(body, text, as_json=as_json)


@app.command()
@command
def export(
    log: LogArgument,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The file to write.")],
    subject_id: Annotated[
        str | None,
        typer.Option("--subject", metavar="SUBJECT", help="Only entries about this subject."),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--since", metavar="TIME", help="Only from this time on: 2026-11-25T08:00, UTC."
        ),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option(
            "--until", metavar="TIME", help="Only before this time; a day is its beginning."
        ),
    ] = None,
    export_format: Annotated[
        ExportFormat, typer.Option("--format", help="Lines as they are in the log, or a table.")
    ] = "jsonl",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing file.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Write entries to a file, for example all entries about one subject."""
    written = export_log(
        log,
        out,
        subject_id=subject_id,
        since=None if since is None else parse_time(since),
        until=None if until is None else parse_time(until),
        export_format=export_format,
        overwrite=overwrite,
    )
    body = {"out": str(out), "entry_count": written}
    entries = counted(written, "entry", "entries")
    emit(body, f"exported {entries}: {shortened(out)}", as_json=as_json)


def _report_text(report: AuditReport, log: Path) -> str:
    lines = [f"problem: {_printable(str(problem))}" for problem in report.problems]
    if not lines:
        lines = [f"{log} is sound: {counted(report.line_count, 'line')}"]
    if report.break_count:
        resumes = (
            f"resumes at line {report.resume_line}" if report.resume_line else "does not resume"
        )
        lines.append(f"{counted(report.break_count, 'break')}: the chain {resumes}")
    if report.unfinished_bytes:
        lines.append(
            f"unfinished  {counted(report.unfinished_bytes, 'byte')} after the last line: not yet written, "
            "or its writing was interrupted"
        )
    if report.hash and not report.problems:
        lines += [f"count  {report.sequence}", f"head   {report.hash}"]
    return "\n".join(lines)


def _row(entry: AuditEntry) -> tuple[str, ...]:
    reason = entry.reason or ""
    if entry.dropped_bytes is not None:
        reason += f" ({counted(entry.dropped_bytes, 'byte')} removed)"
    cells = (
        *(str(entry.sequence), entry.time, entry.key_id, entry.verb, entry.subject_id),
        *(entry.decision, _score(entry.score), _score(entry.threshold), reason),
    )
    return tuple(_printable(cell or "") for cell in cells)


def _score(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _printable(text: str) -> str:
    """Escape a text as Python does: the content of the file must not control the terminal."""
    return "".join(
        each if each.isprintable() or each == "\u200d" else repr(each)[1:-1] for each in text
    )
