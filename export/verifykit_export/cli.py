"""The command ``verifykit-export``.

Exit status: 0 written, 2 error and nothing written, 130 interrupted.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from verifykit._environment import escape_unprintable
from verifykit.cli.options import ImagesOption
from verifykit.errors import InputError, VerifyKitError, shortened, shown
from verifykit.spec import OperatingPoint
from verifykit_training.errors import show_warnings_in_one_line, system_error_text

if TYPE_CHECKING:
    from verifykit_export.export_run import Exported
    from verifykit_export.import_onnx import Imported

_COMMANDS = ("classifier", "import", "quantise", "run", "-h", "--help")

JsonOption = Annotated[bool, typer.Option("--json", help="Everything measured, as JSON.")]
NameOption = Annotated[str | None, typer.Option("--name", help="The model's name.")]
CitationOption = Annotated[str, typer.Option(help="The paper or project to credit.")]

app = typer.Typer(
    help="Export a training run: verifykit-export RUN models/mine.onnx --data PATH. Import an ONNX encoder "
    "of another project: verifykit-export import.",
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)


@app.command("run")
def export(
    run: Annotated[Path, typer.Argument(help="The folder of a training run.")],
    target: Annotated[
        Path, typer.Argument(help="The model file to write; its card is written next to it.")
    ],
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Real images: a folder for each subject, or a CSV."),
    ] = None,
    precision: Annotated[
        Literal["fp32", "fp16", "int8"], typer.Option(help="int8 is static, per channel.")
    ] = "fp32",
    name: NameOption = None,
    max_eer_rise: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Allowed for fp16 and int8 over float32.")
    ] = 0.005,
    fusion: Annotated[
        Literal["mean", "max", "centroid", "spread"],
        typer.Option(help="How the scores of several references become one."),
    ] = "mean",
    beside: Annotated[
        list[Path] | None,
        typer.Option(
            help="In addition, a run whose network embeds the same image; may be repeated."
        ),
    ] = None,
    mirrored: Annotated[
        bool,
        typer.Option(
            "--mirrored",
            help="Embed mirror images too; for runs with augmentation.hand.mirror.",
        ),
    ] = False,
    images: Annotated[
        int,
        typer.Option(min=2, help="Stop adding subjects for the rates at this number of images."),
    ] = 500,
    known_subjects: Annotated[
        bool,
        typer.Option(
            "--known-subjects",
            help="For a closed set of classes: measure on further images of the training subjects; "
            "the file then has no operating points.",
        ),
    ] = False,
    opset: Annotated[int, typer.Option(help="The ONNX operator set.")] = 18,
    citation: CitationOption = "none",
    cache: Annotated[
        Path | None, typer.Option(help="Folder of the crops; default: verifykit's cache.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write a training run as one model file, proved equal to the network."""
    from verifykit_export.export_run import ExportRequest, export_run
    from verifykit_training.preparation import default_data
    from verifykit_training.stages import shown_stages

    request = ExportRequest(
        run=run,
        target=target,
        data=default_data(data),
        precision=precision,
        name=name,
        citation=citation,
        opset=opset,
        max_eer_rise=max_eer_rise,
        fusion=fusion,
        beside=tuple(beside or ()),
        mirrored=mirrored,
        images=images,
        known_subjects=known_subjects,
        cache=cache,
    )
    with shown_stages() as stages:
        done = export_run(request, stages=stages)
    if as_json:
        body = {"path": str(done.path), "card": str(done.card), "digest": done.spec.digest}
        found = {
            "operating_points": [asdict(point) for point in done.spec.operating_points],
            **asdict(done.measured),
        }
        typer.echo(json.dumps({**body, **found}, indent=1))
        return
    for note in done.notes:
        typer.echo(f"note: {note}", err=True)
    for line in _report(done):
        typer.echo(line)


