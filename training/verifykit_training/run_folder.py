"""The job of a run, its progress, and the files in its folder.

``config.toml``, ``weights.safetensors``, ``spec.json``, ``metrics.jsonl`` and ``report/``; next to them
``subjects.json`` (the subjects and images of each split, for an honest evaluation) and ``checkpoints/``,
the last and the one before it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from verifykit._files import FileLock, LockHeldError, atomic_file, atomic_write
from verifykit.errors import shortened, shortened_path
from verifykit.spec import CropSpec, InputSpec
from verifykit.spec.strict_json import build, plain
from verifykit_training.config import Config, load_config
from verifykit_training.errors import TrainingError, first_line
from verifykit_training.learner import input_of
from verifykit_training.loggers import MetricsLogger
from verifykit_training.preparation import Prepared
from verifykit_training.trained_on import (
    BEFORE,
    TrainedOn,
    as_before,
    from_json,
    require_bound,
    to_json,
)

if TYPE_CHECKING:  # it imports this module
    from verifykit_training.teachers.base import Teacher

CHECKPOINT_SCHEMA = 2
"""2: the digest of the data is one of image contents; 1: of names. Schema 1 has no number."""

_SUBJECTS_DIGEST = "subjects_sha256"
_RESUME_WAIT_S = 10.0


@dataclass(frozen=True)
class TrainingJob:
    """A configuration, its data and the folder of the run.

    Attributes:
        config: As the TOML file states it.
        data: A folder with a folder for each subject, or a CSV.
        run: The run's folder.
        cache: Folder of the crops; None is verifykit's own.
        triplets: A CSV of triplets, for ``sampler.name = "triplet_file"``.
        resume: Continue the run in the folder.
        extend: So many epochs more for the finished run in the folder; 0 for none.
        stop_after: Stop with a checkpoint after this number of epochs; the schedule covers all.
        quiet: No progress on standard error.
        teacher: From Python, in place of the one that ``distillation.teacher`` names.
    """

    config: Config
    data: Path
    run: Path
    cache: Path | None = None
    triplets: Path | None = None
    resume: bool = False
    stop_after: int | None = None
    quiet: bool = False
    extend: int = 0
    teacher: Teacher | nn.Module | None = None

    @property
    def continues(self) -> bool:
        """Whether the folder holds the run's beginning."""
        return self.resume or self.extend > 0


@dataclass
class Outcome:
    """The progress of a run, also stored in checkpoints.

    Attributes:
        epoch: Epochs done.
        batch: Steps done in the epoch under way.
        step: Optimiser steps done.
        best_epoch: The epoch, from 1, whose weights are kept; 0 before the first validation.
        best: Its validation metric; None without validation.
        without_gain: Validations since.
        ended: Whether there is nothing left to do.
        collapsed: Whether collapse was said.
        is_first_process: Whether this is the process that writes.
        stopped_by: The signal that stopped it; not part of a checkpoint.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    best_epoch: int = 0
    best: float | None = None
    without_gain: int = 0
    ended: bool = False
    collapsed: bool = False
    is_first_process: bool = True
    stopped_by: int = 0


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint; the one before it is kept next to it.

    Args:
        path: Where to.
        state: Tensors, numbers, strings, and lists and dicts of them.

    Raises:
        TrainingError: It cannot be written, for example to a full disk; those before it stay.
    """
    with _written(path), atomic_file(path, before=before(path)) as part:
        torch.save({"schema": CHECKPOINT_SCHEMA, **state}, part)


def before(path: Path) -> Path:
    """Return the path of the checkpoint before the last."""
    return path.with_name(f"{path.stem}.before{path.suffix}")


