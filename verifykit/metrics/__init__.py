"""Error rates of scores, their intervals, 1:N rates, distributions and likelihood ratios."""

from __future__ import annotations

from verifykit.metrics.distributions import ScoreHistogram, d_prime, score_histogram
from verifykit.metrics.intervals import (
    SubjectBootstrap,
    eer_interval,
    rate_interval,
    rule_of_three,
    wilson_interval,
)
from verifykit.metrics.likelihood import LogisticFit, cllr, fit_log_likelihood_ratio
from verifykit.metrics.open_set import (
    OpenSetCurve,
    fmr_of_fpir,
    fpir_of_fmr,
    hit_rate,
    open_set_curve,
)
from verifykit.metrics.rates import (
    DetCurve,
    EqualErrorRate,
    det_curve,
    equal_error_rate,
    fmr_at,
    fnmr_at,
    fnmr_at_fmr,
    threshold_at_fmr,
)

__all__ = [
    "DetCurve",
    "EqualErrorRate",
    "LogisticFit",
    "OpenSetCurve",
    "ScoreHistogram",
    "SubjectBootstrap",
    "cllr",
    "d_prime",
    "det_curve",
    "eer_interval",
    "equal_error_rate",
    "fit_log_likelihood_ratio",
    "fmr_at",
    "fmr_of_fpir",
    "fnmr_at",
    "fnmr_at_fmr",
    "fpir_of_fmr",
    "hit_rate",
    "open_set_curve",
    "rate_interval",
    "rule_of_three",
    "score_histogram",
    "threshold_at_fmr",
    "wilson_interval",
]
