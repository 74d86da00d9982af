"""Which images and subjects a run was trained on, by content: ``subjects.json``, and who is left out.

Folders are renamed and grow, and two runs may write to one folder. So ``subjects.json`` holds the digests
of the decoded images of each split, and its own digest is in ``spec.json`` and in the weights' file.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from verifykit.errors import shortened, shown
from verifykit_training.dataset import Record, Split
from verifykit_training.errors import TrainingError


@dataclass(frozen=True)
class TrainedOn:
    """The splits of a run.

    Attributes:
        subjects: The subjects of each split.
        images: Digests of the decoded images of each split; None in runs of earlier versions.
    """

    subjects: dict[str, list[str]]
    images: dict[str, frozenset[str]] | None


BEFORE = "before"
"""Next to the splits: what the run was trained on whose weights this one began with."""


def to_json(
    subjects: dict[Split, list[str]],
    images: dict[Split, list[str]],
    before: TrainedOn | None = None,
) -> str:
    """Return the text of ``subjects.json``."""
    names: dict[str, list[str]] = dict(subjects.items())
    digests: dict[str, list[str]] = dict(images.items())
    if before is not None:
        names[BEFORE] = sorted(before.subjects.get(BEFORE, ()))
        digests[BEFORE] = sorted((before.images or {}).get(BEFORE, ()))
    return json.dumps({**names, "images": digests}, indent=1) + "\n"


def as_before(trained: TrainedOn) -> TrainedOn:
    """Return what a run was trained on, and any run before it, as the past of one that begins with it.

    Names are of no use where images are known: in other data the same name is another subject.
    """
    parts = ("train", BEFORE)
    names = {name for part in parts for name in trained.subjects.get(part, ())}
    images = trained.images or {}
    return TrainedOn(
        {BEFORE: sorted(names) if trained.images is None else []},
        {BEFORE: frozenset().union(*(images.get(part, frozenset()) for part in parts))},
    )


def from_json(text: str) -> TrainedOn:
    """Read the text of ``subjects.json``; raise ValueError for another."""
    body = json.loads(text)
    if not isinstance(body, dict):
        raise ValueError("it is no JSON object")  # noqa: TRY004 - as for text that is no JSON
    images = body.pop("images", None)
    if images is not None:
        images = {name: frozenset(digests) for name, digests in images.items()}
    return TrainedOn({name: list(names) for name, names in body.items()}, images)


@dataclass(frozen=True)
class Separated:
    """Records apart by whether a run has seen their subjects.

    Attributes:
        unseen: Of subjects of whom the run saw neither name nor image.
        seen: The others.
        sentences: What is worth saying about them.
    """

    unseen: list[Record]
    seen: list[Record]
    sentences: tuple[str, ...]


def separate(
    trained: TrainedOn,
    records: Sequence[Record],
    digests: dict[Path, str],
    parts: Collection[str],
) -> Separated:
    """Part records by whether their subject is in one of the splits, by name or by any image.

    Who an earlier run was trained on, whose weights this one began with, is in all of them.
    """
    parts = (*parts, BEFORE)
    names = {name for part in parts for name in trained.subjects.get(part, ())}
    if trained.images is None:
        sentence = (
            "This run is of an earlier version and has no digests of its images: who was trained on is "
            "decided by the subjects' names."
        )
        same: set[str] = set()
    else:
        known = frozenset().union(*(trained.images.get(part, ()) for part in parts))
        same = {r.subject for r in records if digests.get(r.path) in known} - names
        sentence = (
            f"{len(same)} subject(s) are left out because the run saw images of theirs under other names, "
            f"for example {shown(min(same))}."
            if same
            else ""
        )
    left_out = names | same
    return Separated(
        [record for record in records if record.subject not in left_out],
        [record for record in records if record.subject in left_out],
        (sentence,) if sentence else (),
    )


def of_split(
    trained: TrainedOn, records: Sequence[Record], digests: dict[Path, str], part: str
) -> list[Record]:
    """Return the records of a split: those whose image was in it when the run began."""
    if trained.images is None:
        names = set(trained.subjects.get(part, ()))
        return [record for record in records if record.subject in names]
    known = trained.images.get(part, frozenset())
    return [record for record in records if digests.get(record.path) in known]


def require_bound(path: Path, digest: str, bound: dict[str, str | None]) -> None:
    """Raise `TrainingError` if a file that states the digest of ``subjects.json`` states another."""
    for name, stated in bound.items():
        if stated is not None and stated != digest:
            raise TrainingError(
                f"{shortened(path)}: subjects.json is not the one that {name} was written with, so it "
                "cannot say who was trained on: restore it, or train again"
            )
