"""Find before training what would stop a run later, or make it worthless: data, options, machine."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn
from torch.nn import functional

from verifykit.errors import VerifyKitError, shown
from verifykit_training.augmentation import Augmentation
from verifykit_training.batches import PKSampler
from verifykit_training.config import Config, RunConfig
from verifykit_training.crop_cache import build_extractor
from verifykit_training.dataset import Record
from verifykit_training.errors import ConfigError, TrainingError, first_line
from verifykit_training.large_batches import require_blocks
from verifykit_training.learner import encoder_of
from verifykit_training.losses import MARGIN_LOSSES, build_loss
from verifykit_training.preparation import build_sampler, subject_numbers
from verifykit_training.splits import Division, divide_for
from verifykit_training.teachers import Teacher, open_teacher, require_teachable

_T = TypeVar("_T")
_LEAST_SHOWN = 0.5
_TRIED_LABELS = (0, 0, 1, 0, 0, 1, 1, 1, 0, 1, 1, 0)


@dataclass(frozen=True)
class Findings:
    """What was found before a run.

    Attributes:
        problems: A sentence for each reason for which the run would fail or be worthless.
        notes: A sentence for each decision that was taken, and for what can be done better.
    """

    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def examine(config: Config, records: Sequence[Record], triplets: Path | None = None) -> Findings:
    """Examine configuration and data together; images are not read."""
    problems: list[str] = []
    notes: list[str] = []
    try:
        division = divide_for(config, records)
    except VerifyKitError as error:
        return Findings((str(error),))
    _examine_training(config, division, triplets, problems, notes)
    _examine_validation(config, division, problems, notes)
    return Findings(tuple(problems), tuple(notes))


def _examine_training(
    config: Config,
    division: Division,
    triplets: Path | None,
    problems: list[str],
    notes: list[str],
) -> None:
    train = division.parts["train"]
    counts = Counter(record.subject for record in train if not record.is_forgery)
    single = sum(count == 1 for count in counts.values())
    taught = config.distillation
    needs_pairs = config.loss.name not in MARGIN_LOSSES and not (
        taught and not taught.metric_weight
    )
    if single == len(counts) and needs_pairs:
        problems.append(
            f"each of the {len(counts)} training subjects has one image, which gives no mated pair and "
            "teaches nothing: give two images or more of a subject"
        )
        return
    if single:
        notes.append(f"{single} of {len(counts)} training subjects have one image: no mated pair.")
    sampler = config.sampler
    if sampler.name == "pk" and len(counts) < sampler.p:
        problems.append(
            f"sampler.p = {sampler.p} subjects make a batch, and {len(counts)} are left to train on: set "
            f"sampler.p to {len(counts)} or less, or lower the shares of validation and test"
        )
        return
    if sampler.name == "pk" and sampler.p % (config.run.devices * config.run.nodes):
        problems.append(
            f"sampler.p = {sampler.p} cannot be shared equally by "
            f"{config.run.devices * config.run.nodes} processes: make it a multiple"
        )
    try:
        found = build_sampler(config, train, subject_numbers(train), triplets)
    except VerifyKitError as error:
        problems.append(str(error))
        return
    if isinstance(found, PKSampler) and not sampler.even:
        _note_dominant(found, counts, notes)


def _note_dominant(sampler: PKSampler, counts: Counter[str], notes: list[str]) -> None:
    images = sum(counts.values())
    visible = len(sampler) * sampler.p * sampler.k
    (name, most), *_ = counts.most_common(1)
    if visible < _LEAST_SHOWN * images:
        notes.append(
            f"An epoch of {len(sampler)} batch(es) shows at most {visible} of {images} images, because "
            f"subject {shown(name)} has {most} of them and is in a batch once: set sampler.even = true."
        )


def _examine_validation(
    config: Config, division: Division, problems: list[str], notes: list[str]
) -> None:
    validation = division.parts["validation"]
    if not validation:
        if config.data.validation_share:
            notes.append("There are too few images for validation: the last epoch is kept.")
        return
    genuine = Counter(record.subject for record in validation if not record.is_forgery)
    if division.is_within:
        few = "There are too few subjects for validation subjects: "
        rest = "so that the error rate is one of known subjects."
        images = f"{len(validation)} images of the training subjects validate"
        chosen = config.data.within_subjects
        notes.append(f"{images}, {rest}" if chosen else f"{few}{images} instead, {rest}")
    remedy = "raise data.validation_share, or set it to 0"
    if max(genuine.values(), default=0) < 2:
        problems.append(f"the validation images give no mated pair: {remedy}")
    if config.validation.metric == "skilled_eer":
        if not any(record.is_forgery and genuine[record.subject] for record in validation):
            problems.append(
                'validation.metric is "skilled_eer", and the validation images hold no skilled forgery of '
                'their subjects: set it to "eer", or label forgeries in a CSV (path,subject,label)'
            )
    elif len(genuine) < 2:
        problems.append(
            f"the validation images are of one subject, so no pair is non-mated: {remedy}"
        )


def try_out(config: Config, teacher: Teacher | nn.Module | None = None) -> tuple[str, ...]:
    """Build crop, augmentation, network, losses and teacher, and use each once, on the CPU.

    Returns:
        What is worth saying about the weights, a sentence each.

    Raises:
        VerifyKitError: One of them cannot be built, for example without its weights, or does not work
            with these options or this size.
    """
    size = config.encoder.embedding_size
    height, width = config.crop.height_px, config.crop.width_px
    build_extractor(config.crop)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        crop = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
        _tried("augmentation", lambda: Augmentation(config.augmentation)([crop, crop], 0, [0, 1]))
        channels = 1 if config.encoder.color == "grey" else 3
        images = torch.rand(4, channels, height, width)
        encoder = _tried(
            f"encoder {shown(config.encoder.name)}",
            lambda: encoder_of(config),
        )
        _tried(
            f"encoder {shown(config.encoder.name)} at {height}x{width} px",
            lambda: encoder.train()(images),
        )
        if config.run.recompute_activations:
            require_blocks(config.encoder.name, encoder_of(config).backbone)
        stage = config.softmax_stage
        for section in (config.loss, *([stage] if stage.epochs else [])):
            _tried(
                f"loss {shown(section.name)}",
                partial(_try_loss, section.name, section.options, size),
            )
        if config.distillation is not None:
            _tried("distillation", partial(_try_teacher, config, teacher))
        elif teacher is not None:
            raise ConfigError(
                "a teacher was given, and the configuration has no section distillation"
            )
    if config.optimiser.frozen_epochs and not list(encoder.head.parameters()):
        raise ConfigError(
            f"encoder {shown(config.encoder.name)} has no head, so nothing would learn while it is frozen: "
            "set optimiser.frozen_epochs = 0"
        )
    report = encoder.loaded_weights
    return () if report is None else (report.sentence,)


def _try_teacher(config: Config, given: Teacher | nn.Module | None) -> None:
    teacher = open_teacher(config, given)
    require_teachable(config, teacher)
    crop = teacher.extractor.spec
    drawn = np.random.default_rng(0).integers(
        0, 256, (2, crop.height_px, crop.width_px, 3), np.uint8
    )
    found = teacher.encode(list(drawn))
    if found.shape != (2, teacher.record.embedding_size) or not np.isfinite(found).all():
        raise ConfigError(
            f"the teacher {shown(teacher.record.name)} gives {found.shape} for two images, or no numbers"
        )


def _try_loss(name: str, options: dict[str, object], size: int) -> None:
    loss = build_loss(name, classes=2, embedding_size=size, **options)
    rows = functional.normalize(torch.randn(len(_TRIED_LABELS), size), dim=1).requires_grad_()
    found = loss(rows, torch.tensor(_TRIED_LABELS)).loss
    if found.ndim:
        raise ConfigError(
            "its reduction leaves one value for each term, and training needs one number"
        )
    found.backward()


def _tried(what: str, work: Callable[[], _T]) -> _T:
    try:
        return work()
    except VerifyKitError as error:
        if what.split()[0] in str(error):
            raise
        raise ConfigError(f"{what}: {error}") from error
    except Exception as error:  # torch and albumentations have no common one
        raise ConfigError(f"{what} does not work as configured: {first_line(error)}") from error


def build_fabric(run: RunConfig, say: Callable[[str], None]) -> Fabric:
    """Build Lightning Fabric as configured; its warnings are said."""
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            fabric = Fabric(
                accelerator=run.accelerator,
                strategy=run.strategy,
                devices=run.devices,
                num_nodes=run.nodes,
                precision="32-true" if run.precision == "auto" else run.precision,
            )
    except Exception as error:  # Fabric raises whatever its parts do
        raise TrainingError(
            f'run.accelerator = "{run.accelerator}", run.strategy = "{run.strategy}", run.devices = '
            f'{run.devices}, run.precision = "{run.precision}" cannot be had here: {first_line(error)}'
        ) from error
    for warning in caught:
        say(f"note: {warning.message}")
    return fabric
