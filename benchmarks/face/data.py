"""Read the development faces, and embed the labelled face of each image."""

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

from verifykit.datasets import Dataset, LabelledImage
from verifykit.encoder import Encoder
from verifykit.errors import AcquisitionError
from verifykit.evaluation.embedding import middle
from verifykit.evaluation.pairs import read_data
from verifykit.extraction import SampleOptions
from verifykit.image import load_image
from verifykit.types import Embeddings

# Label errors, found among the non-mated pairs with the highest scores: one person under two names, and
# two images filed under the name of another person in the scene.
CORRECTED_LABELS = {
    "Sung_Hong_Choi": "Choi_Sung-hong",
    "Recep_Tayyip_Erdogan_0004": "Abdullah_Gul",
    "Michael_Schumacher_0008": "Rubens_Barrichello",
}


# One person under several numbers of All-Age-Faces, seen by eye among the pairs of a band with the highest
# scores; pairs of which that is not certain are left as they are.
ONE_PERSON = (
    ("00073", "00077", "00101", "00113"),
    ("00162", "00174"),
    ("00796", "00800"),
    ("00881", "00889"),
    ("00901", "00905"),
    ("07832", "07908"),
)


@dataclass(frozen=True)
class EmbeddedFaces:
    """Embeddings of the images in which a face was found.

    Attributes:
        embeddings: (N, D) float32 unit rows.
        subjects: (N,) subject of each row.
    """

    embeddings: Embeddings
    subjects: NDArray[np.str_]


@dataclass(frozen=True)
class FacePairs:
    """Pairs of images: paths of probes and references, and whether each pair is mated."""

    probes: tuple[Path, ...]
    references: tuple[Path, ...]
    mated: NDArray[np.bool_]


def add_data_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--data``, the folder that contains ``faces/``; the default is ``$VERIFYKIT_DATA``."""
    default = os.environ.get("VERIFYKIT_DATA")
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(default) if default else None,
        required=default is None,
        help="folder with faces/lfw_train.csv, faces/lfw_val_pairs.csv, ... (or VERIFYKIT_DATA)",
    )


def read_subjects(data: Path, *sets: str) -> list[tuple[Path, str]]:
    """Return images and subjects of ``lfw_train``, ``lfw_val`` or ``orl``, in a fixed order."""
    images = []
    for name in sets:
        for path in sorted((data / "faces" / name).glob("*/*")):
            if path.suffix in (".jpg", ".pgm"):
                folder = path.parent.name
                subject = folder if name.startswith("lfw") else f"{name}/{folder}"
                subject = CORRECTED_LABELS.get(subject, subject)
                images.append((path, CORRECTED_LABELS.get(path.stem, subject)))
    if not images:
        raise FileNotFoundError(f"no images of {', '.join(sets)} under {data / 'faces'}")
    return images


def read_pairs(data: Path) -> FacePairs:
    """Return LFW's View 1 development test: 500 mated and 500 non-mated pairs."""
    with (data / "faces" / "lfw_val_pairs.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return FacePairs(
        tuple(data / "faces" / row["probe"] for row in rows),
        tuple(data / "faces" / row["reference"] for row in rows),
        np.array([row["mated"] == "1" for row in rows]),
    )


def read_evaluation_data(data: Path, name: str, folder: Path) -> Dataset:
    """Read a set with corrected labels through a CSV file in ``folder``, as users write it."""
    table = folder / f"{name}.csv"
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "subject"])
        writer.writerows([path.resolve(), subject] for path, subject in read_subjects(data, name))
    return read_data(table)


def read_ages(data: Path) -> tuple[LabelledImage, ...]:
    """Return the images of ``aaf``, one a person; ``groups`` have sex and age band."""
    root = data / "faces" / "aaf"
    with (root / "manifest.csv").open(encoding="utf-8", newline="") as file:
        return tuple(
            LabelledImage(
                root / row["path"],
                row["path"],
                row["subject"],
                groups={"band": row["label"], "sex": row["sex"], "age": row["age"]},
            )
            for row in csv.DictReader(file)
        )


def embed_middle_face(encoder: Encoder, path: Path) -> NDArray[np.float32] | None:
    """Embed the face nearest the middle of the image, whatever its quality; None without a face.

    LFW's label is that of the face in the middle; other faces may be in the image.
    """
    try:
        samples = encoder.extractor.samples(path, SampleOptions("all", "warn"))
    except AcquisitionError:
        return None
    height, width = load_image(path).shape[:2]
    embedding: NDArray[np.float32] = encoder.encode([middle(samples, height, width).crop])[0]
    return embedding


def embed(encoder: Encoder, images: Sequence[tuple[Path, str]]) -> EmbeddedFaces:
    """Embed the labelled face of every image."""
    rows, subjects = [], []
    for path, subject in track(images, description="embedding"):
        embedding = embed_middle_face(encoder, path)
        if embedding is not None:
            rows.append(embedding)
            subjects.append(subject)
    return EmbeddedFaces(np.stack(rows), np.array(subjects))