def _report(done: Exported) -> Iterator[str]:
    """Yield the lines about an exported model."""
    from verifykit_export.model_card import NOISE, fnmr_text, whose

    measured, points = done.measured, done.spec.operating_points
    parity, rates = measured.parity, measured.rates
    yield (
        f"{done.path}: {measured.file_bytes} bytes, {measured.precision}, opset {measured.opset}"
    )
    yield (
        f"gate: 1 - cosine at most {parity.gap:.1e} on {parity.images} crops, batches "
        f"{parity.batch_gap:.1e}, scores {parity.score_gap:.1e} apart"
    )
    if parity.fnmr is not None and parity.fnmr_interval is not None:
        yield fnmr_text(parity.fnmr, parity.fnmr_interval)
    if parity.is_noise:
        yield f"note: {NOISE}"
    yield (
        f"EER {rates.eer:.2%}, in float32 {measured.float32_eer:.2%}: {rates.mated} mated and "
        f"{rates.non_mated} non-mated pairs of {rates.subjects} subjects {whose(measured.known_subjects)}"
    )
    for cost in measured.costs:
        yield (
            f"{cost.precision}: {cost.network_bytes} bytes, {cost.image_ms:.2f} ms an image, "
            f"{cost.times_float32:.2f} times float32"
        )
    yield from _points_text(points)
    if measured.known_subjects:
        yield "operating points: none, for these subjects were trained on; every call needs --threshold"
    elif not points:
        yield (
            f"operating points: none, for {rates.non_mated} non-mated pairs are fewer than the 30 that "
            "even FMR 0.1 takes; every call needs --threshold"
        )
    if measured.ignores_color:
        yield (
            f"the network hardly tells red from blue (cosine {measured.swapped_cosine:.4f}): the check at "
            "load would not find a swapped channel order"
        )
    if points and done.spec.default_fmr is None:
        yield (
            "no default false match rate (none is as low as 0.01, or 0.05 against skilled forgeries): "
            "every call needs --fmr or --threshold"
        )


def _points_text(points: Sequence[OperatingPoint]) -> Iterator[str]:
    for attack in dict.fromkeys(point.attack for point in points):
        mine = [point for point in points if point.attack == attack]
        counts: dict[str, list[int]] = {}
        for count in sorted({point.reference_count for point in mine}):
            fmrs = [point.fmr for point in mine if point.reference_count == count]
            counts.setdefault(f"FMR {max(fmrs):g} to {min(fmrs):g}", []).append(count)
        parts = [
            f"{some[0]}{f' to {some[-1]}' if len(some) > 1 else ''}: {rates}"
            for rates, some in counts.items()
        ]
        yield f"operating points, {attack}, by number of references: {'; '.join(parts)}"


