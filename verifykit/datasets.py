"""Read data sets: folders, CSV and Parquet tables, pair lists, LFW's ``pairs.txt``, insightface's ``.bin``.

The only reader: evaluation, batch runs, clustering and training see the same images of the same data.

- An image is a file with one of `IMAGE_SUFFIXES`, in upper or lower case. Other files are left out;
  `overlooked` counts those that are images or videos all the same, by their suffix or their first bytes.
- Hidden entries (a leading dot) and `SYSTEM_FOLDERS` are left out; links to folders are not followed.
- A table may have further columns: they are kept, and mean something to those who know them.

What is left out is counted by reason, and the first are named; `left_out_sentences` says it in words.
"""

from __future__ import annotations

import csv
import hashlib
import importlib
import io
import os
import re
import stat
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from verifykit._environment import cache_folder, import_problem
from verifykit._files import atomic_write, require_possible
from verifykit.errors import InputError, shortened, shortened_path, shown
from verifykit.insightface_bin import SUFFIX as BIN_SUFFIX
from verifykit.insightface_bin import read_verification_file

DataKind: TypeAlias = Literal["folder", "images", "pairs", "lfw_pairs", "insightface_bin"]

FaceChoice: TypeAlias = Literal["error", "largest", "middle"]
"""What to do with several faces; ``"middle"`` takes the one nearest the image's centre, as LFW has it."""


def _suffixes(names: str) -> frozenset[str]:
    return frozenset(f".{name}" for name in names.split())


IMAGE_SUFFIXES = _suffixes(
    "apng avif bmp dib gif heic heif j2c j2k jfif jif jp2 jpc jpe jpeg jpf jpg jpx jxl mpo pbm pgm png pnm "
    "ppm tif tiff webp"
)
VIDEO_SUFFIXES = _suffixes("avi m4v mkv mov mp4 mpeg mpg webm")

_OTHER_VIDEOS = _suffixes("3g2 3gp asf flv m2ts mts ogv vob wmv")
_OTHER_IMAGES = _suffixes(
    "avif avifs dcm dds exr hdr heic heics heif heifs hif jxl jxr pcx psb psd qoi sgi tga wdp "
    "3fr arw cr2 cr3 crw dcr dng erf iiq kdc mef mos mrw nef nrw orf pef raf raw rw2 rwl sr2 srf srw x3f"
)
"""Images that are not read; one that becomes a member of `IMAGE_SUFFIXES` may stay here."""

_FIRST_BYTES = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n|GIF8[79]a|II\*\0|MM\0\*|RIFF....WEBP|\0\0\0\x0cjP  |\xff\x4f\xff\x51"
    rb"|....ftyp(?:avi[fs]|hei[cxms]|hev[cxms]|mif[12]|msf1)|\0\0\0\x0cJXL |\xff\x0a|8BPS\0",
    re.DOTALL,
)

SYSTEM_FOLDERS = frozenset({"__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information"})
"""What archives and file servers put next to the data; some of it has an image's suffix."""

_LEFT_OUT = {
    "hidden": "hidden or system file(s) or folder(s)",
    "not_an_image": "file(s) without an image's suffix",
    "linked_folder": "link(s) to a folder",
    "unread_format": "image(s) of a format that is not read",
    "misnamed": "image(s) whose suffix is not an image's",
    "video": "video(s) between the images",
    "further_frames": "image(s) with pages or frames behind the first, which were",
    "lost_frames": "frame(s) behind the last that can be decoded",
}
_OVERLOOKED = frozenset(_LEFT_OUT) - {"hidden", "not_an_image"}
_NAMED = 5  # names kept of each reason

_HEADER = "path,subject[,label][,further columns]"
_PAIR_HEADER = (
    "probe,reference,mated[,probe_subject,reference_subject][,attack][,fold][,further columns]"
)
_IMAGE_COLUMNS = ("path", "image", "subject", "label")
_PAIR_COLUMNS = (
    *("probe", "reference", "mated"),
    *("probe_subject", "reference_subject", "attack", "fold"),
)
_KNOWN = frozenset((*_IMAGE_COLUMNS, *_PAIR_COLUMNS, "split"))

_LABELS = {"": False, "genuine": False, "skilled_forgery": True}
_MATED = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
_ATTACKS = ("", "random_forgery", "skilled_forgery")


