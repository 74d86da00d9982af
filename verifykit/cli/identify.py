"""``verifykit identify``: search a gallery for the subjects in an image."""

from __future__ import annotations

import typer

from verifykit._given_faces import faces_from_texts, placed
from verifykit.cli._run import MATCH, NO_MATCH, emit
from verifykit.cli.options import (
    CalibrationOption,
    FaceOption,
    GalleryOption,
    ImageArgument,
    JsonOption,
    KeyFileOption,
    LimitOption,
    MaxPixelsOption,
    ModelOption,
    NetworkChoice,
    PopulationOption,
    SampleChoice,
    SaveOption,
    SearchDecision,
    command,
    gallery_key,
    open_reader,
)
from verifykit.cli.render import draw_identification, identification_text, require_writable
from verifykit.decision import DecisionOptions
from verifykit.extraction import SampleOptions
from verifykit.image import MAX_PIXELS, image_name
from verifykit.session import NetworkOptions
from verifykit.verifier import identify_each


@command
def identify(
    image: ImageArgument,
    gallery: GalleryOption,
    limit: LimitOption = 5,
    model: ModelOption = "face",
    decision: SearchDecision = DecisionOptions(),
    calibration: CalibrationOption = None,
    population: PopulationOption = None,
    sample: SampleChoice = SampleOptions(),
    face: FaceOption = None,
    network: NetworkChoice = NetworkOptions(),
    max_pixels: MaxPixelsOption = MAX_PIXELS,
    save: SaveOption = None,
    key_file: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Identify who is in an image: best first, only those over the threshold."""
    if save is not None:
        require_writable(save, image)
    verifier = open_reader(
        model,
        gallery,
        network=network,
        max_pixels=max_pixels,
        calibration=calibration,
        population=population,
        key=gallery_key(key_file),
    )
    rule = decision.search_rule(verifier.spec, DecisionOptions(), len(verifier.gallery))
    results = identify_each(
        verifier.encoder,
        verifier.gallery,
        placed(image, faces_from_texts(face)),
        rule=rule,
        limit=limit,
        options=sample,
    )
    if save is not None:
        draw_identification(save, image, results, max_pixels=max_pixels)
    body = {
        "image": image_name(image, 1),
        "faces": [result.to_dict() for result in results],
        **rule.search_values(),
        "gallery_size": rule.gallery_size,
        "model": verifier.spec.digest,
    }
    emit(body, identification_text(results, rule), as_json=as_json)
    found = any(result.candidates for result in results)
    raise typer.Exit(MATCH if found else NO_MATCH)
