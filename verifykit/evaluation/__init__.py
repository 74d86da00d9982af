"""Evaluate and calibrate models on a user's own images, and write what was found as a report.

    data = evaluation.read_data("people")
    embedder = evaluation.ModelEmbedder(Encoder.open(load("face")), "face")
    report = evaluation.evaluate([embedder], data)
    evaluation.write_report(report, "report")

Jinja and Matplotlib, of the extra ``evaluate``, are imported when a report is written.
"""

from __future__ import annotations

from verifykit.datasets import Dataset, LabelledImage, ListedPair
from verifykit.evaluation.calibrate import calibrate
from verifykit.evaluation.embedding import Embedder, EmbeddingCache, ModelEmbedder
from verifykit.evaluation.evaluate import Measurement, evaluate
from verifykit.evaluation.hardest_pairs import crops_of
from verifykit.evaluation.pairs import read_data
from verifykit.evaluation.report import write_report
from verifykit.evaluation.results import EvaluationReport

__all__ = [
    "Dataset",
    "Embedder",
    "EmbeddingCache",
    "EvaluationReport",
    "LabelledImage",
    "ListedPair",
    "Measurement",
    "ModelEmbedder",
    "calibrate",
    "crops_of",
    "evaluate",
    "read_data",
    "write_report",
]