@dataclass(frozen=True)
class LabelledImage:
    """One image and what the data say about it.

    Attributes:
        path: The file; whether it exists is found out when it is read.
        name: As the data name it: relative where they do, with ``/`` between its parts.
        subject: Whose it is; of a forgery, who is imitated.
        is_forgery: A skilled forgery of ``subject``: never mated with anything.
        groups: The further columns of a table of images, by column; a cell may be empty.
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
        groups: The further columns of a table of pairs, by column; a cell may be empty.
        is_skilled: Not mated, and the probe is a skilled forgery of the reference's subject.
    """

    probe: int
    reference: int
    mated: bool
    fold: int | None = None
    groups: Mapping[str, str] = field(default_factory=dict, hash=False)
    is_skilled: bool = False


@dataclass(frozen=True)
class Dataset:
    """Images with subjects, and the comparisons to make.

    Attributes:
        source: The folder or file that was read.
        kind: What it was.
        images: Each image once.
        pairs: The comparisons, as often as they are listed; None is every pair of images.
        has_subjects: Whether the data name the subjects; otherwise they are those that mated pairs join.
        left_out: What a folder holds besides, by reason, such as ``"hidden"``.
        left_out_names: The first names of each reason.
    """

    source: Path
    kind: DataKind
    images: tuple[LabelledImage, ...]
    pairs: tuple[ListedPair, ...] | None
    has_subjects: bool = True
    left_out: Mapping[str, int] = field(default_factory=dict, hash=False)
    left_out_names: Mapping[str, Sequence[str]] = field(default_factory=dict, hash=False)

    @property
    def is_aligned(self) -> bool:
        """Whether the images are faces that were cut out and aligned already, as insightface's are."""
        return self.kind == "insightface_bin"

    @cached_property
    def subjects(self) -> tuple[str, ...]:
        """Names of all subjects, each once, sorted."""
        return tuple(sorted({image.subject for image in self.images}))

    def subject_numbers(self) -> NDArray[np.int64]:
        """Return the place in `subjects` of each image's subject."""
        places = {name: place for place, name in enumerate(self.subjects)}
        return np.array([places[image.subject] for image in self.images], np.int64)


def read_dataset(source: Path, *, images: Path | None = None) -> Dataset:
    """Read labelled data of any kind; `images` is the folder that the paths of a file are relative to.

    A file that ends in ``.txt`` is a list in the format of LFW's ``pairs.txt``, one that ends in ``.bin`` a
    verification file of insightface; any other file is a table whose header says what it lists.
    """
    if stat.S_ISDIR(_mode(source)):
        if images is not None:
            raise InputError(
                f"{shown(str(source))} is a folder with its images in it: a folder of images "
                f"({shown(str(images))}) goes with a CSV file or a pairs.txt"
            )
        return _read_folder(source)
    if source.suffix.lower() == BIN_SUFFIX:
        return _read_bin(source, images)
    root = source.parent if images is None else images
    if not root.is_dir():
        raise InputError(
            f"the folder of images, {shown(str(root))}, is not a folder: check the path"
        )
    if source.suffix.lower() == ".txt":
        found, pairs = _read_lfw_pairs(source, root)
        return Dataset(source, "lfw_pairs", found, pairs)
    table = read_table(source)
    rows = tuple(table.rows)
    lists_images = "subject" in table.columns and not {"path", "image"}.isdisjoint(table.columns)
    lists_pairs = {"probe", "reference", "mated"} <= set(table.columns)
    if lists_images == lists_pairs:
        raise InputError(
            f"{shown(str(source))} has the columns {shortened(', '.join(table.columns))}; accepted are "
            f"{_HEADER} (image is another name for path) and {_PAIR_HEADER}"
        )
    if not rows:
        raise InputError(
            f"{shown(str(source))} has a header and no rows: there is nothing to compare"
        )
    if lists_images:
        return Dataset(source, "images", _read_image_list(table, rows, root), None)
    found, pairs = _read_pair_list(table, rows, root)
    return Dataset(source, "pairs", found, pairs, "probe_subject" in table.columns)


@dataclass
class LeftOut:
    """What was not looked at: how much by reason, and the first names of each."""

    counts: Counter[str] = field(default_factory=Counter)
    names: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, name: str) -> None:
        """Count one."""
        self.counts[reason] += 1
        named = self.names.setdefault(reason, [])
        if len(named) < _NAMED:
            named.append(name)


def left_out_sentences(
    left_out: Mapping[str, int], names: Mapping[str, Sequence[str]] | None = None
) -> list[str]:
    """Return a sentence for each reason for which something was left out, with the first names."""
    sentences = []
    for reason, count in left_out.items():
        first = (names or {}).get(reason, ())
        if count:
            what = f"{count} {_LEFT_OUT[reason]} left out"
            sentences.append(f"{what}: {shown_names(first, count)}" if first else f"{what}.")
    return sentences


