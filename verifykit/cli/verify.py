"""``verifykit verify``: is this the subject who is enrolled under this id?"""

from __future__ import annotations

import typer

from verifykit.cli._run import MATCH, NO_MATCH, emit, outcome
from verifykit.cli.options import (
    AcceptOption,
    AttackOption,
    CalibrationOption,
    DebugOption,
    FmrOption,
    GalleryOption,
    ImageArgument,
    JsonOption,
    KeyFileOption,
    ModelOption,
    MultiFaceOption,
    ProvidersOption,
    QualityOption,
    ReviewOption,
    SubjectArgument,
    ThreadsOption,
    ThresholdOption,
    gallery_key,
    open_reader,
    parse_policy,
)
from verifykit.cli.render import decision_text


def verify(
    subject_id: SubjectArgument,
    image: ImageArgument,
    gallery: GalleryOption,
    model: ModelOption = "face",
    fmr: FmrOption = None,
    threshold: ThresholdOption = None,
    attack: AttackOption = None,
    accept_fmr: AcceptOption = None,
    review_fmr: ReviewOption = None,
    calibration: CalibrationOption = None,
    multi_face: MultiFaceOption = "error",
    quality: QualityOption = "strict",
    providers: ProvidersOption = "auto",
    threads: ThreadsOption = None,
    key_file: KeyFileOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Verify an image against the subject enrolled under an id."""
    with outcome(as_json=as_json, debug=debug):
        verifier = open_reader(
            model,
            gallery,
            fmr=fmr,
            threshold=threshold,
            attack=attack,
            policy=parse_policy(accept_fmr, review_fmr),
            calibration=calibration,
            multi_face=multi_face,
            quality=quality,
            providers=providers,
            threads=threads,
            key=gallery_key(key_file),
        )
        decision = verifier.verify(subject_id, image)
        body = {"image": image, **decision.to_dict(), "model": verifier.spec.digest}
        emit(body, decision_text(decision, f"{image} and {subject_id}"), as_json=as_json)
        raise typer.Exit(MATCH if decision else NO_MATCH)
