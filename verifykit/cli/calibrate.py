"""``verifykit calibrate``: thresholds from a user's own images."""

from __future__ import annotations

import dataclasses
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from verifykit import modelfile
from verifykit._files import atomic_write
from verifykit.calibration import Calibration
from verifykit.cli._run import emit, progress, require_complete
from verifykit.cli.options import (
    BandsOption,
    CacheOption,
    DataArgument,
    DataQualityOption,
    FaceChoiceOption,
    ImagesOption,
    JsonOption,
    MaxPixelsOption,
    ModelOption,
    NetworkChoice,
    NoCacheOption,
    choices,
    command,
    opened_cache,
)
from verifykit.cli.render import columns, counted, interval_text, share_text
from verifykit.datasets import left_out_sentences, overlooked
from verifykit.errors import InputError, shortened, shown
from verifykit.image import MAX_PIXELS
from verifykit.models import load
from verifykit.session import NetworkOptions
from verifykit.spec import BandRate, Population
from verifykit.verifier import open_encoder


@command
def calibrate(
    data: DataArgument,
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="FILE", help="The calibration to write, JSON."),
    ],
    model: ModelOption = "face",
    images: ImagesOption = None,
    multi_face: FaceChoiceOption = None,
    quality: DataQualityOption = None,
    name: Annotated[str, typer.Option(help="What to call the data in it.")] = "",
    population: Annotated[
        str | None,
        typer.Option(help='Of whom they are, as in "adults at a door"; decisions state it.'),
    ] = None,
    references: Annotated[
        str, typer.Option(metavar="1,2,...", help="Numbers of references to measure.")
    ] = "1,2,3,4,5,6,7,8,9,10,15,20",
    cohort: Annotated[
        int,
        typer.Option(
            min=0,
            help="Make a cohort of this number of subjects, and lower the scores of look-alikes by it.",
        ),
    ] = 0,
    band: BandsOption = None,
    worst_band: Annotated[
        bool,
        typer.Option(
            "--worst-band",
            help="Decide by the thresholds at which every band keeps the rate (population any).",
        ),
    ] = False,
    least_people: Annotated[
        int, typer.Option(min=2, help="A band of fewer people is left out, and named.")
    ] = 5,
    model_out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also write the model's file with this inside."),
    ] = None,
    cache: CacheOption = None,
    no_cache: NoCacheOption = False,
    network: NetworkChoice = NetworkOptions(),
    max_pixels: MaxPixelsOption = MAX_PIXELS,
    as_json: JsonOption = False,
) -> None:
    """Measure thresholds on your own images, for the model to decide by.

    Every false match rate from 0.1 down to three over the number of comparisons of different subjects. With
    --band, a second set of thresholds at which every band keeps the rate, for population any. Status
    0 when it is done, 3 if images, videos, pages or frames among the data were not looked at: the summary
    names them.
    """
    from verifykit import evaluation
    from verifykit.evaluation.embedding import unread_count, with_further_frames

    counts = _numbers(references)
    if worst_band and not band:
        raise InputError("--worst-band takes bands: give --band, such as --band age=0,7,13,18")
    for target in (out, model_out):
        if target is not None and not target.parent.is_dir():
            raise InputError(f"there is no folder {shown(str(target.parent))} to write to: make it")
        if target is not None and target.is_dir():
            raise InputError(f"{shown(str(target))} is a folder: give the name of a file")
    read = evaluation.read_data(data, images=images)
    face, gate = choices(read.kind, multi_face, quality)
    encoder = open_encoder(model, **dataclasses.asdict(network), max_pixels=max_pixels)
    embedder = evaluation.ModelEmbedder(
        encoder, model, multi_face=face, quality=gate, is_aligned=read.is_aligned
    )
    with opened_cache(cache, off=no_cache) as kept, progress("embedding") as on_progress:
        found = evaluation.calibrate(
            embedder,
            read,
            name=name,
            population=population,
            counts=counts,
            cohort=cohort,
            bands=band or (),
            worst_band=worst_band,
            least_people=least_people,
            cache=kept,
            on_progress=on_progress,
        )
    read = with_further_frames(read)
    atomic_write(out, found.to_json().encode())
    if model_out is not None:
        file = load(model)
        atomic_write(model_out, modelfile.with_spec(file, found.apply(file.spec)))
    body = {
        "out": str(out),
        "model": found.model,
        "data_digest": found.data_digest,
        "default_fmr": found.default_fmr,
        "default_attack": found.default_attack,
        "operating_points": [asdict(point) for point in found.operating_points],
        "populations": [asdict(each) for each in found.populations],
        "failures": dict(found.failures),
        "left_out": dict(read.left_out),
        "left_out_names": dict(read.left_out_names),
    }
    lines = [
        _text(found, out, model_out),
        *left_out_sentences(read.left_out, read.left_out_names),
    ]
    emit(body, "\n".join(lines), as_json=as_json)
    require_complete(overlooked(read.left_out) + unread_count(dict(found.failures)))


