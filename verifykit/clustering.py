"""Group unknown faces: which images of a folder show the same person.

Every face is compared with every other. Pairs whose score reaches the threshold are the edges of a graph,
and Chinese whispers (Biemann, "Chinese whispers: an efficient graph clustering algorithm", TextGraphs,
2006) finds the groups: each face joins the group that its neighbours are most alike to, until none moves.
Connected components would join two people for good over one false edge; here it is outvoted.
``benchmarks/clustering.py`` compares the two, and others.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from verifykit.datasets import FolderImages, LeftOut, overlooked
from verifykit.decision import DecisionOptions, DecisionRule, rule_for_pairs
from verifykit.encoder import Encoder
from verifykit.errors import AcquisitionError, ImageError
from verifykit.extraction import FURTHER_FRAMES, SampleOptions
from verifykit.gallery import MemoryGallery
from verifykit.gallery.duplicates import Enrolled, find_duplicates
from verifykit.gallery.penalised import PenalisedSearch
from verifykit.scoring import checked_embeddings
from verifykit.spec import Attack, Cohort, ModelSpec
from verifykit.types import Embeddings, MultiFace, QualityGate, RefusedImage, Template, TurnedChoice

OnProgress = Callable[[int, int], None]

_WEIGHT = (
    1_000_000  # whole numbers add up exactly, so that a vote has one outcome and the rounds end
)


@dataclass(frozen=True)
class ClusteredFace:
    """A face and its group.

    Attributes:
        image: Path relative to the folder.
        face: Its number in the image, from 1, largest face first.
        cluster: Its group, from 1, largest group first; a face like no other is a group of its own.
        box_px: Left, top, width and height; None for modalities without a detector.
        reasons: Quality reason codes that applied to it.
    """

    image: str
    face: int
    cluster: int
    box_px: tuple[float, float, float, float] | None
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Clusters:
    """The faces of a folder, grouped.

    Attributes:
        faces: In the order of images and faces.
        refused: Images without a usable face, in the order of images.
        cluster_count: Groups, those of one face included.
        rule: The threshold of an edge, and the rate that it was chosen for.
        left_out: What was not looked at, by reason: what the folder holds besides images, such as
            ``"hidden"``; images with further pages or frames, as ``"further_frames"``.
        left_out_names: The first names of each reason.
    """

    faces: tuple[ClusteredFace, ...]
    refused: tuple[RefusedImage, ...]
    cluster_count: int
    rule: DecisionRule
    left_out: Mapping[str, int] = field(default_factory=dict)
    left_out_names: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def overlooked(self) -> int:
        """How many images, videos and pages were not looked at; 0 for a complete result."""
        unread = sum(each.reason == "unreadable" for each in self.refused)
        return overlooked(self.left_out) + unread


def cluster_folder(
    encoder: Encoder,
    folder: str | os.PathLike[str],
    *,
    fmr: float | None = None,
    threshold: float | None = None,
    attack: Attack | None = None,
    multi_face: MultiFace = "all",
    quality: QualityGate = "strict",
    turned: TurnedChoice = "upright",
    max_faces: int = 64,
    second_face_share: float = 0.25,
    on_image: OnProgress | None = None,
    on_face: OnProgress | None = None,
) -> Clusters:
    """Group the faces of all images below a folder; the same folder gives the same groups.

    Args:
        encoder: The model.
        folder: Where the images are stored; hidden entries are left out.
        fmr: False match rate of two faces, in (0, 1). None takes that at which less than one false pair
            is expected among all faces, or the calibration's lowest, if it does not go down so far.
        threshold: A bare score threshold in [-1, 1] instead.
        attack: What the rate is about; None takes the model's default.
        multi_face: What to do with several faces in an image.
        quality: Whether a quality reason refuses or only warns.
        turned: What to do with a face on its side: turn the image upright, or refuse it.
        max_faces: Most faces of one image, the largest.
        second_face_share: With ``multi_face="error"``, the share of the largest face's area from which a
            second one counts.
        on_image: Called with the number of images that are read and of all, also before the first.
        on_face: Called with the number of faces that are compared and of all, also before the first.

    Returns:
        Every face with its group, and every image without one.

    Raises:
        InputError: ``folder`` is not a folder, or an option is not allowed.
        CalibrationError: The model does not go down to this ``fmr`` for this attack.
        ModelContractError: The network returned a row that is zero or not finite.
        ProviderError: The provider failed.
    """
    folder = Path(folder)
    options, decision = (
        SampleOptions(multi_face, quality, turned, max_faces, second_face_share),
        DecisionOptions(fmr, threshold, attack),
    )
    _rule(encoder.spec, 2, decision)  # before the long part, not after it
    walk = FolderImages(folder)
    images = list(walk)
    left_out = LeftOut(Counter(walk.left_out), dict(walk.names))
    taken, refused = _templates(encoder, folder, images, options, left_out, on_image)
    rule = _rule(encoder.spec, len(taken), decision)
    rows = [template.embedding for _, _, template in taken]
    embeddings = np.stack(rows) if rows else np.empty((0, encoder.spec.embedding_size), np.float32)
    labels = cluster_rows(
        embeddings, rule.threshold, cohort=encoder.spec.cohort, on_row=on_face
    ).tolist()
    faces = tuple(
        ClusteredFace(
            name,
            number,
            label,
            None if template.detection is None else template.detection.box_px,
            template.reasons,
        )
        for (name, number, template), label in zip(taken, labels, strict=True)
    )
    return Clusters(
        faces, tuple(refused), max(labels, default=0), rule, dict(left_out.counts), left_out.names
    )


def _templates(
    encoder: Encoder,
    folder: Path,
    images: Sequence[str],
    options: SampleOptions,
    left_out: LeftOut,
    on_image: OnProgress | None,
) -> tuple[list[tuple[str, int, Template]], list[RefusedImage]]:
    """Return the template of each face with its image and number, and the images without one."""
    taken: list[tuple[str, int, Template]] = []
    refused: list[RefusedImage] = []
    if on_image:
        on_image(0, len(images))
    for done, name in enumerate(images, start=1):
        try:
            found = encoder.templates(folder / name, options)
            taken += [(name, number, template) for number, template in enumerate(found, start=1)]
            warnings = found[0].reasons
        except (AcquisitionError, ImageError) as error:
            refused.append(RefusedImage(name, error.reason, str(error)))
            warnings = error.warnings
        if FURTHER_FRAMES in warnings:
            left_out.add(FURTHER_FRAMES, name)
        if on_image:
            on_image(done, len(images))
    return taken, refused


def cluster_rule(
    spec: ModelSpec,
    face_count: int,
    fmr: float | None = None,
    threshold: float | None = None,
    attack: Attack | None = None,
) -> DecisionRule:
    """Return the threshold between two faces of a group, by :func:`cluster_folder`'s options."""
    return _rule(spec, face_count, DecisionOptions(fmr, threshold, attack))


