"""LFW's own list of pairs, ``pairs.txt``.

Huang et al., "Labeled Faces in the Wild: A Database for Studying Face Recognition in Unconstrained
Environments", University of Massachusetts, Technical Report 07-49, 2007; the format is described in the
data set's README.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from verifykit.batch import IMAGE_SUFFIXES
from verifykit.evaluation.listing import bad_line, read_text
from verifykit.evaluation.records import EvaluationImage, ListedPair

__all__ = ["read_lfw_pairs"]

_SUBFOLDERS = ("", "lfw", "lfw-deepfunneled", "lfw_funneled")
_SUFFIXES = (".jpg", *sorted(IMAGE_SUFFIXES - {".jpg"}))
_NUMBER = re.compile("[0-9]{1,9}")


def read_lfw_pairs(
    source: Path, root: Path
) -> tuple[tuple[EvaluationImage, ...], tuple[ListedPair, ...]]:
    """Images and pairs of a list in the format of LFW's ``pairs.txt`` and ``pairsDevTest.txt``.

    The first line is ``10<tab>300``: folds, and how many mated and how many non-mated pairs each of
    them has; or ``500``, which is one fold. For each fold the mated pairs follow as
    ``name<tab>n1<tab>n2``, then the non-mated ones as ``name1<tab>n1<tab>name2<tab>n2``. An image lies
    in ``<root>/<name>/<name>_<n, four digits>``, with ``.jpg`` or any other image's ending; or in a
    folder ``lfw``, ``lfw-deepfunneled`` or ``lfw_funneled`` below the root, the first that has a folder
    of one of the names.

    Args:
        source: The list.
        root: The folder that holds the images.

    Returns:
        Each image once, in the order in which the lines name them; and the pairs in their order, with
        folds counted from 1.

    Raises:
        InputError: The file cannot be read or is of another format; the message names the line.
    """
    lines = read_text(source).replace("\r\n", "\n").replace("\r", "\n").split("\n")
    while lines and not lines[-1].strip():
        del lines[-1]
    folds, count = _first(source, lines[0] if lines else "")
    index: dict[tuple[str, int], int] = {}
    pairs = []
    for place, line in enumerate(lines[1 : 2 * count * folds + 1]):
        mated = place % (2 * count) < count
        one, other = _pair(source, place + 2, line, mated=mated)
        numbers = [index.setdefault(image, len(index)) for image in (one, other)]
        pairs.append(ListedPair(numbers[0], numbers[1], mated, place // (2 * count) + 1))
    wanted = f"line 1 says {folds} x 2 x {count} = {2 * count * folds} pairs"
    if len(lines) - 1 > 2 * count * folds:
        raise bad_line(source, 2 * count * folds + 2, f"{wanted}, and here is one more")
    if len(pairs) < 2 * count * folds:
        raise bad_line(source, len(lines), f"the file ends after {len(pairs)} pairs, but {wanted}")
    return _images(index, root), tuple(pairs)


def _first(source: Path, line: str) -> tuple[int, int]:
    fields = _fields(line)
    if len(fields) not in (1, 2) or not all(_NUMBER.fullmatch(field) for field in fields):
        raise bad_line(
            source,
            1,
            f"{line!r} is not the first line of LFW's pairs.txt, '10<tab>300' (folds, and mated pairs in "
            "each) or '500'; a list in another format is given as a .csv file",
        )
    folds, count = [1, *map(int, fields)][-2:]
    if not folds or not count:
        raise bad_line(source, 1, f"{line!r} says that there are no pairs")
    return folds, count


def _pair(
    source: Path, number: int, line: str, *, mated: bool
) -> tuple[tuple[str, int], tuple[str, int]]:
    fields = _fields(line)
    wanted = 3 if mated else 4
    if mated and len(fields) == wanted:
        fields.insert(2, fields[0])
    if len(fields) != 4 or len(_fields(line)) != wanted:
        raise bad_line(source, number, f"{line!r} is not {_shape(mated=mated)}")
    if not all(fields) or not all(_NUMBER.fullmatch(field) for field in fields[1::2]):
        raise bad_line(source, number, f"{line!r} is not {_shape(mated=mated)}, n being a number")
    one, other = (fields[0], int(fields[1])), (fields[2], int(fields[3]))
    if one == other:
        raise bad_line(source, number, f"{line!r} pairs an image with itself")
    if not mated and one[0] == other[0]:
        raise bad_line(
            source, number, f"{line!r} is of one subject, {one[0]!r}, where non-mated pairs stand"
        )
    return one, other


def _shape(*, mated: bool) -> str:
    if mated:
        return "a mated pair, 'name<tab>n1<tab>n2', as line 1 says that one stands here"
    return "a non-mated pair, 'name1<tab>n1<tab>name2<tab>n2', as line 1 says that one stands here"


def _fields(line: str) -> list[str]:
    return [field.strip() for field in line.split("\t")]


def _images(wanted: Iterable[tuple[str, int]], root: Path) -> tuple[EvaluationImage, ...]:
    wanted = list(wanted)
    names = list(dict.fromkeys(name for name, _ in wanted))
    # One folder for all of them: an image of lfw beside its mate of lfw-deepfunneled is another test.
    bases = [root / name for name in _SUBFOLDERS]
    base = next((base for base in bases if any((base / name).is_dir() for name in names)), root)
    files = {name: _files(base / name) for name in names}
    images = []
    for name, number in wanted:
        stem = f"{name}_{number:04d}"
        file = files[name].get(stem, f"{stem}.jpg")
        images.append(EvaluationImage(base / name / file, f"{name}/{file}", name))
    return tuple(images)


def _files(folder: Path) -> dict[str, str]:
    """File of each stem, of several the one whose suffix comes first; empty without the folder."""
    try:
        found = [path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES]
    except OSError:  # then its images are missing, and counted as such
        return {}
    found.sort(key=lambda path: (_SUFFIXES.index(path.suffix.lower()), path.name), reverse=True)
    return {path.stem: path.name for path in found}