def _numbers(text: str) -> list[int]:
    try:
        counts = [int(part) for part in text.split(",")]
    except ValueError:
        counts = []
    if not counts or min(counts) < 1:
        raise InputError(
            f"--references takes whole numbers from 1 on, as in 1,3,5, got {shown(text)}"
        )
    return counts


def _population_text(population: Population) -> list[str]:
    """Return the thresholds of a population and what each band got, over what was requested."""
    fewest = min(point.reference_count for point in population.operating_points)
    mine = [point for point in population.operating_points if point.reference_count == fewest]
    rows = [
        (
            f"{point.fmr:g}",
            f"{point.threshold:.4f}",
            f"{point.non_mated_count:,}",
            interval_text(*(point.fmr_interval or (0.0, 1.0))),
            "" if point.fnmr is None else share_text(point.fnmr),
        )
        for point in mine
    ]
    titles = ("FMR", "threshold", "pairs of the worst band", "95 %", "FNMR")
    lines = [
        f"population {population.name}, {counted(fewest, 'reference')}: every band keeps the rate",
        columns(titles, rows),
        "",
        f"got / requested at the thresholds of all pairs, and of {population.name}, in each band:",
    ]
    found = map(_band_cells, population.bands)
    lines.append(
        columns(("band", "people", "FMR", "all pairs", "95 %", population.name, "95 %"), found)
    )
    return [*lines, *population.notes]


def _band_cells(band: BandRate) -> tuple[str, ...]:
    low, high = band.usual_interval or (0.0, 0.0)
    return (
        band.band,
        f"{band.subject_count:,}",
        f"{band.fmr:g}",
        "" if band.usual is None else f"{band.usual / band.fmr:.2g}",
        "" if band.usual is None else f"{low / band.fmr:.2g} to {high / band.fmr:.2g}",
        f"{band.found / band.fmr:.2g}",
        " to ".join(f"{end / band.fmr:.2g}" for end in band.found_interval),
    )


def _text(found: Calibration, out: Path, model_out: Path | None) -> str:
    lines = [found.origin()]
    for attack in dict.fromkeys(point.attack for point in found.operating_points):
        mine = [point for point in found.operating_points if point.attack == attack]
        fewest = min(point.reference_count for point in mine)
        shown = [point for point in mine if point.reference_count == fewest]
        lines += [
            "",
            f"{attack}, {counted(fewest, 'reference')}: {shown[0].non_mated_count:,} non-mated comparisons",
        ]
        rows = [
            (
                f"{point.fmr:g}",
                f"{point.threshold:.4f}",
                f"{point.false_match_count:,}",
                interval_text(*(point.fmr_interval or (0.0, 1.0))),
                "" if point.fnmr is None else share_text(point.fnmr),
                "" if point.fnmr_interval is None else interval_text(*point.fnmr_interval),
            )
            for point in shown
        ]
        lines.append(columns(("FMR", "threshold", "false matches", "95 %", "FNMR", "95 %"), rows))
        counts = sorted({point.reference_count for point in mine} - {fewest})
        if counts:
            lines.append(f"and for {', '.join(map(str, counts))} references")
    for each in found.populations:
        lines += ["", *_population_text(each)]
    default = (
        "none: every call needs --fmr or --threshold"
        if found.default_fmr is None
        else f"FMR {found.default_fmr:g} ({found.default_attack})"
    )
    lines += ["", f"default  {default}", f"written  {shortened(out)}"]
    return "\n".join([*lines, f"written  {shortened(model_out)}"] if model_out else lines)
