"""Report a run: progress on standard error, and at its end figures and rates of the best weights."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from verifykit.datasets import printable_name
from verifykit.evaluation.tiles import ScoreBins
from verifykit_training.dataset import Split, read_records
from verifykit_training.evaluation import embed_records, evaluate_verification, load_encoder
from verifykit_training.preparation import Prepared
from verifykit_training.run_folder import RunFolder
from verifykit_training.splits import divide_for
from verifykit_training.stages import Bars, Stages

_TICKS = (0.001, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4)
_MAPPED_IMAGES, _MAPPED_SUBJECTS = 1500, 20
_MATED, _NON_MATED, _SKILLED = "#0072b2", "#d55e00", "#009e73"  # distinct to the colour-blind


def draw_curves(path: Path, lines: Sequence[dict[str, Any]]) -> None:
    """Plot loss, share of active terms and validation error over the steps."""
    steps = [line for line in lines if line["event"] == "step"]
    validations = [line for line in lines if line["event"] == "validation"]
    figure, axes = _figure(3 if validations else 2, "training")
    for axis, name in ((axes[0], "loss"), (axes[1], "active_share")):
        values = [(line["step"], line[name]) for line in steps if line.get(name) is not None]
        if values:
            axis.plot(*zip(*values, strict=True), color=_MATED, linewidth=0.8)
        axis.set_ylabel(name.replace("_", " "))
        axis.set_ylim(bottom=0.0)
    stages = [line["step"] for line in steps if "accuracy" in line]
    if stages and stages[-1] < steps[-1]["step"]:
        # The softmax stage's loss is of another kind and size.
        axes[0].axvline(stages[-1], color="grey", linestyle=":", label="end of the softmax stage")
        axes[0].set_yscale("symlog", linthresh=1e-2)  # a batch that has nothing left to teach is 0
        axes[0].legend(loc="upper right")
    for axis in axes:
        axis.set_xlabel("step")
    if not validations:
        figure.savefig(path)
        return
    for name, colour in (("eer", _NON_MATED), ("skilled_eer", _SKILLED)):
        values = [(line["step"], line[name]) for line in validations if name in line]
        if values:
            axes[2].plot(*zip(*values, strict=True), marker="o", color=colour, label=name)
            axes[2].legend(loc="upper right")
    axes[2].set_ylabel("validation EER")
    axes[2].set_ylim(bottom=0.0)
    figure.savefig(path)


def draw_scores(path: Path, scores: ScoreBins, people: str) -> None:
    """Plot histograms of the scores, each of area 1."""
    figure, (axis,) = _figure(1, f"scores of pairs, {people}")
    # The scores of a collapsed network are one number.
    edges = np.linspace(min(scores.lowest(), 1.0 - 1e-3), 1.0, 80)
    for kind, name, colour in (
        ("mated", "mated", _MATED),
        ("random", "non-mated", _NON_MATED),
        ("skilled", "skilled forgery", _SKILLED),
    ):
        if scores.size(kind):
            axis.hist(
                edges[:-1],
                edges.tolist(),
                weights=scores.histogram(kind, edges),
                density=True,
                alpha=0.55,
                color=colour,
                label=f"{name} ({scores.size(kind)})",
            )
    axis.set_xlabel("score (cosine)")
    axis.set_ylabel("density")
    axis.legend(loc="upper left")  # the best place takes seconds to find
    figure.savefig(path)


def draw_det(path: Path, curves: Sequence[tuple[str, ScoreBins]], people: str) -> None:
    """Plot FNMR over FMR on normal deviates (Martin et al., "The DET curve", Eurospeech 1997)."""
    from scipy.stats import norm

    figure, (axis,) = _figure(1, f"detection error trade-off, {people}", width=5.5)
    low = _TICKS[0]
    for name, scores in curves:
        for kind, text in (("random", ""), ("skilled", ", skilled forgeries")):
            if scores.size(kind):
                curve = scores.det_curve(kind)
                x, y = (
                    norm.ppf(rate.clip(low / 2, 1 - low / 2)) for rate in (curve.fmr, curve.fnmr)
                )
                axis.plot(x, y, label=name + text, linewidth=1.5)
    places = norm.ppf(_TICKS)
    labels = [f"{tick:.1%}" if tick < 0.01 else f"{tick:.0%}" for tick in _TICKS]
    for setter in (axis.set_xticks, axis.set_yticks):
        setter(places, labels)
    axis.set_xlim(places[0], norm.ppf(0.5))
    axis.set_ylim(places[0], norm.ppf(0.5))
    axis.plot(axis.get_xlim(), axis.get_ylim(), color="grey", linewidth=0.6, linestyle=":")
    axis.set_xlabel("FMR")
    axis.set_ylabel("FNMR")
    axis.legend(loc="upper right")
    figure.savefig(path)


def draw_embeddings(
    path: Path, embeddings: NDArray[np.float32], subjects: Sequence[str], people: str
) -> None:
    """Plot the embeddings by t-SNE (van der Maaten and Hinton, JMLR 9, 2008), a colour a subject.

    The twenty subjects with the most images, 1500 images at most: distances between far groups mean
    nothing in such a map, being mixed or apart does.
    """
    from sklearn.manifold import TSNE

    owners = np.asarray(subjects)
    names, counts = np.unique(owners, return_counts=True)
    names = names[np.argsort(-counts, kind="stable")][:_MAPPED_SUBJECTS]
    rows = np.flatnonzero(np.isin(owners, names))[:_MAPPED_IMAGES]
    figure, (axis,) = _figure(1, f"embeddings (t-SNE), {people}", width=6.5)
    if len(rows) > 3:
        perplexity = min(30.0, (len(rows) - 1) / 3)
        places = TSNE(perplexity=perplexity, init="pca", random_state=0).fit_transform(
            embeddings[rows]
        )
        colours = mpl.colormaps["tab20"]
        for number, name in enumerate(names):
            of_subject = owners[rows] == name
            x, y = places[of_subject].T
            axis.scatter(x, y, s=12, color=colours(number % 20), label=_as_label(str(name)))
        axis.legend(fontsize=6, loc="center left", bbox_to_anchor=(1.0, 0.5))
    axis.set_xticks([])
    axis.set_yticks([])
    figure.savefig(path)


def _as_label(name: str) -> str:
    # A dollar sign begins mathematics, and a label with a leading underscore is left out.
    return "\u200b" * name.startswith("_") + printable_name(name).replace("$", r"\$")


def _figure(columns: int, title: str, width: float = 4.5) -> tuple[Figure, Sequence[Axes]]:
    # Without pyplot: no window, no state between runs.
    figure = Figure(figsize=(width * columns, 4.5), dpi=110, layout="constrained")
    figure.suptitle(title)
    axes: Any = figure.subplots(1, columns, squeeze=False)
    return figure, axes[0]


class Display:
    """Progress and messages of a run; as a context manager it controls the terminal's last lines."""

    def __init__(self, *, quiet: bool) -> None:
        """Show nothing if ``quiet``."""
        self._console = Console(stderr=True, quiet=quiet)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
            disable=quiet,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> Display:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    @contextmanager
    def preparing(self) -> Iterator[Stages]:
        """Show stages before the training until they are done; nothing of what was done before."""
        bars = Bars(self._progress)
        try:
            yield bars
        finally:
            bars.clear()

    def begin(self, data: Prepared, steps: int, done: int) -> None:
        """Print what is trained on, and start the progress bar."""
        if data.validation is None:
            held_out = "no validation subjects"
        elif data.is_within:
            held_out = f"validated on {len(data.validation)} other images of theirs"
        else:
            held_out = f"validated on {len(data.splits['validation'])} others"
        self.say(
            f"{len(data.train)} images of {len(data.subjects)} subjects, {held_out}; "
            f"{len(data.refused)} images gave no crop"
        )
        self._task = self._progress.add_task("training", total=steps, completed=done)

    def step(self, step: int, epoch: int, values: Mapping[str, float]) -> None:
        """Show a step."""
        if self._task is not None:
            text = (
                f"epoch {epoch} loss {values['loss']:.4f} active {values['active_share']:.0%} "
                f"gradient {values['gradient_norm']:.2g}"
            )
            self._progress.update(self._task, completed=step, description=text)

    def validated(self, epoch: int, values: Mapping[str, float]) -> None:
        """Print the rates of a validation."""
        rates = ", ".join(f"{name} {value:.2%}" for name, value in values.items() if "eer" in name)
        self.say(f"epoch {epoch}: {rates} on {values['mated']:.0f} mated pairs")

    def say(self, text: str) -> None:
        """Print a message above the progress bar."""
        self._progress.console.print(text, highlight=False, markup=False)


