"""Comparisons of single images, scored as the runtime scores them: listed pairs, or every pair of images."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from verifykit.datasets import Dataset, LabelledImage, ListedPair, read_dataset
from verifykit.errors import InputError, shown
from verifykit.evaluation.embedding import Embedded
from verifykit.scoring import paired_scores, penalised, penalties, unit_rows
from verifykit.spec import Cohort
from verifykit.types import Embeddings


def as_dataset(data: Dataset | str | os.PathLike[str]) -> Dataset:
    """Return data that were read, or read what a path names."""
    return data if isinstance(data, Dataset) else read_data(Path(data))


def read_data(
    source: str | os.PathLike[str], *, images: str | os.PathLike[str] | None = None
) -> Dataset:
    """Read what to evaluate on.

    A folder has a folder of images for each subject. A file that ends in ``.txt`` is a list in the
    format of LFW's ``pairs.txt``; one that ends in ``.bin`` is a verification file of insightface, whose
    images are unpacked into verifykit's cache folder. Any other file is a CSV (or Parquet) table whose
    header says what it lists: ``path,subject[,label]`` images,
    ``probe,reference,mated[,probe_subject,reference_subject][,attack][,fold]`` pairs; further
    columns are kept as groups.

    Args:
        source: The folder or the file.
        images: The folder that the paths of a file are relative to; None takes the file's own.

    Returns:
        The images and the comparisons. An image may be missing: that is counted when it is read.

    Raises:
        InputError: Neither of these, a line that is wrong or contradicts another, none of the images
            exists, or no mated or no non-mated comparison is possible.
    """
    root = None if images is None else Path(images)
    data = read_dataset(Path(source), images=root)
    if data.kind != "folder":
        _require_some_file(data, root or data.source.parent)
    if data.pairs is None:
        _require_comparisons(data)
    else:
        _require_both_kinds(data, data.pairs)
    return data


def _require_some_file(data: Dataset, root: Path) -> None:
    # Not Path.exists, which raises for a path that is too long or in a folder that is closed.
    if not any(os.path.exists(image.path) for image in data.images):  # noqa: PTH110
        raise InputError(
            f"{shown(str(data.source))}: none of its {len(data.images)} images is there; the first is "
            f"{shown(data.images[0].name)}, looked for in {shown(str(root))}: give the folder that its "
            "paths are relative to"
        )


def _require_comparisons(data: Dataset) -> None:
    genuine = Counter(image.subject for image in data.images if not image.is_forgery)
    forged = {image.subject for image in data.images if image.is_forgery}
    if len(genuine) < 2 and not forged & set(genuine):
        whose = f"of {len(genuine)} subject(s), {', '.join(map(shown, genuine)) or 'none'}"
        raise InputError(
            f"{shown(str(data.source))} has {'genuine ' if forged else ''}images {whose}, which gives no "
            "non-mated comparison: at least two subjects are needed"
        )
    if max(genuine.values(), default=0) < 2:
        raise InputError(
            f"{shown(str(data.source))} has {len(genuine)} subjects with one {'genuine ' if forged else ''}"
            "image each, which gives no mated comparison: at least one subject with two is needed"
        )


def _require_both_kinds(data: Dataset, pairs: Sequence[ListedPair]) -> None:
    mated = sum(pair.mated for pair in pairs)
    if mated in (0, len(pairs)):
        there, missing = ("mated", "non-mated") if mated else ("non-mated", "mated")
        raise InputError(
            f"all {len(pairs)} pairs of {shown(str(data.source))} are {there}: error rates need {missing} "
            "ones too"
        )


def data_digest(data: Dataset, file_digests: Sequence[str]) -> str:
    """Return what names the data in a report, whatever their place and order: a SHA-256.

    Group columns do not count. Where a CSV of pairs states no subjects, they are named after paths as
    it writes them, and so other paths give another digest.
    """
    if len(file_digests) != len(data.images):
        raise InputError(f"{len(data.images)} images have {len(file_digests)} file digests")
    entries = [
        [file, image.subject, image.is_forgery]
        for file, image in zip(file_digests, data.images, strict=True)
    ]
    lines = sorted(json.dumps(["image", *entry]) for entry in entries)
    lines += sorted(
        json.dumps(
            [
                "pair",
                *entries[pair.probe],
                *entries[pair.reference],
                pair.mated,
                pair.fold,
                pair.is_skilled,
            ]
        )
        for pair in data.pairs or ()
    )
    lines.append(json.dumps("every pair" if data.pairs is None else "listed pairs"))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


@dataclass(frozen=True, eq=False)
class Comparisons:
    """Scored comparisons of one kind.

    Attributes:
        probe: (P,) int32 index of an image.
        reference: (P,) int32 index of the other.
        scores: (P,) float32 in [-1, 1].
    """

    probe: NDArray[np.int32]
    reference: NDArray[np.int32]
    scores: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class ScoredComparisons:
    """Comparisons by kind, as indices of images; a kind may be empty.

    Attributes:
        mated: Genuine images of one subject.
        random: Genuine images of two subjects (random forgeries).
        skilled: A genuine image and an imitation of the same subject.
        lost_mated: Mated comparisons without a score, because an image gave no template.
        lost_non_mated: Non-mated ones, random and skilled.
    """

    mated: Comparisons
    random: Comparisons
    skilled: Comparisons
    lost_mated: int = 0
    lost_non_mated: int = 0

    def size(self, kind: str) -> int:
        """Return the number of comparisons of a kind."""
        found: Comparisons = getattr(self, kind)
        return int(found.scores.size)


def score_comparisons(
    data: Dataset, embedded: Embedded, cohort: Cohort | None = None
) -> ScoredComparisons:
    """Score the listed pairs, or every pair of images that is mated or non-mated; less penalties."""
    found = _every(data, embedded) if data.pairs is None else _listed(data, embedded)
    if cohort is None:
        return found
    of_row = penalties(cohort, unit_rows(embedded.rows))
    taken = np.append(of_row, 0.0)[
        embedded.row_of
    ]  # an image without a template is in no comparison
    mated, random, skilled = (
        replace(kind, scores=penalised(kind.scores, taken[kind.probe], taken[kind.reference]))
        for kind in (found.mated, found.random, found.skilled)
    )
    return replace(found, mated=mated, random=random, skilled=skilled)


def _listed(data: Dataset, embedded: Embedded) -> ScoredComparisons:
    pairs = data.pairs or ()
    ends = np.array([(p.probe, p.reference) for p in pairs], np.int32).reshape(-1, 2)
    mated = np.array([p.mated for p in pairs], bool)
    skilled = np.array([p.is_skilled for p in pairs], bool)
    rows = embedded.row_of[ends]
    usable = (rows >= 0).all(axis=1)
    units = unit_rows(embedded.rows)
    scores = np.zeros(len(pairs), np.float32)
    for n in np.flatnonzero(usable).tolist():
        scores[n] = paired_scores(units[rows[n, 0]], units[rows[n, 1]][None])[0]
    found = [
        Comparisons(ends[k & usable, 0], ends[k & usable, 1], scores[k & usable])
        for k in (mated, ~mated & ~skilled, ~mated & skilled)
    ]
    lost = int((mated & ~usable).sum()), int((~mated & ~usable).sum())
    return ScoredComparisons(found[0], found[1], found[2], *lost)


def _every(data: Dataset, embedded: Embedded) -> ScoredComparisons:
    seen = np.flatnonzero(embedded.row_of >= 0)
    images = [data.images[n] for n in seen.tolist()]
    rows = embedded.rows[embedded.row_of[seen]]
    found = every_pair(rows, *columns(images))
    whole, here = count_pairs(*columns(data.images)), count_pairs(*columns(images))
    lost = {kind: whole[kind] - here[kind] for kind in whole}
    at = seen.astype(np.int32)
    kinds = [
        Comparisons(at[kind.probe], at[kind.reference], kind.scores)
        for kind in (found.mated, found.random, found.skilled)
    ]
    strangers_lost = lost["random"] + lost["skilled"]
    return ScoredComparisons(kinds[0], kinds[1], kinds[2], lost["mated"], strangers_lost)


def listed_scores(data: Dataset, scored: ScoredComparisons) -> NDArray[np.float64]:
    """Return (P,) the score of each listed pair; NaN where an image gave no template."""
    found: dict[tuple[int, int], float] = {}
    for kind in (scored.mated, scored.random, scored.skilled):
        ends = zip(kind.probe.tolist(), kind.reference.tolist(), strict=True)
        found.update(zip(ends, kind.scores.tolist(), strict=True))
    return np.array([found.get((pair.probe, pair.reference), np.nan) for pair in data.pairs or ()])


def columns(
    images: Sequence[LabelledImage],
) -> tuple[list[str], list[bool], list[str]]:
    """Return subjects, which are imitations, and populations: the group column of that name, if any."""
    return (
        [image.subject for image in images],
        [image.is_forgery for image in images],
        [image.groups.get("population", "") for image in images],
    )


def every_pair(
    embeddings: Embeddings,
    subjects: Sequence[str],
    forged: Sequence[bool],
    populations: Sequence[str] | None = None,
) -> ScoredComparisons:
    """Score each pair of N unit rows once, by the rows' indices; a kind may be empty.

    Strangers are compared within their population (None is one), for one who writes in another script is too
    easily recognised to count. All are held: of many images see `verifykit.evaluation.pair_tiles`.
    """
    labels, sets, fake = coded(subjects, forged, populations)
    units = unit_rows(embeddings)
    genuine, imitations = np.flatnonzero(~fake), np.flatnonzero(fake)
    parts: dict[str, list[Comparisons]] = {"mated": [], "random": [], "skilled": []}
    for n, image in enumerate(genuine.tolist()):
        later = genuine[n + 1 :]
        same = labels[later] == labels[image]
        other = ~same & (sets[later] == sets[image])
        mine = imitations[labels[imitations] == labels[image]]
        for kind, met in (("mated", later[same]), ("random", later[other]), ("skilled", mine)):
            scores = paired_scores(units[image], units[met])
            probes = np.full(len(met), image, np.int32)
            parts[kind].append(Comparisons(probes, met.astype(np.int32), scores))
    mated, strange, copied = (_joined(parts[kind]) for kind in ("mated", "random", "skilled"))
    return ScoredComparisons(mated, strange, copied)


def count_pairs(
    subjects: Sequence[str], forged: Sequence[bool], populations: Sequence[str] | None = None
) -> dict[str, int]:
    """Count the pairs of each kind that :func:`every_pair` scores."""
    labels, sets, fake = coded(subjects, forged, populations)
    genuine, imitations = Counter(labels[~fake].tolist()), Counter(labels[fake].tolist())
    mated = _pairs(genuine.values())
    within = _pairs(Counter(sets[~fake].tolist()).values())
    # Two images of one subject may be of two populations, and are mated nevertheless.
    within_mated = _pairs(Counter(zip(labels[~fake], sets[~fake], strict=True)).values())
    skilled = sum(genuine[subject] * count for subject, count in imitations.items())
    return {"mated": mated, "random": within - within_mated, "skilled": skilled}


def coded(
    subjects: Sequence[str], forged: Sequence[bool], populations: Sequence[str] | None
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Return numbers of subjects and of populations, and which are imitations."""
    labels = np.unique(np.asarray(subjects, np.str_), return_inverse=True)[1]
    sets = np.zeros(len(labels), np.int64)
    if populations is not None:
        sets = np.unique(np.asarray(populations, np.str_), return_inverse=True)[1]
    return labels, sets, np.asarray(forged, bool)


def _pairs(sizes: Iterable[int]) -> int:
    return sum(size * (size - 1) // 2 for size in sizes)


def _joined(parts: Sequence[Comparisons]) -> Comparisons:
    empty = Comparisons(np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.float32))
    every = [*parts, empty]
    return Comparisons(
        np.concatenate([part.probe for part in every]),
        np.concatenate([part.reference for part in every]),
        np.concatenate([part.scores for part in every]),
    )
