"""What evaluation data are made of: images, the pairs to compare, and where they came from.

A folder with a folder of images for each subject.

A CSV file of images and their subjects.

A CSV file of pairs of images.

LFW's own list of pairs, ``pairs.txt``.

Huang et al., "Labeled Faces in the Wild: A Database for Studying Face Recognition in Unconstrained
Environments", University of Massachusetts, Technical Report 07-49, 2007; the format is described in the
data set's README.

Lists in text files: decoded, split into rows, and every row with the line that it stands on.

The images below a folder, told by their suffix.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeAlias

from verifykit.errors import InputError

DataKind: TypeAlias = Literal["folder", "images", "pairs", "lfw_pairs"]

FaceChoice: TypeAlias = Literal["error", "largest", "middle"]
"""What to do with several faces; ``"middle"`` takes the one nearest the image's centre, as LFW has it."""


@dataclass(frozen=True)
class EvaluationImage:
    """One image and what the data say about it.

    Attributes:
        path: The file; whether it is there is found out when it is read.
        name: As the data name it: relative where they do, with ``/`` between its parts.
        subject: Whose it is; of a forgery, whom it imitates.
        is_forgery: A skilled forgery of ``subject``: never mated with anything.
        groups: The further columns of an images CSV, by column; a cell may be empty.
    """

    path: Path
    name: str
    subject: str
    is_forgery: bool = False
    groups: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class ListedPair:
    """Two images that the data ask to compare.

    Attributes:
        probe: Index of an image.
        reference: Index of another.
        mated: Both are genuine and of one subject.
        fold: Which part of a cross-validation it belongs to, if the data say so.
        groups: The further columns of a pairs CSV, by column; a cell may be empty.
        is_skilled: Not mated, and the probe is a skilled forgery of the reference's subject.
    """

    probe: int
    reference: int
    mated: bool
    fold: int | None = None
    groups: Mapping[str, str] = field(default_factory=dict, hash=False)
    is_skilled: bool = False


@dataclass(frozen=True)
class EvaluationData:
    """Images with subjects, and the comparisons to make.

    Attributes:
        source: The folder or file that was read.
        kind: What it was.
        images: Each image once.
        pairs: The comparisons, as often as they are listed; None is every pair of images.
        has_subjects: Whether the data name the subjects; else they are those that mated pairs join.
        left_out: How many files of a folder are no images, by their ending.
    """

    source: Path
    kind: DataKind
    images: tuple[EvaluationImage, ...]
    pairs: tuple[ListedPair, ...] | None
    has_subjects: bool = True
    left_out: int = 0

    @cached_property
    def subjects(self) -> tuple[str, ...]:
        """Names of all subjects, each once, sorted."""
        return tuple(sorted({image.subject for image in self.images}))


@dataclass(frozen=True)
class Row:
    """A row of a CSV file.

    Attributes:
        line: The line that it begins on, from 1.
        cells: Column to cell, without spaces around it.
    """

    line: int
    cells: Mapping[str, str]


@dataclass(frozen=True)
class Table:
    """A CSV file.

    Attributes:
        source: The file.
        columns: Their names, each once.
        rows: What follows the header; may be empty.
    """

    source: Path
    columns: tuple[str, ...]
    rows: tuple[Row, ...]


def bad_line(source: Path, line: int, problem: str) -> InputError:
    """The error about a line of a file, to be raised."""
    return InputError(f"{str(source)!r}, line {line}: {problem}")


def read_text(source: Path) -> str:
    """The text of a file in UTF-8, with or without a byte order mark.

    Raises:
        InputError: It cannot be read, or is no text in UTF-8.
    """
    try:
        data = source.read_bytes()
    except OSError as error:
        raise InputError(f"{str(source)!r} cannot be read: {error.strerror or error}") from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        problem = f"byte 0x{data[error.start]:02x} is not UTF-8: save it as text in UTF-8"
        raise bad_line(source, line, problem) from error
    if (place := text.find("\0")) >= 0:
        line = text.count("\n", 0, place) + 1
        raise bad_line(source, line, "there is a NUL character, so this is no text file")
    return text


