"""``verifykit gallery copy``: from one gallery to another, of any kind."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from verifykit.cli._run import emit, outcome
from verifykit.cli.options import DebugOption, FusionOption, JsonOption, KeyFileOption, gallery_key
from verifykit.cli.render import counted
from verifykit.errors import InputError, ModelError
from verifykit.gallery import (
    KeySource,
    StoredGallery,
    copy_gallery,
    open_existing,
    open_for,
    shown_location,
    stored_fusion,
)
from verifykit.models import load
from verifykit.spec import Fusion


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
    debug: DebugOption = False,
) -> None:
    """Copy every subject to another gallery; a copy that was interrupted is continued.

    Who is there already with the same content is skipped, with other content it is an error. The counts of
    both galleries are compared at the end.
    """
    with (
        outcome(as_json=as_json, debug=debug),
        open_existing(source, key=gallery_key(key_file)) as opened,
    ):
        with open_target(
            target,
            spec_digest=opened.spec_digest,
            embedding_size=opened.embedding_size,
            fusion=fusion or stored_fusion(source),
            model=opened.model,
            key=to_key_file,
        ) as made:
            if opened.info().get("encrypted", "no") != "no" and to_key_file is None:
                typer.echo(f"warning: {shown_location(target)} is not encrypted", err=True)
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
            f"{counted(report.template_count, 'template')}{skipped}: {body['target']} holds "
            f"{counted(count, 'subject')}"
        )
        emit(body, text, as_json=as_json)


def open_target(
    location: str,
    *,
    spec_digest: str,
    embedding_size: int,
    fusion: Fusion | None,
    model: str,
    key: KeySource | None,
) -> StoredGallery:
    """A gallery to write to; made for this model if there is none.

    Args:
        location: The path of a file, or a ``postgresql://`` URL.
        spec_digest: Digest of the model.
        embedding_size: D.
        fusion: How the scores of a subject's templates become one, if that is known.
        model: Name of the model: where it is installed, its own fusion is taken.
        key: Of an encrypted gallery; a new file is then encrypted.

    Raises:
        InputError: A gallery on PostgreSQL, which keeps its fusion, is to be made without one.
        GalleryError: As :func:`~verifykit.gallery.open_for`.
    """
    if "://" in location:
        fusion = fusion or stored_fusion(location) or _fusion_of(model, spec_digest)
        if fusion is None:
            raise InputError(
                f"gallery {shown_location(location)} is to be made for one fusion, and model "
                f"{model!r} ({spec_digest[:12]}), which states it, is not here: give --fusion"
            )
    return open_for(
        location,
        spec_digest=spec_digest,
        embedding_size=embedding_size,
        fusion=fusion or "max",  # a file keeps none: whoever opens it says
        model=model,
        key=key,
    )


def _fusion_of(model: str, spec_digest: str) -> Fusion | None:
    try:
        spec = load(model).spec
    except ModelError:
        return None
    return spec.fusion if spec.digest == spec_digest else None
