"""The decision itself as a loss: a subject's references, a probe, and one threshold for everybody."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from verifykit.errors import InputError, shown
from verifykit.scoring import LONGEST_ROW
from verifykit_training.losses.batch import check_embeddings, check_forgeries, check_labels
from verifykit_training.losses.distance import unit_rows
from verifykit_training.losses.outcome import LossOutput, nothing_valid
from verifykit_training.losses.supervised_contrastive import supervised_contrastive

# Where scale and offset of the logistic begin: cosines from 0.3 to 0.7 on its slope, even odds at 0.5.
_SCALE, _OFFSET = 10.0, -5.0
_LEAST = 1.0 / LONGEST_ROW**2


class DecisionLoss(nn.Module):
    """What verification does, made differentiable, added to the supervised contrastive loss.

    A probe's score for a subject is that of verifykit's fusion (``"mean"`` or ``"spread"``) with the
    subject's genuine rows of the batch as references, itself left out. A logistic with one trained scale
    and offset for all subjects turns it into the odds of a match, so that scores of different subjects
    come to be comparable at one threshold, which losses that compare within an anchor do not ask for.

    The three kinds of comparison (genuine, skilled forgery, other subject) are averaged each by itself.

    Args:
        temperature: Of the supervised contrastive part, > 0.
        contrastive_weight: Its weight, at least 0.
        skilled_weight: Weight of skilled forgeries in the logistic part, at least 0; genuine rows have 1.
        random_weight: Weight of other subjects, at least 0.
        fusion: ``"mean"`` or ``"spread"``, as the model will be used.

    Raises:
        InputError: An option out of its range.
    """

    def __init__(
        self,
        *,
        temperature: float = 0.1,
        contrastive_weight: float = 1.0,
        skilled_weight: float = 0.7,
        random_weight: float = 0.6,
        fusion: Literal["mean", "spread"] = "mean",
    ) -> None:
        super().__init__()
        if not temperature > 0 or min(contrastive_weight, skilled_weight, random_weight) < 0:
            raise InputError(
                "decision: temperature must be above 0 and weights at least 0, got "
                f"{temperature}, {contrastive_weight}, {skilled_weight}, {random_weight}"
            )
        if fusion not in ("mean", "spread"):
            raise InputError(f'decision: fusion is "mean" or "spread", got {shown(fusion)}')
        self.fusion = fusion
        self.temperature, self.contrastive_weight = temperature, contrastive_weight
        self.skilled_weight, self.random_weight = skilled_weight, random_weight
        self.scale = nn.Parameter(torch.tensor(_SCALE))
        self.offset = nn.Parameter(torch.tensor(_OFFSET))

    def forward(
        self, embeddings: Tensor, labels: Tensor, forgeries: Tensor | None = None
    ) -> LossOutput:
        """The loss of one batch.

        Args:
            embeddings: (N, D) of any float type.
            labels: (N,) or (N, 1) integers; subjects with one genuine row are only compared with others.
            forgeries: (N,) bool, True for skilled forgeries of the subject in ``labels``.

        Returns:
            The loss, and next to the statistics of the supervised contrastive part
            ``genuine_accepted``, ``skilled_refused`` and ``random_refused`` at even odds, in [0, 1], NaN
            where a batch has none.
        """
        embeddings = check_embeddings(embeddings)
        labels = check_labels(labels, embeddings)
        forged = check_forgeries(forgeries, labels)
        contrastive = supervised_contrastive(
            embeddings, labels, temperature=self.temperature, forgeries=forged
        )
        if len(embeddings) == 0 or bool(forged.all()):
            return LossOutput(nothing_valid(embeddings), contrastive.statistics)
        with torch.autocast(embeddings.device.type, enabled=False):
            scores, own, known = _reference_scores(
                unit_rows(embeddings), labels, forged, spread=self.fusion == "spread"
            )
            logits = self.scale * scores + self.offset
            kinds = {
                "genuine_accepted": (own & ~forged[:, None] & known, 1.0, 1.0),
                "skilled_refused": (own & forged[:, None] & known, -1.0, self.skilled_weight),
                "random_refused": (~own & known, -1.0, self.random_weight),
            }
            loss = self.contrastive_weight * contrastive.loss
            statistics = dict(contrastive.statistics)
            for name, (chosen, sign, weight) in kinds.items():
                values = sign * logits[chosen]
                if values.numel():
                    loss = loss + weight * functional.softplus(-values).mean()
                statistics[name] = (values.detach() > 0).float().mean()
        return LossOutput(loss, statistics)

    def extra_repr(self) -> str:
        """The options, for ``print``."""
        return (
            f"temperature={self.temperature}, contrastive_weight={self.contrastive_weight}, "
            f"skilled_weight={self.skilled_weight}, random_weight={self.random_weight}, "
            f"fusion={shown(self.fusion)}"
        )


def _reference_scores(
    rows: Tensor, labels: Tensor, forged: Tensor, *, spread: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The score of each row with the genuine rows of each subject, itself left out.

    Returns:
        (N, S) scores; (N, S) bool, whether the row carries the subject's label; (N, S) bool, whether a
        reference is left.
    """
    subjects, place = torch.unique(labels, return_inverse=True)
    own = functional.one_hot(place, len(subjects)).bool()
    member = (own & ~forged[:, None]).to(rows.dtype)
    # A genuine row is not its own reference.
    counts = member.sum(dim=0) - member
    totals = member.T @ rows
    products = rows @ totals.T
    squares = rows.square().sum(dim=1, keepdim=True)
    scores = (products - member * squares) / counts.clamp_min(1.0)
    if spread:
        # Squared length of the mean that is left: |total - row|^2 = |total|^2 - 2 total row + |row|^2.
        lengths = totals.square().sum(dim=1) - member * (2.0 * products - squares)
        scores = scores / (lengths / counts.clamp_min(1.0).square()).clamp_min(_LEAST)
    return scores, own, counts > 0
