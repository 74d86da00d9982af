"""How a data set was read: its tree with examples, and layouts that look like another one."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from pathlib import Path

from verifykit.datasets import IMAGE_SUFFIXES, Dataset, printable_name
from verifykit.errors import shown

_SPLIT_NAMES = {"train", "training", "val", "valid", "validation", "test", "testing", "dev", "eval"}
_EXAMPLES = 3
_LEAST_BELOW = 2
_MOST_STRAYS = 0.1


def tree_lines(data: Dataset) -> list[str]:
    """Return how the data were read: what they are, and three example files with their subjects."""
    kind = "a folder for each subject" if data.kind == "folder" else "a table of images"
    images = data.images
    places = sorted({0, len(images) // 2, len(images) - 1})[:_EXAMPLES]
    lines = [f"read as: {kind}"]
    return lines + [
        f"    {printable_name(images[at].name)} is of {shown(images[at].subject)}" for at in places
    ]


def nested_sentences(data: Dataset) -> list[str]:
    """Return the sentence about a layout that looks like another one; empty without doubt."""
    found = _nested(data)
    return [found] if found else []


def _nested(data: Dataset) -> str:
    """Return a sentence if the folders that became subjects look like splits or groups of subjects."""
    if data.kind != "folder":
        return ""
    subjects = data.subjects
    where = str(data.source)
    if all(subject.lower() in _SPLIT_NAMES for subject in subjects):
        return (
            f"{shown(where)} holds {', '.join(map(shown, subjects))}, which look like splits and were read "
            "as subjects: give one of them, or a CSV path,subject,split"
        )
    below: defaultdict[str, set[str]] = defaultdict(set)
    direct = 0
    for image in data.images:
        subject, middle, *rest = image.name.split("/")
        if rest:
            below[subject].add(middle)
        else:
            direct += 1
    # Images in the subjects' own folders are what a subject has; a few may be strays of another layout.
    if not below or len(below) < len(subjects) or direct > _MOST_STRAYS * len(data.images):
        return ""
    names = Counter(name for found in below.values() for name in found)
    shared = sum(count > 1 for count in names.values())
    # Sessions have the same names in each subject's folder; people have not.
    if min(map(len, below.values())) < _LEAST_BELOW or 2 * shared > len(names):
        return ""
    first = subjects[0]
    there = [printable_name(f"{first}/{name}") for name in sorted(below[first])[:2]]
    return (
        f"{shown(where)} has {len(subjects)} folders, read as subjects, with {len(names)} folders in them, "
        f"such as {there[0]} and {there[1]}, which look like the subjects: give "
        f"{shown(str(data.source / first))}, or a CSV path,subject"
    )


def other_endings(data: Dataset) -> list[tuple[str, int]]:
    """Count the files of a folder that are no images, by ending, the most frequent first."""
    if data.kind != "folder":
        return []
    found: Counter[str] = Counter()
    for _, folders, files in os.walk(data.source):
        folders[:] = [name for name in folders if not name.startswith(".")]
        endings = (Path(name).suffix.lower() for name in files if not name.startswith("."))
        found.update(ending or "no ending" for ending in endings if ending not in IMAGE_SUFFIXES)
    return found.most_common()
