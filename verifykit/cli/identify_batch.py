"""``verifykit identify-batch``: everybody in every image of a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from verifykit.batch import BatchSummary, identify_folder
from verifykit.cli.opening import open_reader
from verifykit.cli.options import (
    AttackOption,
    CalibrationOption,
    DebugOption,
    FmrOption,
    FpirOption,
    GalleryOption,
    JsonOption,
    LimitOption,
    ModelOption,
    MultiFaceOption,
    ProvidersOption,
    QualityOption,
    ThreadsOption,
    ThresholdOption,
)
from verifykit.cli.outcome import emit, outcome
from verifykit.cli.progress import progress
from verifykit.cli.wording import counted

__all__ = ["identify_batch"]


def identify_batch(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Searched with its subfolders.")],
    gallery: GalleryOption,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="JSON lines; continued if there.")
    ],
    limit: LimitOption = 5,
    model: ModelOption = "face",
    fmr: FmrOption = None,
    threshold: ThresholdOption = None,
    attack: AttackOption = None,
    fpir: FpirOption = None,
    calibration: CalibrationOption = None,
    multi_face: MultiFaceOption = "all",
    quality: QualityOption = "strict",
    providers: ProvidersOption = "auto",
    threads: ThreadsOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Identify every face in every image of a folder; continues where it stopped.

    Writes one JSON line an image, with an error code for each that could not be used. Status 0 when
    the run is through, also if some images failed.
    """
    with outcome(as_json=as_json, debug=debug):
        verifier = open_reader(
            model, gallery, providers=providers, threads=threads, calibration=calibration
        )
        with progress("identify") as on_image:
            summary = identify_folder(
                verifier,
                folder,
                out,
                fmr=fmr,
                threshold=threshold,
                attack=attack,
                fpir=fpir,
                limit=limit,
                multi_face=multi_face,
                quality=quality,
                on_image=on_image,
            )
        emit({"out": str(out), **summary.to_dict()}, _summary_text(summary, out), as_json=as_json)


def _summary_text(summary: BatchSummary, out: Path) -> str:
    before = f", {summary.resumed} of them from an earlier run" if summary.resumed else ""
    lines = [
        f"{counted(summary.images, 'image')}{before}",
        f"{counted(summary.faces, 'face')}, {summary.matched_faces} of them with a match",
    ]
    lines += [
        f"{counted(count, 'image')} not usable: {code}" for code, count in summary.errors.items()
    ]
    return "\n".join([*lines, f"written to {out}"])