@app.command()
def classifier(
    run: Annotated[Path, typer.Argument(help="The folder of the training run.")],
    model: Annotated[Path, typer.Argument(help="The model file that was exported from it.")],
    target: Annotated[Path, typer.Argument(help="The classifier to write, an .npz.")],
    data: Annotated[
        Path | None,
        typer.Option("--data", help="The run's images, and further ones of the same subjects."),
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(help="Folder of the digests; default: verifykit's cache.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Fit a linear and a nearest-neighbour classifier of the training subjects, and try them."""
    from verifykit_export.classifier import fit_classifier
    from verifykit_training.preparation import default_data
    from verifykit_training.stages import shown_stages

    with shown_stages() as stages:
        done = fit_classifier(run, model, target, default_data(data), cache, stages=stages)
    if as_json:
        typer.echo(json.dumps(asdict(done), indent=1))
        return
    typer.echo(f"{target}: {done.classes} classes, fitted on {done.fitted_images} images")
    typer.echo(
        f"accuracy on {done.held_out_images} held-out images: linear {done.linear:.2%}, nearest neighbour "
        f"{done.nearest:.2%}; {done.refused} images gave no template"
    )


@app.command("import")
def import_(
    foreign: Annotated[
        Path,
        typer.Argument(
            help="The encoder of another project: an ONNX file, a ZIP archive with one, or a checkpoint."
        ),
    ],
    target: Annotated[
        Path, typer.Argument(help="The model file to write; its card is written next to it.")
    ],
    preset: Annotated[
        str | None,
        typer.Option(help="Whose file it is, such as arcface; states everything but the licence."),
    ] = None,
    modality: Annotated[Literal["face", "signature", "plain"] | None, typer.Option()] = None,
    color: Annotated[
        Literal["rgb", "bgr", "grey"] | None, typer.Option(help="Order it was trained with.")
    ] = None,
    mean: Annotated[
        str | None, typer.Option(help="One value a channel: 127.5,127.5,127.5.")
    ] = None,
    std: Annotated[str | None, typer.Option(help="One value a channel, as mean.")] = None,
    crop: Annotated[
        Literal["five_point", "plain"] | None, typer.Option(help="What part of an image it sees.")
    ] = None,
    licence: Annotated[
        str | None, typer.Option(help="SPDX identifier of the weights; always required.")
    ] = None,
    source: Annotated[str | None, typer.Option(help="Where the file is from.")] = None,
    scale: Annotated[
        float, typer.Option(help="(pixel * scale - mean) / std, pixel in 0..255.")
    ] = 1.0,
    height: Annotated[int | None, typer.Option(min=1, help="Must agree with the file.")] = None,
    width: Annotated[int | None, typer.Option(min=1, help="Must agree with the file.")] = None,
    detector: Annotated[
        str, typer.Option(help="The model that lends five_point its detector.")
    ] = "face",
    name: NameOption = None,
    training_data: Annotated[
        str | None,
        typer.Option(help="What it was trained on; default: the preset's, or not stated."),
    ] = None,
    citation: Annotated[
        str | None, typer.Option(help="The paper or project to credit; default: the preset's.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Real images to prove equality on, else drawn ones; with a preset also to calibrate on."
        ),
    ] = None,
    images: ImagesOption = None,
    calibrate: Annotated[
        bool | None,
        typer.Option(
            help="Measure thresholds on the data, as verifykit calibrate does; default: with a preset."
        ),
    ] = None,
    cohort: Annotated[
        int,
        typer.Option(
            min=0,
            help="Make a cohort of this number of subjects, and lower the scores of look-alikes by it.",
        ),
    ] = 0,
    population: Annotated[
        str | None,
        typer.Option(help='Of whom the data are, as in "adults at a door"; decisions state it.'),
    ] = None,
    layout: Annotated[
        Literal["nchw", "nhwc"],
        typer.Option(help="Order of the file's input axes; nhwc for Keras and tf2onnx."),
    ] = "nchw",
    output: Annotated[
        str | None, typer.Option(help="The embedding, in a file with several outputs.")
    ] = None,
    member: Annotated[
        str | None, typer.Option(help="The ONNX file in an archive that has several.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write an encoder of another project as a model file, proved equal to the original."""
    from verifykit_export.import_calibration import calibration_request
    from verifykit_export.import_onnx import ImportRequest, import_foreign
    from verifykit_export.presets import completed, preset_of
    from verifykit_training.stages import shown_stages

    known = None if preset is None else preset_of(preset)
    values = completed(
        known,
        {
            "modality": modality,
            "color": color,
            "mean": None if mean is None else _numbers("--mean", mean),
            "std": None if std is None else _numbers("--std", std),
            "scale": scale,
            "crop": crop,
            "licence": licence,
            "source": source,
        },
    )
    request = ImportRequest(
        source_file=foreign,
        target=target,
        **values,
        height_px=height,
        width_px=width,
        detector=detector,
        name=name,
        training_data=training_data or (known.training_data if known else "not stated"),
        citation=citation or (known.citation if known else "none"),
        data=data,
        layout=layout,
        output=output,
        preset=known,
        member=member,
        calibration=calibration_request(
            data,
            images,
            requested=calibrate,
            by_default=known is not None,
            cohort=cohort,
            population=population,
        ),
    )
    with shown_stages() as stages:
        done = import_foreign(request, stages=stages)
    if as_json:
        body = {"path": str(done.path), "card": str(done.card), "digest": done.spec.digest}
        found = {
            "real_images": done.real_images,
            "notes": done.notes,
            "operating_points": [asdict(point) for point in done.spec.operating_points],
            **asdict(done.parity),
        }
        typer.echo(json.dumps({**body, **found}, indent=1))
        return
    for line in _import_report(done):
        typer.echo(line)


def _import_report(done: Imported) -> Iterator[str]:
    """Yield the lines about an imported model."""
    yield (
        f"{shortened(done.path)}: {done.spec.embedding_size} values an image; 1 - cosine to the "
        "foreign file at most "
        f"{done.parity.gap:.1e} on {done.real_images} real and "
        f"{done.parity.images - done.real_images} drawn crops, batches {done.parity.batch_gap:.1e}"
    )
    yield from (f"note: {note}" for note in done.notes)
    if done.calibration is None:
        yield "operating points: none, nothing was measured; every call needs --threshold"
        return
    yield f"calibrated on {done.calibration.origin()}"
    yield from _points_text(done.spec.operating_points)
    if done.spec.default_fmr is None:
        yield "no default false match rate: every call needs --fmr or --threshold"
    else:
        yield f"default: FMR {done.spec.default_fmr:g} ({done.spec.default_attack})"


@app.command("quantise")
def quantise_(
    model: Annotated[str, typer.Argument(help="A registered name, or a model file in float32.")],
    target: Annotated[
        Path, typer.Argument(help="The model file to write; its card is written next to it.")
    ],
    data: Annotated[
        Path, typer.Option("--data", help="Real images: a folder for each subject, or a CSV.")
    ],
    name: NameOption = None,
    images: Annotated[
        int, typer.Option(min=24, help="Number of crops to measure the ranges of activations on.")
    ] = 300,
    max_fnmr_rise: Annotated[
        float,
        typer.Option(
            min=0.0, max=1.0, help="Allowed at the lowest FMR, to 1e-4, that it supports."
        ),
    ] = 0.002,
    as_json: JsonOption = False,
) -> None:
    """Write a model in int8 for OpenVINO, measured against the float32 model on other subjects."""
    from verifykit_export.quantise import QuantiseRequest, measured_lines, quantise
    from verifykit_training.stages import shown_stages

    request = QuantiseRequest(model, target, data, name, images, max_fnmr_rise)
    with shown_stages() as stages:
        done = quantise(request, stages=stages)
    if as_json:
        found = {
            "path": str(done.path),
            "card": str(done.card),
            "digest": done.spec.digest,
            "ranged": done.ranged,
            "median_cosine": done.median_cosine,
            "least_cosine": done.least_cosine,
            "float32": asdict(done.float32),
            "int8": asdict(done.int8),
        }
        typer.echo(json.dumps(found, indent=1))
        return
    typer.echo(f"{shortened(done.path)}: {done.path.stat().st_size} bytes, int8")
    for line in measured_lines(done):
        typer.echo(line)
    typer.echo("operating points: none; calibrate it: verifykit calibrate --model-out")


def main() -> None:
    """Run the command line and leave the process with its exit status."""
    escape_unprintable()
    show_warnings_in_one_line()
    arguments = sys.argv[1:]
    if arguments and arguments[0] not in _COMMANDS:
        arguments.insert(0, "run")
    try:
        app(arguments, prog_name="verifykit-export")
    except (VerifyKitError, OSError) as error:
        message = system_error_text(error) if isinstance(error, OSError) else str(error)
        typer.echo(f"error: {' '.join(message.split())}", err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def _numbers(option: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise InputError(
            f"{option} takes numbers with commas between them, one a channel, got {shown(text)}"
        ) from None
