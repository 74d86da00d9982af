"""Distillation losses, recomputed by plain loops."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch.nn import functional

from verifykit.errors import InputError
from verifykit_training.losses.distillation import (
    DISTILLATIONS,
    Distillation,
    distillation_options,
)


def _rows(count: int, size: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(count, size, generator=generator, dtype=torch.float64)
    return functional.normalize(rows, dim=1)


def _cosine(left: list[float], right: list[float]) -> float:
    product = sum(a * b for a, b in zip(left, right, strict=True))
    return product / math.sqrt(sum(a * a for a in left) * sum(b * b for b in right))


def _distil(name: str, student: torch.Tensor, teacher: torch.Tensor, **options: Any) -> Any:
    loss = Distillation(
        name, embedding_size=student.shape[1], teacher_size=teacher.shape[1], **options
    )
    return loss, loss(student, teacher)


def test_cosine_is_the_mean_of_one_minus_cosine() -> None:
    student, teacher = _rows(5, 8), _rows(5, 8, 1)
    _, found = _distil("cosine", student, teacher)
    pairs = zip(student.tolist(), teacher.tolist(), strict=True)
    assert float(found) == pytest.approx(sum(1 - _cosine(a, b) for a, b in pairs) / 5, abs=1e-12)
    assert float(_distil("cosine", teacher, teacher)[1]) == 0.0


def test_projected_maps_the_student_to_the_teachers_length() -> None:
    torch.manual_seed(0)
    student, teacher = _rows(5, 4), _rows(5, 9, 1)
    loss, found = _distil("projected", student, teacher)
    weight = loss.compare.map.weight.tolist()
    expected = 0.0
    for own, target in zip(student.tolist(), teacher.tolist(), strict=True):
        mapped = [sum(w * value for w, value in zip(row, own, strict=True)) for row in weight]
        expected += (1 - _cosine(mapped, target)) / 5
    assert float(found.detach()) == pytest.approx(expected, abs=1e-7)
    found.backward()
    assert loss.compare.map.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("share", [1.0, 0.4])
def test_relational_compares_the_scores_of_all_pairs(share: float) -> None:
    student, teacher = _rows(5, 4), _rows(5, 9, 1)
    own, target = student.tolist(), teacher.tolist()
    differences = sorted(
        (
            (_cosine(own[i], own[j]) - _cosine(target[i], target[j])) ** 2
            for i in range(5)
            for j in range(i + 1, 5)
        ),
        reverse=True,
    )
    kept = differences[: round(share * 10)]
    found = _distil("relational", student, teacher, share=share)[1]
    assert float(found) == pytest.approx(sum(kept) / len(kept), abs=1e-12)


def test_relational_does_not_see_a_rotation_and_cosine_does() -> None:
    student = _rows(6, 8)
    rotation, _ = torch.linalg.qr(_rows(8, 8, 3))
    assert float(_distil("relational", student, student @ rotation)[1]) < 1e-20
    assert float(_distil("cosine", student, student @ rotation)[1]) > 0.1


@pytest.mark.parametrize("name", DISTILLATIONS)
def test_no_gradient_reaches_the_targets_and_the_gradient_is_right(name: str) -> None:
    torch.manual_seed(0)
    student = _rows(4, 6).requires_grad_()
    teacher = _rows(4, 6, 1).requires_grad_()
    loss = Distillation(name, embedding_size=6, teacher_size=6).double()
    loss(student, teacher).backward()
    assert teacher.grad is None
    assert student.grad is not None
    assert student.grad.abs().sum() > 0
    assert torch.autograd.gradcheck(lambda rows: loss(rows, teacher), (student,))


@pytest.mark.parametrize("name", DISTILLATIONS)
def test_rows_without_a_target_take_no_part(name: str) -> None:
    torch.manual_seed(0)
    student, teacher = _rows(6, 6).requires_grad_(), _rows(6, 6, 1)
    loss = Distillation(name, embedding_size=6, teacher_size=6)
    without = teacher.clone()
    without[[1, 4]] = math.nan
    kept = [0, 2, 3, 5]
    found = loss(student, without)
    expected = loss(student[kept], teacher[kept]).detach()
    assert float(found.detach()) == pytest.approx(float(expected), abs=1e-12)
    found.backward()
    assert student.grad is not None
    assert not student.grad[[1, 4]].any()
    nothing = loss(student, torch.full_like(teacher, math.nan))
    nothing.backward()
    assert float(nothing.detach()) == 0.0


def test_one_row_has_no_pairs() -> None:
    student = _rows(1, 4).requires_grad_()
    found = _distil("relational", student, _rows(1, 4, 1))[1]
    found.backward()
    assert float(found.detach()) == 0.0


@pytest.mark.parametrize(
    ("name", "sizes", "options", "message"),
    [
        ("cosine", (4, 8), {}, "the student has 4, the teacher 8"),
        ("cosin", (4, 4), {}, "did you mean 'cosine'"),
        ("relational", (4, 8), {"share": 0.0}, r"share must be in \(0, 1\], got 0.0"),
        ("relational", (4, 8), {"share": "all"}, "option share"),
        ("cosine", (4, 4), {"share": 0.5}, "no option 'share'"),
    ],
)
def test_what_cannot_be_compared_is_one_sentence(
    name: str, sizes: tuple[int, int], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message) as error:
        Distillation(name, embedding_size=sizes[0], teacher_size=sizes[1], **options)
    assert "\n" not in str(error.value)


def test_targets_have_a_row_for_each_embedding() -> None:
    loss = Distillation("relational", embedding_size=4, teacher_size=4)
    with pytest.raises(InputError, match=r"targets must be \(3, D\)"):
        loss(_rows(3, 4), _rows(2, 4))


def test_options_are_those_of_the_signature() -> None:
    assert distillation_options("relational") == {"share": float}
    assert distillation_options("cosine") == distillation_options("projected") == {}
