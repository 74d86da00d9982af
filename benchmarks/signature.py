"""How well signature models tell skilled and random forgeries, on any writers, beside plain baselines.

``python -m benchmarks.signature --data DIR``: ``DIR/manifest.csv`` has the columns ``path,subject,label``;
the label is ``genuine`` or ``skilled_forgery``, and a subject like ``bhsig260_hindi/012`` belongs to the set
before the slash. A model file does not say which writers it was trained on: give ``--writers`` the
``subjects.json`` of its run, or take writers that it cannot have seen.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from threadpoolctl import threadpool_limits

from benchmarks.signature_baselines import measure
from benchmarks.signature_cost import cost, refusals
from benchmarks.signature_protocol import EmbeddingScorer, Plan
from benchmarks.signature_report import ResultTable, markdown, show, write_json
from benchmarks.signature_robustness import robustness
from benchmarks.signature_tables import Method, by_method, by_references, operating_points, pairs
from benchmarks.signatures import Signatures, embed, read_signatures, read_writers
from verifykit.encoder import Encoder
from verifykit.errors import VerifyKitError
from verifykit.models import load
from verifykit.scoring import FUSIONS
from verifykit.spec import FivePointCrop
from verifykit_training.errors import DataError

__all__ = ["main"]

_UNTRAINED = "the network before training"
_WARNING = (
    "all writers of the data are measured: writers that a model was trained on may be among them, and make "
    "its figures too good; --writers RUN/subjects.json leaves them out"
)


@dataclass
class Report:
    """What is printed, kept for the files.

    Attributes:
        console: Where it goes.
        lines: About the run.
        tables: The results.
    """

    console: Console
    lines: list[str] = field(default_factory=list)
    tables: list[ResultTable] = field(default_factory=list)

    def say(self, line: str) -> None:
        """Print and keep a line."""
        self.lines.append(line)
        self.console.print(line, markup=False)

    def add(self, table: ResultTable) -> None:
        """Print and keep a table."""
        self.tables.append(table)
        show(self.console, table)


def measure_all(options: argparse.Namespace, signatures: Signatures, report: Report) -> None:
    """Every table that is asked for."""
    plan = Plan(options.draws, options.random_probes, options.seed)
    methods: list[Method] = []
    refused: dict[str, NDArray[np.str_]] = {}
    models = dict(zip(_names(options.model), options.model, strict=True))
    for name, model in models.items():
        encoder = _open(model)
        clean = embed(
            encoder, signatures, workers=options.workers, description=f"embedding, {name}"
        )
        refused[name] = clean.refused
        method = Method(name, EmbeddingScorer(clean.rows, encoder.spec.fusion), clean.usable)
        methods.append(method)
        for fusion in options.fusion:
            scorer = EmbeddingScorer(clean.rows, fusion)
            methods.append(Method(f"{name}, {fusion}", scorer, clean.usable))
        report.say(
            f"{name}: {encoder.spec.name}, digest {encoder.spec.digest[:12]}, fusion {encoder.spec.fusion}; "
            f"trained on: {encoder.spec.provenance.training_data}"
        )
        for table in by_references(name, signatures, method, plan):
            report.add(table)
        report.add(pairs(name, signatures, method, plan))
        report.add(operating_points(name, encoder.spec, signatures, method, plan))
        if options.robustness:
            report.add(robustness(name, encoder, signatures, clean, plan, options.workers))
    if options.untrained:
        encoder = _open(str(options.untrained))
        clean = embed(encoder, signatures, workers=options.workers, description=_UNTRAINED)
        refused[_UNTRAINED] = clean.refused
        scorer = EmbeddingScorer(clean.rows, encoder.spec.fusion)
        methods.append(Method(_UNTRAINED, scorer, clean.usable))
    if options.baselines:
        if not options.untrained:
            report.say(
                f"left out: {_UNTRAINED}; python -m benchmarks.untrained writes it for --untrained"
            )
        baselines = measure(signatures, workers=options.workers)
        refused["baselines"] = baselines.refused
        methods += [Method(n, s, baselines.usable) for n, s in baselines.scorers().items()]
    if len(methods) > 1:
        for table in by_method(signatures, methods, plan):
            report.add(table)
    report.add(refusals(signatures, refused))
    if models and (usable := methods[0].usable).any():
        report.add(cost(models, signatures, usable))


def _open(model: str) -> Encoder:
    encoder = Encoder.open(load(model), threads=2)
    if isinstance(encoder.spec.crop, FivePointCrop):
        raise DataError(f"--model {model}: that is a face model, a signature model is wanted")
    return encoder


def _names(models: Sequence[str]) -> list[str]:
    """A registered name, or a file's name without its ending; the whole path where that is not unique."""
    short = [Path(model).stem if model.endswith(".onnx") else model for model in models]
    return [s if short.count(s) == 1 else m for s, m in zip(short, models, strict=True)]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks.signature", description=__doc__)
    add = parser.add_argument
    add("--data", type=Path, required=True, help="folder with manifest.csv")
    add(
        "--model",
        nargs="*",
        default=["signature"],
        help="registered names or model files; none: the baselines alone",
    )
    add(
        "--writers",
        default="all",
        help="all, or a file with their names: text, JSON, or a run's subjects.json, of which those that "
        "were not trained on are taken",
    )
    add("--sets", nargs="+", help="only these sets")
    add("--limit", type=int, help="at most so many writers of each set, drawn at random")
    add("--fusion", nargs="*", default=[], choices=FUSIONS, help="other fusions beside the model's")
    add("--untrained", type=Path, help="model file of the network before training")
    add("--baselines", action=argparse.BooleanOptionalAction, default=True)
    add("--robustness", action="store_true", help="changed probes too: ten more embeddings")
    add("--draws", type=int, default=Plan.draws, help="of references, for each writer")
    add("--random-probes", type=int, default=Plan.random_probes, help="of each writer")
    add("--seed", type=int, default=Plan.seed)
    add("--workers", type=int, default=2, help="threads that read and crop")
    add("--json", type=Path, help="write the tables there too, unrounded")
    add("--markdown", type=Path, help="write the tables there too")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write if asked to."""
    parser = _parser()
    options = parser.parse_args(arguments)
    cv2.setNumThreads(1)
    threadpool_limits(
        1
    )  # products this small are slower on two threads, twenty times on a busy machine
    report = Report(Console(width=max(160, Console().width)))
    start = time.perf_counter()
    try:
        writers = None if options.writers == "all" else read_writers(Path(options.writers))
        signatures = read_signatures(
            options.data, writers=writers, sets=options.sets, limit=options.limit
        )
        for name in signatures.set_names():
            here = signatures.sets == name
            forged = int((here & signatures.forged).sum())
            report.say(
                f"{name}: {len(signatures.writers(name))} writers, {int(here.sum()) - forged} genuine "
                f"signatures, {forged} skilled forgeries"
            )
        if writers is not None:
            missing = len(writers) - len(writers & set(signatures.subjects.tolist()))
            report.say(
                f"writers of {options.writers}; {missing} of its {len(writers)} are not measured"
            )
        elif options.model:
            report.say(f"warning: {_WARNING}")
        measure_all(options, signatures, report)
    except VerifyKitError as error:
        parser.error(str(error))
    report.say(f"{time.perf_counter() - start:.0f} s in all")
    if options.json:
        write_json(options.json, report.lines, report.tables)
    if options.markdown:
        options.markdown.write_text(markdown(report.lines, report.tables) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
