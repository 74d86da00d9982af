"""What ``evaluate`` and ``calibrate`` share: the data, the choice of faces, the cache of embeddings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from verifykit.evaluation.records import FaceChoice
from verifykit.types import QualityGate

if TYPE_CHECKING:
    from verifykit.evaluation.embedding_cache import EmbeddingCache

__all__ = [
    "CacheOption",
    "DataArgument",
    "DataQualityOption",
    "FaceChoiceOption",
    "ImagesOption",
    "NoCacheOption",
    "choices",
    "opened_cache",
]

DataArgument = Annotated[
    Path,
    typer.Argument(
        metavar="DATA",
        help="A folder for each subject, a CSV of images or pairs, or LFW's pairs.txt.",
    ),
]
ImagesOption = Annotated[
    Path | None,
    typer.Option(
        "--images", metavar="FOLDER", help="Where a file's paths start; default: beside it."
    ),
]
FaceChoiceOption = Annotated[
    FaceChoice | None,
    typer.Option(
        "--multi-face",
        help="With several faces: refuse as the verbs do (default), take the largest, or the one in the "
        "middle (default for LFW's pairs.txt).",
    ),
]
DataQualityOption = Annotated[
    QualityGate | None,
    typer.Option("--quality", help="strict as the verbs (default); warn is LFW's default."),
]
CacheOption = Annotated[
    Path | None,
    typer.Option("--cache", metavar="FILE", help="Embeddings of earlier runs; holds templates."),
]
NoCacheOption = Annotated[
    bool, typer.Option("--no-cache", help="Keep no embeddings, and take none that are kept.")
]


def choices(
    kind: str, multi_face: FaceChoice | None, quality: QualityGate | None
) -> tuple[FaceChoice, QualityGate]:
    """What is done with several faces and weak samples: as asked, else as the data mean it.

    LFW labels the face in the middle of a picture, and its protocol leaves no picture out.

    Args:
        kind: Of the data.
        multi_face: As asked, or None.
        quality: As asked, or None.
    """
    is_lfw = kind == "lfw_pairs"
    return multi_face or ("middle" if is_lfw else "error"), quality or (
        "warn" if is_lfw else "strict"
    )


@contextmanager
def opened_cache(path: Path | None, *, off: bool) -> Iterator[EmbeddingCache | None]:
    """The cache of embeddings, closed at the end; None if there shall be none.

    Args:
        path: Its file; None is the one beside the models.
        off: Whether there shall be none.

    Raises:
        InputError: The file is no cache, or cannot be written.
    """
    if off:
        yield None
        return
    from verifykit.evaluation.embedding_cache import EmbeddingCache

    with EmbeddingCache(path) as cache:
        yield cache
