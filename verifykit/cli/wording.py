"""Decisions and candidates in words."""

from __future__ import annotations

from collections.abc import Sequence

from verifykit.criterion import Criterion
from verifykit.types import Decision, Identification

__all__ = [
    "counted",
    "decision_text",
    "identification_text",
    "interval_text",
    "rate_text",
    "share_text",
]


def counted(count: int, noun: str) -> str:
    """``1 template``, ``2 templates``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def share_text(share: float) -> str:
    """A rate in percent, with two digits that count: ``1.9 %``, ``0.0013 %``."""
    digits = 1 if share >= 0.01 else 2
    shown = f"{100 * share:.{digits}f}" if share == 0 or share >= 1e-3 else f"{100 * share:.2g}"
    if "e" in shown:
        shown = f"{float(shown):.10f}".rstrip("0")
    return f"{shown} %"


def interval_text(low: float, high: float) -> str:
    """Bounds of a rate in percent: ``[0.5, 1.9] %``."""
    return f"[{share_text(low)[:-2]}, {share_text(high)[:-2]}] %"


def decision_text(decision: Decision, question: str) -> str:
    """Several lines: the answer, the score, the threshold and what it stands for.

    Args:
        decision: The decision.
        question: What was compared with what.
    """
    answer = "match" if decision.match else "no match"
    if decision.outcome == "review":
        answer = "review"
    lines = [
        f"{answer}: {question}",
        f"score      {decision.score:.4f}",
        f"threshold  {decision.threshold:.4f}",
        f"FMR        {rate_text(decision.fmr, decision.attack)}",
    ]
    if decision.score_fmr is not None:
        evidence = "" if decision.llr is None else f", log-likelihood ratio {decision.llr:+.1f}"
        lines.append(f"at score   FMR {decision.score_fmr:.2g}{evidence}")
    if decision.review_threshold is not None:
        lines.append(
            f"review     from {decision.review_threshold:.4f}, FMR "
            f"{rate_text(decision.review_fmr, decision.attack)}"
        )
    if decision.warnings:
        lines.append(f"warnings   {', '.join(decision.warnings)}")
    return "\n".join(lines)


def rate_text(fmr: float | None, attack: str | None) -> str:
    """What a false match rate means; None is a bare threshold's."""
    if fmr is None:
        return "unknown: a bare threshold stands for no false match rate"
    others = "skilled forgeries" if attack == "skilled_forgery" else "pairs of different subjects"
    return f"{fmr:g} (1 in {round(1 / fmr):,} {others} would match)"


def identification_text(answers: Sequence[Identification], criterion: Criterion) -> str:
    """A block for each face: who it is, best first, or nobody; then the threshold."""
    blocks = []
    for number, answer in enumerate(answers, start=1):
        lines = [f"face {number} of {len(answers)}"] if len(answers) > 1 else []
        if not answer.candidates:
            lines.append("no match: nobody in the gallery reaches the threshold")
        for rank, found in enumerate(answer.candidates, start=1):
            lines.append(f"{rank}. {found.subject_id}  score {found.score:.4f}")
        if answer.reasons:
            lines.append(f"warnings   {', '.join(answer.reasons)}")
        blocks.append("\n".join(lines))
    blocks.append(f"threshold  {criterion.threshold:.4f}")
    blocks.append(f"FMR        {rate_text(criterion.fmr, criterion.attack)}")
    if criterion.fpir is not None:
        blocks.append(
            f"FPIR       {criterion.fpir:.3g} (1 in {round(1 / criterion.fpir):,} searches for a stranger "
            f"would find somebody among {counted(criterion.gallery_size or 0, 'subject')})"
        )
    return "\n".join(blocks)
