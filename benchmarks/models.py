"""Evaluate every model on data that it was not trained on: ``python -m benchmarks.models --data PATH``.

Faces: every pair of the subjects of ``lfw_val``, with corrected labels, by verifykit's model and by OpenCV's
own pipeline with the same weights. Signatures: every pair of the writers that ``configs/signature.toml``
sets aside for validation. Single pairs, 95 % intervals over subjects; ``--out FOLDER`` also writes reports.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress, TaskID
from rich.table import Table

from benchmarks.face.data import add_data_argument, read_evaluation_data
from benchmarks.face.opencv import OpenCvFaces
from verifykit.datasets import Dataset, FaceChoice
from verifykit.encoder import Encoder
from verifykit.errors import AcquisitionError
from verifykit.evaluation.embedding import Embedder, EmbeddingCache, ModelEmbedder
from verifykit.evaluation.evaluate import Measurement, evaluate
from verifykit.evaluation.pairs import read_data
from verifykit.evaluation.report import write_report
from verifykit.evaluation.results import EvaluationReport, ModelResult
from verifykit.models import load
from verifykit.spec import Cohort, OperatingPoint
from verifykit.types import QualityGate
from verifykit_training.config import load_config
from verifykit_training.dataset import divide, read_records

FMRS = (1e-1, 1e-2, 1e-3, 1e-4)
SHOWN = (1e-3, 1e-4)


class OpenCvEmbedder:
    """OpenCV's pipeline as an embedder of the evaluation, with the face in the middle of the image."""

    model = name = f"OpenCV {cv2.__version__}"
    digest = f"opencv-{cv2.__version__}"
    modality = "face"
    licence = "Apache-2.0 AND MIT"
    fusion = "mean"
    cache_key = f"opencv-{cv2.__version__}-middle"
    multi_face: FaceChoice = "middle"
    quality: QualityGate = "warn"
    operating_points: Sequence[OperatingPoint] = ()
    cohort: Cohort | None = None

    def __init__(self) -> None:
        """Open the networks with the detector thresholds of the model ``face``."""
        self._faces = OpenCvFaces(0.7, 0.3, 2)

    def embed(self, image: bytes, /) -> NDArray[np.float32]:
        """Embed the face in the middle of an image file; AcquisitionError without a face."""
        bgr = np.asarray(cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR), np.uint8)
        row = self._faces.embed_middle(bgr)
        if row is None:
            raise AcquisitionError("OpenCV found no face", reason="no_face")
        return row


def read_validation_writers(data: Path, folder: Path) -> Dataset:
    """Read the signatures of the writers that the shipped model's configuration sets aside, by script."""
    config = load_config(Path(__file__).parents[1] / "configs" / "signature.toml")
    records = read_records(data / "signatures" / "manifest.csv")
    share = config.data.validation_share
    splits = divide(records, validation_share=share, test_share=0.0, seed=config.seed)
    table = folder / "writers.csv"
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "subject", "label", "population"])
        for record in splits["validation"]:
            label = "skilled_forgery" if record.is_forgery else "genuine"
            population = record.subject.rpartition("/")[0]
            writer.writerow([record.path.resolve(), record.subject, label, population])
    return read_data(table)


def measure(
    embedders: list[Embedder],
    data: Dataset,
    cache: EmbeddingCache | None,
    on_progress: Callable[[str, int, int], None],
) -> EvaluationReport:
    """Evaluate embedders on single pairs."""
    return evaluate(
        embedders,
        data,
        cache=cache,
        measurement=Measurement(fmrs=FMRS, hardest_pairs=12),
        on_progress=on_progress,
    )


def rows(result: ModelResult) -> list[tuple[str, ...]]:
    """Return a table row for each attack."""
    cells_of = []
    for attack in result.attacks:
        at = {row.asked_fmr: row.fnmr for row in attack.rates}
        cells = [
            f"{at[fmr].value:.2%} [{100 * at[fmr].low:.2f}, {100 * at[fmr].high:.2f}]"
            if fmr in at
            else f"needs {3 / fmr:,.0f} comparisons"
            for fmr in SHOWN
        ]
        eer = attack.eer
        cells_of.append(
            (
                result.model,
                attack.attack,
                f"{attack.mated_count:,}",
                f"{attack.non_mated_count:,}",
                f"{eer.value:.2%} [{100 * eer.low:.2f}, {100 * eer.high:.2f}]",
                *cells,
            )
        )
    return cells_of


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="benchmarks.models", description=__doc__)
    add_data_argument(parser)
    parser.add_argument("--out", type=Path, help="folder for the reports: faces/ and signatures/")
    parser.add_argument("--cache", type=Path, help="file that caches embeddings")
    arguments = parser.parse_args()
    console = Console(width=150)
    reports = {}
    with tempfile.TemporaryDirectory() as folder, Progress(console=console) as progress:
        cache = EmbeddingCache(arguments.cache) if arguments.cache else None
        tasks: dict[str, TaskID] = {}

        def on_progress(model: str, done: int, count: int) -> None:
            if model not in tasks:
                tasks[model] = progress.add_task(model, total=count)
            progress.update(tasks[model], completed=done)

        faces: list[Embedder] = [
            ModelEmbedder(Encoder.open(load("face")), "face", multi_face="middle", quality="warn"),
            OpenCvEmbedder(),
        ]
        data = read_evaluation_data(arguments.data, "lfw_val", Path(folder))
        reports["faces"] = measure(faces, data, cache, on_progress)
        signatures: list[Embedder] = [ModelEmbedder(Encoder.open(load("signature")), "signature")]
        data = read_validation_writers(arguments.data, Path(folder))
        reports["signatures"] = measure(signatures, data, cache, on_progress)
        if cache:
            cache.close()
    table = Table(title="single pairs, 95 % intervals over subjects")
    for column in (
        "model",
        "attack",
        "mated",
        "non-mated",
        "EER",
        *(f"FNMR at {f:g}" for f in SHOWN),
    ):
        table.add_column(column, no_wrap=True)
    for name, report in reports.items():
        for result in report.models:
            for row in rows(result):
                table.add_row(*row)
        if arguments.out:
            console.print(*write_report(report, arguments.out / name, {}))
    console.print(table)


if __name__ == "__main__":
    main()