def shown_names(first: Sequence[str], count: int) -> str:
    """Return the first of `count` names as they can be printed."""
    return ", ".join(map(printable_name, first)) + (", ..." if count > len(first) else "")


def overlooked(left_out: Mapping[str, int]) -> int:
    """Return how many images and videos are among what was left out."""
    return sum(count for reason, count in left_out.items() if reason in _OVERLOOKED)


def printable_name(name: str) -> str:
    """Return a name as it can be printed, of at most 80 characters."""
    text = name if name.isprintable() else ascii(name)
    return text if len(text) <= 80 else f"{text[:38]}...{text[-38:]}"


def _mode(source: Path) -> int:
    try:
        mode = source.stat().st_mode
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"there is no folder or file {shown(str(source))} to read ({reason}): check the path"
        ) from shortened_path(error)
    if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
        raise InputError(f"{shown(str(source))} is neither a folder nor a file: check the path")
    return mode


# Folders


@dataclass
class FolderImages:
    """Paths of the images below a folder, in the order of their parts; of each folder walked once, lazily.

    No more than one folder's names are held at a time. Afterwards `left_out` counts what was left out, by
    reason, `names` has the first of each, and `linked` is the first link to a folder.
    """

    folder: Path
    linked: str | None = None
    _left_out: LeftOut = field(default_factory=LeftOut)

    @property
    def left_out(self) -> Counter[str]:
        """Return the counts by reason."""
        return self._left_out.counts

    @property
    def names(self) -> dict[str, list[str]]:
        """Return the first names by reason."""
        return self._left_out.names

    def __iter__(self) -> Iterator[str]:
        """Yield paths relative to the folder, with ``/`` between their parts."""
        require_possible(self.folder)
        if not self.folder.is_dir():
            raise InputError(f"{shown(str(self.folder))} is not a folder")
        self._left_out = LeftOut()
        return self._walk(str(self.folder), "")

    def _walk(self, folder: str, prefix: str) -> Iterator[str]:
        try:
            with os.scandir(folder) as entries:
                found = sorted((each.name, _is_folder(each), each.is_symlink()) for each in entries)
        except OSError as error:
            raise InputError(
                f"{shown(folder)} cannot be read: {error.strerror}"
            ) from shortened_path(error)
        for name, is_folder, is_link in found:
            path = os.path.join(folder, name)  # noqa: PTH118 - a million
            if name.startswith(".") or name in SYSTEM_FOLDERS:
                self._left_out.add("hidden", prefix + name)
            elif is_folder and is_link:
                self._left_out.add("linked_folder", prefix + name)
                self.linked = self.linked or prefix + name
            elif is_folder:
                yield from self._walk(path, f"{prefix}{name}/")
            elif os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES and not _is_special(path):  # noqa: PTH122
                yield prefix + name
            else:
                self._left_out.add(_other_kind(path), prefix + name)


def _is_special(path: str) -> bool:
    """Return whether this is a named pipe, a socket or a device: a pipe would wait for a writer for ever."""
    try:
        return not stat.S_ISREG(os.stat(path).st_mode)  # noqa: PTH116 - a million
    except OSError:  # an image that cannot be read
        return False


def _other_kind(path: str) -> str:
    """Return why a file without an image's suffix is left out; its first bytes tell images from others."""
    suffix = os.path.splitext(path)[1].lower()  # noqa: PTH122 - a million
    if suffix in VIDEO_SUFFIXES | _OTHER_VIDEOS:
        return "video"
    if suffix in _OTHER_IMAGES:
        return "unread_format"
    try:
        if os.path.isfile(path):  # noqa: PTH113 - a named pipe would wait for a writer
            with open(path, "rb") as file:  # noqa: PTH123
                return "misnamed" if _FIRST_BYTES.match(file.read(16)) else "not_an_image"
    except OSError:
        pass  # what cannot be opened cannot be reported
    return "not_an_image"


def find_images(folder: Path) -> list[str]:
    """Return the images below a folder as sorted paths relative to it.

    Args:
        folder: Where to look; hidden entries are left out, and links to folders are not followed.

    Returns:
        Paths with ``/`` between their parts, in the order of their parts.

    Raises:
        InputError: It is not a folder, or a folder in it cannot be read.
    """
    return list(FolderImages(folder))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads nowhere is an image that cannot be read
        return False


