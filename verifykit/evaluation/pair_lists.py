"""A CSV file of pairs of images."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from verifykit.errors import InputError
from verifykit.evaluation.listing import Row, Table, bad_line, split_row
from verifykit.evaluation.records import EvaluationImage, ListedPair

__all__ = ["COLUMNS", "HEADER", "is_pair_list", "read_pair_list"]

COLUMNS = ("probe", "reference", "mated", "probe_subject", "reference_subject", "attack", "fold")
HEADER = "probe,reference,mated[,probe_subject,reference_subject][,attack][,fold][,further columns]"
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

    cells, groups = split_row(table, row, COLUMNS)
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
