"""``verifykit compare``: compare two images."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from verifykit._given_faces import faces_from_texts
from verifykit.cli._run import MATCH, NO_MATCH, emit
from verifykit.cli.options import (
    CalibrationOption,
    ClaimDecision,
    FaceOption,
    JsonOption,
    MaxPixelsOption,
    ModelOption,
    NetworkChoice,
    PopulationOption,
    SampleChoice,
    SaveOption,
    command,
    verifier_options,
)
from verifykit.cli.render import decision_text, draw_comparison, require_writable
from verifykit.decision import DecisionOptions
from verifykit.extraction import SampleOptions
from verifykit.image import MAX_PIXELS, image_name
from verifykit.session import NetworkOptions
from verifykit.verifier import Verifier


@command
def compare(
    probe: Annotated[str, typer.Argument(metavar="A", help="Path of an image.")],
    reference: Annotated[str, typer.Argument(metavar="B", help="Path of another.")],
    model: ModelOption = "face",
    decision: ClaimDecision = DecisionOptions(),
    calibration: CalibrationOption = None,
    population: PopulationOption = None,
    sample: SampleChoice = SampleOptions(),
    face: FaceOption = None,
    network: NetworkChoice = NetworkOptions(),
    max_pixels: MaxPixelsOption = MAX_PIXELS,
    save: SaveOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare two images: do they show the same subject? Nothing is stored.

    --face is given for both, A first, - where the face is found.
    """
    if save is not None:
        require_writable(save, probe, reference)
    verifier = Verifier(
        model,
        calibration=calibration,
        population=population,
        **dataclasses.asdict(network),
        max_pixels=max_pixels,
        **verifier_options(decision, sample),
    )
    result = verifier.compare(probe, reference, faces=faces_from_texts(face))
    if save is not None:
        draw_comparison(save, probe, reference, result, max_pixels=max_pixels)
    names = image_name(probe, 1), image_name(reference, 2)
    body = {
        "probe": names[0],
        "reference": names[1],
        **result.to_dict(),
        "model": verifier.spec.digest,
    }
    emit(
        body,
        decision_text(result, " and ".join(names)),
        as_json=as_json,
    )
    raise typer.Exit(MATCH if result else NO_MATCH)
