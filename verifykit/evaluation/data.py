"""A user's own data: a folder for each subject, a CSV file of images or of pairs, LFW's pairs.txt."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from verifykit.errors import InputError
from verifykit.evaluation import image_lists, pair_lists
from verifykit.evaluation.folders import count_others, read_folder
from verifykit.evaluation.lfw_pairs import read_lfw_pairs
from verifykit.evaluation.listing import read_table
from verifykit.evaluation.records import DataKind, EvaluationData, EvaluationImage, ListedPair

__all__ = [
    "DataKind",
    "EvaluationData",
    "EvaluationImage",
    "ListedPair",
    "data_digest",
    "read_data",
]


def read_data(source: Path, *, images: Path | None = None) -> EvaluationData:
    """Read what to evaluate on.

    A folder has a folder of images for each subject. A file that ends in ``.txt`` is a list in the
    format of LFW's ``pairs.txt``. Any other file is a CSV whose header tells what it lists:
    ``path,subject[,label]`` images, ``probe,reference,mated[,probe_subject,reference_subject][,attack]
    [,fold]`` pairs; what its further columns say is kept as groups.

    Args:
        source: The folder or the file.
        images: The folder that the paths of a file are relative to; None takes the file's own.

    Returns:
        The images and the comparisons. An image may be missing: that is counted when it is read.

    Raises:
        InputError: Neither of these, a line that is wrong or contradicts another, none of the images is
            there, or no mated or no non-mated comparison is possible.
    """
    if stat.S_ISDIR(_mode(source)):
        if images is not None:
            raise InputError(
                f"{str(source)!r} is a folder, and its images lie in it: a folder of images "
                f"({str(images)!r}) goes with a CSV file or a pairs.txt"
            )
        found = read_folder(source)
        data = EvaluationData(source, "folder", found, None, left_out=count_others(source))
    else:
        root = source.parent if images is None else images
        if not root.is_dir():
            raise InputError(
                f"the folder of images, {str(root)!r}, is not a folder: check the path"
            )
        data = _from_file(source, root)
        _require_some_file(data, root)
    if data.pairs is None:
        _require_comparisons(data)
    else:
        _require_both_kinds(data, data.pairs)
    return data


def data_digest(data: EvaluationData, file_digests: Sequence[str]) -> str:
    """What names the data in a report: the same wherever they lie and in whatever order.

    Group columns do not count. Where a CSV of pairs states no subjects, they are named after paths as
    it writes them, and so other paths give another digest.

    Args:
        data: Images and pairs.
        file_digests: (N,) digest of each image's file, or a word why there is none.

    Returns:
        SHA-256 in hexadecimal over files, subjects and forgeries, and over the listed pairs.

    Raises:
        InputError: Not one file digest for each image.
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


def _mode(source: Path) -> int:
    try:
        mode = source.stat().st_mode
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"there is no folder or file {str(source)!r} to read ({reason}): check the path"
        ) from error
    if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
        raise InputError(f"{str(source)!r} is neither a folder nor a file: check the path")
    return mode


def _from_file(source: Path, root: Path) -> EvaluationData:
    if source.suffix.lower() == ".txt":
        found, pairs = read_lfw_pairs(source, root)
        return EvaluationData(source, "lfw_pairs", found, pairs)
    table = read_table(source, {*image_lists.COLUMNS, *pair_lists.COLUMNS})
    lists_images, lists_pairs = image_lists.is_image_list(table), pair_lists.is_pair_list(table)
    if lists_images == lists_pairs:
        raise InputError(
            f"{str(source)!r} has the columns {', '.join(table.columns)}; accepted are "
            f"{image_lists.HEADER} (image is another name for path) and {pair_lists.HEADER}"
        )
    if not table.rows:
        raise InputError(f"{str(source)!r} has a header and no rows: there is nothing to compare")
    if lists_images:
        return EvaluationData(source, "images", image_lists.read_image_list(table, root), None)
    found, pairs = pair_lists.read_pair_list(table, root)
    has_subjects = "probe_subject" in table.columns
    return EvaluationData(source, "pairs", found, pairs, has_subjects)


def _require_some_file(data: EvaluationData, root: Path) -> None:
    # Not Path.exists, which raises for a path that is too long or in a folder that is closed.
    if not any(os.path.exists(image.path) for image in data.images):  # noqa: PTH110
        raise InputError(
            f"{str(data.source)!r}: none of its {len(data.images)} images is there; the first is "
            f"{data.images[0].name!r}, looked for in {str(root)!r}: give the folder that its paths are "
            "relative to"
        )


def _require_comparisons(data: EvaluationData) -> None:
    genuine = Counter(image.subject for image in data.images if not image.is_forgery)
    forged = {image.subject for image in data.images if image.is_forgery}
    if len(genuine) < 2 and not forged & set(genuine):
        whose = f"of {len(genuine)} subject(s), {', '.join(map(repr, genuine)) or 'none'}"
        raise InputError(
            f"{str(data.source)!r} has {'genuine ' if forged else ''}images {whose}, which gives no "
            "non-mated comparison: at least two subjects are needed"
        )
    if max(genuine.values(), default=0) < 2:
        raise InputError(
            f"{str(data.source)!r} has {len(genuine)} subjects with one {'genuine ' if forged else ''}"
            "image each, which gives no mated comparison: at least one subject with two is needed"
        )


def _require_both_kinds(data: EvaluationData, pairs: Sequence[ListedPair]) -> None:
    mated = sum(pair.mated for pair in pairs)
    if mated in (0, len(pairs)):
        there, missing = ("mated", "non-mated") if mated else ("non-mated", "mated")
        raise InputError(
            f"all {len(pairs)} pairs of {str(data.source)!r} are {there}: error rates need {missing} "
            "ones too"
        )