def _rule(spec: ModelSpec, face_count: int, options: DecisionOptions) -> DecisionRule:
    fmr, threshold, attack = options.fmr, options.threshold, options.attack
    if fmr is None and threshold is None:
        pairs = face_count * (face_count - 1) // 2
        return rule_for_pairs(spec, pairs, attack, references=1, strict=False)
    return DecisionRule.from_calibration(spec, fmr, threshold, attack, references=1)


def cluster_rows(
    embeddings: ArrayLike,
    threshold: float,
    *,
    cohort: Cohort | None = None,
    on_row: OnProgress | None = None,
) -> NDArray[np.int64]:
    """Return (N,) the group of each of N unit rows, from 1: the largest first, then by the first row.

    Rows are neighbours from a score of `threshold` on, with a `cohort` less their penalties; within a group
    every row is reached from every other over neighbours. The same rows in one order give the same groups.
    """
    rows = checked_embeddings(embeddings)
    neighbours = _neighbours(rows, threshold, cohort, on_row)
    groups = _connected(neighbours, _whisper(neighbours))
    groups.sort(key=lambda group: (-len(group), group[0]))
    labels = np.zeros(len(rows), np.int64)
    for label, group in enumerate(groups, start=1):
        labels[group] = label
    return labels


def _neighbours(
    rows: Embeddings, threshold: float, cohort: Cohort | None, on_row: OnProgress | None
) -> list[list[tuple[int, int]]]:
    """Return the neighbours of each row and their weights, by the exact search of a gallery."""
    if not len(rows):
        return []
    names = tuple(f"{place:012}" for place in range(len(rows)))  # sorted, as a gallery's ids are
    gallery = MemoryGallery(spec_digest="rows", embedding_size=rows.shape[1])
    for name, row in zip(names, rows, strict=True):
        gallery.add(name, [Template(row, gallery.spec_digest)])
    enrolled = Enrolled(names, rows, np.arange(len(rows)))
    neighbours: list[list[tuple[int, int]]] = [[] for _ in names]
    search = None
    if cohort is not None:
        search = PenalisedSearch(gallery.search, lambda name: rows[int(name)][None], cohort)
    for pair in find_duplicates(
        gallery, threshold, search=search, enrolled=enrolled, on_template=on_row
    ):
        one, other = int(pair.subject_id), int(pair.other_id)
        weight = max(1, round(_WEIGHT * pair.score))
        neighbours[one].append((other, weight))
        neighbours[other].append((one, weight))
    return neighbours


def _whisper(neighbours: Sequence[Sequence[tuple[int, int]]]) -> list[int]:
    """Return a label for each row.

    A row changes only to a label of more weight, or of the same weight and a lower number. So the weight
    within labels rises, or stays while the numbers fall: the rounds end.
    """
    labels = list(range(len(neighbours)))
    waiting = [place for place, found in enumerate(neighbours) if found]
    while waiting:
        again: set[int] = set()
        for place in waiting:
            votes: dict[int, int] = {}
            for other, weight in neighbours[place]:
                votes[labels[other]] = votes.get(labels[other], 0) + weight
            best = min(votes, key=lambda label: (-votes[label], label))
            if best != labels[place]:
                labels[place] = best
                again.update(other for other, _ in neighbours[place])
        waiting = sorted(again)  # nothing has changed for the others
    return labels


def _connected(
    neighbours: Sequence[Sequence[tuple[int, int]]], labels: Sequence[int]
) -> list[list[int]]:
    """Return the connected rows of each label: a row that left can leave two parts behind."""
    groups: list[list[int]] = []
    seen = [False] * len(labels)
    for start in range(len(labels)):
        if seen[start]:
            continue
        seen[start] = True
        group = [start]
        for place in group:  # it grows meanwhile
            for other, _ in neighbours[place]:
                if not seen[other] and labels[other] == labels[start]:
                    seen[other] = True
                    group.append(other)
        groups.append(sorted(group))
    return groups
