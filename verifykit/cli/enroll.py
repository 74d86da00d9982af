"""``verifykit enroll``: store templates of a subject."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from verifykit._given_faces import faces_from_texts
from verifykit.cli._run import emit
from verifykit.cli.options import (
    CalibrationOption,
    FaceOption,
    GalleryOption,
    JsonOption,
    KeepCropsOption,
    KeyFileOption,
    MaxPixelsOption,
    ModelOption,
    NetworkChoice,
    PairDecision,
    PopulationOption,
    SampleChoice,
    SubjectArgument,
    command,
    gallery_key,
    parse_metadata,
    verifier_options,
)
from verifykit.cli.render import counted
from verifykit.decision import DecisionOptions
from verifykit.enrollment import MOST_LOOK_ALIKES
from verifykit.errors import shortened
from verifykit.extraction import SampleOptions
from verifykit.image import MAX_PIXELS
from verifykit.session import NetworkOptions
from verifykit.types import EnrollmentReport
from verifykit.verifier import Verifier


@command
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
    decision: PairDecision = DecisionOptions(),
    calibration: CalibrationOption = None,
    population: PopulationOption = None,
    sample: SampleChoice = SampleOptions(),
    face: FaceOption = None,
    network: NetworkChoice = NetworkOptions(),
    max_pixels: MaxPixelsOption = MAX_PIXELS,
    key_file: KeyFileOption = None,
    keep_crops: KeepCropsOption = False,
    no_look_alikes: Annotated[
        bool, typer.Option("--no-look-alikes", help="Do not count enrolled look-alikes.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Enroll a subject from images; the gallery file is created if it does not exist.

    Status 0 when at least one image was accepted; refused images are listed with their reasons. With several
    images, --face is given once for each, - where the face is found.
    """
    stored = parse_metadata(metadata or [])
    verifier = Verifier(
        model,
        gallery,
        calibration=calibration,
        population=population,
        **dataclasses.asdict(network),
        max_pixels=max_pixels,
        key=gallery_key(key_file),
        keep_crops=keep_crops,
        **verifier_options(decision, sample),
    )
    report = verifier.enroll(
        subject_id,
        images,
        stored,
        faces=faces_from_texts(face),
        look_alikes=not no_look_alikes,
    )
    emit(report.to_dict(), _report_text(report, len(images)), as_json=as_json)


def _report_text(report: EnrollmentReport, count: int) -> str:
    accepted = f"{len(report.accepted)} of {counted(count, 'image')} accepted"
    subject = shortened(report.subject_id)
    lines = [f"enrolled {subject}: {accepted}, {counted(report.template_count, 'template')} now"]
    lines += [f"refused  {each.image} ({each.reason}): {each.message}" for each in report.refused]
    lines += [f"warning  {warning}" for warning in report.warnings]
    if report.look_alikes:
        many = " or more" if report.look_alikes == MOST_LOOK_ALIKES else ""
        who = "enrolled looks" if report.look_alikes == 1 else f"enrolled{many} look"
        lines.append(
            f"note     {report.look_alikes} {who} much alike: see `verifykit gallery look-alikes`"
        )
    return "\n".join(lines)
