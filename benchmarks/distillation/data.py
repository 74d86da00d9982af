"""The people of the benchmark: who is trained on, and which pairs are held out."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.face.data import read_subjects

TRAINED_FOLDS = ("01", "02", "03")


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Pairs of images of people who are not trained on.

    Attributes:
        name: Of the set.
        first: Paths of one side.
        second: Paths of the other.
        mated: (P,) bool.
        subjects: (2, P) names of the people.
    """

    name: str
    first: list[Path]
    second: list[Path]
    mated: NDArray[np.bool_]
    subjects: NDArray[np.str_]


def write_training_list(data: Path, target: Path) -> int:
    """Write LFW's training people and CFP's folds 1-3 without people of LFW; return the number of images."""
    cfp = data / "faces" / "cfp"
    people = _cfp_people(cfp)
    rows = [(path, subject) for path, subject in read_subjects(data, "lfw_train")]
    for path, row in _cfp_images(cfp):
        if people.get(path.parent.name) in TRAINED_FOLDS:
            rows.append((path, row["subject"]))
    with target.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "subject"])
        writer.writerows((path.resolve(), subject) for path, subject in rows)
    return len(rows)


def read_held_out(data: Path) -> list[HeldOut]:
    """Return LFW's View 1 test pairs, and the pairs of CFP's folds 4 and 5 without people of LFW."""
    faces = data / "faces"
    rows = _table(faces / "lfw_val_pairs.csv")
    lfw = [(faces / row["probe"], faces / row["reference"], row["mated"] == "1") for row in rows]
    found = [_held_out("LFW View 1", lfw)]
    people = _cfp_people(faces / "cfp")
    for protocol, title in (("FF", "frontal"), ("FP", "frontal-profile")):
        pairs = [
            (faces / "cfp" / row["path_a"], faces / "cfp" / row["path_b"], row["same"] == "1")
            for row in _table(faces / "cfp" / "pairs.csv")
            if row["protocol"] == protocol
        ]
        pairs = [
            pair
            for pair in pairs
            if _is_held_out(pair[0], people) and _is_held_out(pair[1], people)
        ]
        found.append(_held_out(f"CFP {title}", pairs))
    return found


def every_held_out_pair(data: Path) -> HeldOut:
    """Return every pair of images, frontal and profile, of CFP's folds 4 and 5 without people of LFW."""
    cfp = data / "faces" / "cfp"
    people = _cfp_people(cfp)
    images = [path for path, _ in _cfp_images(cfp) if _is_held_out(path, people)]
    pairs = [(a, b, a.parent.name == b.parent.name) for a, b in combinations(images, 2)]
    return _held_out("CFP, every pair", pairs)


def held_out_paths(held_out: Sequence[HeldOut]) -> list[Path]:
    """Return the images of all pairs, each once."""
    return sorted({path for pairs in held_out for path in (*pairs.first, *pairs.second)})


def _is_held_out(path: Path, people: dict[str, str]) -> bool:
    return people.get(path.parent.name, TRAINED_FOLDS[0]) not in TRAINED_FOLDS


def _cfp_people(cfp: Path) -> dict[str, str]:
    """Return the fold of each person who is not in LFW."""
    in_lfw = {path.parent.name for path, row in _cfp_images(cfp) if row["in_lfw"] == "1"}
    folds = {
        Path(row[side]).parent.name: row["fold"]
        for row in _table(cfp / "pairs.csv")
        for side in ("path_a", "path_b")
    }
    return {person: fold for person, fold in folds.items() if person not in in_lfw}


def _cfp_images(cfp: Path) -> Iterable[tuple[Path, dict[str, str]]]:
    return [(cfp / row["path"], row) for row in _table(cfp / "manifest.csv")]


def _held_out(name: str, pairs: list[tuple[Path, Path, bool]]) -> HeldOut:
    return HeldOut(
        name,
        [pair[0] for pair in pairs],
        [pair[1] for pair in pairs],
        np.array([pair[2] for pair in pairs]),
        np.array([[a.parent.name for a, _, _ in pairs], [b.parent.name for _, b, _ in pairs]]),
    )


def _table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
