"""``verifykit evaluate``: error rates on a user's own images, as a report."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from verifykit.cli._run import emit, progress, require_complete
from verifykit.cli.options import (
    BandsOption,
    CacheOption,
    CalibrationOption,
    DataArgument,
    DataQualityOption,
    FaceChoiceOption,
    ImagesOption,
    JsonOption,
    MaxPixelsOption,
    NetworkChoice,
    NoCacheOption,
    PopulationOption,
    choices,
    command,
    opened_cache,
)
from verifykit.cli.render import columns, counted, interval_text, share_text
from verifykit.datasets import overlooked
from verifykit.errors import shortened
from verifykit.image import MAX_PIXELS
from verifykit.session import NetworkOptions
from verifykit.verifier import open_encoder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from verifykit.evaluation.results import Band, EvaluationReport, ModelResult, RateAtFmr


@command
def evaluate(
    data: DataArgument,
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="FOLDER", help="For report.html and report.json."),
    ],
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model", "-m", metavar="NAME|FILE", help="A model; repeat for several side by side."
        ),
    ] = None,
    calibration: CalibrationOption = None,
    population: PopulationOption = None,
    images: ImagesOption = None,
    multi_face: FaceChoiceOption = None,
    quality: DataQualityOption = None,
    band: BandsOption = None,
    worst: Annotated[
        int, typer.Option(min=0, help="Hardest comparisons of each kind to show.")
    ] = 12,
    cache: CacheOption = None,
    no_cache: NoCacheOption = False,
    network: NetworkChoice = NetworkOptions(),
    max_pixels: MaxPixelsOption = MAX_PIXELS,
    as_json: JsonOption = False,
) -> None:
    """Measure how often models are wrong on your own images, and write a report.

    Embeds each image once; what gives no template is counted by reason. With --band, the rates within each
    band of a column too, as measured over requested. Status 0 when it is done, 3 if
    images, videos, pages or frames among the data were not looked at: the summary names them.
    """
    from verifykit import evaluation
    from verifykit.evaluation.embedding import unread_count
    from verifykit.evaluation.report import require_report_libraries

    require_report_libraries()
    read = evaluation.read_data(data, images=images)
    out.mkdir(parents=True, exist_ok=True)  # before the long part, not after it
    face, gate = choices(read.kind, multi_face, quality)
    embedders = [
        evaluation.ModelEmbedder(
            open_encoder(
                name,
                calibration,
                **dataclasses.asdict(network),
                max_pixels=max_pixels,
                population=population,
            ),
            name,
            multi_face=face,
            quality=gate,
            is_aligned=read.is_aligned,
        )
        for name in model or ["face"]
    ]
    with opened_cache(cache, off=no_cache) as kept, progress("embedding") as on_progress:
        report = evaluation.evaluate(
            embedders,
            read,
            cache=kept,
            measurement=evaluation.Measurement(hardest_pairs=worst, bands=tuple(band or ())),
            on_progress=lambda _, done, count: on_progress(done, count),
        )
    crops = evaluation.crops_of(report, read, embedders)
    written = evaluation.write_report(report, out, crops)
    emit(
        {**report.to_dict(), "written": [str(path) for path in written]},
        _text(report, written),
        as_json=as_json,
    )
    lost = [{each.reason: each.count for each in model.failures} for model in report.models]
    require_complete(overlooked(report.left_out) + max(map(unread_count, lost)))


def _text(report: EvaluationReport, written: tuple[Path, ...]) -> str:
    images, subjects = (
        counted(report.image_count, "image"),
        counted(report.subject_count, "subject"),
    )
    lines = [
        f"{images} of {subjects}, several faces: {report.multi_face}, quality: {report.quality}"
    ]
    for result in report.models:
        lines += ["", *_model_text(result)]
    return "\n".join([*lines, "", *(f"written  {shortened(path)}" for path in written)])


def _model_text(result: ModelResult) -> list[str]:
    lines = [f"{result.model}  {result.digest[:12]}"]
    lines += [
        f"not usable: {counted(each.count, 'image')}, {each.reason} (such as {each.examples[0]})"
        for each in result.failures
    ]
    for attack in result.attacks:
        lines.append(
            f"{attack.attack}: EER {share_text(attack.eer.value)} "
            f"{interval_text(attack.eer.low, attack.eer.high)} on {attack.mated_count:,} mated and "
            f"{attack.non_mated_count:,} non-mated comparisons"
        )
        titles = ("FMR", "threshold", "false matches", "95 %", "FNMR", "95 %")
        lines.append(
            columns(titles, map(_cells, attack.rates))
            if attack.rates
            else "no rate is supported: FMR 0.1 takes 30 non-mated comparisons"
        )
        if attack.own:
            lines += ["at the model's own thresholds:", columns(titles, map(_cells, attack.own))]
    lines += _bands_text(result)
    if result.folds is not None:
        folds = result.folds
        lines.append(
            f"accuracy over {len(folds.accuracies)} folds: {folds.mean:.2%} +- "
            f"{folds.standard_error:.2%} (standard error), {counted(folds.failed_pairs, 'pair')} "
            "without a score taken for a non-match"
        )
    return [*lines, *result.notes]


def _bands_text(result: ModelResult) -> list[str]:
    """Return a table for each column of bands: what each band got, over what was requested."""
    lines: list[str] = []
    for column in dict.fromkeys(band.column for band in result.bands):
        mine = [band for band in result.bands if band.column == column]
        rows = [cells for band in mine for cells in _band_rows(band)]
        lines += ["", f"by {column}, both images of a pair in the band:"]
        lines.append(columns(("band", "people", "FMR", "got / requested", "95 %", "FNMR"), rows))
        lines += [
            f"{band.band}: {band.non_mated_count:,} non-mated pairs, too few for FMR "
            + ", ".join(f"{row.requested_fmr:g}" for row in band.rates if not row.is_supported)
            for band in mine
            if not all(row.is_supported for row in band.rates)
        ]
    return lines


def _band_rows(band: Band) -> Iterator[tuple[str, ...]]:
    for row in band.rates:
        if row.is_supported and row.got_over_requested is not None:
            got = row.got_over_requested
            yield (
                band.band,
                f"{band.subject_count:,}",
                f"{row.requested_fmr:g}",
                f"{got.value:.2g}",
                f"{got.low:.2g} to {got.high:.2g}",
                "" if row.fnmr is None else share_text(row.fnmr.value),
            )


def _cells(row: RateAtFmr) -> tuple[str, ...]:
    return (
        f"{row.asked_fmr:g}",
        f"{row.threshold:.4f}",
        f"{row.fmr.errors:,}",
        interval_text(row.fmr.low, row.fmr.high),
        share_text(row.fnmr.value),
        interval_text(row.fnmr.low, row.fnmr.high),
    )
