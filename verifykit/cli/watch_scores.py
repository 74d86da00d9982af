"""``verifykit watch-scores``: does the stated false match rate still hold?"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from verifykit._files import require_possible
from verifykit.batch.sources import Source, open_source
from verifykit.calibration import Calibration
from verifykit.cli._run import INCOMPLETE, NO_MATCH, emit, progress, require_complete
from verifykit.cli.options import (
    CalibrationOption,
    EverySample,
    JsonOption,
    KeyFileOption,
    MaxPixelsOption,
    ModelOption,
    NetworkChoice,
    PairDecision,
    PopulationOption,
    command,
    gallery_key,
    open_reader,
)
from verifykit.cli.render import columns, counted, share_text
from verifykit.datasets import LeftOut, left_out_sentences, overlooked, shown_names
from verifykit.decision import DecisionOptions
from verifykit.drift import DriftReport, ScoreWatch
from verifykit.drift.state import WatchState, forget, joined, scores_path
from verifykit.errors import AcquisitionError, ImageError, InputError, shortened_path, shown
from verifykit.extraction import SampleOptions
from verifykit.gallery import Gallery
from verifykit.gallery.duplicates import read_enrolled
from verifykit.gallery.open import gallery_path
from verifykit.image import MAX_PIXELS
from verifykit.models import load
from verifykit.session import NetworkOptions
from verifykit.spec import ModelSpec
from verifykit.verifier import Verifier, identify_each

DRIFT = NO_MATCH


@command
def watch_scores(
    source: Annotated[
        Path | None,
        typer.Argument(
            metavar="SOURCE",
            help="Images as for identify-batch, or a .jsonl of scores; without, what was counted is shown.",
        ),
    ] = None,
    gallery: Annotated[
        str | None,
        typer.Option(
            "--gallery", "-g", metavar="FILE|URL", help="Whose subjects are compared with."
        ),
    ] = None,
    state: Annotated[
        list[Path] | None,
        typer.Option(
            "--state",
            metavar="FILE",
            help="The file of counts; GALLERY.scores.json by default. Several are shown as one.",
        ),
    ] = None,
    enrolled: Annotated[
        bool, typer.Option("--enrolled", help="Count the enrolled subjects against each other.")
    ] = False,
    reset: Annotated[bool, typer.Option("--reset", help="Forget all counts first.")] = False,
    model: ModelOption = "face",
    decision: PairDecision = DecisionOptions(),
    calibration: CalibrationOption = None,
    population: PopulationOption = None,
    sample: EverySample = SampleOptions("all"),
    network: NetworkChoice = NetworkOptions(),
    max_pixels: MaxPixelsOption = MAX_PIXELS,
    key_file: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show whether the stated false match rate still holds for live scores.

    A service counts the scores of its probes against subjects drawn at random. Without SOURCE this is shown;
    with it, its images or scores are counted, and stored only with --state. Status 0 while the rate holds, 1
    when it does not, 3 if images were not looked at, or nothing could be counted.
    """
    files = state or []
    if source is None and not enrolled:
        files = files or [_default_file(gallery)]
        if reset:
            _forget(files, as_json=as_json)
        else:
            _show(_stored(files), _Unused(), as_json=as_json)
        return
    if len(files) > 1 or (source is not None and enrolled):
        raise InputError("give one SOURCE or --enrolled, and one --state to count into")
    file = files[0] if files else None
    unused = _Unused()
    if source is not None and source.suffix.lower() == ".jsonl":
        spec = load(model).spec
        if calibration is not None:
            spec = Calibration.read(calibration).apply(spec)
        if population is not None:
            spec = spec.of_population(population)
        watch = _begun(spec, file, decision, reset=reset)
        for scores, references in list(_scores(source)):  # all are read before one is counted
            watch.record_scores(scores, references)
    elif gallery is None:
        raise InputError("images and --enrolled are compared with a gallery: give --gallery")
    else:
        verifier = open_reader(
            model,
            gallery,
            network=network,
            calibration=calibration,
            population=population,
            key=gallery_key(key_file),
            decision=decision,
            sample=sample,
            max_pixels=max_pixels,
        )
        watch = _begun(verifier.spec, file, decision, reset=reset)
        if source is None:
            _count_enrolled(watch, verifier.gallery)
        else:
            unused = _count_images(watch, verifier, open_source(source))
    watch.store()
    _show(watch.report(), unused, as_json=as_json)


@dataclass
class _Unused:
    """Images that gave no probe."""

    errors: LeftOut = field(default_factory=LeftOut)
    left_out: dict[str, int] = field(default_factory=dict)
    left_out_names: dict[str, list[str]] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """Return a sentence for each reason."""
        errors = self.errors
        lines = [
            f"not usable, {code}: {shown_names(names, errors.counts[code])}"
            for code, names in sorted(errors.names.items())
        ]
        return lines + left_out_sentences(self.left_out, self.left_out_names)

    @property
    def overlooked(self) -> int:
        """Return how many images, videos, pages and frames were not looked at."""
        return overlooked(self.left_out) + self.errors.counts["unreadable"]


def _begun(
    spec: ModelSpec, file: Path | None, decision: DecisionOptions, *, reset: bool
) -> ScoreWatch:
    watch = ScoreWatch(spec, file, decision, restart=reset)
    if reset:
        watch.reset()
    return watch