@contextmanager
def _written(path: Path) -> Iterator[None]:
    """Raise what the system, torch and safetensors raise on a full disk as one error."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        if "inline_container" in reason:  # where torch finds that less was written than given
            reason = "it could not be written whole"
        raise TrainingError(
            f"{shortened(path)} cannot be written ({reason}); the files before it are kept: free some of "
            "the disk, then continue with --resume"
        ) from error


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU; nothing in it is executed."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise TrainingError(
            f"there is no checkpoint {shortened(path)}: nothing to resume"
        ) from error
    except Exception as error:  # torch raises many kinds on a damaged file
        raise TrainingError(
            f"{shortened(path)} is not a readable checkpoint: {first_line(error)}"
        ) from error
    if not isinstance(state, dict) or not {"outcome", "data", "learner"} <= set(state):
        raise TrainingError(f"{shortened(path)} is not a checkpoint of verifykit-train")
    if state.get("schema", 1) > CHECKPOINT_SCHEMA:
        raise TrainingError(
            f"{shortened(path)} is of schema {state['schema']}, written by a later version; this one reads "
            f"up to {CHECKPOINT_SCHEMA}: update verifykit-sdk"
        )
    return state


def read_outcome(path: Path, state: dict[str, Any]) -> Outcome:
    """Return the progress that a checkpoint states."""
    try:
        return Outcome(**state["outcome"])
    except TypeError as error:
        raise TrainingError(
            f"{shortened(path)} is of another version of verifykit ({first_line(error)}): continue "
            "the run with that version"
        ) from error


def save_weights(path: Path, encoder: nn.Module, subjects_sha256: str = "") -> None:
    """Write an encoder's weights and buffers as safetensors.

    Args:
        path: Where to.
        encoder: The module.
        subjects_sha256: Digest of the run's ``subjects.json``, for the file's metadata.

    Raises:
        TrainingError: It cannot be written; the file before it stays.
    """
    state = {key: value.detach().cpu().contiguous() for key, value in encoder.state_dict().items()}
    metadata = {_SUBJECTS_DIGEST: subjects_sha256} if subjects_sha256 else None
    with _written(path), atomic_file(path) as part:
        save_file(state, part, metadata)


def load_weights(path: Path, encoder: nn.Module) -> None:
    """Load weights that :func:`save_weights` wrote, key by key."""
    try:
        encoder.load_state_dict(load_file(path), strict=True)
    except Exception as error:  # safetensors and torch have no common one
        raise TrainingError(
            f"{shortened(path)} does not fit the encoder, or is damaged: {first_line(error)}"
        ) from error


@dataclass(frozen=True)
class TeacherRecord:
    """What a student's model card says about the teacher.

    Attributes:
        name: Of the model, run or module.
        digest: Of its weights and input, in hexadecimal.
        modality: What it compares.
        embedding_size: Length of its embedding.
        licence: SPDX identifier of its weights.
        training_data: The sets it was trained on, and their terms.
    """

    name: str
    digest: str
    modality: str
    embedding_size: int
    licence: str
    training_data: str


@dataclass(frozen=True)
class EncoderRecord:
    """What a trained encoder contributes to the specification of its model file.

    Attributes:
        name: Of the model.
        modality: What it compares.
        licence: SPDX identifier.
        training_data: The sets it was trained on, and their terms.
        embedding_size: D.
        encoder: The encoder's name, for ``build_encoder``.
        options: The encoder's options.
        input: Input values of the network.
        crop: Geometry from image to crop.
        detector_model: The model that lends a five_point crop its detector; None for other crops.
        trained_images: How many images it was trained on.
        trained_subjects: Of how many subjects.
        epoch: The epoch whose weights these are, from 1; 0 before training.
        metric: The validation metric by which it was chosen.
        validation: That metric's value; None without validation.
        subjects_sha256: Digest of ``subjects.json``; None in runs of earlier versions.
        teacher: Whose embeddings it learnt; None without distillation.
    """

    name: str
    modality: str
    licence: str
    training_data: str
    embedding_size: int
    encoder: str
    options: dict  # type: ignore[type-arg]  # the strict reader knows plain types
    input: InputSpec
    crop: CropSpec
    detector_model: str | None
    trained_images: int
    trained_subjects: int
    epoch: int
    metric: str
    validation: float | None
    subjects_sha256: str | None = None
    teacher: TeacherRecord | None = None


class RunFolder:
    """Paths of a run, and the small files in it.

    Attributes:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        """Set the paths, without creating anything."""
        self.path = path
        self.weights = path / "weights.safetensors"
        self.last = path / "checkpoints" / "last.pt"
        self.subjects = path / "subjects.json"
        self.report = path / "report"
        self.metrics = path / "metrics.jsonl"

    def require_unused(self) -> None:
        """Raise TrainingError if the folder holds a run, or is no folder."""
        if self.last.exists() or before(self.last).exists() or self.weights.exists():
            raise TrainingError(
                f"{shortened(self.path)} already holds a run: give --resume to continue it, or another --run"
            )
        if self.path.exists() and not self.path.is_dir():
            raise TrainingError(f"{shortened(self.path)} is a file: give a folder with --run")

    def create(self) -> None:
        """Create the folder; raise TrainingError if it holds a run."""
        self.require_unused()
        self._make()
        self.metrics.unlink(missing_ok=True)

    def _make(self) -> None:
        try:
            self.last.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TrainingError(
                f"the folder {shortened(self.path)} cannot be made ({error.strerror}): give another --run"
            ) from shortened_path(error)

    @contextmanager
    def held(self, *, resume: bool) -> Iterator[None]:
        """Hold the folder's lock, so that no other run writes to it, and sweep what a killed one left."""
        if not resume:
            self.require_unused()
        self._make()
        # Of a run that was killed, the loader's processes end some seconds later.
        lock = FileLock(self.path / ".lock", timeout_s=_RESUME_WAIT_S if resume else 0.0)
        try:
            lock.__enter__()
        except LockHeldError as error:
            raise TrainingError(
                f"another run is writing to {shortened(self.path)}: wait for its end, or give another --run"
            ) from error
        try:
            self._sweep()
            yield
        finally:
            lock.__exit__(None, None, None)

    def _sweep(self) -> None:
        """Remove files that were being written when a run was killed."""
        for folder in (self.path, self.last.parent, self.report):
            for kind in ("pt", "safetensors", "json", "jsonl", "toml"):
                for file in [*folder.glob(f".*.{kind}-*"), *folder.glob(f".*.{kind}.*")]:
                    file.unlink(missing_ok=True)

    def load_last(self) -> tuple[dict[str, Any], Path]:
        """Return the last readable checkpoint and its path: the one before it where it is damaged."""
        try:
            return load_checkpoint(self.last), self.last
        except TrainingError:
            if not before(self.last).exists():
                raise
        return load_checkpoint(before(self.last)), before(self.last)

    def write_text(self, name: str, text: str) -> None:
        """Write a file whole or not at all.

        Args:
            name: Of the file in the folder.
            text: What it shall hold.
        """
        with _written(self.path / name):
            atomic_write(self.path / name, text)

    def write_record(self, record: EncoderRecord) -> None:
        """Write ``spec.json``."""
        text = json.dumps(plain(record), indent=2, sort_keys=True, allow_nan=False)
        self.write_text("spec.json", text + "\n")

    def read_record(self) -> EncoderRecord:
        """Read ``spec.json``."""
        try:
            body = json.loads((self.path / "spec.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise TrainingError(
                f"{shortened(self.path)} is not a finished run: {shortened_path(error)}"
            ) from error
        if isinstance(body, dict):
            body.setdefault(_SUBJECTS_DIGEST, None)
            body.setdefault("teacher", None)
        return build(EncoderRecord, body, "spec.json")

    def read_config(self) -> Config:
        """Read ``config.toml``."""
        return load_config(self.path / "config.toml")

    def write_subjects(self, data: Prepared, before: TrainedOn | None = None) -> None:
        """Write ``subjects.json``."""
        self.write_text("subjects.json", to_json(data.splits, data.images, before))

    def require_subjects(self, data: Prepared) -> None:
        """Raise TrainingError unless ``subjects.json`` is what a run on these data wrote."""
        found = self.read_trained_on()
        past = found if BEFORE in found.subjects else None
        if self.subjects_sha256() != _sha256(to_json(data.splits, data.images, past).encode()):
            raise TrainingError(
                f"{shortened(self.subjects)} is not what these data give: it was changed, or images of the "
                "test subjects were added, removed or replaced"
            )

    def subjects_sha256(self) -> str:
        """Return the digest of ``subjects.json``."""
        try:
            return _sha256(self.subjects.read_bytes())
        except OSError as error:
            raise TrainingError(
                f"{shortened(self.path)} is not a run: {shortened_path(error)}"
            ) from error

    def read_subjects(self) -> dict[str, list[str]]:
        """Read the subjects of each split from ``subjects.json``."""
        return self.read_trained_on().subjects

    def read_trained_on(self) -> TrainedOn:
        """Read ``subjects.json``; raise TrainingError if record or weights were written with another."""
        try:
            found = from_json(self.subjects.read_text(encoding="utf-8"))
        except (OSError, ValueError, AttributeError, TypeError) as error:
            raise TrainingError(
                f"{shortened(self.path)} is not a run: {shortened_path(error)}"
            ) from error
        bound: dict[str, str | None] = {}
        if (self.path / "spec.json").exists():
            bound["spec.json"] = self.read_record().subjects_sha256
        if self.weights.exists():
            bound[self.weights.name] = _stated_subjects(self.weights)
        require_bound(self.path, self.subjects_sha256(), bound)
        return found

    def read_metrics(self) -> list[dict[str, Any]]:
        """Read the lines of ``metrics.jsonl``, without a last line that was cut short."""
        if not self.metrics.exists():
            return []
        *whole, _cut_short = self.metrics.read_text(encoding="utf-8").split("\n")
        return [json.loads(line) for line in whole]


class Metrics:
    """Metrics as JSON lines, and to the loggers."""

    def __init__(
        self, run: RunFolder, *, steps: int, loggers: Sequence[MetricsLogger] = ()
    ) -> None:
        """Begin, or continue after ``steps`` steps: later lines, of a run that was killed, are dropped."""
        kept = [line for line in run.read_metrics() if line.get("step", 0) <= steps]
        run.write_text("metrics.jsonl", "".join(json.dumps(line) + "\n" for line in kept))
        self._path, self._file = run.metrics, run.metrics.open("a", encoding="utf-8")
        self._loggers = loggers

    def write(self, event: str, step: int, values: Mapping[str, Any]) -> None:
        """Write one line."""
        clean = {key: _finite(value) for key, value in values.items()}
        with _written(self._path):
            self._file.write(json.dumps({"event": event, "step": step, **clean}) + "\n")
            self._file.flush()
        numbers = {key: value for key, value in clean.items() if isinstance(value, (int, float))}
        for logger in self._loggers:
            logger.write(event, step, numbers)

    def close(self) -> None:
        """Close the files and the loggers."""
        self._file.close()
        for logger in self._loggers:
            logger.close()


def encoder_record(
    config: Config,
    data: Prepared,
    epoch: int,
    validation: float | None,
    subjects_sha256: str,
    teacher: TeacherRecord | None = None,
) -> EncoderRecord:
    """What a run knows about its result."""
    return EncoderRecord(
        name=config.name,
        modality=config.modality,
        licence=config.licence,
        training_data=config.training_data,
        embedding_size=config.encoder.embedding_size,
        encoder=config.encoder.name,
        options=config.encoder.options,
        input=input_of(config),
        crop=data.crop,
        detector_model=config.crop.detector if config.crop.kind == "five_point" else None,
        trained_images=len(data.train),
        trained_subjects=len(data.subjects),
        epoch=epoch,
        metric=config.validation.metric,
        validation=validation,
        subjects_sha256=subjects_sha256,
        teacher=teacher,
    )


def trained_before(weights: str) -> TrainedOn | None:
    """Return what the run was trained on whose folder, or a file in it, gives the first weights."""
    path = Path(weights)
    for folder in (path, *path.parents[:2]):
        if (folder / "subjects.json").is_file() and (folder / "config.toml").is_file():
            return as_before(RunFolder(folder).read_trained_on())
    return None


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _stated_subjects(weights: Path) -> str | None:
    try:
        with safe_open(weights, "pt") as file:
            return (file.metadata() or {}).get(_SUBJECTS_DIGEST)
    except (OSError, SafetensorError) as error:
        raise TrainingError(f"{shortened(weights)} is damaged: {first_line(error)}") from error


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
