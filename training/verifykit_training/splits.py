"""Divide the images of a run: by subject, or within subjects where there are too few of them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from verifykit_training.config import Config
from verifykit_training.dataset import Record, Split, divide, name_bytes

_LEFT_TO_TRAIN = 2


@dataclass(frozen=True)
class Division:
    """The images of each part of a run.

    Attributes:
        parts: The records of each split; together all of them.
        is_within: Validation images are of training subjects, because there are too few subjects.
    """

    parts: dict[Split, list[Record]]
    is_within: bool = False

    @property
    def subjects(self) -> dict[Split, list[str]]:
        """The subjects of each split, each in one; validation within subjects has none of its own."""
        found = {name: sorted({r.subject for r in part}) for name, part in self.parts.items()}
        return {**found, "validation": []} if self.is_within else found


def divide_for(config: Config, records: Sequence[Record]) -> Division:
    """Divide data as a configuration says.

    Error rates need pairs of different subjects. Where the share gives fewer validation subjects than
    that, some images of each training subject are set aside instead.
    """
    shares, seed = config.data, config.seed
    parts = divide(
        records,
        validation_share=shares.validation_share,
        test_share=shares.test_share,
        seed=seed,
    )
    is_stated = any(record.split for record in records)
    needed = 1 if config.validation.metric == "skilled_eer" else 2
    enough = len({record.subject for record in parts["validation"]}) >= needed
    if (enough and not shares.within_subjects) or is_stated or not shares.validation_share:
        return Division(parts)
    parts = divide(records, validation_share=0.0, test_share=shares.test_share, seed=seed)
    aside = _set_aside(parts["train"], shares.validation_share, seed)
    if not aside:
        return Division(parts)
    train = [record for record in parts["train"] if record not in aside]
    validation = [record for record in parts["train"] if record in aside]
    return replace(Division({**parts, "train": train, "validation": validation}), is_within=True)


def _set_aside(records: Sequence[Record], share: float, seed: int) -> set[Record]:
    """Return images of each subject, at least two (one pair) where at least two are left to train on."""
    groups: dict[tuple[str, bool], list[Record]] = {}
    for record in records:
        groups.setdefault((record.subject, record.is_forgery), []).append(record)
    aside: set[Record] = set()
    for (subject, is_forgery), group in groups.items():
        count = max(1 if is_forgery else 2, math.floor(share * len(group) + 0.5))
        count = min(count, len(group) - (1 if is_forgery else _LEFT_TO_TRAIN))
        order = sorted(group, key=lambda record: _order(seed, subject, record))
        aside.update(order[: max(0, count)])
    return aside


def _order(seed: int, subject: str, record: Record) -> bytes:
    return hashlib.sha256(name_bytes(f"{seed}:{subject}:{record.path.name}")).digest()
