"""Real crops for the gate, the calibration of int8 and the operating points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from verifykit.errors import ModelContractError, shortened, shown
from verifykit.types import Image
from verifykit_training.config import Config
from verifykit_training.dataset import Record, read_records
from verifykit_training.errors import DataError
from verifykit_training.preparation import crop_records, digests_for
from verifykit_training.run_folder import EncoderRecord, RunFolder
from verifykit_training.stages import Stages
from verifykit_training.trained_on import separate

LEAST_IMAGES = 24
"""With fewer crops, equality is not proved."""

_CALIBRATION_IMAGES = 128


@dataclass(frozen=True, eq=False)
class Samples:
    """Crops with their subjects.

    Attributes:
        records: Images that the rates are measured on, of subjects that the run was not trained on or, for
            ``known_subjects``, images of the others that it was not trained on.
        crops: Their crops, (h, w, 3) uint8 RGB each.
        trained: Crops of training subjects, spread over all of them; empty with other data.
        refused: How many images gave no crop.
        notes: Who was left out, and why, a sentence each.
    """

    records: tuple[Record, ...]
    crops: tuple[Image, ...]
    trained: tuple[Image, ...]
    refused: int
    notes: tuple[str, ...] = ()

    @property
    def subjects(self) -> list[str]:
        """The subject of each record."""
        return [record.subject for record in self.records]

    @property
    def forgeries(self) -> list[bool]:
        """Whether each record is a forgery."""
        return [record.is_forgery for record in self.records]

    @property
    def every(self) -> tuple[Image, ...]:
        """All crops."""
        return self.crops + self.trained


def read_samples(
    run: RunFolder,
    config: Config,
    record: EncoderRecord,
    data: Path,
    *,
    limit: int,
    cache: Path | None = None,
    known_subjects: bool = False,
    stages: Stages | None = None,
) -> Samples:
    """Crop real images exactly as the run did."""
    records, trained_on = read_records(data), run.read_trained_on()
    digests = digests_for(trained_on, records, cache, stages=stages)
    parted = separate(trained_on, records, digests, ("train",))
    unseen, seen = parted.unseen, parted.seen
    if known_subjects:
        if unseen or trained_on.images is None:
            raise DataError(
                f"{shortened(data)} holds {len(unseen)} images of subjects that the run was not trained on: "
                "leave --known-subjects out, their rates are the honest ones"
                if unseen
                else f"{shortened(run.path)} has no digests of its images: train again for --known-subjects"
            )
        fitted = trained_on.images["train"]
        unseen = [record for record in seen if digests.get(record.path) not in fitted]
        seen = [record for record in seen if digests.get(record.path) in fitted]
    held_out = _whole_subjects(unseen, limit)
    known = [r for r in seen if not r.is_forgery]
    known = known[:: max(1, len(known) // _CALIBRATION_IMAGES)][:_CALIBRATION_IMAGES]
    cache_of, kept, refused = crop_records([*held_out, *known], config, cache, stages=stages)
    if cache_of.spec != record.crop:
        raise ModelContractError(
            f"{shortened(run.path)} was trained on other crops than these: spec.json and config.toml "
            f"disagree, or the model {shown(record.detector_model)} is another one now"
        )
    crops = {item.path: cache_of.crop(item.path) for item in kept}
    mine = [item for item in held_out if item.path in crops]
    _require_pairs(data, mine)
    if len(crops) < LEAST_IMAGES:
        raise DataError(
            f"{shortened(data)} gives {len(crops)} crops, at least {LEAST_IMAGES} are required to compare "
            "the exported file to the network: give more with --data"
        )
    return Samples(
        tuple(mine),
        tuple(crops[item.path] for item in mine),
        tuple(crops[item.path] for item in known if item.path in crops),
        len(refused),
        parted.sentences,
    )


def _whole_subjects(records: Sequence[Record], limit: int) -> list[Record]:
    by_subject: dict[str, list[Record]] = {}
    for record in records:
        by_subject.setdefault(record.subject, []).append(record)
    chosen: list[Record] = []
    for some in by_subject.values():
        if len(chosen) >= limit:
            break
        chosen += some
    return chosen


def _require_pairs(data: Path, records: Sequence[Record]) -> None:
    subjects = [record.subject for record in records if not record.is_forgery]
    if len(set(subjects)) < 2 or len(subjects) == len(set(subjects)):
        raise DataError(
            f"{shortened(data)} holds {len(set(subjects))} subject(s) that the run was not trained on, "
            "without a mated and a non-mated pair: give data of other people with --data, train with "
            "data.validation_share, or for a closed set of classes give --known-subjects"
        )
