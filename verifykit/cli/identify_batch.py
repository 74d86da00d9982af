"""``verifykit identify-batch``: the faces in every image of a folder, a list, a table or a video."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from verifykit import batch
from verifykit.batch.dask_engine import DaskEngine
from verifykit.cli._run import emit, progress, require_complete
from verifykit.cli.options import (
    CalibrationOption,
    EverySample,
    GalleryOption,
    JsonOption,
    KeyFileOption,
    LimitOption,
    MaxPixelsOption,
    ModelOption,
    PopulationOption,
    SearchDecision,
    WorkerNetwork,
    command,
    gallery_key,
    open_reader,
)
from verifykit.cli.render import columns, counted
from verifykit.datasets import left_out_sentences, shown_names
from verifykit.decision import DecisionOptions
from verifykit.errors import InputError, shortened
from verifykit.extraction import SampleOptions
from verifykit.image import MAX_PIXELS
from verifykit.session import NetworkOptions


@command
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
    decision: SearchDecision = DecisionOptions(),
    calibration: CalibrationOption = None,
    population: PopulationOption = None,
    sample: EverySample = SampleOptions("all"),
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
    network: WorkerNetwork = NetworkOptions(threads=1),
    max_pixels: MaxPixelsOption = MAX_PIXELS,
    key_file: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Identify every face in every image of a source; continues where it stopped.

    A row holds the candidates, or an error code for an image that could not be used. The gallery is searched
    as it was at the start. Status 0 when the run is through, 3 if images, videos, pages or frames among the
    source were not looked at: the summary names them.
    """
    if (engine == "dask") != (scheduler is not None):
        raise InputError("--engine dask and --scheduler tcp://host:8786 go together: give both")
    cluster = (
        None
        if scheduler is None
        else DaskEngine(scheduler, model, max_pixels=max_pixels, **asdict(network))
    )
    verifier = open_reader(
        model,
        gallery,
        network=network,
        max_pixels=max_pixels,
        calibration=calibration,
        population=population,
        key=gallery_key(key_file),
    )
    with progress("identify") as on_progress:
        summary = batch.identify_batch(
            verifier,
            source,
            out,
            fmr=decision.fmr,
            threshold=decision.threshold,
            attack=decision.attack,
            fpir=decision.fpir,
            limit=limit,
            **asdict(sample),
            every=every,
            workers=workers,
            engine=cluster,
            on_progress=on_progress,
        )
    emit({"out": str(out), **summary.to_dict()}, _summary_text(summary, out), as_json=as_json)
    require_complete(summary.overlooked)


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
    lines = [*_gallery_lines(summary), columns(("", "count"), rows)]
    for code, names in summary.error_names.items():
        lines.append(f"not usable, {code}: {shown_names(names, summary.errors[code])}")
    lines += left_out_sentences(summary.left_out, summary.left_out_names)
    lines += summary.notes
    return "\n".join([*lines, f"written to {shortened(out)}"])


def _gallery_lines(summary: batch.BatchSummary) -> list[str]:
    """Say which state of the gallery was searched."""

    def shown(state: dict[str, Any]) -> str:
        revision = f"revision {state['revision']}, " if "revision" in state else ""
        return revision + counted(state["subject_count"], "subject")

    lines = [f"gallery at the start: {shown(summary.gallery)}"]
    if summary.gallery_since is not None:
        lines.append(
            f"gallery now: {shown(summary.gallery_since)}; what was written since was not searched"
        )
    return lines
