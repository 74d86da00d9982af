"""``verifykit identify-batch``: everybody in every image of a folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from verifykit.batch import BatchSummary, identify_folder
from verifykit.cli.opening import open_reader
from verifykit.cli.options import (
    AttackOption,
    DebugOption,
    FmrOption,
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
        verifier = open_reader(model, gallery, providers=providers, threads=threads)
        with _progress() as on_image:
            summary = identify_folder(
                verifier,
                folder,
                out,
                fmr=fmr,
                threshold=threshold,
                attack=attack,
                limit=limit,
                multi_face=multi_face,
                quality=quality,
                on_image=on_image,
            )
        emit({"out": str(out), **summary.to_dict()}, _summary_text(summary, out), as_json=as_json)


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("identify")

        def on_image(done: int, count: int) -> None:
            progress.update(task, completed=done, total=count)

        yield on_image


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
