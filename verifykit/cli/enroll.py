"""``verifykit enroll``: store templates of a subject."""

from __future__ import annotations

from typing import Annotated

import typer

from verifykit.cli._run import emit, outcome
from verifykit.cli.options import (
    AttackOption,
    CalibrationOption,
    DebugOption,
    FmrOption,
    GalleryOption,
    JsonOption,
    KeepCropsOption,
    KeyFileOption,
    ModelOption,
    MultiFaceOption,
    ProvidersOption,
    QualityOption,
    SubjectArgument,
    ThreadsOption,
    ThresholdOption,
    gallery_key,
    parse_metadata,
)
from verifykit.cli.render import counted
from verifykit.types import EnrollmentReport
from verifykit.verifier import Verifier


def enroll(
    subject_id: SubjectArgument,
    images: Annotated[list[str], typer.Argument(metavar="IMAGES...", help="Paths of images.")],
    gallery: GalleryOption,
    metadata: Annotated[
        list[str] | None,
        typer.Option(
            "--metadata", metavar="KEY=VALUE", help="Stored with the subject; repeatable."
        ),
    ] = None,
    model: ModelOption = "face",
    fmr: FmrOption = None,
    threshold: ThresholdOption = None,
    attack: AttackOption = None,
    calibration: CalibrationOption = None,
    multi_face: MultiFaceOption = "error",
    quality: QualityOption = "strict",
    providers: ProvidersOption = "auto",
    threads: ThreadsOption = None,
    key_file: KeyFileOption = None,
    keep_crops: KeepCropsOption = False,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Enrol a subject from images; the gallery's file is made if it is not there.

    Status 0 when at least one image was taken; those refused are listed with their reasons.
    """
    with outcome(as_json=as_json, debug=debug):
        stored = parse_metadata(metadata or [])
        verifier = Verifier(
            model,
            gallery,
            fmr=fmr,
            threshold=threshold,
            attack=attack,
            calibration=calibration,
            multi_face=multi_face,
            quality=quality,
            providers=providers,
            threads=threads,
            key=gallery_key(key_file),
            keep_crops=keep_crops,
        )
        report = verifier.enroll(subject_id, images, stored)
        emit(report.to_dict(), _report_text(report, len(images)), as_json=as_json)


def _report_text(report: EnrollmentReport, count: int) -> str:
    taken = f"{len(report.accepted)} of {counted(count, 'image')} taken"
    lines = [
        f"enrolled {report.subject_id}: {taken}, {counted(report.template_count, 'template')} now"
    ]
    lines += [f"refused  {each.image} ({each.reason}): {each.message}" for each in report.refused]
    lines += [f"warning  {warning}" for warning in report.warnings]
    return "\n".join(lines)
