"""``verifykit gallery copy``: from one gallery to another, of any kind."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from verifykit.cli._run import emit
from verifykit.cli.gallery.opening import existing, is_encrypted
from verifykit.cli.gallery.opening import target as open_target
from verifykit.cli.options import FusionOption, JsonOption, KeyFileOption, command
from verifykit.cli.render import counted
from verifykit.errors import shortened
from verifykit.gallery import accept_copy, copy_gallery, shown_location, stored_fusion


@command
def copy(
    source: Annotated[str, typer.Argument(metavar="FROM", help="A file or a postgresql:// URL.")],
    target: Annotated[
        str, typer.Argument(metavar="TO", help="Another, which is made if it is not there.")
    ],
    fusion: FusionOption = None,
    key_file: KeyFileOption = None,
    to_key_file: Annotated[
        Path | None,
        typer.Option(
            "--to-key-file", metavar="FILE", help="Key of TO, which is then made encrypted."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Copy every subject to another gallery; a copy that was interrupted is continued.

    Who is there already with the same content is skipped, with other content it is an error. The counts of
    both galleries are compared at the end.
    """
    with existing(source, key_file) as opened:
        with open_target(
            target,
            spec_digest=opened.spec_digest,
            embedding_size=opened.embedding_size,
            fusion=fusion or stored_fusion(source),
            model=opened.model,
            key=to_key_file,
        ) as made:
            if is_encrypted(opened) and to_key_file is None:
                typer.echo(
                    f"warning: {shortened(shown_location(target))} is not encrypted", err=True
                )
            report = copy_gallery(opened, made)
            count = len(made)
        body = {
            "source": shown_location(source),
            "target": shown_location(target),
            "subject_count": report.subject_count,
            "template_count": report.template_count,
            "skipped_count": report.skipped_count,
            "target_subject_count": count,
        }
        skipped = f", {report.skipped_count} were there" if report.skipped_count else ""
        text = (
            f"copied {counted(report.subject_count, 'subject')}, "
            f"{counted(report.template_count, 'template')}{skipped}: {shortened(body['target'])} holds "
            f"{counted(count, 'subject')}"
        )
        emit(body, text, as_json=as_json)


@command
def accept_copy_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The copy, which is not in use.")],
    key_file: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Use a copied file without its write-ahead log as it is; what it lacks stays missing.

    A copy that `cp` made of a gallery in use is refused until then.
    """
    accepted = accept_copy(file)
    with existing(str(file), key_file) as opened:
        info = opened.info()
    body = {
        "file": str(file),
        "accepted": accepted,
        "subject_count": info["subject_count"],
        "revision": info["revision"],
    }
    said = "accepted" if accepted else "it is no copy without its log, nothing was changed"
    subjects = counted(info["subject_count"], "subject")
    emit(
        body, f"{shortened(file)}: {said}: {subjects}, revision {info['revision']}", as_json=as_json
    )
