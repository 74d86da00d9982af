"""Samplers, batches and loaders: which images make a batch, cropped, augmented and as tensors.

What is random in a batch follows from (seed, epoch, place in the epoch) and nothing else, neither the number
of workers nor earlier draws, so that a run can be resumed anywhere.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from verifykit.errors import InputError
from verifykit.modalities import to_tensor
from verifykit.spec import InputSpec
from verifykit_training.augmentation import Augmentation
from verifykit_training.crop_cache import CropCache
from verifykit_training.dataset import Record


class Batch(NamedTuple):
    """Input of the network, with subjects.

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
    """A sampler of lists of rows that follow from the number of the epoch."""

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the batches of the epoch."""

    def __len__(self) -> int:
        """Return the number of batches."""

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
        """Pair records with their crops."""
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
        """Plan batches."""
        self._sampler, self._batches, self._seed, self._unit = sampler, batches, seed, unit
        self._rank, self._processes = rank, processes
        self._epoch, self._first = 0, 0

    def __len__(self) -> int:
        return self._batches - self._first

    def set_epoch(self, epoch: int, first: int = 0) -> None:
        """Choose the epoch, and the batch at which it is resumed."""
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
    """Return a loader whose workers make whole batches."""
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
    """Return one seed in [0, 2**32) from several numbers, each in [0, 2**32)."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def _as_it_is(batch: Any) -> Any:
    return batch