def _default_file(gallery: str | None) -> Path:
    """Return where a service counts the scores of a gallery."""
    if gallery is None:
        raise InputError("give --gallery, whose counts are shown, --state FILE, or a SOURCE")
    if gallery_path(gallery) is None:
        raise InputError("a gallery on a server has no folder for the counts: give --state")
    return scores_path(gallery)


def _forget(files: list[Path], *, as_json: bool) -> None:
    for file in files:
        forget(file)
    names = [str(file) for file in files]
    emit({"forgotten": names}, f"forgotten: {', '.join(map(shown, names))}", as_json=as_json)


def _stored(files: list[Path]) -> DriftReport:
    """Return what was counted earlier, by a service or with --state."""
    found = []
    for file in files:
        state = WatchState.read(file)
        if state is None:
            raise InputError(
                f"{shown(str(file))}: nothing was counted yet; `verifykit serve` counts, or give a SOURCE"
            )
        found.append(state)
    return joined(found).report()


def _count_enrolled(watch: ScoreWatch, gallery: Gallery) -> None:
    enrolled = read_enrolled(gallery)
    with progress("templates") as on_template:
        for n, (row, owner) in enumerate(zip(enrolled.embeddings, enrolled.owners, strict=True)):
            watch.record(gallery, row[None], [enrolled.subject_ids[owner]])
            on_template(n + 1, len(enrolled.owners))


def _count_images(watch: ScoreWatch, verifier: Verifier, images: Source) -> _Unused:
    unused, count = _Unused(), images.count()
    unused.left_out, unused.left_out_names = images.left_out, images.left_out_names
    rule = verifier.decision_options.search_rule(
        verifier.spec, DecisionOptions(), len(verifier.gallery)
    )
    with progress("images") as on_image:
        for n, each in enumerate(images.images()):
            if each.problem:
                unused.errors.add("unreadable", each.name)
                continue
            try:
                identify_each(
                    verifier.encoder,
                    verifier.gallery,
                    each.image,
                    rule=rule,
                    limit=1,
                    options=verifier.sample_options,
                    watch=watch,
                )
            except (AcquisitionError, ImageError) as error:
                unused.errors.add(error.reason, each.name)
            on_image(n + 1, max(count, n + 1))
    return unused


def _scores(source: Path) -> Iterator[tuple[list[float], int]]:
    """Yield the scores of each line, ``{"scores": [0.1, 0.2], "references": 1}``, and the references."""
    require_possible(source)
    try:
        lines = source.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not text in UTF-8"
        raise InputError(f"{shown(str(source))} cannot be read: {why}") from shortened_path(error)
    for number, line in enumerate(lines, start=1):
        try:
            body: Any = json.loads(line)
            scores, references = _numbers(body["scores"]), body.get("references", 1)
        except (KeyError, TypeError, ValueError, ArithmeticError, RecursionError) as error:
            raise InputError(
                f"{shown(str(source))}, line {number}: a line is an object with the scores of a probe "
                f'against others, such as {{"scores": [0.1, 0.2]}}, got {shown(line)}'
            ) from error
        if isinstance(references, bool) or not isinstance(references, int) or references < 1:
            raise InputError(
                f"{shown(str(source))}, line {number}: references must be a positive integer, got "
                f"{shown(references)}"
            )
        yield scores, references


def _numbers(scores: Any) -> list[float]:
    """Return scores as they are in JSON; raise TypeError unless they are a list of finite numbers."""
    if not isinstance(scores, list) or not all(type(score) in (int, float) for score in scores):
        raise TypeError
    found = [float(score) for score in scores]
    if not found or not all(map(math.isfinite, found)):
        raise TypeError
    return found


def _show(report: DriftReport, unused: _Unused, *, as_json: bool) -> None:
    body = {
        **report.to_dict(),
        "errors": dict(sorted(unused.errors.counts.items())),
        "left_out": dict(unused.left_out),
    }
    emit(body, "\n".join([_text(report), *unused.lines()]), as_json=as_json)
    if report.has_drift:
        raise typer.Exit(DRIFT)
    require_complete(unused.overlooked)
    if not report.probes:
        typer.echo("verifykit: nothing was counted: more subjects or probes are needed", err=True)
        raise typer.Exit(INCOMPLETE)


def _text(report: DriftReport) -> str:
    counts = f"{counted(report.probes, 'probe')}, {counted(report.scores, 'score')} against others"
    holds = "does not hold" if report.has_drift else "holds" if report.probes else "is not judged"
    now = "unknown: too few scores"
    if report.fmr_now is not None:
        now = f"{report.fmr_now:.2g}, from recent scores"
    lines = [
        f"the stated rate {holds}: {counts}",
        f"stated     FMR {report.stated_fmr:g}",
        f"estimate   {now}",
        f"evidence   {report.evidence:.3g}; {report.alarm_at:,} is an alarm",
    ]
    if report.drift_since is not None:
        after = counted(report.drift_probes or 0, "probe")
        lines.append(f"alarm      {report.drift_since[:10]}, after {after}")
    rows = [
        (
            f"{level.fmr:g}",
            share_text(level.tolerated),
            _share(level.share),
            _share(level.recent_share),
        )
        for level in report.levels
    ]
    return "\n".join([*lines, columns(("FMR", "tolerated", "all scores", "recent"), rows)])


def _share(share: float | None) -> str:
    return "" if share is None else share_text(share)
