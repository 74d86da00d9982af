"""Prepare the data of a run: records, splits, crops, sampler."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from verifykit.errors import shortened
from verifykit.models import cache_folder
from verifykit.spec import CropSpec, InputSpec
from verifykit_training.augmentation import Augmentation
from verifykit_training.batches import (
    BalancedTripletSampler,
    CropDataset,
    EpochSampler,
    PKSampler,
    TripletListSampler,
)
from verifykit_training.config import Config
from verifykit_training.crop_cache import CropCache, build_extractor
from verifykit_training.dataset import Record, Split, name_bytes, read_records, read_triplets
from verifykit_training.errors import DataError
from verifykit_training.pixel_digests import PixelDigests
from verifykit_training.splits import divide_for
from verifykit_training.stages import Stages, stage
from verifykit_training.trained_on import TrainedOn

READING = "reading images"


@dataclass(frozen=True)
class Prepared:
    """The cropped data of a run.

    Attributes:
        train: Training images, augmented.
        validation: Images by which checkpoints are chosen; None without validation subjects.
        subjects: Names of the training subjects, in the order of their numbers.
        splits: The subjects of each split.
        refused: Images that gave no crop, with the reason.
        crop: Geometry of the crops.
        digest: Changes when the training or validation images do.
        images: Digests of the decoded images of each split.
        is_within: Validation images are of training subjects.
        names_digest: As ``digest``, of the names only, which runs of schema 1 have.
    """

    train: CropDataset
    validation: CropDataset | None
    subjects: tuple[str, ...]
    splits: dict[Split, list[str]]
    refused: dict[Path, str]
    crop: CropSpec
    digest: str
    images: dict[Split, list[str]]
    is_within: bool
    names_digest: str


def default_data(data: Path | None) -> Path:
    """Return the path of ``--data``; raise `DataError` without one.

    ``VERIFYKIT_DATA`` is not read: in the documentation and the benchmarks it names the folder above all
    data sets, whose folders would become subjects.
    """
    if data is None:
        raise DataError(
            "no data: give --data PATH, a folder with a folder for each subject or a CSV"
        )
    return data


def default_cache() -> Path:
    """Return the folder of crops and digests for ``--cache``."""
    return cache_folder() / "crops"


def digests_for(
    trained: TrainedOn,
    records: Sequence[Record],
    cache: Path | None = None,
    *,
    stages: Stages | None = None,
) -> dict[Path, str]:
    """Return the digests by which records are found in what a run was trained on; none if it has none."""
    if trained.images is None:
        return {}
    progress = stage(stages, READING, len(records))
    return PixelDigests(cache or default_cache()).of_all(records, progress=progress)


def crop_records(
    records: Sequence[Record],
    config: Config,
    cache: Path | None = None,
    *,
    stages: Stages | None = None,
) -> tuple[CropCache, list[Record], dict[Path, str]]:
    """Crop images as configured, once for all runs; return cache, kept records and refusals with reasons."""
    extractor = build_extractor(config.crop)
    crops = CropCache(cache or default_cache(), extractor.spec)
    refused = crops.fill(
        records, lambda: extractor, workers=max(1, config.data.workers), stages=stages
    )
    kept = [record for record in records if record.path not in refused]
    if not kept:
        path, reason = next(iter(refused.items()))
        raise DataError(
            f"not one of {len(records)} images gave a crop; {shortened(path)}: {reason}"
        )
    return crops, kept, refused


def prepare(
    config: Config,
    data: Path,
    spec: InputSpec,
    cache: Path | None = None,
    *,
    stages: Stages | None = None,
) -> Prepared:
    """Read, split and crop the data of a run."""
    division = divide_for(config, read_records(data))
    parts = division.parts
    used = [*parts["train"], *parts["validation"]]
    crops, kept, refused = crop_records(used, config, cache, stages=stages)
    train = [record for record in parts["train"] if record.path not in refused]
    validation = [record for record in parts["validation"] if record.path not in refused]
    subjects = tuple(sorted({record.subject for record in train}))
    every = [*used, *parts["test"]]
    digests = crops.digests.of_all(
        every, workers=max(1, config.data.workers), progress=stage(stages, READING, len(every))
    )
    names = [f"{r.subject}\t{r.path.name}\t{r.is_forgery}" for r in kept]
    contents = [
        f"{r.subject}\t{digests.get(r.path)}\t{r.is_forgery}" for r in [*train, *validation]
    ]
    return Prepared(
        train=CropDataset(
            train, subject_numbers(train), crops, spec, Augmentation(config.augmentation)
        ),
        validation=CropDataset(validation, subject_numbers(validation), crops, spec)
        if validation
        else None,
        subjects=subjects,
        splits=division.subjects,
        refused=refused,
        crop=crops.spec,
        digest=hashlib.sha256(name_bytes("\n".join(contents))).hexdigest(),
        images={
            name: sorted({digests[r.path] for r in part if r.path in digests})
            for name, part in parts.items()
        },
        is_within=division.is_within,
        names_digest=hashlib.sha256(name_bytes("\n".join(names))).hexdigest(),
    )


def require_apart(data: Prepared) -> list[str]:
    """Raise `DataError` if an image, by content, is in two splits; return a sentence about copies within.

    Of validation within the training subjects a copy is no leak to another person, but it is known.
    """
    train, validation, test = (set(data.images[part]) for part in ("train", "validation", "test"))
    shared = (train | validation) & test
    if not data.is_within:
        shared |= train & validation
    if shared:
        raise DataError(
            f"{len(shared)} image(s) are in more than one of training, validation and test, as copies under "
            "different subjects, so that error rates would be too low: verifykit-train check DATA --config "
            "CONFIG names them; remove or correct them"
        )
    copies = train & validation
    sentence = (
        f"{len(copies)} of {len(validation)} validation images are copies of training images: the error rate "
        "flatters."
    )
    return [sentence] if copies else []


def build_sampler(
    config: Config, records: Sequence[Record], labels: Sequence[int], triplets: Path | None
) -> EpochSampler:
    """Build the sampler of global batches of records, cropped or not."""
    sampler = config.sampler
    if sampler.name == "triplet_file":
        if triplets is None:
            raise DataError('sampler.name is "triplet_file": give the file with --triplets')
        rows = read_triplets(triplets, records)
        return TripletListSampler(rows, sampler.triplets, config.seed)
    forgeries = [record.is_forgery for record in records]
    if sampler.name == "balanced_triplets":
        return BalancedTripletSampler(labels, sampler.triplets, config.seed, forgeries=forgeries)
    return PKSampler(
        labels,
        sampler.p,
        sampler.k,
        config.seed,
        forgeries=forgeries,
        forgeries_per_subject=sampler.forgeries,
        even=sampler.even,
    )


def subject_numbers(records: Sequence[Record]) -> list[int]:
    """Number the subjects of records from 0, in the order of their names."""
    numbers = {name: i for i, name in enumerate(sorted({record.subject for record in records}))}
    return [numbers[record.subject] for record in records]
