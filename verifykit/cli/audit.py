"""``verifykit audit``: is the log whole, what does it say, and what does it say of somebody?"""

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
from verifykit.cli._run import emit, outcome
from verifykit.cli.options import DebugOption, JsonOption
from verifykit.cli.render import columns, counted

FOUND = 1  # something for a person to look at, as `verifykit gallery duplicates` has it

LogArgument = Annotated[Path, typer.Argument(metavar="FILE", help="The audit log.")]

app = typer.Typer(help="Check an audit log, look at it, export from it.", no_args_is_help=True)


@app.command()
def verify(
    log: LogArgument,
    count: Annotated[
        int | None,
        typer.Option("--count", metavar="N", help="Number of an entry that was noted elsewhere."),
    ] = None,
    head: Annotated[
        str | None,
        typer.Option("--head", metavar="HASH", help="Its hash, noted elsewhere: it must be there."),
    ] = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Name every line that was changed, taken out, put in or moved.

    Prints the last entry's number and hash: note them elsewhere, and give them back another day as --count
    and --head. Status 0 when the log is sound, 1 when there are problems.
    """
    with outcome(as_json=as_json, debug=debug):
        report = examine_log(log, count=count, head=head)
        emit({"log": str(log), **report.to_dict()}, _report_text(report, log), as_json=as_json)
        if report.problems:
            raise typer.Exit(FOUND)


@app.command()
def tail(
    log: LogArgument,
    count: Annotated[
        int, typer.Option("--lines", "-n", min=1, help="At most so many entries.")
    ] = 10,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Print the last entries, oldest first."""
    with outcome(as_json=as_json, debug=debug):
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
def export(
    log: LogArgument,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The file to be made.")],
    subject_id: Annotated[
        str | None, typer.Option("--subject", metavar="SUBJECT", help="Only about this subject.")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="TIME", help="From then on: 2026-11-25T08:00, UTC."),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option("--until", metavar="TIME", help="Before then; a day is its beginning."),
    ] = None,
    export_format: Annotated[
        ExportFormat, typer.Option("--format", help="Lines as they stand in the log, or a table.")
    ] = "jsonl",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file.")] = False,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Write entries to a file of their own, for example all that are about one subject."""
    with outcome(as_json=as_json, debug=debug):
        written = export_log(
            log,
            out,
            subject_id=subject_id,
            since=None if since is None else parse_time(since),
            until=None if until is None else parse_time(until),
            export_format=export_format,
            overwrite=overwrite,
        )
        noun = "entry" if written == 1 else "entries"
        body = {"out": str(out), "entry_count": written}
        emit(body, f"exported {written} {noun}: {out}", as_json=as_json)


def _report_text(report: AuditReport, log: Path) -> str:
    lines = [f"problem: {_printable(str(problem))}" for problem in report.problems]
    if not lines:
        lines = [f"{log} is sound: {counted(report.line_count, 'line')}"]
    if report.unfinished_bytes:
        lines.append(
            f"unfinished  {counted(report.unfinished_bytes, 'byte')} behind the last line: not yet written, "
            "or its writing was interrupted"
        )
    if report.hash and not report.problems:
        lines += [f"count  {report.sequence}", f"head   {report.hash}"]
    return "\n".join(lines)


def _row(entry: AuditEntry) -> tuple[str, ...]:
    reason = entry.reason or ""
    if entry.dropped_bytes is not None:
        reason += f" ({counted(entry.dropped_bytes, 'byte')} cut off)"
    cells = (
        *(str(entry.sequence), entry.time, entry.key_id, entry.verb, entry.subject_id),
        *(entry.decision, _score(entry.score), _score(entry.threshold), reason),
    )
    return tuple(_printable(cell or "") for cell in cells)


def _score(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _printable(text: str) -> str:
    """Whoever wrote to the file must not write to the terminal: escapes as Python has them."""
    return "".join(
        each if each.isprintable() or each == "\u200d" else repr(each)[1:-1] for each in text
    )
