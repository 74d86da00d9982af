"""Prepare the data of a run: records, splits, crops, sampler."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
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
from verifykit_training.dataset import Record, Split, divide, read_records, read_triplets
from verifykit_training.errors import DataError


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
        digest: Changes when the training or validation records do.
    """

    train: CropDataset
    validation: CropDataset | None
    subjects: tuple[str, ...]
    splits: dict[Split, list[str]]
    refused: dict[Path, str]
    crop: CropSpec
    digest: str


def default_data(data: Path | None) -> Path:
    """Return the path of ``--data``, else of ``$VERIFYKIT_DATA``."""
    if data is not None:
        return data
    if named := os.environ.get("VERIFYKIT_DATA"):
        return Path(named)
    raise DataError("no data: give --data, or set VERIFYKIT_DATA")


def crop_records(
    records: Sequence[Record],
    config: Config,
    cache: Path | None = None,
    *,
    progress: Callable[[int], None] | None = None,
) -> tuple[CropCache, list[Record], dict[Path, str]]:
    """Crop images as configured, once for all runs; return cache, kept records and refusals with reasons."""
    extractor = build_extractor(config.crop)
    crops = CropCache(cache or cache_folder() / "crops", extractor.spec)
    refused = crops.fill(
        records, lambda: extractor, workers=max(1, config.data.workers), progress=progress
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
    progress: Callable[[int], None] | None = None,
) -> Prepared:
    """Read, split and crop the data of a run."""
    parts = divide(
        read_records(data),
        validation_share=config.data.validation_share,
        test_share=config.data.test_share,
        seed=config.seed,
    )
    used = [*parts["train"], *parts["validation"]]
    crops, kept, refused = crop_records(used, config, cache, progress=progress)
    train = [record for record in parts["train"] if record.path not in refused]
    validation = [record for record in parts["validation"] if record.path not in refused]
    subjects = tuple(sorted({record.subject for record in train}))
    identity = "\n".join(f"{r.subject}\t{r.path.name}\t{r.is_forgery}" for r in kept)
    return Prepared(
        train=CropDataset(train, _numbers(train), crops, spec, Augmentation(config.augmentation)),
        validation=CropDataset(validation, _numbers(validation), crops, spec)
        if validation
        else None,
        subjects=subjects,
        splits={name: sorted({r.subject for r in part}) for name, part in parts.items()},
        refused=refused,
        crop=crops.spec,
        digest=hashlib.sha256(identity.encode()).hexdigest(),
    )


def build_sampler(config: Config, dataset: CropDataset, triplets: Path | None) -> EpochSampler:
    """Build the sampler of global batches."""
    sampler = config.sampler
    if sampler.name == "triplet_file":
        if triplets is None:
            raise DataError('sampler.name is "triplet_file": give the file with --triplets')
        rows = read_triplets(triplets, dataset.records)
        return TripletListSampler(rows, sampler.triplets, config.seed)
    forgeries = [record.is_forgery for record in dataset.records]
    if sampler.name == "balanced_triplets":
        return BalancedTripletSampler(
            dataset.labels, sampler.triplets, config.seed, forgeries=forgeries
        )
    return PKSampler(
        dataset.labels,
        sampler.p,
        sampler.k,
        config.seed,
        forgeries=forgeries,
        forgeries_per_subject=sampler.forgeries,
        even=sampler.even,
    )


def _numbers(records: Sequence[Record]) -> list[int]:
    numbers = {name: i for i, name in enumerate(sorted({record.subject for record in records}))}
    return [numbers[record.subject] for record in records]
