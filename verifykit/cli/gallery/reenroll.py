"""``verifykit gallery plan-reenroll`` and ``reenroll``: from one model to the next."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from verifykit.cli._run import emit, progress
from verifykit.cli.gallery.opening import GalleryArgument, existing
from verifykit.cli.options import (
    JsonOption,
    KeyFileOption,
    NetworkChoice,
    QualityChoice,
    command,
    gallery_key,
)
from verifykit.cli.render import counted
from verifykit.encoder import Encoder
from verifykit.errors import GalleryKeyError
from verifykit.extraction import SampleOptions
from verifykit.gallery import Enrolment, open_for, shown_location
from verifykit.models import load
from verifykit.reenrollment import (
    ReenrollPlan,
    ReenrollReport,
    plan_reenroll,
    reenroll,
    require_crops,
)
from verifykit.session import NetworkOptions

_NewModelOption = Annotated[
    str, typer.Option("--model", "-m", metavar="NAME|FILE", help="The model to change to.")
]


@command
def plan(
    gallery: GalleryArgument,
    model: _NewModelOption,
    key_file: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say who must be re-enrolled for another model, and who need not, as a crop was kept; writes nothing."""
    spec = load(model).spec
    with existing(gallery, key_file) as opened:
        found = plan_reenroll(opened, spec)
    body = {"gallery": shown_location(gallery), **found.to_dict()}
    emit(body, _plan_text(found, shown_location(gallery)), as_json=as_json)


@command
def reenroll_(
    gallery: Annotated[str, typer.Argument(metavar="GALLERY", help="The old model's gallery.")],
    new_gallery: Annotated[
        str, typer.Argument(metavar="NEW", help="The new model's, a file to be made or continued.")
    ],
    model: _NewModelOption,
    key_file: KeyFileOption = None,
    sample: QualityChoice = SampleOptions(),
    network: NetworkChoice = NetworkOptions(),
    as_json: JsonOption = False,
) -> None:
    """Make another model's gallery from enrollment crops; the old one is not touched.

    Both are encrypted with the same key. A run that was interrupted is continued by another: subjects
    in the new gallery are skipped.
    """
    key = gallery_key(key_file)
    if key is None:
        raise GalleryKeyError(
            "crops are kept in encrypted galleries only, so there is a key: give --key-file FILE, or set "
            "VERIFYKIT_GALLERY_KEY"
        )
    with existing(gallery, key_file) as old:
        file = load(model)
        spec = file.spec
        require_crops(old, spec)  # before a network is opened and a file is made
        encoder = Encoder.open(file, **dataclasses.asdict(network))
        with (
            open_for(
                new_gallery,
                spec_digest=spec.digest,
                embedding_size=spec.embedding_size,
                fusion=spec.fusion,
                model=spec.name,
                key=key,
            ) as new,
            progress("reenroll") as on_subject,
        ):
            report = reenroll(old, encoder, new, quality=sample.quality, on_subject=on_subject)
    body = {"gallery": gallery, "new_gallery": new_gallery, **report.to_dict()}
    emit(body, _report_text(report, new_gallery), as_json=as_json)


def _plan_text(found: ReenrollPlan, place: str) -> str:
    if not found.needed:
        return (
            f"{place} holds templates of {found.new_model} already: nothing need be enrolled again"
        )
    lines = [f"re-enroll   {each.subject_id}" for each in found.must_come]
    lines += [f"from crops  {each.subject_id}: {_crops(each)}" for each in found.from_crops]
    lines.append(
        f"from {found.model} to {found.new_model}: {counted(len(found.must_come), 'subject')} must be "
        f"re-enrolled, {counted(len(found.from_crops), 'subject')} can be enrolled from crops"
    )
    return "\n".join(lines)


def _crops(enrolment: Enrolment) -> str:
    crops, templates = enrolment.crop_count, enrolment.template_count
    return f"{counted(crops, 'crop')} of {counted(templates, 'template')}"


def _report_text(report: ReenrollReport, place: str) -> str:
    lines = [
        f"refused  {each.subject_id}, crop {each.crop} ({each.reason}): {each.message}"
        for each in report.refused
    ]
    lines += [f"re-enroll  {subject_id}" for subject_id in report.must_come]
    there = f", {report.skipped_count} were there" if report.skipped_count else ""
    lines.append(
        f"enrolled {counted(report.subject_count, 'subject')}, "
        f"{counted(report.template_count, 'template')} in {place}{there}; "
        f"{counted(len(report.must_come), 'subject')} must be re-enrolled"
    )
    return "\n".join(lines)
