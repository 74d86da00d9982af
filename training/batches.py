"""From records to batches: which images, cropped, augmented and as tensors.

What is random in a batch follows from (seed, epoch, place in the epoch) and from nothing else: neither
from the number of workers nor from what was drawn before, so that a run can be taken up anywhere.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from training.augmentation import Augmentation
from training.crops import CropCache
from training.data import Record
from verifykit.preprocess import to_tensor
from verifykit.spec import InputSpec

__all__ = [
    "Batch",
    "BatchPlan",
    "CropDataset",
    "EpochSampler",
    "Plan",
    "build_loader",
    "derived_seed",
]


class Batch(NamedTuple):
    """What the network is given, and whose it is.

    Attributes:
        images: (N, C, H, W) float32, as ``to_tensor`` makes them.
        labels: (N,) int64.
        forgeries: (N,) bool.
        rows: (N,) int64, places in the dataset's records.
    """

    images: Tensor
    labels: Tensor
    forgeries: Tensor
    rows: Tensor


class Plan(NamedTuple):
    """One batch to be made.

    Attributes:
        rows: Places in the dataset's records.
        seed: Of its augmentation.
    """

    rows: Sequence[int]
    seed: int


class EpochSampler(Protocol):
    """Yields lists of rows; an epoch's lists follow from its number."""

    def __iter__(self) -> Iterator[list[int]]:
        """The batches of the epoch."""

    def __len__(self) -> int:
        """How many they are."""

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch."""


class CropDataset(Dataset[Batch]):
    """Whole batches of crops; read by workers, which hold one batch at a time."""

    def __init__(
        self,
        records: Sequence[Record],
        labels: Sequence[int],
        cache: CropCache,
        spec: InputSpec,
        augmentation: Augmentation | None = None,
    ) -> None:
        """Pair records with their crops.

        Args:
            records: Images that the cache holds.
            labels: A number for each record's subject.
            cache: Their crops.
            spec: Values that the network is fed.
            augmentation: Between crop and tensor.
        """
        self.records = records
        self.labels = labels
        self._cache, self._spec, self._augmentation = cache, spec, augmentation

    def __len__(self) -> int:
        return len(self.records)

    def __getitems__(self, plan: Plan) -> Batch:
        records = [self.records[row] for row in plan.rows]
        crops = [self._cache.crop(record.path) for record in records]
        if self._augmentation is not None:
            subjects = [self.labels[row] for row in plan.rows]
            crops = self._augmentation(crops, plan.seed, subjects)
        return Batch(
            torch.from_numpy(to_tensor(crops, self._spec)),
            torch.tensor([self.labels[row] for row in plan.rows], dtype=torch.int64),
            torch.tensor([record.is_forgery for record in records], dtype=torch.bool),
            torch.tensor(list(plan.rows), dtype=torch.int64),
        )

    def __getitem__(self, row: int) -> Batch:
        return self.__getitems__(Plan([row], 0))


class BatchPlan(Sampler[Plan]):
    """The plans of one epoch for one process: its part of every global batch."""

    def __init__(
        self,
        sampler: EpochSampler,
        *,
        batches: int,
        seed: int,
        unit: int = 1,
        rank: int = 0,
        processes: int = 1,
    ) -> None:
        """Plan batches.

        Args:
            sampler: Yields global batches of rows; begun again when it runs out.
            batches: Global batches in an epoch.
            seed: Of the augmentation.
            unit: Rows that stay together: 3 for triplets.
            rank: Which process this is.
            processes: How many there are; each gets as many whole units, a rest is left out.
        """
        self._sampler, self._batches, self._seed, self._unit = sampler, batches, seed, unit
        self._rank, self._processes = rank, processes
        self._epoch, self._first = 0, 0

    def __len__(self) -> int:
        return self._batches - self._first

    def set_epoch(self, epoch: int, first: int = 0) -> None:
        """Choose the epoch, and the batch at which it is taken up."""
        self._epoch, self._first = epoch, first

    def __iter__(self) -> Iterator[Plan]:
        batches = itertools.islice(self._rows(), self._first, self._batches)
        for place, rows in enumerate(batches, self._first):
            share = len(rows) // (self._processes * self._unit) * self._unit
            mine = rows[self._rank * share : (self._rank + 1) * share]
            yield Plan(mine, derived_seed(self._seed, self._epoch, place, self._rank))

    def _rows(self) -> Iterator[list[int]]:
        passes = -(-self._batches // len(self._sampler))
        for number in range(passes):
            self._sampler.set_epoch(self._epoch * passes + number)
            yield from self._sampler


def build_loader(
    dataset: CropDataset,
    plans: Sampler[Plan] | Sequence[Plan],
    workers: int,
    *,
    pinned: bool = False,
) -> DataLoader[Batch]:
    """A loader whose workers make whole batches.

    Args:
        dataset: What to read.
        plans: Which batches.
        workers: Processes; 0 reads in this one.
        pinned: Into page-locked memory, for a GPU.
    """
    return DataLoader(
        dataset,
        batch_sampler=plans,  # type: ignore[arg-type]
        num_workers=workers,
        collate_fn=_as_it_is,
        pin_memory=pinned,
        # The loader draws its workers' base seed from here and not from the global generator.
        generator=torch.Generator().manual_seed(0),
        prefetch_factor=2 if workers else None,
        persistent_workers=bool(workers),
    )


def derived_seed(*numbers: int) -> int:
    """One seed in [0, 2**32) from several numbers, each in [0, 2**32)."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def _as_it_is(batch: Any) -> Any:
    return batch
