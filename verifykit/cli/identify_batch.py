"""``verifykit identify-batch``: the faces in every image of a folder, a list, a table or a video."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from verifykit import batch
from verifykit.batch.dask_engine import DaskEngine
from verifykit.cli._run import emit, outcome, progress
from verifykit.cli.options import (
    AttackOption,
    CalibrationOption,
    DebugOption,
    FmrOption,
    FpirOption,
    GalleryOption,
    JsonOption,
    KeyFileOption,
    LimitOption,
    MaxPixelsOption,
    ModelOption,
    MultiFaceOption,
    ProvidersOption,
    QualityOption,
    ThresholdOption,
    gallery_key,
    open_reader,
)
from verifykit.cli.render import columns
from verifykit.datasets import left_out_sentences
from verifykit.errors import InputError, shortened
from verifykit.image import MAX_PIXELS


def identify_batch(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE",
            help="A folder, a .txt list, a .csv or .parquet with a column path, or a video.",
        ),
    ],
    gallery: GalleryOption,
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", metavar="FILE", help=".jsonl, .csv or .parquet; continued if there."
        ),
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
    every: Annotated[
        int | None, typer.Option("--every", min=1, help="Of a video, every n-th frame.")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option("--workers", "-w", min=1, help="Threads that do the work; default all cores."),
    ] = None,
    engine: Annotated[
        Literal["local", "dask"], typer.Option("--engine", help="This machine, or a Dask cluster.")
    ] = "local",
    scheduler: Annotated[
        str | None,
        typer.Option("--scheduler", metavar="ADDRESS", help="Of --engine dask: tcp://host:8786."),
    ] = None,
    providers: ProvidersOption = "auto",
    threads: Annotated[
        int, typer.Option("--threads", min=1, help="Threads of one network run in one worker.")
    ] = 1,
    max_pixels: MaxPixelsOption = MAX_PIXELS,
    key_file: KeyFileOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Identify every face in every image of a source; continues where it stopped.

    A row holds the candidates, or an error code for an image that could not be used. Status 0 when the
    run is through, also if some images failed.
    """
    with outcome(as_json=as_json, debug=debug):
        cluster = None
        if (engine == "dask") != (scheduler is not None):
            raise InputError("--engine dask and --scheduler tcp://host:8786 go together: give both")
        if scheduler is not None:
            cluster = DaskEngine(
                scheduler,
                model,
                gallery,
                None if calibration is None else str(calibration),
                providers,
                threads,
                gallery_key(key_file),
                max_pixels,
            )
        verifier = open_reader(
            model,
            gallery,
            providers=providers,
            threads=threads,
            max_pixels=max_pixels,
            calibration=calibration,
            key=gallery_key(key_file),
        )
        with progress("identify") as on_progress:
            summary = batch.identify_batch(
                verifier,
                source,
                out,
                fmr=fmr,
                threshold=threshold,
                attack=attack,
                fpir=fpir,
                limit=limit,
                multi_face=multi_face,
                quality=quality,
                every=every,
                workers=workers,
                engine=cluster,
                on_progress=on_progress,
            )
        emit({"out": str(out), **summary.to_dict()}, _summary_text(summary, out), as_json=as_json)


def _summary_text(summary: batch.BatchSummary, out: Path) -> str:
    new, total_s = summary.images - summary.resumed, summary.seconds["total"]
    counts = [
        ("images", summary.images),
        ("  from an earlier run", summary.resumed),
        *((f"  not usable: {code}", count) for code, count in summary.errors.items()),
        ("faces", summary.faces),
        ("  with a match", summary.matched_faces),
    ]
    rows = [(name, f"{count:,}") for name, count in counts]
    rows.append(("seconds", f"{total_s:.1f}"))
    stages = {stage: taken for stage, taken in summary.seconds.items() if stage != "total"}
    rows += [(f"  {stage}, all workers", f"{taken:.1f}") for stage, taken in stages.items()]
    if new:
        rows.append(("images a second", f"{new / max(total_s, 1e-3):.1f}"))
    lines = [columns(("", "count"), rows), *left_out_sentences(summary.left_out)]
    return "\n".join([*lines, f"written to {shortened(out)}"])
