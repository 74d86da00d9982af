"""Validation on other images of the training subjects, as a closed set of classes needs it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from tests.unit.training.drawing import small_config
from verifykit_training.dataset import Record
from verifykit_training.preflight import examine
from verifykit_training.splits import divide_for

RECORDS = [Record(Path(f"{s:02}/{n}.png"), f"{s:02}") for s in range(20) for n in range(10)]


def test_each_subject_keeps_a_share_of_its_images_for_validation() -> None:
    data = {"validation_share": 0.3, "within_subjects": True}
    division = divide_for(small_config(data=data), RECORDS)
    assert division.is_within
    train, validation = division.parts["train"], division.parts["validation"]
    assert Counter(record.subject for record in validation) == {f"{s:02}": 3 for s in range(20)}
    assert sorted([*train, *validation], key=lambda record: record.path) == RECORDS
    assert division.subjects["validation"] == []
    (note,) = examine(small_config(data=data), RECORDS).notes
    assert note.startswith("60 images of the training subjects validate")

    alone = divide_for(small_config(data={"validation_share": 0.3}), RECORDS)
    assert not alone.is_within
    assert len(alone.subjects["validation"]) == 6


def test_test_subjects_stay_apart() -> None:
    data = {"validation_share": 0.3, "test_share": 0.5, "within_subjects": True}
    division = divide_for(small_config(data=data), RECORDS)
    of_test = set(division.subjects["test"])
    assert len(of_test) == 10
    assert not of_test & {record.subject for record in division.parts["validation"]}
