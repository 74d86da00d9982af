"""``verifykit identify``: who in the gallery is this?"""

from __future__ import annotations

import typer

from verifykit.cli._run import MATCH, NO_MATCH, emit, outcome
from verifykit.cli.options import (
    AttackOption,
    CalibrationOption,
    DebugOption,
    FmrOption,
    FpirOption,
    GalleryOption,
    ImageArgument,
    JsonOption,
    KeyFileOption,
    LimitOption,
    ModelOption,
    MultiFaceOption,
    ProvidersOption,
    QualityOption,
    SaveOption,
    ThreadsOption,
    ThresholdOption,
    gallery_key,
    open_reader,
)
from verifykit.cli.render import identification_text
from verifykit.decision import DecisionOptions
from verifykit.extraction import SampleOptions
from verifykit.verifier import identify_each


def identify(
    image: ImageArgument,
    gallery: GalleryOption,
    limit: LimitOption = 5,
    model: ModelOption = "face",
    fmr: FmrOption = None,
    threshold: ThresholdOption = None,
    attack: AttackOption = None,
    fpir: FpirOption = None,
    calibration: CalibrationOption = None,
    multi_face: MultiFaceOption = "error",
    quality: QualityOption = "strict",
    providers: ProvidersOption = "auto",
    threads: ThreadsOption = None,
    save: SaveOption = None,
    key_file: KeyFileOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Identify who is in an image: best first, only those over the threshold."""
    with outcome(as_json=as_json, debug=debug):
        if save is not None:
            from verifykit.cli.render import require_writable

            require_writable(save, image)
        verifier = open_reader(
            model,
            gallery,
            providers=providers,
            threads=threads,
            calibration=calibration,
            key=gallery_key(key_file),
        )
        rule = DecisionOptions(fmr, threshold, attack, fpir=fpir).search_rule(
            verifier.spec, DecisionOptions(), len(verifier.gallery)
        )
        answers = identify_each(
            verifier.encoder,
            verifier.gallery,
            image,
            rule=rule,
            limit=limit,
            options=SampleOptions(multi_face, quality),
        )
        if save is not None:
            from verifykit.cli.render import draw_identification

            draw_identification(save, image, answers)
        body = {
            "image": image,
            "faces": [answer.to_dict() for answer in answers],
            "threshold": rule.threshold,
            "fmr": rule.fmr,
            "attack": rule.attack,
            "fpir": rule.fpir,
            "gallery_size": rule.gallery_size,
            "model": verifier.spec.digest,
        }
        emit(body, identification_text(answers, rule), as_json=as_json)
        found = any(answer.candidates for answer in answers)
        raise typer.Exit(MATCH if found else NO_MATCH)
