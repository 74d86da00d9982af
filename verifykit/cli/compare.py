"""``verifykit compare``: do two images show the same subject?"""

from __future__ import annotations

from typing import Annotated

import typer

from verifykit.cli._run import MATCH, NO_MATCH, emit, outcome
from verifykit.cli.options import (
    AcceptOption,
    AttackOption,
    CalibrationOption,
    DebugOption,
    FmrOption,
    JsonOption,
    ModelOption,
    MultiFaceOption,
    ProvidersOption,
    QualityOption,
    ReviewOption,
    SaveOption,
    ThreadsOption,
    ThresholdOption,
    parse_policy,
)
from verifykit.cli.render import decision_text
from verifykit.verifier import Verifier


def compare(
    probe: Annotated[str, typer.Argument(metavar="A", help="Path of an image.")],
    reference: Annotated[str, typer.Argument(metavar="B", help="Path of another.")],
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
    save: SaveOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Compare two images: do they show the same subject? Nothing is stored."""
    with outcome(as_json=as_json, debug=debug):
        if save is not None:
            from verifykit.cli.render import require_writable

            require_writable(save, probe, reference)
        verifier = Verifier(
            model,
            fmr=fmr,
            threshold=threshold,
            attack=attack,
            policy=parse_policy(accept_fmr, review_fmr),
            calibration=calibration,
            multi_face=multi_face,
            quality=quality,
            providers=providers,
            threads=threads,
        )
        decision = verifier.compare(probe, reference)
        if save is not None:
            from verifykit.cli.render import draw_comparison

            draw_comparison(save, probe, reference, decision)
        body = {
            "probe": probe,
            "reference": reference,
            **decision.to_dict(),
            "model": verifier.spec.digest,
        }
        emit(body, decision_text(decision, f"{probe} and {reference}"), as_json=as_json)
        raise typer.Exit(MATCH if decision else NO_MATCH)