def _read_folder(folder: Path) -> Dataset:
    """Read a folder with a folder of images for each subject; images may be stored deeper.

    An image next to the subjects' folders is an error, not left out: it mostly means that the folder
    above or below the right one was given, and figures on a part of the data look like those on all of
    them. So is a link to a folder, with which a subject would be lost.
    """
    walk = FolderImages(folder)
    images = []
    for name in walk:
        subject, _, rest = name.partition("/")
        if not rest:
            raise InputError(
                f"{shown(str(folder))} holds the image {shown(name)} itself, so nothing says whose it is: "
                "give a folder with a folder for each subject, and the subject's images in it"
            )
        images.append(LabelledImage(folder / name, name, subject))
    if walk.linked:
        raise InputError(
            f"{shown(walk.linked)} in {shown(str(folder))} is a link to a folder, and links are not "
            "followed: put the folder itself there, or name the images in a CSV file path,subject"
        )
    if not images:
        rest = " ".join(left_out_sentences(walk.left_out, walk.names))
        raise InputError(
            f"{shown(str(folder))} holds no images: give a folder with a folder for each subject, and the "
            f"subject's images (.jpg, .png, ...) in it {rest and f'({rest})'}".rstrip()
        )
    return Dataset(
        folder,
        "folder",
        tuple(images),
        None,
        left_out=dict(walk.left_out),
        left_out_names=walk.names,
    )


# Tables


@dataclass(frozen=True)
class Row:
    """A row of a table: the line that it begins on (in Parquet the row's number), and its cells."""

    line: int
    cells: Mapping[str, str]


@dataclass(frozen=True)
class Table:
    """A CSV or Parquet file: its columns, each once, and its rows, read as they are taken."""

    source: Path
    columns: tuple[str, ...]
    rows: Iterator[Row]
    unit: Literal["line", "row"] = "line"

    def error(self, row: Row, problem: str) -> InputError:
        """Return the error about a row."""
        return InputError(f"{shown(str(self.source))}, {self.unit} {row.line}: {problem}")


def read_table(source: Path, only: Collection[str] | None = None) -> Table:
    """Open a CSV file with a header (RFC 4180, UTF-8) or a Parquet file, `only` some of its columns.

    Known columns count whatever their case, since ``Label`` must not become something else than
    ``label``. Cells have no spaces around them, and blank lines are left out.
    """
    if source.suffix.lower() == ".parquet":
        return _read_parquet(source, only)
    lines = _csv_lines(source)
    line, header = next(lines, (0, []))
    if not line:
        raise InputError(f"{shown(str(source))} is empty: a CSV file begins with its column names")
    columns = _checked_columns(header, f"{shown(str(source))}, line {line}")
    return Table(source, columns, (_csv_row(source, columns, *each) for each in lines))


def read_paths(source: Path) -> Iterator[str]:
    """Yield the column ``path`` (or ``image``) of a table, as it is written there."""
    table = read_table(source, only=("path", "image"))
    column = _path_column(table)
    for row in table.rows:
        yield _required(table, row, column)


def _checked_columns(header: Sequence[str], where: str) -> tuple[str, ...]:
    columns = tuple(name.lower() if name.lower() in _KNOWN else name for name in header)
    for number, name in enumerate(columns, 1):
        if not name:
            raise InputError(f"{where}: column {number} has no name: name it, or remove it")
        if name in columns[: number - 1]:
            raise InputError(f"{where}: column {shown(name)} is there twice: remove or rename one")
    return columns


def _path_column(table: Table) -> str:
    found = [name for name in ("path", "image") if name in table.columns]
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(
            f"{shown(str(table.source))} has both columns path and image: rename one of them"
        )
    raise InputError(
        f"{shown(str(table.source))} needs one column named path or image, its columns are "
        f"{shortened(', '.join(table.columns)) or 'none'}"
    )


def _required(table: Table, row: Row, column: str) -> str:
    if not row.cells[column]:
        raise table.error(row, f"{column} is empty: fill it in, or remove the line")
    return row.cells[column]


def _further(table: Table, row: Row, known: Collection[str]) -> dict[str, str]:
    return {name: row.cells[name] for name in table.columns if name not in known}


def _bad_line(source: Path, line: int, problem: str) -> InputError:
    return InputError(f"{shown(str(source))}, line {line}: {problem}")


def _text_lines(source: Path) -> Iterator[str]:
    """Yield the lines of a text file in UTF-8, with or without a byte order mark, with their ends."""
    number = 0
    try:
        with source.open("rb") as file:
            for data in file:
                try:
                    text = data.decode("utf-8" if number else "utf-8-sig")
                except UnicodeDecodeError as error:
                    byte = data[error.start]
                    problem = f"byte 0x{byte:02x} is not UTF-8: save it as text in UTF-8"
                    raise _bad_line(source, number + 1, problem) from error
                for line in io.StringIO(text, newline=""):  # an old Mac's lines end in \r alone
                    number += 1
                    if "\0" in line:
                        problem = "there is a NUL character, so this is not a text file"
                        raise _bad_line(source, number, problem)
                    yield line
    except OSError as error:
        raise InputError(
            f"{shown(str(source))} cannot be read: {error.strerror or error}"
        ) from shortened_path(error)