class PKSampler(Sampler[list[int]]):
    """Batches of P different subjects with K images each, for ``DataLoader(batch_sampler=...)``.

    Each epoch every subject's images are shuffled and dealt into groups of K, the last one filled up
    with others of the same subject (with repeats only where a subject has fewer than K). The groups
    are then laid into batches so that no batch holds a subject twice and the number of batches is the
    largest possible; groups that are left over are another random choice in each epoch. A batch lists a
    subject's K images one after the other.
    """

    def __init__(
        self,
        labels: Sequence[int] | NDArray[np.integer],
        p: int,
        k: int,
        seed: int,
        *,
        forgeries: Sequence[bool] | NDArray[np.bool_] | None = None,
        forgeries_per_subject: int = 0,
        even: bool = False,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        subjects = _check_labels(labels)
        forged = _check_forgeries(forgeries, subjects)
        if p < 1 or k < 1 or forgeries_per_subject < 0:
            raise InputError(
                f"p and k must be 1 or more and forgeries_per_subject 0 or more, got p={p}, k={k}, "
                f"forgeries_per_subject={forgeries_per_subject}"
            )
        if not 0 <= rank < world_size or p % world_size:
            raise InputError(
                f"rank {rank} of {world_size} processes cannot have an equal part of p={p} subjects: "
                "world_size must divide p"
            )
        self.p, self.k, self.seed, self.epoch = p, k, seed, 0
        self.forgeries_per_subject = forgeries_per_subject
        self._rank, self._world_size = rank, world_size
        names = np.unique(subjects[~forged])
        if len(names) < p:
            raise InputError(
                f"a batch of p={p} subjects was requested, but the data have {len(names)}"
            )
        self._genuine = [np.flatnonzero((subjects == name) & ~forged) for name in names]
        self._forged = [np.flatnonzero((subjects == name) & forged) for name in names]
        groups = [-(-len(rows) // k) for rows in self._genuine]
        self._rounds = [-(-max(groups) // own) if even else 1 for own in groups]
        self._groups = [max(groups) if even else own for own in groups]
        self._length = _most_batches(self._groups, p)

    def __len__(self) -> int:
        return self._length

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration deals; the same epoch deals the same batches."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[list[int]]:
        random = np.random.default_rng([self.seed, self.epoch])
        groups: list[list[int]] = []
        for subject in random.permutation(len(self._genuine)):
            dealt = [g for _ in range(self._rounds[subject]) for g in self._deal(subject, random)]
            groups += dealt[: min(self._groups[subject], len(self))]
        # Neighbours in the list that are fewer than len(self) apart land in different batches, and a
        # subject has at most len(self) groups, one after the other.
        kept = np.sort(random.permutation(len(groups))[: self.p * len(self)])
        for first in random.permutation(len(self)):
            batch = [groups[i] for i in kept[first :: len(self)]]
            share = self.p // self._world_size
            part = batch[self._rank * share : (self._rank + 1) * share]
            yield [index for group in part for index in group]

    def _deal(self, subject: int, random: np.random.Generator) -> list[list[int]]:
        """A subject's images in groups of K, each with its forgeries."""
        rows = random.permutation(self._genuine[subject])
        groups = [rows[i : i + self.k].tolist() for i in range(0, len(rows), self.k)]
        groups[-1] += _others(rows, groups[-1], self.k - len(groups[-1]), random)
        forged = self._forged[subject]
        for group in groups:
            if self.forgeries_per_subject and len(forged):
                group += _others(forged, [], self.forgeries_per_subject, random)
            elif self.forgeries_per_subject:
                group += _others(rows, group, self.forgeries_per_subject, random)
        return [groups[i] for i in random.permutation(len(groups))]


class BalancedTripletSampler(Sampler[list[int]]):
    """Batches of triplets with every ordered pair of classes equally often.

    For a handful of classes, as those build triplets who classify with the embedding: the anchor's class
    and the negative's class go through all ordered pairs, in a new order each round, and the images of
    a class are used up before any comes again.
    """

    def __init__(
        self,
        labels: Sequence[int] | NDArray[np.integer],
        triplets: int,
        seed: int,
        *,
        batches: int | None = None,
        forgeries: Sequence[bool] | NDArray[np.bool_] | None = None,
    ) -> None:
        classes = _check_labels(labels)
        genuine = ~_check_forgeries(forgeries, classes)
        names, counts = np.unique(classes[genuine], return_counts=True)
        if len(names) < 2 or counts.min() < 2:
            raise InputError(
                "triplets need two classes or more with two images or more each, got classes "
                f"{names.tolist()} with {counts.tolist()} images"
            )
        if triplets < 1 or (batches is not None and batches < 1):
            raise InputError(f"triplets and batches must be positive, got {triplets} and {batches}")
        self.triplets, self.seed, self.epoch = triplets, seed, 0
        self._rows = [np.flatnonzero((classes == name) & genuine) for name in names]
        images = int(counts.sum())
        self._length = batches if batches is not None else max(1, images // (3 * triplets))

    def __len__(self) -> int:
        return self._length

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration deals."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[list[int]]:
        """Batches of 3 T row numbers: anchor, positive, negative, anchor, positive, ..."""
        random = np.random.default_rng([self.seed, self.epoch])
        decks = [_deck(rows, random) for rows in self._rows]
        count = len(decks)
        pairs = [(a, n) for a in range(count) for n in range(count) if a != n]
        order = _deck(np.arange(len(pairs)), random)
        for _ in range(len(self)):
            batch: list[int] = []
            for _ in range(self.triplets):
                own, other = pairs[next(order)]
                anchor = next(decks[own])
                positive = next(row for row in decks[own] if row != anchor)
                batch += [anchor, positive, next(decks[other])]
            yield batch


class TripletListSampler(Sampler[list[int]]):
    """Batches of triplets from a list, shuffled, each once an epoch."""

    def __init__(
        self,
        triplets: Sequence[Sequence[int]] | NDArray[np.integer],
        batch_triplets: int,
        seed: int,
    ) -> None:
        rows = np.asarray(triplets)
        if rows.ndim != 2 or rows.shape[1:] != (3,) or rows.dtype.kind not in "iu":
            raise InputError(
                f"triplets must be (T, 3) integers, got {rows.dtype} of shape {rows.shape}"
            )
        if not len(rows) or batch_triplets < 1:
            raise InputError(f"got {len(rows)} triplets in batches of {batch_triplets}")
        self.batch_triplets, self.seed, self.epoch = batch_triplets, seed, 0
        self._triplets = rows

    def __len__(self) -> int:
        return -(-len(self._triplets) // self.batch_triplets)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order the next iteration takes."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[list[int]]:
        """Batches of 3 T row numbers: anchor, positive, negative, anchor, positive, ..."""
        random = np.random.default_rng([self.seed, self.epoch])
        order = random.permutation(len(self._triplets))
        for start in range(0, len(order), self.batch_triplets):
            yield self._triplets[order[start : start + self.batch_triplets]].ravel().tolist()


def _most_batches(groups: Sequence[int], p: int) -> int:
    """The largest B for which P different subjects can be found B times, each as often as it has groups.

    B batches can be filled if and only if ``sum(min(groups, B)) >= p B``.
    """
    counts = np.asarray(groups)
    batches = int(counts.sum()) // p
    while np.minimum(counts, batches).sum() < p * batches:
        batches -= 1
    return batches


def _others(
    rows: NDArray[np.integer], taken: Sequence[int], count: int, random: np.random.Generator
) -> list[int]:
    """``count`` of the rows: those not taken first, then repeats, each as seldom as possible."""
    found: list[int] = random.permutation(np.setdiff1d(rows, taken)).tolist()
    while len(found) < count:
        found += random.permutation(rows).tolist()
    return found[:count]


def _deck(rows: NDArray[np.integer], random: np.random.Generator) -> Iterator[int]:
    """The rows in random order, over and over."""
    while True:
        yield from random.permutation(rows).tolist()


def _check_labels(labels: Sequence[int] | NDArray[np.integer]) -> NDArray[np.integer]:
    subjects = np.asarray(labels)
    if subjects.ndim != 1 or subjects.dtype.kind not in "iu":
        raise InputError(
            f"labels must be (N,) integers, got {subjects.dtype} of shape {subjects.shape}"
        )
    return subjects


def _check_forgeries(
    forgeries: Sequence[bool] | NDArray[np.bool_] | None, subjects: NDArray[np.integer]
) -> NDArray[np.bool_]:
    if forgeries is None:
        return np.zeros(len(subjects), dtype=bool)
    forged = np.asarray(forgeries)
    if forged.dtype != np.bool_ or forged.shape != subjects.shape:
        raise InputError(
            f"forgeries must be ({len(subjects)},) booleans, got {forged.dtype} of shape {forged.shape}"
        )
    return forged
