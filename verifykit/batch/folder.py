"""Identify every face in every image below a folder."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from verifykit.acquisition import require_options
from verifykit.asked import Asked
from verifykit.batch.output import FORMAT_KEY, open_output, resume, write_line
from verifykit.criterion import Criterion
from verifykit.errors import AcquisitionError, GalleryError, ImageError, InputError
from verifykit.gallery import Gallery, SqliteGallery, checked_question
from verifykit.identification import identify_each
from verifykit.spec import Attack
from verifykit.types import MultiFace, QualityGate
from verifykit.verifier import Verifier

__all__ = ["IMAGE_SUFFIXES", "BatchSummary", "find_images", "identify_folder"]

FORMAT = 1
IMAGE_SUFFIXES = frozenset(
    {".bmp", ".gif", ".jp2", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif"}
    | {".tiff", ".webp"}
)


@dataclass(frozen=True)
class BatchSummary:
    """What an output holds when the run is through.

    Attributes:
        images: Images of the folder, all of them with a line now.
        resumed: How many of them had one from an earlier run.
        faces: Faces that were searched for.
        matched_faces: Faces with at least one candidate.
        errors: Images that gave no answer, by error code.
    """

    images: int
    resumed: int
    faces: int
    matched_faces: int
    errors: dict[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready plain values."""
        return asdict(self)


def find_images(folder: Path) -> list[str]:
    """Images below a folder, told by their suffix, as sorted paths relative to it.

    Args:
        folder: Where to look; links to folders are not followed.

    Returns:
        Paths with ``/`` between their parts, in the order of their parts.

    Raises:
        InputError: It is not a folder, or a folder in it cannot be read.
    """
    if not folder.is_dir():
        raise InputError(f"{str(folder)!r} is not a folder")
    found = []
    for parent, _, names in os.walk(folder, onerror=_unreadable):
        paths = (Path(parent, name) for name in names)
        found += [path for path in paths if path.suffix.lower() in IMAGE_SUFFIXES]
    relative = sorted(path.relative_to(folder).parts for path in found)
    return ["/".join(parts) for parts in relative]


def identify_folder(
    verifier: Verifier,
    folder: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    fmr: float | None = None,
    threshold: float | None = None,
    attack: Attack | None = None,
    fpir: float | None = None,
    limit: int = 5,
    multi_face: MultiFace = "all",
    quality: QualityGate = "strict",
    on_image: Callable[[int, int], None] | None = None,
) -> BatchSummary:
    """Identify every face in every image below a folder.

    Each line holds ``image`` (relative path), ``faces`` (``box_px``, ``reasons``, ``candidates`` with
    ``subject_id`` and ``score``), ``threshold``, ``fmr``, ``attack``, ``fpir`` and ``model``; in place of
    ``faces``, an image that could not be used has ``error`` (a code such as ``"no_face"`` or
    ``"unreadable"``) and ``message``.

    Args:
        verifier: The model and the gallery.
        folder: Where the images lie.
        out: The output, JSON lines; continued if it is there.
        fmr: False match rate of one comparison, in (0, 1); None takes the model's default.
        threshold: A bare cosine threshold in [-1, 1] instead.
        attack: What the rate is about; None takes the model's default.
        fpir: False positive identification rate in this gallery, in (0, 1), instead of ``fmr``.
        limit: At most so many candidates for each face.
        multi_face: What to do with several faces in an image.
        quality: Whether a quality reason refuses or only warns.
        on_image: Called with the number of images that are done and of all, also before the first.

    Returns:
        Counts over the whole output.

    Raises:
        InputError: ``folder`` is no folder, an option is not allowed, another process is writing to
            ``out``, or it is not an output of this run: of another folder, model, gallery or setting.
            Nothing was written to it then.
        CalibrationError: The model does not go down to this ``fmr`` for this ``attack``.
        GalleryError: The gallery was changed during the run, or cannot be read.
        OSError: ``out`` cannot be written.
    """
    folder, out = Path(folder), Path(out)
    require_options(multi_face, quality)
    criterion = Asked(fmr, threshold, attack).search_criterion(
        verifier.spec, Asked(), fpir, len(verifier.gallery)
    )
    checked_question(limit, criterion.threshold)
    images = find_images(folder)
    settings = {
        "folder": str(folder.resolve()),
        "model": verifier.spec.digest,
        "gallery": _gallery_state(verifier.gallery),
        "threshold": criterion.threshold,
        "fmr": criterion.fmr,
        "attack": criterion.attack,
        "fpir": criterion.fpir,
        "limit": limit,
        "multi_face": multi_face,
        "quality": quality,
    }
    with open_output(out) as file:
        done = resume(file, out, {FORMAT_KEY: FORMAT, **settings})
        tally = Counter[str]()
        for line in done.values():
            _count(tally, line)
        resumed = sum(name in done for name in images)
        finished = resumed
        if on_image:
            on_image(finished, len(images))
        for name in images:
            if name in done:
                continue
            answer = _identify(verifier, folder / name, criterion, limit, multi_face, quality)
            if _gallery_state(verifier.gallery) != settings["gallery"]:
                raise GalleryError(
                    f"the gallery was changed while {str(out)!r} was being written: the lines in it "
                    "are sound, but the rest would mix two galleries; start again with a new output"
                )
            line = {"image": name, **answer, "model": verifier.spec.digest}
            write_line(file, line)
            _count(tally, line)
            finished += 1
            if on_image:
                on_image(finished, len(images))
        os.fsync(file.fileno())
    errors = {key[6:]: count for key, count in sorted(tally.items()) if key.startswith("error ")}
    return BatchSummary(len(images), resumed, tally["faces"], tally["matched"], errors)


def _identify(
    verifier: Verifier,
    path: Path,
    criterion: Criterion,
    limit: int,
    multi_face: MultiFace,
    quality: QualityGate,
) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "threshold": criterion.threshold,
        "fmr": criterion.fmr,
        "attack": criterion.attack,
        "fpir": criterion.fpir,
    }
    try:
        found = identify_each(
            verifier.encoder,
            verifier.gallery,
            path,
            criterion=criterion,
            limit=limit,
            multi_face=multi_face,
            quality=quality,
        )
    except (AcquisitionError, ImageError) as error:
        code = error.reason if isinstance(error, AcquisitionError) else "unreadable"
        return {"error": code, "message": str(error), **answer}
    faces = [
        {
            "box_px": face.detection.box_px if face.detection else None,
            "reasons": face.reasons,
            "candidates": [
                {"subject_id": each.subject_id, "score": each.score} for each in face.candidates
            ],
        }
        for face in found
    ]
    return {"faces": faces, **answer}


def _gallery_state(gallery: Gallery) -> dict[str, Any]:
    """What tells this gallery from another, and changes whenever it is written to."""
    if not isinstance(gallery, SqliteGallery):
        return {"subject_count": len(gallery)}
    told = gallery.info()
    return {name: told[name] for name in ("created", "revision", "subject_count")}


def _unreadable(error: OSError) -> None:
    raise InputError(f"{error.filename!r} cannot be read: {error.strerror}") from error


def _count(tally: Counter[str], line: dict[str, Any]) -> None:
    if "error" in line:
        tally[f"error {line['error']}"] += 1
    for face in line.get("faces", ()):
        tally["faces"] += 1
        tally["matched"] += bool(face["candidates"])