def summarise(
    run: RunFolder, data: Path, cache: Path | None = None, *, stages: Stages | None = None
) -> None:
    """Write ``report/``: training curves, scores, DET curve, map of the embeddings, ``report.json``.

    They are of the validation subjects, which chose the epoch and flatter it somewhat;
    without validation subjects of the training subjects, which shows only what was fitted. Those of the
    test subjects, which nothing has used, are printed by ``verifykit-train evaluate``.
    """
    run.report.mkdir(exist_ok=True)
    draw_curves(run.report / "training.png", run.read_metrics())
    config = run.read_config()
    division = divide_for(config, read_records(data))
    parts = division.parts
    part: Split = "validation" if parts["validation"] else "train"
    curves: list[tuple[str, ScoreBins]] = []
    figures: dict[str, object] = {"part": part}
    for name, untrained in (("before training", True), ("after training", False)):
        encoder, _ = load_encoder(run, untrained=untrained)
        rows, records, refused = embed_records(
            encoder, config, parts[part], cache, stages=stages, embedding=f"embedding, {name}"
        )
        rates, scores = evaluate_verification(rows, records, len(refused))
        curves.append((name, scores))
        figures[name.replace(" ", "_")] = asdict(rates)
    people = f"{part} {'images' if division.is_within else 'subjects'}"
    draw_det(run.report / "det.png", curves, people)
    draw_scores(run.report / "scores.png", scores, people)
    names = [record.subject for record in records]
    draw_embeddings(run.report / "embeddings.png", rows, names, people)
    run.write_text("report/report.json", json.dumps(figures, indent=1) + "\n")
