"""Measure how many duplicate enrolments a search of a gallery against itself finds, and its false matches.

``python -m benchmarks.duplicates --data PATH``

Subjects with two images or more are enrolled under two ids, every second image under the second id; the
others are enrolled once. The thresholds of ``face`` were measured on lfw_train.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.face.data import EmbeddedFaces, add_data_argument, embed, read_subjects
from verifykit import models
from verifykit.decision import DecisionRule, rule_for_pairs
from verifykit.encoder import Encoder
from verifykit.errors import CalibrationError
from verifykit.gallery import MemoryGallery
from verifykit.gallery.duplicates import find_duplicates, read_enrolled
from verifykit.spec import ModelSpec
from verifykit.types import Template

RATES = (None, 1e-6, 1e-5, 1e-4)


def enroll_twice(faces: EmbeddedFaces, spec: ModelSpec) -> tuple[MemoryGallery, int]:
    """Return a gallery with subjects under two ids, ``name`` and ``name#2``, and the number of them."""
    gallery = MemoryGallery(
        spec_digest=spec.digest, embedding_size=spec.embedding_size, fusion=spec.fusion
    )
    rows_of: dict[str, list[NDArray[np.float32]]] = defaultdict(list)
    for subject, row in zip(faces.subjects.tolist(), faces.embeddings, strict=True):
        rows_of[subject].append(row)
    for subject, rows in rows_of.items():
        gallery.add(subject, [Template(row, spec.digest) for row in rows[::2]])
        if rows[1::2]:
            gallery.add(f"{subject}#2", [Template(row, spec.digest) for row in rows[1::2]])
    return gallery, len(gallery) - len(rows_of)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="benchmarks.duplicates", description=__doc__)
    add_data_argument(parser)
    parser.add_argument(
        "--sets",
        nargs="+",
        default=["orl", "lfw_val", "lfw_train"],
        help="of orl, lfw_val, lfw_train",
    )
    arguments = parser.parse_args()
    encoder = Encoder.open(models.load("face"), threads=2)
    console = Console(width=140)
    for name in arguments.sets:
        faces = embed(encoder, read_subjects(arguments.data, name))
        gallery, duplicate_count = enroll_twice(faces, encoder.spec)
        enrolled = read_enrolled(gallery)
        table = Table(
            title=f"{name}: {len(gallery)} ids, {len(enrolled.owners)} templates, "
            f"{duplicate_count} subjects twice; {enrolled.comparison_count:,} comparisons"
        )
        for column in ("FMR", "threshold", "found", "of", "others", "expected at most", "s"):
            table.add_column(column, justify="right")
        for rate in RATES:
            try:
                rule = (
                    rule_for_pairs(encoder.spec, enrolled.comparison_count)
                    if rate is None
                    else DecisionRule.from_calibration(encoder.spec, rate, references=None)
                )
            except CalibrationError as error:
                console.print(str(error))
                continue
            start = time.perf_counter()
            pairs = find_duplicates(gallery, rule.threshold, enrolled=enrolled)
            elapsed_s = time.perf_counter() - start
            found = sum(pair.other_id == f"{pair.subject_id}#2" for pair in pairs)
            expected = (rule.fmr or 0.0) * enrolled.comparison_count
            table.add_row(
                *(f"{rule.fmr:g}{'' if rate else ' (default)'}", f"{rule.threshold:.4f}"),
                *(
                    f"{found}",
                    f"{duplicate_count}",
                    f"{len(pairs) - found}",
                    f"{expected:.2g}",
                    f"{elapsed_s:.2f}",
                ),
            )
        console.print(table)


if __name__ == "__main__":
    main()