def read_table(source: Path, known: Collection[str]) -> Table:
    """Read a CSV file with a header: commas between cells, quotes as RFC 4180 has them.

    Args:
        source: The file.
        known: Columns whose names count whatever their case, since ``Label`` must not become something
            else than ``label``.

    Returns:
        Its columns and rows; blank lines are left out.

    Raises:
        InputError: Unreadable, not UTF-8, not CSV, empty, a column without a name or named twice, or a
            row of another length than the header.
    """
    text = io.StringIO(read_text(source), newline="")
    reader = csv.reader(text, strict=True, skipinitialspace=True)
    lines: list[tuple[int, list[str]]] = []
    start = 1
    try:
        for cells in reader:
            if cells:
                lines.append((start, [cell.strip() for cell in cells]))
            start = reader.line_num + 1
    except csv.Error as error:
        raise bad_line(source, start, f"the row that begins here is not CSV: {error}") from error
    if not lines:
        raise InputError(f"{str(source)!r} is empty: a CSV file begins with its column names")
    line, header = lines[0]
    columns = tuple(name.lower() if name.lower() in known else name for name in header)
    for number, name in enumerate(columns, 1):
        if not name:
            raise bad_line(source, line, f"column {number} has no name: name it, or remove it")
        if name in columns[: number - 1]:
            raise bad_line(source, line, f"column {name!r} is there twice: remove or rename one")
    return Table(source, columns, tuple(_row(source, columns, *rest) for rest in lines[1:]))


def split_row(
    table: Table, row: Row, known: Collection[str]
) -> tuple[dict[str, str], dict[str, str]]:
    """The cells of the columns that are known, and those of all further columns.

    Args:
        table: Where the row is from.
        row: The row.
        known: The columns that are known.

    Returns:
        Column to cell, twice; a known column that is not there has an empty cell.
    """
    named = {name: row.cells.get(name, "") for name in known}
    return named, {name: row.cells[name] for name in table.columns if name not in known}


def _row(source: Path, columns: tuple[str, ...], line: int, cells: list[str]) -> Row:
    if len(cells) != len(columns):
        raise bad_line(
            source,
            line,
            f"{len(cells)} cells, and the header names {len(columns)} columns: correct the row "
            f"{','.join(cells)[:200]!r} (a cell with a comma in it needs quotes)",
        )
    return Row(line, dict(zip(columns, cells, strict=True)))


COLUMNS = ("path", "image", "subject", "label")
HEADER = "path,subject[,label][,further columns]"
_LABELS = {"": False, "genuine": False, "skilled_forgery": True}


def is_image_list(table: Table) -> bool:
    """Whether the header is that of an images CSV."""
    return "subject" in table.columns and ("path" in table.columns or "image" in table.columns)


def read_image_list(table: Table, root: Path) -> tuple[EvaluationImage, ...]:
    """Images of a CSV with the columns ``path`` (or ``image``), ``subject`` and perhaps ``label``.

    Args:
        table: The CSV; every further column is a group column.
        root: The folder that its paths are relative to.

    Returns:
        Each image once, in the order of the rows.

    Raises:
        InputError: An empty cell, an unknown label, or an image that is listed twice with something
            else; the message names the lines.
    """
    if "path" in table.columns and "image" in table.columns:
        raise InputError(
            f"{str(table.source)!r} has both columns path and image: rename one of them"
        )
    listed: dict[str, tuple[int, EvaluationImage]] = {}
    for row in table.rows:
        image = _image(table, row, root)
        line, earlier = listed.setdefault(image.name, (row.line, image))
        if image != earlier:
            raise bad_line(
                table.source,
                row.line,
                f"{image.name!r} was listed on line {line} already, and {_difference(earlier, image)}: "
                "keep the line that is right",
            )
    return tuple(image for _, image in listed.values())


