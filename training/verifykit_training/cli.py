"""The command ``verifykit-train``.

Exit status: 0 done (or stopped by SIGTERM), 1 ``check`` found something, 2 error, 130 interrupted.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

from verifykit._environment import escape_unprintable
from verifykit.errors import VerifyKitError, shortened
from verifykit_training.errors import show_warnings_in_one_line, system_error_text

if TYPE_CHECKING:  # torch, which these import, is for commands that need it
    from verifykit_training.config import Config
    from verifykit_training.dataset import Record

Part = Literal["held_out", "train", "validation", "test", "all"]
DataOption = Annotated[
    Path | None,
    typer.Option("--data", help="A folder for each subject, or a CSV."),
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="Override, as in --set loss.margin=0.3.")
]
TripletsOption = Annotated[Path | None, typer.Option(help="A CSV anchor,positive,negative.")]
CacheOption = Annotated[
    Path | None, typer.Option("--cache", help="Folder of the crops; default: verifykit's cache.")
]


app = typer.Typer(
    help="Train an encoder: verifykit-train CONFIG.toml --data PATH. See also `check` and `evaluate`.",
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)


@app.command()
def train(
    config: Annotated[Path, typer.Argument(help="The TOML file.")],
    data: DataOption = None,
    run: Annotated[
        Path | None, typer.Option("--run", help="The run's folder; default: runs/NAME-SEED.")
    ] = None,
    set_: SetOption = None,
    resume: Annotated[bool, typer.Option(help="Continue the run in the folder.")] = False,
    extend: Annotated[
        int, typer.Option(min=0, help="Train the finished run in the folder for more epochs.")
    ] = 0,
    stop_after: Annotated[
        int | None, typer.Option(min=1, help="Stop with a checkpoint after this number of epochs.")
    ] = None,
    triplets: TripletsOption = None,
    cache: CacheOption = None,
    quiet: Annotated[bool, typer.Option(help="No progress.")] = False,
    seeds: Annotated[
        str | None,
        typer.Option(help="Train each seed of 0,1,2 in RUN-SEED; their mean in RUN-seeds.json."),
    ] = None,
) -> None:
    """Train or resume a run; at the end, write its report."""
    from verifykit_training.config import load_config
    from verifykit_training.loop import train as train_job
    from verifykit_training.preparation import default_data
    from verifykit_training.reporting import summarise
    from verifykit_training.run_folder import RunFolder, TrainingJob
    from verifykit_training.stages import shown_stages

    parsed = load_config(config, set_ or ())
    if seeds is not None:
        given = {
            "--data": data,
            "--triplets": triplets,
            "--cache": cache,
            "--stop-after": stop_after,
            "--extend": extend,
        }
        arguments = [str(config)] + ["--quiet"] * quiet
        arguments += [part for name, value in given.items() if value for part in (name, str(value))]
        arguments += [part for value in set_ or () for part in ("--set", value)]
        _sweep(seeds, run or Path("runs") / parsed.name, arguments, resume=resume)
        return
    folder = run or _default_folder(config, parsed.name, parsed.seed, resume=resume or extend > 0)
    source = default_data(data)
    outcome = train_job(
        TrainingJob(
            parsed, source, folder, cache, triplets, resume, stop_after, quiet, extend=extend
        )
    )
    if outcome.stopped_by == signal.SIGINT:
        raise typer.Exit(130)
    if outcome.ended and outcome.is_first_process:
        with shown_stages(quiet=quiet) as stages:
            summarise(RunFolder(folder), source, cache, stages=stages)
        best = "" if outcome.best is None else f", {parsed.validation.metric} {outcome.best:.2%}"
        typer.echo(f"{shortened(folder)}: weights of epoch {outcome.best_epoch}{best}")


def _sweep(seeds: str, base: Path, arguments: list[str], *, resume: bool) -> None:
    from verifykit_training.sweep import parse_seeds, train_seeds

    sweep, status = train_seeds(parse_seeds(seeds), base, arguments, resume=resume)
    if sweep is None:
        raise typer.Exit(status)
    for seed, value in sweep.values.items():
        typer.echo(
            f"{base}-{seed}: {sweep.metric} {'not measured' if value is None else f'{value:.2%}'}"
        )
    if sweep.mean is not None and sweep.deviation is not None:
        typer.echo(
            f"{sweep.metric} over {len(sweep.values)} seeds: {sweep.mean:.2%}, standard deviation "
            f"{sweep.deviation:.2%}"
        )


@app.command()
def check(
    data: Annotated[
        Path | None, typer.Argument(help="A folder for each subject, or a CSV.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="A TOML file: the run that it describes is checked too.")
    ] = None,
    set_: SetOption = None,
    triplets: TripletsOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Everything found, as JSON.")] = False,
) -> None:
    """Look for unreadable files, duplicates, lone images and leaks, and for what would stop a run."""
    from verifykit_training.config import load_config
    from verifykit_training.dataset import (
        check_records,
        leaking_subjects,
        read_training_data,
        to_records,
    )
    from verifykit_training.layout import nested_sentences, other_endings, tree_lines
    from verifykit_training.preparation import default_data
    from verifykit_training.splits import divide_for
    from verifykit_training.stages import shown_stages, stage

    found_data = read_training_data(default_data(data))
    records = to_records(found_data)
    problems, notes = nested_sentences(found_data), list[str]()
    places = None
    if config is not None:
        parsed = load_config(config, set_ or ())
        if not leaking_subjects(records):
            wrong, notes = _examined(parsed, records, triplets)
            problems += wrong
            if not wrong:
                splits = divide_for(parsed, records).subjects
                places = {subject: name for name, part in splits.items() for subject in part}
    with shown_stages() as stages:
        found = check_records(
            records,
            places=places,
            left_out=found_data.left_out,
            progress=stage(stages, "reading images", len(records)),
        )
    problems = [*found.problems, *problems]
    if config is None and found.subjects and len(found.single) == found.subjects:
        notes.append(
            f"Each of the {found.subjects} subjects has one image: only the losses of a margin softmax, or a "
            "teacher, can learn from them, and no error rate can be measured."
        )
    body = asdict(found) | {"other_endings": other_endings(found_data), "notes": notes}
    if as_json:
        typer.echo(json.dumps(body | {"problems": problems}, default=str, indent=1))
    else:
        for line in tree_lines(found_data):
            typer.echo(line)
        _print_check(body, problems)
    if problems:
        raise typer.Exit(1)


def _examined(
    config: Config, records: Sequence[Record], triplets: Path | None
) -> tuple[list[str], list[str]]:
    """Return problems and notes about a run on these records."""
    from verifykit_training.preflight import build_fabric, examine, try_out

    examined = examine(config, records, triplets)
    problems, notes = list(examined.problems), list(examined.notes)
    try:
        build_fabric(config.run, notes.append)
        notes.extend(try_out(config))
    except VerifyKitError as error:
        problems.append(str(error))
    return problems, notes


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(help="The run's folder.")],
    data: DataOption = None,
    part: Annotated[
        Part, typer.Option(help="held_out: subjects that were neither trained nor validated on.")
    ] = "held_out",
    pairs: Annotated[
        Path | None,
        typer.Option(
            help="LFW's pairs.txt, insightface's .bin or a CSV probe,reference,mated: accuracy over folds."
        ),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(help="Folder that the names of --pairs are relative to; default: the file's."),
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
        read_pairs,
        records_of,
    )
    from verifykit_training.preparation import default_data
    from verifykit_training.reporting import draw_det, draw_scores
    from verifykit_training.run_folder import RunFolder
    from verifykit_training.stages import shown_stages

    folder = RunFolder(run)
    encoder, parsed = load_encoder(folder, untrained=untrained)
    found: dict[str, Any] = {}
    if pairs is not None:
        listed = read_pairs(pairs, images)
        with shown_stages() as stages:
            accuracy, scores = evaluate_pairs(
                encoder,
                parsed,
                listed,
                cache,
                trained=folder.read_trained_on(),
                stages=stages,
            )
        found["pairs"] = asdict(accuracy)
        if accuracy.trained_images:
            typer.echo(
                f"{accuracy.trained_images} of {accuracy.images} images were in the run's training or "
                "validation data: these rates flatter it.",
                err=True,
            )
    else:
        notes: list[str] = []
        with shown_stages() as stages:
            records = records_of(
                folder, default_data(data), part, cache, say=notes.append, stages=stages
            )
            rows, kept, refused = embed_records(encoder, parsed, records, cache, stages=stages)
        for note in notes:
            typer.echo(note, err=True)
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
    escape_unprintable()
    show_warnings_in_one_line()
    try:
        app(_with_command(sys.argv[1:]), prog_name="verifykit-train")
    except VerifyKitError as error:
        _fail(str(error))
    except OSError as error:
        _fail(system_error_text(error))
    except KeyboardInterrupt:
        sys.exit(130)


def _fail(message: str) -> None:
    Console(stderr=True).print(
        f"error: {message}", style="red", highlight=False, markup=False, soft_wrap=True
    )
    sys.exit(2)


def _with_command(arguments: list[str]) -> list[str]:
    """Return the arguments with `train` first where they begin with a configuration or an option."""
    if not arguments or arguments[0] in ("-h", "--help"):
        return arguments
    first = arguments[0]
    known = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    is_file = bool(Path(first).suffix) or Path(first).is_file()
    if first not in known and (first.startswith("-") or is_file):
        return ["train", *arguments]
    return arguments


def _default_folder(config: Path, name: str, seed: int, *, resume: bool) -> Path:
    """Return the folder of a run without ``--run``; runs of other seeds have folders of their own."""
    if resume and (config.parent / "subjects.json").is_file():
        return config.parent
    folder, earlier = Path("runs") / f"{name}-{seed}", Path("runs") / name
    if resume and not folder.exists() and (earlier / "subjects.json").is_file():
        return earlier
    return folder


def _print_check(found: dict[str, Any], problems: list[str]) -> None:
    console = Console(highlight=False)
    for name, value in found.items():
        is_count = isinstance(value, int)
        label = name.replace("_", " ")
        console.print(f"{label}: {value if is_count else len(value)}", markup=False)
        for item in [] if is_count else value[:5]:
            parts = [item] if isinstance(item, str) else map(str, item)
            # Notes are sentences, everything else comes from the data.
            text = item if name == "notes" else "  ".join(map(shortened, parts))
            console.print(f"    {text}", markup=False, soft_wrap=True)
    text = "\n".join(problems) if problems else "nothing prevents training"
    console.print(text, markup=False, soft_wrap=True)


def _print_table(title: str, values: dict[str, Any]) -> None:
    table = Table("", "", title=title, show_header=False)
    for name, value in values.items():
        if name.endswith("fnmr"):
            for fmr, fnmr, threshold, *interval in value:
                between = " to ".join(f"{end:.2%}" for end in interval)
                text = f"{fnmr:.2%}{between and f' ({between})'} (threshold {threshold:.3f})"
                table.add_row(f"{name} at FMR {fmr:g}", text)
        elif isinstance(value, tuple):
            cells = (f"{each:.2%}" if isinstance(each, float) else str(each) for each in value)
            table.add_row(name, ", ".join(cells))
        elif isinstance(value, float):
            table.add_row(name, f"{value:.2%}")
        elif value is not None:
            table.add_row(name, str(value))
    Console(highlight=False).print(table)
