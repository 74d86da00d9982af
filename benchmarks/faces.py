"""The development faces, and their templates: read, detected and embedded once."""

from __future__ import annotations

import argparse
import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from verifykit.encoder import Encoder
from verifykit.errors import AcquisitionError
from verifykit.evaluation.embedding import middle
from verifykit.extraction import SampleOptions
from verifykit.image import load_image
from verifykit.types import Embeddings

__all__ = [
    "EmbeddedFaces",
    "FacePairs",
    "data_argument",
    "embed",
    "read_pairs",
    "read_people",
]


# Found by looking at the non-mated pairs of highest score: one person under two names, and two pictures
# filed under the name of somebody else who was there.
SAME_PERSON = {
    "Sung_Hong_Choi": "Choi_Sung-hong",
    "Recep_Tayyip_Erdogan_0004": "Abdullah_Gul",
    "Michael_Schumacher_0008": "Rubens_Barrichello",
}


@dataclass(frozen=True)
class EmbeddedFaces:
    """Embeddings of the pictures in which a face was found.

    Attributes:
        embeddings: (N, D) float32 unit rows.
        subjects: (N,) subject of each row.
        no_face: Pictures in which none was found.
    """

    embeddings: Embeddings
    subjects: NDArray[np.str_]
    no_face: tuple[str, ...]


@dataclass(frozen=True)
class FacePairs:
    """Pairs of pictures: probes and references by path, and whether they are mated."""

    probes: tuple[Path, ...]
    references: tuple[Path, ...]
    mated: NDArray[np.bool_]


def data_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--data``: the folder that holds ``faces/``; by default ``$VERIFYKIT_DATA``."""
    given = os.environ.get("VERIFYKIT_DATA")
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(given) if given else None,
        required=given is None,
        help="folder with faces/lfw_train.csv, faces/lfw_val_pairs.csv, ... (or VERIFYKIT_DATA)",
    )


def read_people(data: Path, *sets: str) -> list[tuple[Path, str]]:
    """Pictures and subjects of ``lfw_train``, ``lfw_val`` and ``orl``, in a fixed order."""
    pictures = []
    for name in sets:
        for path in sorted((data / "faces" / name).glob("*/*")):
            if path.suffix in (".jpg", ".pgm"):
                folder = (
                    path.parent.name if name.startswith("lfw") else f"{name}/{path.parent.name}"
                )
                pictures.append((path, SAME_PERSON.get(path.stem, SAME_PERSON.get(folder, folder))))
    if not pictures:
        raise FileNotFoundError(f"no pictures of {', '.join(sets)} under {data / 'faces'}")
    return pictures


def read_pairs(data: Path) -> FacePairs:
    """LFW's View 1 development test: 500 mated and 500 non-mated pairs."""
    with (data / "faces" / "lfw_val_pairs.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return FacePairs(
        tuple(data / "faces" / row["probe"] for row in rows),
        tuple(data / "faces" / row["reference"] for row in rows),
        np.array([row["mated"] == "1" for row in rows]),
    )


def embed(encoder: Encoder, pictures: Sequence[tuple[Path, str]]) -> EmbeddedFaces:
    """Embed the labelled face of every picture, whatever its quality.

    LFW's label is that of the face in the middle; others may stand beside it.
    """
    rows, subjects, no_face = [], [], []
    for path, subject in track(pictures, description="embedding"):
        try:
            samples = encoder.extractor.samples(
                path, SampleOptions(multi_face="all", quality="warn")
            )
        except AcquisitionError:
            no_face.append(str(path))
            continue
        height, width = load_image(path).shape[:2]
        rows.append(encoder.encode([middle(samples, height, width).crop])[0])
        subjects.append(subject)
    return EmbeddedFaces(np.stack(rows), np.array(subjects), tuple(no_face))