def _image(table: Table, row: Row, root: Path) -> EvaluationImage:
    cells, groups = split_row(table, row, COLUMNS)
    name = cells["path"] or cells["image"]
    for column, cell in (
        ("path" if "path" in table.columns else "image", name),
        ("subject", cells["subject"]),
    ):
        if not cell:
            raise bad_line(
                table.source, row.line, f"{column} is empty: fill it in, or remove the line"
            )
    if cells["label"] not in _LABELS:
        raise bad_line(
            table.source,
            row.line,
            f"label {cells['label']!r} is not one of genuine, skilled_forgery or empty",
        )
    return EvaluationImage(
        root / name, Path(name).as_posix(), cells["subject"], _LABELS[cells["label"]], groups
    )


def _difference(earlier: EvaluationImage, later: EvaluationImage) -> str:
    if earlier.subject != later.subject:
        return f"there its subject is {earlier.subject!r}, here {later.subject!r}"
    if earlier.is_forgery != later.is_forgery:
        return "one line says skilled_forgery and the other genuine"
    column = next(name for name in earlier.groups if earlier.groups[name] != later.groups[name])
    return f"there {column} is {earlier.groups[column]!r}, here {later.groups[column]!r}"


PAIR_COLUMNS = (
    "probe",
    "reference",
    "mated",
    "probe_subject",
    "reference_subject",
    "attack",
    "fold",
)
PAIR_HEADER = (
    "probe,reference,mated[,probe_subject,reference_subject][,attack][,fold][,further columns]"
)
_MATED = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
_ATTACKS = ("", "random_forgery", "skilled_forgery")


@dataclass(frozen=True)
class _Listed:
    """A pair with the line that it stands on and the subjects that the line states, if any."""

    line: int
    pair: ListedPair
    subjects: tuple[str, str]


def is_pair_list(table: Table) -> bool:
    """Whether the header is that of a pairs CSV."""
    return {"probe", "reference", "mated"} <= set(table.columns)


def read_pair_list(
    table: Table, root: Path
) -> tuple[tuple[EvaluationImage, ...], tuple[ListedPair, ...]]:
    """Images and pairs of a CSV with the columns ``probe``, ``reference`` and ``mated``.

    Without the columns ``probe_subject`` and ``reference_subject``, images that mated pairs connect are
    of one subject, named after the first of them in the order of names, and all others are of other
    subjects: nothing is guessed from file names. Where ``attack`` is ``skilled_forgery``, the probe is
    a forgery of the reference's subject; a ``probe_subject`` is then whom it imitates.

    Args:
        table: The CSV; every further column is a group column of pairs.
        root: The folder that its paths are relative to.

    Returns:
        Each image once, in the order in which the rows name them; and the pairs, one for each row.

    Raises:
        InputError: An empty or unknown cell, an image paired with itself, or a row that contradicts
            itself or another; the message names the lines.
    """
    stated = [name for name in ("probe_subject", "reference_subject") if name in table.columns]
    if len(stated) == 1:
        raise InputError(
            f"{str(table.source)!r} has the column {stated[0]} alone: give both probe_subject and "
            "reference_subject, or neither"
        )
    index: dict[str, int] = {}
    rows = [_listed(table, row, index) for row in table.rows]
    names = list(index)
    forgeries = _forgeries(table, rows, names)
    subjects = _stated(table, rows, names) if stated else _connected(rows, names, forgeries)
    for row in rows:
        _require_agreement(table, row, names, subjects, stated=bool(stated))
    images = (
        EvaluationImage(root / name, name, subjects[number], number in forgeries)
        for number, name in enumerate(names)
    )
    return tuple(images), tuple(row.pair for row in rows)


