"""The end of a run: its best weights on the held-out subjects, in pictures and figures."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from training.data import Split, divide, read_records
from training.embedding import Scores
from training.evaluate import embed_records, evaluate_verification, load_encoder
from training.report import draw_curves, draw_det, draw_embeddings, draw_scores
from training.run_folder import RunFolder

__all__ = ["summarise"]


def summarise(run: RunFolder, data: Path, cache: Path | None = None) -> None:
    """Fill ``report/``: curves of the training, scores, DET curve, map of the embeddings, ``report.json``.

    They are of the validation subjects, who chose the epoch, so that their figures flatter it somewhat;
    without validation subjects of the training subjects, which shows only what was fitted. Figures of the
    test subjects, whom nothing has looked at, are what ``verifykit-train evaluate`` gives.

    Args:
        run: A run that has ended.
        data: Its data.
        cache: Folder of the crops.

    Raises:
        TrainingError: The run has no weights.
        DataError: The data cannot be read.
    """
    run.report.mkdir(exist_ok=True)
    draw_curves(run.report / "training.png", run.read_metrics())
    config = run.read_config()
    parts = divide(
        read_records(data),
        validation_share=config.data.validation_share,
        test_share=config.data.test_share,
        seed=config.seed,
    )
    part: Split = "validation" if parts["validation"] else "train"
    curves: list[tuple[str, Scores]] = []
    figures: dict[str, object] = {"part": part}
    for name, untrained in (("before training", True), ("after training", False)):
        encoder, _ = load_encoder(run, untrained=untrained)
        rows, records, refused = embed_records(encoder, config, parts[part], cache)
        rates, scores = evaluate_verification(rows, records, len(refused))
        curves.append((name, scores))
        figures[name.replace(" ", "_")] = asdict(rates)
    people = f"{part} subjects"
    draw_det(run.report / "det.png", curves, people)
    draw_scores(run.report / "scores.png", scores, people)
    names = [record.subject for record in records]
    draw_embeddings(run.report / "embeddings.png", rows, names, people)
    run.write_text("report/report.json", json.dumps(figures, indent=1) + "\n")
