"""``verifykit gallery``: look into a gallery, move it, check it. Few of its verbs need a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from verifykit.cli._run import ERROR, emit
from verifykit.cli.gallery.copy import accept_copy_, copy
from verifykit.cli.gallery.duplicates import duplicates
from verifykit.cli.gallery.expire import expire_
from verifykit.cli.gallery.keys import encrypt, new_key, rotate_key
from verifykit.cli.gallery.look_alikes import look_alikes
from verifykit.cli.gallery.opening import GalleryArgument, existing, is_encrypted, target
from verifykit.cli.gallery.reenroll import plan, reenroll_
from verifykit.cli.gallery.show import show
from verifykit.cli.options import (
    JsonOption,
    KeyFileOption,
    SubjectArgument,
    command,
    gallery_key,
)
from verifykit.cli.render import counted
from verifykit.errors import InputError, shortened
from verifykit.gallery import (
    OnExisting,
    SupportsCheck,
    TransferReport,
    export_gallery,
    import_gallery,
    read_export_header,
    shown_location,
)
from verifykit.gallery.subject_ids import id_problems

app = typer.Typer(help="Look into a gallery, export, import and check it.", no_args_is_help=True)
app.command()(duplicates)
app.command("look-alikes")(look_alikes)
app.command()(copy)
app.command("accept-copy")(accept_copy_)
app.command("new-key")(new_key)
app.command()(encrypt)
app.command("rotate-key")(rotate_key)
app.command("expire")(expire_)
app.command("plan-reenroll")(plan)
app.command("reenroll")(reenroll_)


@app.command()
@command
def info(
    gallery: GalleryArgument,
    key_file: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print what a gallery holds: model, subjects, templates, size."""
    with existing(gallery, key_file) as opened:
        body: dict[str, Any] = {**opened.info()}
        width = max(map(len, body))
        text = "\n".join(f"{key:{width}}  {value}" for key, value in body.items())
        if problems := id_problems(opened.subject_ids()):
            body["id_problems"] = problems
            text += "".join(f"\nproblem: {problem}" for problem in problems)
        emit(body, text, as_json=as_json)


@app.command("list")
@command
def list_(
    gallery: GalleryArgument,
    key_file: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the ids of all subjects, one a line."""
    with existing(gallery, key_file) as opened:
        if as_json:
            emit({"subject_ids": list(opened.subject_ids())}, "", as_json=True)
            return
        for subject_id in opened.subject_ids():
            typer.echo(subject_id)


app.command()(show)


@app.command()
@command
def remove(
    gallery: GalleryArgument,
    subject_id: SubjectArgument,
    key_file: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Erase a subject: all templates and metadata, from the file too."""
    with existing(gallery, key_file, read_only=False) as opened:
        count = opened.remove(subject_id)
        body = {"subject_id": subject_id, "removed_templates": count}
        emit(
            body,
            f"removed {shortened(subject_id)}: {counted(count, 'template')} erased",
            as_json=as_json,
        )


@app.command("export")
@command
def export(
    gallery: GalleryArgument,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="JSON lines, to be made.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file.")] = False,
    key_file: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write every subject to a file that another machine or engine can import."""
    with existing(gallery, key_file) as opened:
        report = export_gallery(opened, file, overwrite=overwrite)
        if is_encrypted(opened):
            typer.echo(f"warning: {shortened(file)} is not encrypted, as every export", err=True)
        body = {
            "file": str(file),
            "subject_count": report.subject_count,
            "template_count": report.template_count,
        }
        emit(body, f"exported {_contents(report)}: {shortened(file)}", as_json=as_json)


@app.command("import")
@command
def import_(
    gallery: GalleryArgument,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What export wrote.")],
    on_existing: Annotated[
        OnExisting, typer.Option("--on-existing", help="For subjects who are enrolled already.")
    ] = "error",
    keep_ids: Annotated[
        bool, typer.Option("--keep-ids", help="Take ids that only earlier versions allowed.")
    ] = False,
    key_file: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Enrol every subject of an exported file, all or none; makes the gallery if it is not there."""
    header = read_export_header(file)
    with target(
        gallery,
        spec_digest=header.spec_digest,
        embedding_size=header.embedding_size,
        fusion=None,
        model=header.model,
        key=gallery_key(key_file),
    ) as opened:
        report = import_gallery(opened, file, on_existing=on_existing, keep_ids=keep_ids)
    body = {
        "gallery": shown_location(gallery),
        "subject_count": report.subject_count,
        "template_count": report.template_count,
        "skipped_count": report.skipped_count,
    }
    skipped = f", {report.skipped_count} skipped" if report.skipped_count else ""
    emit(body, f"imported {_contents(report)}{skipped}", as_json=as_json)


@app.command()
@command
def check(
    gallery: GalleryArgument,
    key_file: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read a gallery from end to end; status 2 when something is wrong with it."""
    with existing(gallery, key_file) as opened:
        if not isinstance(opened, SupportsCheck):
            raise InputError(f"{type(opened).__name__} cannot be checked")
        place, problems = shown_location(gallery), opened.check()
        text = "\n".join(f"problem: {problem}" for problem in problems) or f"{place} is sound"
        emit({"gallery": place, "problems": problems}, text, as_json=as_json)
        if problems:
            raise typer.Exit(ERROR)


def _contents(report: TransferReport) -> str:
    subjects = counted(report.subject_count, "subject")
    return f"{subjects}, {counted(report.template_count, 'template')}"