def _listed(table: Table, row: Row, index: dict[str, int]) -> _Listed:
    def refuse(problem: str) -> InputError:
        return bad_line(table.source, row.line, problem)

    cells, groups = split_row(table, row, PAIR_COLUMNS)
    for column in ("probe", "reference", "probe_subject", "reference_subject", "fold"):
        if column in table.columns and not cells[column]:
            raise refuse(f"{column} is empty: fill it in, or remove the line")
    mated = _MATED.get(cells["mated"].lower())
    if mated is None:
        raise refuse(f"mated is {cells['mated']!r}, and not one of {', '.join(_MATED)}")
    attack = cells["attack"]
    if attack not in _ATTACKS:
        raise refuse(f"attack {attack!r} is not one of {', '.join(_ATTACKS[1:])} or empty")
    if mated and attack:
        raise refuse(f"attack is {attack!r}, but the pair is mated: leave attack empty")
    if cells["fold"] and not re.fullmatch(r"[0-9]{1,9}", cells["fold"]):
        raise refuse(f"fold {cells['fold']!r} is not a number 0, 1, 2, ...")
    fold = int(cells["fold"]) if cells["fold"] else None
    probe, reference = (Path(cells[name]).as_posix() for name in ("probe", "reference"))
    if probe == reference:
        raise refuse(f"{probe!r} is paired with itself: remove the line, its score would be 1")
    numbers = [index.setdefault(name, len(index)) for name in (probe, reference)]
    pair = ListedPair(
        numbers[0], numbers[1], mated, fold, groups, is_skilled=attack == "skilled_forgery"
    )
    return _Listed(row.line, pair, (cells["probe_subject"], cells["reference_subject"]))


def _forgeries(table: Table, rows: list[_Listed], names: list[str]) -> set[int]:
    """Images that a row says are forgeries, and no row says are genuine."""
    genuine: dict[int, int] = {}
    for row in rows:
        if row.pair.mated:
            genuine.setdefault(row.pair.probe, row.line)
        if row.pair.mated or row.pair.is_skilled:
            genuine.setdefault(row.pair.reference, row.line)
    skilled = [row for row in rows if row.pair.is_skilled]
    for row in skilled:
        if row.pair.probe in genuine:
            raise bad_line(
                table.source,
                row.line,
                f"{names[row.pair.probe]!r} is a skilled_forgery here, but line "
                f"{genuine[row.pair.probe]} takes it for genuine: in a line of that attack the probe is "
                "the forgery and the reference is not",
            )
    return {row.pair.probe for row in skilled}


def _stated(table: Table, rows: list[_Listed], names: list[str]) -> list[str]:
    """The subject of each image as the rows state it."""
    found: dict[int, tuple[str, int]] = {}
    for row in rows:
        for number, subject in zip((row.pair.probe, row.pair.reference), row.subjects, strict=True):
            earlier, line = found.setdefault(number, (subject, row.line))
            if subject != earlier:
                raise bad_line(
                    table.source,
                    row.line,
                    f"{names[number]!r} is of subject {subject!r} here, and of {earlier!r} on line "
                    f"{line}: correct one of them",
                )
    return [found[number][0] for number in range(len(names))]


def _connected(rows: list[_Listed], names: list[str], forgeries: set[int]) -> list[str]:
    """The subject of each image: what mated pairs connect, and whom a forgery imitates."""
    above = list(range(len(names)))

    def top(number: int) -> int:
        while above[number] != number:
            above[number] = above[above[number]]  # halves the path for the next one
            number = above[number]
        return number

    for row in rows:
        if row.pair.mated or row.pair.is_skilled:
            above[top(row.pair.probe)] = top(row.pair.reference)
    first: dict[int, str] = {}
    for number in sorted(set(range(len(names))) - forgeries, key=lambda each: names[each]):
        first.setdefault(top(number), names[number])
    return [first[top(number)] for number in range(len(names))]


def _require_agreement(
    table: Table, row: _Listed, names: list[str], subjects: list[str], *, stated: bool
) -> None:
    pair = row.pair
    one, other = subjects[pair.probe], subjects[pair.reference]
    if pair.mated and one != other:
        raise bad_line(
            table.source, row.line, f"the pair is mated, but of subjects {one!r} and {other!r}"
        )
    if pair.is_skilled and one != other:
        raise bad_line(
            table.source,
            row.line,
            f"the probe is a skilled_forgery, so its subject is whom it imitates: {other!r}, not {one!r}",
        )
    if not pair.mated and not pair.is_skilled and one == other:
        why = "the columns of subjects" if stated else "other lines"
        raise bad_line(
            table.source,
            row.line,
            f"{names[pair.probe]!r} and {names[pair.reference]!r} are not mated here, but {why} make "
            f"them of one subject, {one!r}: correct one of them, or, if the probe is a forgery, write "
            "skilled_forgery in a column attack",
        )


