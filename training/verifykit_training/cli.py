"""The command ``verifykit-train``.

Exit status: 0 done (or stopped with a checkpoint), 1 ``check`` found something, 2 error, 130 interrupted.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

from verifykit.errors import VerifyKitError

Part = Literal["held_out", "train", "validation", "test", "all"]
DataOption = Annotated[
    Path | None,
    typer.Option("--data", help="A folder for each subject, or a CSV; else $VERIFYKIT_DATA."),
]
CacheOption = Annotated[
    Path | None, typer.Option("--cache", help="Folder of the crops; default: verifykit's cache.")
]


app = typer.Typer(
    help="Train an encoder: verifykit-train CONFIG.toml --data PATH. See also `check` and `evaluate`.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command()
def train(
    config: Annotated[Path, typer.Argument(help="The TOML file.")],
    data: DataOption = None,
    run: Annotated[
        Path | None, typer.Option("--run", help="The run's folder; default: runs/ and the name.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Override, as in --set loss.margin=0.3.")
    ] = None,
    resume: Annotated[bool, typer.Option(help="Continue the run in the folder.")] = False,
    stop_after: Annotated[
        int | None, typer.Option(min=1, help="Stop with a checkpoint after this number of epochs.")
    ] = None,
    triplets: Annotated[Path | None, typer.Option(help="A CSV anchor,positive,negative.")] = None,
    cache: CacheOption = None,
    quiet: Annotated[bool, typer.Option(help="No progress.")] = False,
) -> None:
    """Train or resume a run; at the end, write its report."""
    from verifykit_training.config import load_config
    from verifykit_training.loop import train as train_job
    from verifykit_training.preparation import default_data
    from verifykit_training.reporting import summarise
    from verifykit_training.run_folder import RunFolder, TrainingJob

    parsed = load_config(config, set_ or ())
    folder = run or Path("runs") / parsed.name
    source = default_data(data)
    outcome = train_job(
        TrainingJob(parsed, source, folder, cache, triplets, resume, stop_after, quiet)
    )
    if outcome.ended and outcome.is_first_process:
        summarise(RunFolder(folder), source, cache)
        best = "" if outcome.best is None else f", {parsed.validation.metric} {outcome.best:.2%}"
        typer.echo(f"{folder}: weights of epoch {outcome.best_epoch}{best}")


@app.command()
def check(
    data: Annotated[
        Path | None, typer.Argument(help="A folder for each subject, or a CSV.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="A TOML file: its split is checked too.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Everything found, as JSON.")] = False,
) -> None:
    """Look for unreadable files, duplicates, lone images and leaks between splits."""
    from verifykit_training.config import load_config
    from verifykit_training.dataset import (
        check_records,
        divide,
        leaking_subjects,
        read_training_data,
        to_records,
    )
    from verifykit_training.preparation import default_data

    found_data = read_training_data(default_data(data))
    records = to_records(found_data)
    places = None
    if config is not None and not leaking_subjects(records):
        parsed = load_config(config)
        shares = parsed.data
        parts = divide(
            records,
            validation_share=shares.validation_share,
            test_share=shares.test_share,
            seed=parsed.seed,
        )
        places = {record.subject: name for name, part in parts.items() for record in part}
    found = check_records(records, places=places, left_out=found_data.left_out)
    if as_json:
        typer.echo(json.dumps(asdict(found), default=str, indent=1))
    else:
        _print_check(asdict(found), found.problems)
    if found.problems:
        raise typer.Exit(1)


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(help="The run's folder.")],
    data: DataOption = None,
    part: Annotated[
        Part, typer.Option(help="held_out: subjects that were neither trained nor validated on.")
    ] = "held_out",
    pairs: Annotated[
        Path | None, typer.Option(help="A CSV probe,reference,mated: accuracy as LFW reports it.")
    ] = None,
    classify: Annotated[
        bool, typer.Option("--classify", help="Linear classifier and nearest neighbours.")
    ] = False,
    subjects: Annotated[
        int | None, typer.Option(min=2, help="Classify this number of subjects only.")
    ] = None,
    k: Annotated[int, typer.Option("--neighbours", min=1, help="Neighbours that vote.")] = 1,
    untrained: Annotated[
        bool, typer.Option("--untrained", help="The network before its first step.")
    ] = False,
    cache: CacheOption = None,
    report: Annotated[
        Path | None, typer.Option(help="Draw scores and DET curve into this folder.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Measure error rates on subjects that the run was not trained on, and classification."""
    from verifykit_training.evaluation import classify as classify_embeddings
    from verifykit_training.evaluation import (
        embed_records,
        evaluate_pairs,
        evaluate_verification,
        load_encoder,
        records_of,
    )
    from verifykit_training.preparation import default_data
    from verifykit_training.reporting import draw_det, draw_scores
    from verifykit_training.run_folder import RunFolder

    folder = RunFolder(run)
    encoder, parsed = load_encoder(folder, untrained=untrained)
    found: dict[str, Any] = {}
    if pairs is not None:
        accuracy, scores = evaluate_pairs(encoder, parsed, pairs, cache)
        found["pairs"] = asdict(accuracy)
    else:
        records = records_of(folder, default_data(data), part)
        rows, kept, refused = embed_records(encoder, parsed, records, cache)
        rates, scores = evaluate_verification(rows, kept, len(refused))
        found["verification"] = asdict(rates)
        if classify:
            found["classification"] = asdict(
                classify_embeddings(rows, kept, k=k, subjects=subjects)
            )
    if report is not None:
        report.mkdir(parents=True, exist_ok=True)
        people = pairs.name if pairs is not None else f"subjects {part}"
        draw_scores(report / "scores.png", scores, people)
        draw_det(report / "det.png", [(parsed.name, scores)], people)
    if as_json:
        typer.echo(json.dumps(found, indent=1))
        return
    for name, values in found.items():
        _print_table(name, values)


def main() -> None:
    """Run the command line and leave the process with its exit status."""
    arguments = sys.argv[1:]
    if arguments and arguments[0].endswith(".toml"):
        arguments.insert(0, "train")
    try:
        app(arguments, prog_name="verifykit-train")
    except VerifyKitError as error:
        Console(stderr=True).print(f"error: {error}", style="red", highlight=False, markup=False)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def _print_check(found: dict[str, Any], problems: list[str]) -> None:
    console = Console(highlight=False)
    for name, value in found.items():
        is_count = isinstance(value, int)
        label = name.replace("_", " ")
        console.print(f"{label}: {value if is_count else len(value)}", markup=False)
        for item in [] if is_count else value[:5]:
            text = item if isinstance(item, str) else "  ".join(map(str, item))
            console.print(f"    {text}", markup=False)
    console.print("; ".join(problems) if problems else "nothing prevents training")


def _print_table(title: str, values: dict[str, Any]) -> None:
    table = Table("", "", title=title, show_header=False)
    for name, value in values.items():
        if name.endswith("fnmr"):
            for fmr, fnmr, threshold in value:
                table.add_row(f"{name} at FMR {fmr:g}", f"{fnmr:.2%} (threshold {threshold:.3f})")
        elif isinstance(value, float):
            table.add_row(name, f"{value:.2%}")
        elif value is not None:
            table.add_row(name, str(value))
    Console(highlight=False).print(table)
