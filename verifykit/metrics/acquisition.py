"""How often no template came about: failure to acquire and failure to enrol.

Terms after ISO/IEC 19795-1. A sample that cannot be used is in neither FMR nor FNMR, so that these two
rates belong beside them: a system that refuses every hard sample has a low FNMR.
"""

from __future__ import annotations

from verifykit.metrics.inputs import checked_part


def failure_to_acquire_rate(failed: int, attempted: int) -> float:
    """FTA: the share of verification or identification attempts that gave no usable sample.

    ISO/IEC 19795-1: the system fails to capture or locate a biometric sample of sufficient quality.

    Args:
        failed: Attempts without a usable sample, in [0, ``attempted``].
        attempted: All attempts, at least 1.

    Returns:
        ``failed / attempted``, in [0, 1].

    Raises:
        InputError: The counts are no such integers.
    """
    part, whole = checked_part("failed", failed, "attempted", attempted)
    return part / whole


def failure_to_enrol_rate(failed: int, subjects: int) -> float:
    """FTE: the share of the population that the system could not enrol.

    ISO/IEC 19795-1 counts subjects, not samples: who was enrolled at a later attempt, within those that
    the enrolment policy allows, has not failed.

    Args:
        failed: Subjects of whom no template could be made, in [0, ``subjects``].
        subjects: All who were to be enrolled, at least 1.

    Returns:
        ``failed / subjects``, in [0, 1].

    Raises:
        InputError: The counts are no such integers.
    """
    part, whole = checked_part("failed", failed, "subjects", subjects)
    return part / whole
