"""``verifykit verify``: verify that an image shows an enrolled subject."""

from __future__ import annotations

import typer

from verifykit._given_faces import faces_from_texts
from verifykit.cli._run import MATCH, NO_MATCH, emit
from verifykit.cli.options import (
    CalibrationOption,
    ClaimDecision,
    FaceOption,
    GalleryOption,
    ImageArgument,
    JsonOption,
    KeyFileOption,
    MaxPixelsOption,
    ModelOption,
    NetworkChoice,
    PopulationOption,
    SampleChoice,
    SubjectArgument,
    command,
    gallery_key,
    open_reader,
)
from verifykit.cli.render import decision_text
from verifykit.decision import DecisionOptions
from verifykit.errors import shortened
from verifykit.extraction import SampleOptions
from verifykit.image import MAX_PIXELS, image_name
from verifykit.session import NetworkOptions


@command
def verify(
    subject_id: SubjectArgument,
    image: ImageArgument,
    gallery: GalleryOption,
    model: ModelOption = "face",
    decision: ClaimDecision = DecisionOptions(),
    calibration: CalibrationOption = None,
    population: PopulationOption = None,
    sample: SampleChoice = SampleOptions(),
    face: FaceOption = None,
    network: NetworkChoice = NetworkOptions(),
    max_pixels: MaxPixelsOption = MAX_PIXELS,
    key_file: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Verify an image against the subject enrolled under an id."""
    verifier = open_reader(
        model,
        gallery,
        calibration=calibration,
        population=population,
        decision=decision,
        sample=sample,
        network=network,
        max_pixels=max_pixels,
        key=gallery_key(key_file),
    )
    result = verifier.verify(subject_id, image, faces=faces_from_texts(face))
    body = {"image": image_name(image, 1), **result.to_dict(), "model": verifier.spec.digest}
    emit(
        body,
        decision_text(result, f"{image_name(image, 1)} and {shortened(subject_id)}"),
        as_json=as_json,
    )
    raise typer.Exit(MATCH if result else NO_MATCH)
