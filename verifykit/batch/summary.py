"""What a run came to."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from verifykit.batch.rows import Row

__all__ = ["BatchSummary", "Tally"]


@dataclass(frozen=True)
class BatchSummary:
    """What an output holds when the run is through.

    Attributes:
        images: Images of the source, all of them with a row now.
        resumed: How many of them had one from an earlier run.
        faces: Faces that were searched for.
        matched_faces: Faces with at least one candidate.
        errors: Images that gave no answer, by error code.
        seconds: Time of this run: ``"total"``, and by stage, summed over its workers.
    """

    images: int
    resumed: int
    faces: int
    matched_faces: int
    errors: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready plain values."""
        return asdict(self)


class Tally:
    """Counts over rows."""

    def __init__(self) -> None:
        self._errors = Counter[str]()
        self._faces = 0
        self._matched = 0

    def add(self, row: Row) -> None:
        """Count one image.

        Args:
            row: Its row.
        """
        if "error" in row:
            self._errors[row["error"]] += 1
        for face in row.get("faces", ()):
            self._faces += 1
            self._matched += bool(face["candidates"])

    def summary(self, images: int, resumed: int) -> BatchSummary:
        """The counts as they are now.

        Args:
            images: Images of the source.
            resumed: How many of them had a row from an earlier run.
        """
        errors = dict(sorted(self._errors.items()))
        return BatchSummary(images, resumed, self._faces, self._matched, errors)