IMAGE_SUFFIXES = frozenset(
    {".bmp", ".gif", ".jp2", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif"}
    | {".tiff", ".webp"}
)


def find_images(folder: Path) -> list[str]:
    """Images below a folder as sorted paths relative to it.

    Args:
        folder: Where to look; links to folders are not followed.

    Returns:
        Paths with ``/`` between their parts, in the order of their parts.

    Raises:
        InputError: It is not a folder, or a folder in it cannot be read.
    """
    return list(walk_images(folder))


def walk_images(folder: Path) -> Iterator[str]:
    """Like :func:`find_images`, one by one: no more than one folder's names are held at a time.

    Args:
        folder: Where to look; links to folders are not followed.

    Yields:
        Paths with ``/`` between their parts, in the order of their parts.

    Raises:
        InputError: It is not a folder, or a folder in it cannot be read.
    """
    if not folder.is_dir():
        raise InputError(f"{str(folder)!r} is not a folder")
    yield from _walk(str(folder), "")


def _walk(folder: str, prefix: str) -> Iterator[str]:
    try:
        with os.scandir(folder) as entries:
            found = sorted((entry.name, _is_folder(entry), entry.is_symlink()) for entry in entries)
    except OSError as error:
        raise InputError(f"{error.filename!r} cannot be read: {error.strerror}") from error
    for name, is_folder, is_link in found:
        if is_folder and not is_link:
            yield from _walk(os.path.join(folder, name), f"{prefix}{name}/")  # noqa: PTH118 - a million
        elif not is_folder and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES:  # noqa: PTH122
            yield prefix + name


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads nowhere is an image that cannot be read
        return False


def read_folder(folder: Path) -> tuple[EvaluationImage, ...]:
    """Images below a folder, their subjects named by its first-level folders.

    Images may lie deeper than the subject's own folder. Files without an image's ending are left out,
    and so is what is hidden (a name that begins with a dot).

    Args:
        folder: The folder.

    Returns:
        At least one image, in the order of their paths.

    Raises:
        InputError: No images, images beside the subjects' folders, a link to a folder, or a folder that
            cannot be read.
    """
    images = []
    for name in find_images(folder):
        parts = name.split("/")
        if _is_hidden(parts):
            continue
        if len(parts) == 1:
            raise InputError(
                f"{str(folder)!r} holds the image {name!r} itself, so nothing says whose it is: a "
                "folder for each subject is wanted, with the subject's images in it"
            )
        images.append(EvaluationImage(folder / name, name, parts[0]))
    if link := _linked_folder(folder):
        # find_images does not follow it, and a subject would be lost without a word.
        raise InputError(
            f"{link!r} in {str(folder)!r} is a link to a folder, and links are not followed: put the "
            "folder itself there, or name the images in a CSV file path,subject"
        )
    if not images:
        raise InputError(
            f"{str(folder)!r} holds no images: a folder for each subject is wanted, with the subject's "
            "images (.jpg, .png, ...) in it"
        )
    return tuple(images)


def count_others(folder: Path) -> int:
    """Files below a folder that are no images by their ending, hidden ones aside.

    Args:
        folder: The folder.
    """
    return sum(
        not path.name.startswith(".") and path.suffix.lower() not in IMAGE_SUFFIXES
        for path in folder.rglob("*")
        if path.is_file() and not _is_hidden(path.relative_to(folder).parts)
    )


def _is_hidden(parts: Iterable[str]) -> bool:
    return any(part.startswith(".") for part in parts)


def _linked_folder(folder: Path) -> str | None:
    for parent, names, _ in os.walk(folder):
        names[:] = sorted(name for name in names if not _is_hidden([name]))
        for name in names:
            if (path := Path(parent, name)).is_symlink():
                return path.relative_to(folder).as_posix()
    return None


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
