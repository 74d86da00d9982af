"""Measure error rates of signature models against skilled and random forgeries, with simple baselines.

``python -m benchmarks.signature --data DIR``: ``DIR/manifest.csv`` has the columns ``path,subject,label``;
the label is ``genuine`` or ``skilled_forgery``, and a subject like ``bhsig260_hindi/012`` belongs to the set
before the slash. A model file does not state which writers it was trained on: pass ``--writers`` the
``subjects.json`` of its run, or use writers that it was not trained on.
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

from benchmarks.signature.baselines import measure
from benchmarks.signature.cost import cost, refusals
from benchmarks.signature.data import Signatures, embed, read_signatures, read_writers
from benchmarks.signature.protocol import EmbeddingScorer, Plan
from benchmarks.signature.report import ResultTable, markdown, show, write_json
from benchmarks.signature.robustness import robustness
from benchmarks.signature.tables import Method, by_method, by_references, operating_points, pairs
from verifykit.encoder import Encoder
from verifykit.errors import VerifyKitError
from verifykit.models import load
from verifykit.scoring import FUSIONS
from verifykit.spec import FivePointCrop
from verifykit_training.errors import DataError

_UNTRAINED = "the network before training"
_WARNING = (
    "all writers of the data are measured: writers that a model was trained on may be among them, and make "
    "its figures too good; exclude them by --writers RUN/subjects.json"
)


@dataclass
class Report:
    """The printed results, kept for the output files.

    Attributes:
        console: The console to print to.
        lines: Lines about the run.
        tables: The result tables.
    """

    console: Console
    lines: list[str] = field(default_factory=list)
    tables: list[ResultTable] = field(default_factory=list)

    def add_line(self, line: str) -> None:
        """Print and keep a line."""
        self.lines.append(line)
        self.console.print(line, markup=False)

    def add_table(self, table: ResultTable) -> None:
        """Print and keep a table."""
        self.tables.append(table)
        show(self.console, table)


def measure_all(options: argparse.Namespace, signatures: Signatures, report: Report) -> None:
    """Measure every requested table."""
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
        report.add_line(
            f"{name}: {encoder.spec.name}, digest {encoder.spec.digest[:12]}, fusion {encoder.spec.fusion}; "
            f"trained on: {encoder.spec.provenance.training_data}"
        )
        for table in by_references(name, signatures, method, plan):
            report.add_table(table)
        report.add_table(pairs(name, signatures, method, plan))
        report.add_table(operating_points(name, encoder.spec, signatures, method, plan))
        if options.robustness:
            report.add_table(robustness(name, encoder, signatures, clean, plan, options.workers))
    if options.untrained:
        encoder = _open(str(options.untrained))
        clean = embed(encoder, signatures, workers=options.workers, description=_UNTRAINED)
        refused[_UNTRAINED] = clean.refused
        scorer = EmbeddingScorer(clean.rows, encoder.spec.fusion)
        methods.append(Method(_UNTRAINED, scorer, clean.usable))
    if options.baselines:
        if not options.untrained:
            report.add_line(
                f"not measured: {_UNTRAINED}; python -m benchmarks.untrained exports it for --untrained"
            )
        baselines = measure(signatures, workers=options.workers)
        refused["baselines"] = baselines.refused
        methods += [Method(n, s, baselines.usable) for n, s in baselines.scorers().items()]
    if len(methods) > 1:
        for table in by_method(signatures, methods, plan):
            report.add_table(table)
    report.add_table(refusals(signatures, refused))
    if models and (usable := methods[0].usable).any():
        report.add_table(cost(models, signatures, usable))


def _open(model: str) -> Encoder:
    encoder = Encoder.open(load(model), threads=2)
    if isinstance(encoder.spec.crop, FivePointCrop):
        raise DataError(f"--model {model} is a face model: pass a signature model")
    return encoder


def _names(models: Sequence[str]) -> list[str]:
    """Return the registered name, or the file's stem; the whole path where that is not unique."""
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
        help="registered names or model files; without any, the baselines only",
    )
    add(
        "--writers",
        default="all",
        help="all, or a file of names: text, JSON, or the subjects.json of a run, whose validation and test "
        "subjects are used",
    )
    add("--sets", nargs="+", help="only these sets")
    add("--limit", type=int, help="maximum number of writers of each set, drawn at random")
    add(
        "--fusion",
        nargs="*",
        default=[],
        choices=FUSIONS,
        help="further fusions besides the model's own",
    )
    add("--untrained", type=Path, help="model file of the network before training")
    add("--baselines", action=argparse.BooleanOptionalAction, default=True)
    add("--robustness", action="store_true", help="also measure changed probes: ten more passes")
    add("--draws", type=int, default=Plan.draws, help="draws of references for each writer")
    add(
        "--random-probes",
        type=int,
        default=Plan.random_probes,
        help="random probes for each writer",
    )
    add("--seed", type=int, default=Plan.seed)
    add("--workers", type=int, default=2, help="threads that read and crop")
    add("--json", type=Path, help="also write the tables as JSON, unrounded")
    add("--markdown", type=Path, help="also write the tables as Markdown")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write the requested files."""
    parser = _parser()
    options = parser.parse_args(arguments)
    cv2.setNumThreads(1)
    # Products this small are slower on two threads, twenty times on a busy machine.
    threadpool_limits(1)
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
            report.add_line(
                f"{name}: {len(signatures.writers(name))} writers, {int(here.sum()) - forged} genuine "
                f"signatures, {forged} skilled forgeries"
            )
        if writers is not None:
            missing = len(writers) - len(writers & set(signatures.subjects.tolist()))
            report.add_line(
                f"writers of {options.writers}; {missing} of its {len(writers)} are not in the data"
            )
        elif options.model:
            report.add_line(f"warning: {_WARNING}")
        measure_all(options, signatures, report)
    except VerifyKitError as error:
        parser.error(str(error))
    report.add_line(f"{time.perf_counter() - start:.0f} s in total")
    if options.json:
        write_json(options.json, report.lines, report.tables)
    if options.markdown:
        options.markdown.write_text(markdown(report.lines, report.tables) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
