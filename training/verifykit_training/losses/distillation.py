"""Losses between a student's embeddings and those of a teacher, by name.

Each maps ``(embeddings, targets)``, both of unit rows, to one number. The targets have no graph.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from verifykit.errors import InputError, shown
from verifykit_training.losses.batch import check_embeddings
from verifykit_training.losses.distance import unit_rows
from verifykit_training.losses.outcome import nothing_valid
from verifykit_training.options import check_options, hint, option_types


class CosineDistillation(nn.Module):
    """1 - cosine of a student's row to the teacher's: half their squared distance; equal lengths only."""

    def __init__(self, embedding_size: int, teacher_size: int) -> None:
        super().__init__()
        if embedding_size != teacher_size:
            raise InputError(
                f'distillation "cosine" compares rows value by value: the student has {embedding_size}, the '
                f"teacher {teacher_size}: set encoder.embedding_size = {teacher_size}, or distillation.name "
                'to "projected" or "relational"'
            )

    def forward(self, embeddings: Tensor, targets: Tensor) -> Tensor:
        """Return the mean over the rows."""
        return _row_loss(embeddings, targets)


class ProjectedDistillation(nn.Module):
    """1 - cosine of the teacher's row to a learnt linear map of the student's.

    FitNets (Romero et al., ICLR 2015) call it a regressor. It is no part of the student.
    """

    def __init__(self, embedding_size: int, teacher_size: int) -> None:
        super().__init__()
        self.map = nn.Linear(embedding_size, teacher_size, bias=False)

    def forward(self, embeddings: Tensor, targets: Tensor) -> Tensor:
        """Return the mean over the rows."""
        return _row_loss(functional.linear(embeddings, self.map.weight.to(embeddings)), targets)


class RelationalDistillation(nn.Module):
    """Squared difference of the scores of every pair of a batch: what a comparison will use.

    Relational knowledge distillation (Park et al., CVPR 2019) on cosines, as in similarity-preserving
    distillation (Tung and Mori, ICCV 2019) without its normalisation of rows.

    Args:
        share: Of the largest differences that are averaged, in (0, 1]; 1 takes every pair.
    """

    def __init__(self, _student: int, _teacher: int, /, *, share: float = 1.0) -> None:
        super().__init__()
        if not 0.0 < share <= 1.0:
            raise InputError(f"distillation share must be in (0, 1], got {share}")
        self.share = share

    def forward(self, embeddings: Tensor, targets: Tensor) -> Tensor:
        """Return the mean over the pairs; 0 with a graph for fewer than two rows."""
        count = len(embeddings)
        if count < 2:
            return nothing_valid(embeddings)
        left, right = torch.triu_indices(count, count, 1, device=embeddings.device)
        student, teacher = unit_rows(embeddings), unit_rows(targets)
        differences = (student @ student.T - teacher @ teacher.T)[left, right].square()
        kept = max(1, round(self.share * len(differences)))
        return differences.topk(kept).values.mean()


_DISTILLATIONS: dict[str, Callable[..., nn.Module]] = {
    "cosine": CosineDistillation,
    "projected": ProjectedDistillation,
    "relational": RelationalDistillation,
}

DISTILLATIONS = tuple(_DISTILLATIONS)

_NOT_OPTIONS = ("embedding_size", "teacher_size", "_student", "_teacher")


class Distillation(nn.Module):
    """One of the losses, over the rows of a batch that the teacher has an embedding for.

    Args:
        name: One of :data:`DISTILLATIONS`.
        embedding_size: Length of the student's embedding.
        teacher_size: Length of the teacher's.
        **options: The loss's own.

    Raises:
        InputError: No such loss or option, or lengths that it cannot compare.
    """

    def __init__(
        self, name: str, *, embedding_size: int, teacher_size: int, **options: Any
    ) -> None:
        super().__init__()
        check_options(f"distillation {shown(name)}", options, distillation_options(name))
        self.compare = _DISTILLATIONS[name](embedding_size, teacher_size, **options)

    def forward(self, embeddings: Tensor, targets: Tensor) -> Tensor:
        """The loss of one batch.

        Args:
            embeddings: (N, D) of the student.
            targets: (N, D') of the teacher; a row of NaN has no target and takes no part.

        Returns:
            Scalar with the graph of ``embeddings``; no gradient reaches ``targets``.

        Raises:
            InputError: Shapes or types that cannot be used.
        """
        embeddings = check_embeddings(embeddings)
        targets = targets.detach().to(embeddings)
        if targets.ndim != 2 or len(targets) != len(embeddings):
            raise InputError(
                f"targets must be ({len(embeddings)}, D), a row for each embedding, got "
                f"{tuple(targets.shape)}"
            )
        has_target = targets.isfinite().all(dim=1)
        if not bool(has_target.any()):
            return nothing_valid(embeddings)
        with torch.autocast(embeddings.device.type, enabled=False):
            loss: Tensor = self.compare(embeddings[has_target], targets[has_target])
        return loss


def distillation_options(name: str) -> dict[str, Any]:
    """Return the options of a distillation loss by name, each with its type.

    Args:
        name: One of :data:`DISTILLATIONS`.

    Returns:
        Name to type annotation.

    Raises:
        InputError: No such loss.
    """
    if name not in _DISTILLATIONS:
        raise InputError(f"there is no distillation {shown(name)}; {hint(name, DISTILLATIONS)}")
    return option_types(_DISTILLATIONS[name], _NOT_OPTIONS)


def _row_loss(embeddings: Tensor, targets: Tensor) -> Tensor:
    # Half the squared distance, which keeps its digits where rows agree.
    return (unit_rows(embeddings) - unit_rows(targets)).square().sum(dim=1).mean() / 2