def _csv_lines(source: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the line that each row begins on, and its cells."""
    reader = csv.reader(_text_lines(source), strict=True, skipinitialspace=True)
    start = 1
    try:
        for cells in reader:
            if cells:
                yield start, [cell.strip() for cell in cells]
            start = reader.line_num + 1
    except csv.Error as error:
        problem = f"the row that begins here is not CSV: {error}"
        raise _bad_line(source, start, problem) from error


def _csv_row(source: Path, columns: tuple[str, ...], line: int, cells: list[str]) -> Row:
    if len(cells) != len(columns):
        raise _bad_line(
            source,
            line,
            f"{len(cells)} cells, and the header names {len(columns)} columns: correct the row "
            f"{shown(','.join(cells)[:200])} (a cell with a comma in it needs quotes)",
        )
    return Row(line, dict(zip(columns, cells, strict=True)))


def _read_parquet(source: Path, only: Collection[str] | None) -> Table:
    parquet = optional_library("pyarrow.parquet", str(source))
    with _parquet_errors(source), parquet.ParquetFile(source) as file:
        names = file.schema_arrow.names
    columns = _checked_columns(names, shown(str(source)))
    chosen = {
        name: known
        for name, known in zip(names, columns, strict=True)
        if only is None or known in only
    }

    def rows() -> Iterator[Row]:
        number = 0
        # Opened again, so that no file is left open where no row is taken.
        with _parquet_errors(source), parquet.ParquetFile(source) as file:
            for batch in file.iter_batches(batch_size=4096, columns=list(chosen)):
                for values in batch.to_pylist():
                    number += 1
                    yield Row(number, {chosen[name]: _cell(values[name]) for name in chosen})

    return Table(source, columns, rows(), "row")


def _cell(value: object) -> str:
    return "" if value is None else str(value).strip()


@contextmanager
def _parquet_errors(source: Path) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except (ValueError, OSError) as error:
        raise InputError(f"{shown(str(source))} is not a Parquet file: {error}") from error


def _read_image_list(table: Table, rows: Iterable[Row], root: Path) -> tuple[LabelledImage, ...]:
    """Read a table ``path,subject[,label]``: each image once, and only with one subject and label."""
    column = _path_column(table)
    listed: dict[str, tuple[int, LabelledImage]] = {}
    for row in rows:
        name = Path(_required(table, row, column)).as_posix()
        subject, label = _required(table, row, "subject"), row.cells.get("label", "")
        if label not in _LABELS:
            problem = f"label {shown(label)} is not one of genuine, skilled_forgery or empty"
            raise table.error(row, problem)
        groups = _further(table, row, _IMAGE_COLUMNS)
        image = LabelledImage(root / name, name, subject, _LABELS[label], groups)
        line, earlier = listed.setdefault(name, (row.line, image))
        if image != earlier:
            raise table.error(
                row,
                f"{shown(name)} was listed on {table.unit} {line} already, and "
                f"{_difference(earlier, image)}: keep the {table.unit} that is right",
            )
    return tuple(image for _, image in listed.values())


def _difference(earlier: LabelledImage, later: LabelledImage) -> str:
    if earlier.subject != later.subject:
        return f"there its subject is {shown(earlier.subject)}, here {shown(later.subject)}"
    if earlier.is_forgery != later.is_forgery:
        return "one line says skilled_forgery and the other genuine"
    column = next(name for name in earlier.groups if earlier.groups[name] != later.groups[name])
    there, here = earlier.groups[column], later.groups[column]
    return f"there {shortened(column)} is {shown(there)}, here {shown(here)}"


# Lists of pairs


def connected(count: int, joined: Iterable[tuple[int, int]]) -> list[int]:
    """Return for each of `count` numbers one that represents all that pairs connect with it."""
    above = list(range(count))

    def top(number: int) -> int:
        while above[number] != number:
            above[number] = above[above[number]]  # halves the path for the next one
            number = above[number]
        return number

    for one, other in joined:
        above[top(one)] = top(other)
    return [top(number) for number in range(count)]


@dataclass(frozen=True)
class _PairRow:
    """A pair with its row, and the subjects that the row states, if any."""

    row: Row
    pair: ListedPair
    subjects: tuple[str, str]


@dataclass
class _PairList:
    """A table ``probe,reference,mated``, and its images in the order in which the rows name them."""

    table: Table
    pairs: list[_PairRow] = field(default_factory=list)
    index: dict[str, int] = field(default_factory=dict)

    def add(self, row: Row) -> None:
        cells = {name: row.cells.get(name, "") for name in _PAIR_COLUMNS}
        for column in ("probe", "reference", "probe_subject", "reference_subject", "fold"):
            if column in self.table.columns:
                _required(self.table, row, column)
        mated, attack, fold = _MATED.get(cells["mated"].lower()), cells["attack"], cells["fold"]
        if mated is None:
            problem = f"mated is {shown(cells['mated'])}, and not one of {', '.join(_MATED)}"
        elif attack not in _ATTACKS:
            problem = f"attack {shown(attack)} is not one of {', '.join(_ATTACKS[1:])} or empty"
        elif mated and attack:
            problem = f"attack is {shown(attack)}, but the pair is mated: leave attack empty"
        elif fold and not _NUMBER.fullmatch(fold):
            problem = f"fold {shown(fold)} is not a number 0, 1, 2, ..."
        else:
            problem = ""
        probe, reference = (Path(cells[name]).as_posix() for name in ("probe", "reference"))
        if not problem and probe == reference:
            problem = f"{shown(probe)} is paired with itself: remove the line, its score would be 1"
        if problem:
            raise self.table.error(row, problem)
        ends = [self.index.setdefault(name, len(self.index)) for name in (probe, reference)]
        number = int(fold) if fold else None
        groups, is_skilled = _further(self.table, row, _PAIR_COLUMNS), attack == "skilled_forgery"
        pair = ListedPair(ends[0], ends[1], bool(mated), number, groups, is_skilled)
        self.pairs.append(_PairRow(row, pair, (cells["probe_subject"], cells["reference_subject"])))

    def forgeries(self) -> set[int]:
        """Return the images that a row says are forgeries, and no row says are genuine."""
        genuine: dict[int, int] = {}
        for each in self.pairs:
            if each.pair.mated:
                genuine.setdefault(each.pair.probe, each.row.line)
            if each.pair.mated or each.pair.is_skilled:
                genuine.setdefault(each.pair.reference, each.row.line)
        skilled = [each for each in self.pairs if each.pair.is_skilled]
        for each in skilled:
            if each.pair.probe in genuine:
                raise self.table.error(
                    each.row,
                    f"{shown(list(self.index)[each.pair.probe])} is a skilled_forgery here, but "
                    f"{self.table.unit} {genuine[each.pair.probe]} takes it for genuine: in a line of that "
                    "attack the probe is the forgery and the reference is not",
                )
        return {each.pair.probe for each in skilled}

    def stated_subjects(self) -> list[str]:
        """Return the subject of each image as the rows state it."""
        found: dict[int, tuple[str, int]] = {}
        for each in self.pairs:
            ends = (each.pair.probe, each.pair.reference)
            for number, subject in zip(ends, each.subjects, strict=True):
                earlier, line = found.setdefault(number, (subject, each.row.line))
                if subject != earlier:
                    raise self.table.error(
                        each.row,
                        f"{shown(list(self.index)[number])} is of subject {shown(subject)} here, and of "
                        f"{shown(earlier)} on {self.table.unit} {line}: correct one of them",
                    )
        return [found[number][0] for number in range(len(self.index))]

    def connected_subjects(self, forgeries: set[int]) -> list[str]:
        """Return the subject of each image: what mated pairs connect, and whom a forgery imitates."""
        names = list(self.index)
        joined = [
            (each.pair.probe, each.pair.reference)
            for each in self.pairs
            if each.pair.mated or each.pair.is_skilled
        ]
        tops = connected(len(names), joined)
        first: dict[int, str] = {}
        for number in sorted(set(range(len(names))) - forgeries, key=lambda n: names[n]):
            first.setdefault(tops[number], names[number])
        return [first[tops[number]] for number in range(len(names))]

    def require_agreement(self, subjects: list[str], *, stated: bool) -> None:
        """Raise an error where the subjects of a pair contradict what its row says."""
        for each in self.pairs:
            pair = each.pair
            one, other = subjects[pair.probe], subjects[pair.reference]
            problem = ""
            if pair.mated and one != other:
                problem = f"the pair is mated, but of subjects {shown(one)} and {shown(other)}"
            elif pair.is_skilled and one != other:
                problem = (
                    "the probe is a skilled_forgery, so its subject is whom it imitates: "
                    f"{shown(other)}, not {shown(one)}"
                )
            elif not pair.mated and not pair.is_skilled and one == other:
                names = list(self.index)
                why = "the columns of subjects" if stated else "other lines"
                problem = (
                    f"{shown(names[pair.probe])} and {shown(names[pair.reference])} are not mated here, "
                    f"but {why} make them of one subject, {shown(one)}: correct one of them, or, if the "
                    "probe is a forgery, write skilled_forgery in a column attack"
                )
            if problem:
                raise self.table.error(each.row, problem)


def _read_pair_list(
    table: Table, rows: Iterable[Row], root: Path
) -> tuple[tuple[LabelledImage, ...], tuple[ListedPair, ...]]:
    """Read a table ``probe,reference,mated``: each image once, and a pair for each row.

    Without the columns ``probe_subject`` and ``reference_subject``, images that mated pairs connect are
    of one subject, named after the first of them in the order of names, and all others are of other
    subjects: nothing is guessed from file names. Where ``attack`` is ``skilled_forgery``, the probe is a
    forgery of the reference's subject; a ``probe_subject`` is then the one that it imitates.
    """
    stated = [name for name in ("probe_subject", "reference_subject") if name in table.columns]
    if len(stated) == 1:
        raise InputError(
            f"{shown(str(table.source))} has the column {stated[0]} alone: give both probe_subject and "
            "reference_subject, or neither"
        )
    listed = _PairList(table)
    for row in rows:
        listed.add(row)
    forgeries = listed.forgeries()
    subjects = listed.stated_subjects() if stated else listed.connected_subjects(forgeries)
    listed.require_agreement(subjects, stated=bool(stated))
    images = (
        LabelledImage(root / name, name, subjects[number], number in forgeries)
        for name, number in listed.index.items()
    )
    return tuple(images), tuple(each.pair for each in listed.pairs)


# LFW's list of pairs

_LFW_FOLDERS = ("", "lfw", "lfw-deepfunneled", "lfw_funneled")
_LFW_SUFFIXES = (".jpg", *sorted(IMAGE_SUFFIXES - {".jpg"}))
_NUMBER = re.compile("[0-9]{1,9}")


def _read_lfw_pairs(
    source: Path, root: Path
) -> tuple[tuple[LabelledImage, ...], tuple[ListedPair, ...]]:
    """Read a list in the format of LFW's ``pairs.txt`` and ``pairsDevTest.txt``; folds count from 1.

    Huang et al., "Labeled Faces in the Wild: A Database for Studying Face Recognition in Unconstrained
    Environments", University of Massachusetts, Technical Report 07-49, 2007, and the data set's README:
    the first line is ``10<tab>300``, folds, and how many mated and how many non-mated pairs each of them
    has; or ``500``, which is one fold. For each fold the mated pairs follow as ``name<tab>n1<tab>n2``,
    then the non-mated ones as ``name1<tab>n1<tab>name2<tab>n2``.
    """
    lines = [line.rstrip("\r\n") for line in _text_lines(source)]
    while lines and not lines[-1].strip():
        del lines[-1]
    folds, count = _lfw_counts(source, lines[0] if lines else "")
    index: dict[tuple[str, int], int] = {}
    pairs = []
    for place, line in enumerate(lines[1 : 2 * count * folds + 1]):
        mated = place % (2 * count) < count
        ends = _lfw_pair(source, place + 2, line, mated=mated)
        probe, reference = (index.setdefault(image, len(index)) for image in ends)
        pairs.append(ListedPair(probe, reference, mated, place // (2 * count) + 1))
    announced = f"line 1 says {folds} x 2 x {count} = {2 * count * folds} pairs"
    if len(lines) - 1 > 2 * count * folds:
        raise _bad_line(source, 2 * count * folds + 2, f"{announced}, and here is one more")
    if len(pairs) < 2 * count * folds:
        problem = f"the file ends after {len(pairs)} pairs, but {announced}"
        raise _bad_line(source, len(lines), problem)
    return _lfw_images(index, root), tuple(pairs)


def _lfw_counts(source: Path, line: str) -> tuple[int, int]:
    fields = _lfw_fields(line)
    if len(fields) not in (1, 2) or not all(_NUMBER.fullmatch(each) for each in fields):
        raise _bad_line(
            source,
            1,
            f"{shown(line)} is not the first line of LFW's pairs.txt, '10<tab>300' (folds, and mated pairs "
            "in each) or '500'; a list in another format is given as a .csv file",
        )
    folds, count = [1, *map(int, fields)][-2:]
    if not folds or not count:
        raise _bad_line(source, 1, f"{shown(line)} says that there are no pairs")
    return folds, count


def _lfw_pair(
    source: Path, number: int, line: str, *, mated: bool
) -> tuple[tuple[str, int], tuple[str, int]]:
    shape = "a mated pair, 'name<tab>n1<tab>n2'"
    fields = _lfw_fields(line)
    length = len(fields)
    if mated and length == 3:
        fields.insert(2, fields[0])
    if not mated:
        shape = "a non-mated pair, 'name1<tab>n1<tab>name2<tab>n2'"
    shape += ", as line 1 says that one stands here"
    if length != (3 if mated else 4):
        raise _bad_line(source, number, f"{shown(line)} is not {shape}")
    if not all(fields) or not all(_NUMBER.fullmatch(each) for each in fields[1::2]):
        raise _bad_line(source, number, f"{shown(line)} is not {shape}, n being a number")
    one, other = (fields[0], int(fields[1])), (fields[2], int(fields[3]))
    if one == other:
        raise _bad_line(source, number, f"{shown(line)} pairs an image with itself")
    if not mated and one[0] == other[0]:
        problem = f"{shown(line)} is of one subject, {shown(one[0])}, where non-mated pairs stand"
        raise _bad_line(source, number, problem)
    return one, other


def _lfw_fields(line: str) -> list[str]:
    return [each.strip() for each in line.split("\t")]


def _lfw_images(listed: Iterable[tuple[str, int]], root: Path) -> tuple[LabelledImage, ...]:
    """Return the images ``<root>/<name>/<name>_<n, four digits>``, with any image's suffix.

    They may be in a folder `_LFW_FOLDERS` below the root: the first that has a folder of one of the names,
    for all of them, since an image of lfw next to its mate of lfw-deepfunneled is another test.
    """
    listed = list(listed)
    names = list(dict.fromkeys(name for name, _ in listed))
    bases = [root / name for name in _LFW_FOLDERS]
    base = next((base for base in bases if any((base / name).is_dir() for name in names)), root)
    files = {name: _lfw_files(base / name) for name in names}
    images = []
    for name, number in listed:
        stem = f"{name}_{number:04d}"
        file = files[name].get(stem, f"{stem}.jpg")
        images.append(LabelledImage(base / name / file, f"{name}/{file}", name))
    return tuple(images)


def _lfw_files(folder: Path) -> dict[str, str]:
    """Return the file of each stem, of several the one whose suffix comes first; empty without the folder."""
    try:
        found = [path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES]
    except OSError:  # then its images are missing, and counted as such
        return {}
    found.sort(key=lambda path: (_LFW_SUFFIXES.index(path.suffix.lower()), path.name), reverse=True)
    return {path.stem: path.name for path in found}


# Verification files of insightface

_BIN_FOLDS = 10


def _read_bin(source: Path, images: Path | None) -> Dataset:
    """Read a verification file of insightface; fold i of ten is the i-th tenth of its pairs.

    Its images, each once, are unpacked into the cache folder, named by their content, for their owner only.
    The file names no subjects: they are those that mated pairs join.
    """
    if images is not None:
        raise InputError(
            f"{shown(str(source))} contains its images: give no folder of images with it"
        )
    contents, same = read_verification_file(source)
    folder = cache_folder() / "verification"
    places: dict[str, int] = {}
    found: list[LabelledImage] = []
    ends = []
    for number, content in enumerate(contents):
        digest = hashlib.sha256(content).hexdigest()
        if digest not in places:
            places[digest] = len(found)
            path = folder / digest[:2] / digest[2:32]
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            if not path.is_file() or path.stat().st_size != len(content):
                atomic_write(path, content, mode=0o600, durable=False)
            found.append(LabelledImage(path, f"{source.stem}/{number:05d}", ""))
        ends.append(places[digest])
    # As sklearn's KFold without shuffling, which insightface uses: the first folds have one pair more.
    size, more = divmod(len(same), _BIN_FOLDS)
    folds = [n + 1 for n in range(_BIN_FOLDS) for _ in range(size + (n < more))]
    pairs = tuple(
        ListedPair(ends[2 * n], ends[2 * n + 1], mated, fold if size else None)
        for n, (mated, fold) in enumerate(zip(same, folds, strict=True))
    )
    joined = [(pair.probe, pair.reference) for pair in pairs if pair.mated]
    tops = connected(len(found), joined)
    labelled = tuple(
        replace(image, subject=found[top].name) for image, top in zip(found, tops, strict=True)
    )
    return Dataset(source, "insightface_bin", labelled, pairs, has_subjects=False)


def optional_library(name: str, needed_for: str) -> Any:
    """Import a library of the extra ``batch``, at the moment that something needs it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        missing = (
            f"{shown(needed_for)} needs {name.partition('.')[0]}, which is not installed: "
            'pip install "verifykit-sdk[batch]"'
        )
        raise InputError(import_problem(error, missing)) from error
