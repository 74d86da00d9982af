"""What goes into a model file: the network of a run, or of several side by side, at mirror images too."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from export.errors import ExportError
from training.config import Config
from training.encoders import VIEWS, JoinedEncoders, MirroredViews
from training.evaluate import load_encoder
from training.learner import input_of
from training.run_folder import EncoderRecord, RunFolder
from verifykit.errors import ModelContractError

__all__ = ["Composition", "compose"]


@dataclass(frozen=True)
class Composition:
    """A network to be exported, and where it comes from.

    Attributes:
        run: The first run: its training subjects are those of all.
        config: Its configuration.
        record: What becomes the specification; ``embedding_size`` is that of the whole.
        encoder: The whole network, in eval mode.
        source: Which runs and epochs, for people.
        source_sha256: Of the weights; of several, of their digests one after the other.
    """

    run: RunFolder
    config: Config
    record: EncoderRecord
    encoder: nn.Module
    source: str
    source_sha256: str


def compose(path: Path, beside: Sequence[Path] = (), *, mirrored: bool = False) -> Composition:
    """Load a run's network, and lay others beside it.

    Args:
        path: The run's folder.
        beside: Further runs of the same crop and input, trained on no subject that the first was not.
        mirrored: Look at the mirror images too: :class:`~training.encoders.MirroredViews`.

    Returns:
        The whole.

    Raises:
        ExportError: Runs that do not go together, or never saw mirrored subjects.
        TrainingError: A folder holds no finished run, or a damaged one.
        ModelError: A run contradicts itself.
    """
    runs = [RunFolder(each) for each in (path, *beside)]
    records = [run.read_record() for run in runs]
    loaded = [load_encoder(run) for run in runs]
    for run, record, (_, config) in zip(runs, records, loaded, strict=True):
        _require_consistent(run, config, record)
        _require_company(runs[0], records[0], run, record)
        if mirrored:
            _require_mirrors(config, record)
    whole = loaded[0][0] if len(loaded) == 1 else JoinedEncoders([each for each, _ in loaded])
    size = sum(record.embedding_size for record in records)
    if mirrored:
        whole, size = MirroredViews(whole), VIEWS * size
    digests = [hashlib.sha256(run.weights.read_bytes()).hexdigest() for run in runs]
    several = hashlib.sha256("".join(digests).encode()).hexdigest()
    source = " beside ".join(
        f"training run {record.name}, {record.encoder}, weights of epoch {record.epoch}"
        for record in records
    )
    return Composition(
        runs[0],
        loaded[0][1],
        replace(records[0], embedding_size=size),
        whole.eval(),
        source + (", mirror images too" if mirrored else ""),
        digests[0] if len(digests) == 1 else several,
    )


def _require_consistent(run: RunFolder, config: Config, record: EncoderRecord) -> None:
    stated = (record.encoder, record.embedding_size, record.input, record.modality)
    section = config.encoder
    configured = (section.name, section.embedding_size, input_of(config), config.modality)
    if stated != configured:
        raise ModelContractError(
            f"{run.path}: spec.json and config.toml are not of one run: {stated} and {configured}"
        )


def _require_company(
    first: RunFolder, of_first: EncoderRecord, run: RunFolder, record: EncoderRecord
) -> None:
    for name in ("modality", "input", "crop", "detector_model"):
        if getattr(record, name) != getattr(of_first, name):
            raise ExportError(
                f"{run.path} cannot stand beside {first.path}: its {name} is {getattr(record, name)}, "
                f"not {getattr(of_first, name)}"
            )
    known, more = (set(each.read_subjects().get("train", ())) for each in (first, run))
    if unknown := sorted(more - known):
        raise ExportError(
            f"{run.path} was trained on {len(unknown)} subject(s) that {first.path} was not, for example "
            f"{unknown[0]!r}: the rates would be measured on them; name the run with more subjects first"
        )


def _require_mirrors(config: Config, record: EncoderRecord) -> None:
    hand = config.augmentation.hand
    if hand is None or not hand.mirror:
        raise ExportError(
            f"run {record.name!r} never saw mirrored subjects (augmentation.hand.mirror): its rows for "
            "mirror images are worth nothing; export without mirrored"
        )
