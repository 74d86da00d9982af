"""The configuration of a run: a TOML file, checked strictly, and nothing that it does not say.

Paths of data are not part of it: they come from ``--data``. Options of losses and encoders have the types
of the functions that take them.
"""

from __future__ import annotations

import sys
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from typing_extensions import Self

from verifykit.errors import InputError, shortened, shortened_path, shown
from verifykit_training.encoders import encoder_options
from verifykit_training.errors import ConfigError
from verifykit_training.loggers import require_loggers
from verifykit_training.losses import MARGIN_LOSSES, loss_options
from verifykit_training.losses.distillation import distillation_options
from verifykit_training.options import check_options, hint

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# What may differ between a run and its continuation without changing a single weight.
_FREE = {
    "data": {"workers"},
    "run": {"log_every_steps", "save_every_steps", "tensorboard", "loggers"},
}


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class _OpenSection(BaseModel):
    """Keys beyond the named ones are options of the thing that ``name`` names; it checks them."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True, allow_inf_nan=False)

    name: str

    @staticmethod
    def option_types(name: str) -> dict[str, Any]:
        """Return the types of the options of what ``name`` names."""
        raise TypeError(f"options of {shown(name)} belong to a section of their own")

    @model_validator(mode="after")
    def _typed(self) -> Self:
        check_options(repr(self.name), self.options, self.option_types(self.name))
        return self

    @property
    def options(self) -> dict[str, Any]:
        """The further keys."""
        return dict(self.model_extra or {})


class CropConfig(_Section):
    """What is seen of an image: ``five_point`` aligns a face, ``signature`` finds ink, ``plain`` takes all.

    The detector of ``five_point`` is that of a verifykit face model, by name or path; of several
    faces the largest is taken.
    """

    kind: Literal["five_point", "signature", "plain"] = "five_point"
    height_px: int = Field(default=112, ge=8, le=4096)
    width_px: int = Field(default=112, ge=8, le=4096)
    fit: Literal["stretch", "cover"] = "stretch"
    detector: str = "face"


class EncoderConfig(_OpenSection):
    """Which network, and where its weights come from: ``imagenet``, ``none``, a run's folder or a file.

    Further keys are the network's options.
    """

    option_types = staticmethod(encoder_options)

    embedding_size: int = Field(default=128, ge=2, le=65536)
    weights: str
    color: Literal["rgb", "grey"] = "rgb"


class DataConfig(_Section):
    """How subjects are split, unless the data's own ``split`` column says so, and how it is read.

    ``validation_share`` chooses the best checkpoint, ``test_share`` is looked at by ``evaluate`` only.
    ``within_subjects``: a share of each training subject's images validates, for a closed set of classes;
    with too few subjects that is so anyway.
    """

    validation_share: float = Field(default=0.1, ge=0.0, lt=1.0)
    test_share: float = Field(default=0.0, ge=0.0, lt=1.0)
    within_subjects: bool = False
    workers: int = Field(default=1, ge=0)

    @model_validator(mode="after")
    def _something_to_train_on(self) -> Self:
        if self.validation_share + self.test_share >= 1.0:
            raise ValueError("validation_share + test_share leave no subject to train on")
        return self


class SamplerConfig(_Section):
    """What makes a batch.

    ``pk``: ``p`` subjects, ``k`` images of each, and ``forgeries`` imitations of each; ``even``: every
    subject equally often, rather than every image.
    ``balanced_triplets``: ``triplets`` that go evenly through all pairs of subjects.
    ``triplet_file``: those of ``--triplets``, so many at a time.
    """

    name: Literal["pk", "balanced_triplets", "triplet_file"] = "pk"
    p: int = Field(default=8, ge=2, le=65536)
    k: int = Field(default=4, ge=2, le=4096)
    forgeries: int = Field(default=0, ge=0, le=4096)
    even: bool = False
    triplets: int = Field(default=16, ge=1, le=65536)


class HandwritingConfig(_Section):
    """Changes of handwriting (``augmentation``): one for all images of a subject in a batch, one for each.

    ``mirror`` is the probability that a subject is mirrored, which makes another subject of it; so it goes
    with losses that compare within a batch, not with one class a subject. ``*_stretch`` and ``scale`` are
    shares, ``*_warp_share`` the deviation of a smooth displacement as a share of the height.
    """

    mirror: float = Field(default=0.5, ge=0.0, le=1.0)
    subject_rotate_deg: float = Field(default=5.0, ge=0.0, le=45.0)
    subject_shear: float = Field(default=0.3, ge=0.0, le=1.0)
    subject_stretch: float = Field(default=0.25, ge=0.0, le=1.0)
    subject_warp_share: float = Field(default=0.05, ge=0.0, le=0.2)
    subject_stroke_px: float = Field(default=0.7, ge=0.0, le=1.0)
    rotate_deg: float = Field(default=7.0, ge=0.0, le=45.0)
    shear: float = Field(default=0.1, ge=0.0, le=1.0)
    scale: float = Field(default=0.1, ge=0.0, le=1.0)
    shift_share: float = Field(default=0.04, ge=0.0, le=0.5)
    warp_share: float = Field(default=0.012, ge=0.0, le=0.2)
    stroke_px: float = Field(default=0.7, ge=0.0, le=1.0)


class AugmentationConfig(_Section):
    """Between crop and tensor: changes of handwriting, a preset, then further transforms of albumentations.

    Each of ``transforms`` is a table with the key ``transform``, the name of the class, and its
    arguments.
    """

    hand: HandwritingConfig | None = None
    preset: Literal["none", "face", "signature", "ink", "plain"] = "none"
    transforms: list[dict[str, Any]] = []


class LossConfig(_OpenSection):
    """Which loss; further keys are its options."""

    option_types = staticmethod(loss_options)


class SoftmaxStageConfig(_OpenSection):
    """The first epochs with a margin softmax over the training subjects, against a cold start's collapse."""

    option_types = staticmethod(loss_options)

    epochs: int = Field(default=0, ge=0)
    name: str = "cosface"

    @model_validator(mode="after")
    def _margin_softmax(self) -> Self:
        if self.name not in MARGIN_LOSSES:
            raise ValueError(f"name is one of {', '.join(MARGIN_LOSSES)}, got {shown(self.name)}")
        return self


class DistillationConfig(_OpenSection):
    """A teacher's embeddings as a second thing to learn; further keys are options of the loss.

    ``teacher`` is the folder of a finished run, a verifykit model by name or path, or
    ``package.module:name``, a torch module or a function that returns one. ``name`` is ``cosine``
    (embeddings of one length), ``projected`` (through a learnt linear map) or ``relational`` (the scores
    of all pairs of a batch). The loss is ``weight`` times this one plus ``metric_weight`` times that of
    ``loss``; with ``metric_weight = 0`` the subjects' labels teach nothing.
    """

    option_types = staticmethod(distillation_options)

    teacher: str = Field(min_length=1)
    name: str = "relational"
    weight: float = Field(default=1.0, gt=0.0)
    metric_weight: float = Field(default=1.0, ge=0.0)


class QuantisationConfig(_Section):
    """Fine-tune for an int8 export: weights and activations are rounded in every forward pass, as it does.

    For a run that begins with trained weights (``encoder.weights = "runs/..."``). Batch norms stand still.
    """

    precision: Literal["int8"] = "int8"


class MemoryConfig(_Section):
    """Cross-batch memory: embeddings of earlier batches as further pairs, by a contrastive loss.

    Wang et al., CVPR 2020. It begins after ``start_step`` steps and after the softmax stage.
    """

    size: int = Field(default=0, ge=0, le=1 << 24)
    start_step: int = Field(default=1000, ge=0)
    weight: float = Field(default=1.0, gt=0.0)
    margin: float = Field(default=0.5, ge=-1.0, le=1.0)


class OptimiserConfig(_Section):
    """Rates for head and backbone, clipping, and how long the backbone stays frozen."""

    name: Literal["adamw", "sgd"] = "adamw"
    rate: float = Field(default=3e-4, gt=0.0)
    backbone_rate: float | None = Field(default=None, ge=0.0)
    weight_decay: float = Field(default=1e-4, ge=0.0)
    momentum: float = Field(default=0.9, ge=0.0, lt=1.0)
    clip_norm: float = Field(default=0.0, ge=0.0)
    frozen_epochs: int = Field(default=0, ge=0)


class ScheduleConfig(_Section):
    """The rate over the run: a linear warm-up, then ``cosine`` to ``floor``, ``step`` or ``constant``."""

    name: Literal["cosine", "step", "constant"] = "cosine"
    warm_up_steps: int = Field(default=0, ge=0)
    floor: float = Field(default=0.01, ge=0.0, le=1.0)
    step_epochs: list[int] = []
    step_factor: float = Field(default=0.1, gt=0.0, le=1.0)


class ValidationConfig(_Section):
    """How often the EER on held-out subjects is measured; stop after ``patience`` times without gain.

    ``metric`` is ``eer`` (against random forgeries) or ``skilled_eer``; ``patience = 0`` never stops early.
    """

    metric: Literal["eer", "skilled_eer"] = "eer"
    every_epochs: int = Field(default=1, ge=1)
    patience: int = Field(default=0, ge=0)


class RunConfig(_Section):
    """Length, precision, averaging of weights, hardware.

    ``epochs = 0`` trains nothing: the weights that were given are measured and recorded as a run.
    ``precision = "auto"`` times three steps of ``32-true`` and of ``bf16-mixed`` and takes the faster one;
    the run records which. Name one where runs must be equal to the last bit.
    """

    epochs: int = Field(ge=0)
    steps_per_epoch: int = Field(default=0, ge=0)
    accumulate: int = Field(default=1, ge=1)
    micro_batch: int = Field(default=0, ge=0)
    recompute_activations: bool = False
    precision: Literal["32-true", "bf16-mixed", "16-mixed", "64-true", "auto"] = "32-true"
    ema_decay: float = Field(default=0.0, ge=0.0, lt=1.0)
    batch_size: int = Field(default=64, ge=1)
    log_every_steps: int = Field(default=10, ge=1)
    save_every_steps: int = Field(default=0, ge=0)
    accelerator: str = "auto"
    strategy: str = "auto"
    devices: int = Field(default=1, ge=1)
    nodes: int = Field(default=1, ge=1)
    tensorboard: bool = True
    loggers: list[str] = []

    @model_validator(mode="after")
    def _known_loggers(self) -> Self:
        require_loggers(self.loggers)
        return self

    @model_validator(mode="after")
    def _no_scaled_gradients(self) -> Self:
        if self.micro_batch and self.precision == "16-mixed":
            raise ValueError(
                "micro_batch does not work with the scaled gradients of 16-mixed: use precision = bf16-mixed"
            )
        return self


class Config(_Section):
    """A run, as its TOML file states it; every section is documented at its class."""

    name: str = Field(min_length=1)
    modality: Literal["face", "signature", "plain"]
    licence: str = Field(min_length=1)
    training_data: str = Field(min_length=1)
    seed: int = Field(default=0, ge=0, lt=2**31)
    crop: CropConfig = CropConfig()
    encoder: EncoderConfig
    data: DataConfig = DataConfig()
    sampler: SamplerConfig = SamplerConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    loss: LossConfig
    softmax_stage: SoftmaxStageConfig = SoftmaxStageConfig()
    distillation: DistillationConfig | None = None
    quantisation: QuantisationConfig | None = None
    memory: MemoryConfig = MemoryConfig()
    optimiser: OptimiserConfig = OptimiserConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    validation: ValidationConfig = ValidationConfig()
    run: RunConfig

    @model_validator(mode="after")
    def _hands_where_hands_are(self) -> Self:
        hand = self.augmentation.hand
        if hand is None:
            return self
        if self.crop.kind != "signature":
            raise ValueError(
                f'augmentation.hand changes handwriting; crop.kind is "{self.crop.kind}", not "signature"'
            )
        if hand.mirror and (self.softmax_stage.epochs or self.loss.name in ("cosface", "arcface")):
            raise ValueError(
                "augmentation.hand.mirror makes other subjects of the subjects, and a margin softmax has "
                "one class for each: set mirror = 0, or take a loss that compares within the batch"
            )
        if hand.mirror and self.distillation is not None:
            raise ValueError(
                "augmentation.hand.mirror makes other subjects of the subjects, and the teacher of "
                "distillation sees them as they are: set mirror = 0"
            )
        if hand.mirror and self.memory.size:
            raise ValueError(
                "augmentation.hand.mirror makes other subjects of the subjects, which memory would take for "
                "the same: set mirror = 0 or memory.size = 0"
            )
        return self

    @model_validator(mode="after")
    def _rounds_what_it_can(self) -> Self:
        if self.quantisation is None:
            return self
        if self.run.precision != "32-true":
            raise ValueError(
                f'quantisation rounds float32, and run.precision is "{self.run.precision}": set it to '
                '"32-true"'
            )
        if self.run.devices * self.run.nodes > 1:
            raise ValueError(
                "quantisation measures the ranges of activations in one process: set run.devices and "
                "run.nodes to 1"
            )
        if self.run.micro_batch or self.run.recompute_activations:
            raise ValueError(
                "quantisation rounds a batch in one pass: set run.micro_batch = 0 and "
                "run.recompute_activations = false"
            )
        if self.encoder.weights in ("none", "imagenet"):
            raise ValueError(
                "quantisation fine-tunes a trained encoder, and encoder.weights is "
                f'"{self.encoder.weights}": train without the section first, then give the run\'s folder'
            )
        return self

    @model_validator(mode="after")
    def _triplets_for_triplets(self) -> Self:
        if self.loss.name == "triplet" and self.sampler.name == "pk":
            raise ValueError(
                'loss "triplet" takes triplets, and sampler "pk" makes none: set sampler.name to '
                '"balanced_triplets" or "triplet_file", or loss.name to "batch_all", "batch_hard" or '
                '"semi_hard"'
            )
        return self

    @model_validator(mode="after")
    def _weights_without_training(self) -> Self:
        if self.run.epochs == 0 and self.encoder.weights in ("none", "imagenet"):
            raise ValueError(
                "run.epochs = 0 records weights that were trained elsewhere: give encoder.weights, a file or "
                f"the folder of a run, not {shown(self.encoder.weights)}"
            )
        return self

    def to_toml(self) -> str:
        """The configuration as resolved: every key written out, except those that are unset."""
        return tomli_w.dumps(self.model_dump(exclude_none=True))


def require_same_config(config: Config, of_run: Config) -> None:
    """A run is continued as it was begun; only what changes no weight may differ."""
    new, old = config.model_dump(exclude=_FREE), of_run.model_dump(exclude=_FREE)
    # The run's folder has the preset written out, and the preset itself is the program's.
    if config.augmentation.preset != "none":
        del new["augmentation"], old["augmentation"]
    differing = _differing(new, old)
    if differing:
        more = "; --extend gives a finished run more epochs" if "run.epochs" in differing else ""
        raise ConfigError(
            f"the configuration differs from that of the run to be resumed in {', '.join(differing)}; "
            f"resume with the config.toml in the run's folder{more}"
        )


def _differing(new: Mapping[str, Any], old: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Return the dotted names of the values that are not the same."""
    found = []
    for key in {**new, **old}:
        left, right = new.get(key), old.get(key)
        if isinstance(left, Mapping) and isinstance(right, Mapping):
            found += _differing(left, right, f"{prefix}{key}.")
        elif left != right:
            found.append(prefix + key)
    return found


def load_config(path: Path, overrides: Iterable[str] = ()) -> Config:
    """Read a TOML file and lay overrides over it."""
    try:
        text = path.read_text(encoding="utf-8-sig")  # editors of Windows write a mark in front
    except (OSError, ValueError) as error:  # ValueError: not UTF-8
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ConfigError(
            f"cannot read configuration {shown(str(path))}: {reason}"
        ) from shortened_path(error)
    try:
        body = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{shortened(path)} is not TOML: {error}") from error
    _overridden(body, overrides)
    return parse_config(body, shortened(path))


def parse_config(body: Mapping[str, Any], where: str = "configuration") -> Config:
    """Check a parsed configuration."""
    try:
        return Config.model_validate(dict(body))
    except ValidationError as error:
        problems = [_problem(item["loc"], item["type"], item["msg"]) for item in error.errors()]
        raise ConfigError(f"{where}: {'; '.join(problems)}") from None


_BOOLEANS = {
    **dict.fromkeys(("true", "yes", "on", "1"), True),
    **dict.fromkeys(("false", "no", "off", "0"), False),
}


def _overridden(body: dict[str, Any], overrides: Iterable[str]) -> None:
    """Lay overrides over a parsed file; names come first, because they say which options there are."""
    split = [_split(override) for override in overrides]
    for keys, text in sorted(split, key=lambda item: item[0][-1] != "name"):
        _set(body, keys, text)


def _split(override: str) -> tuple[list[str], str]:
    key, equals, text = override.partition("=")
    keys = [part.strip() for part in key.split(".")]
    if not equals or not all(keys):
        raise ConfigError(f"--set takes section.key=value, got {shown(override)}")
    return keys, text.strip()


def _set(body: dict[str, Any], keys: list[str], text: str) -> None:
    section: Any = body
    for name in keys[:-1]:
        section = section.setdefault(name, {})
        if not isinstance(section, dict):
            override = shortened(f"{'.'.join(keys)}={text}")
            raise ConfigError(f"--set {override}: {shown(name)} is not a section")
    section[keys[-1]] = _parsed(text, ".".join(keys), _annotation(body, keys))


def _parsed(text: str, key: str, annotation: Any) -> Any:
    """Read a value as its type is written: a text needs no quotes, a boolean may be Python's or a shell's."""
    expected = _alternatives(annotation)
    if bool in expected and text.lower() in _BOOLEANS:
        return _BOOLEANS[text.lower()]
    try:
        (value,) = tomllib.loads(f"value = {text}").values()
    except (ValueError, RecursionError):
        value = None
    if value is not None and not (str in expected and isinstance(value, (int, float))):
        return value
    if str in expected:
        return text
    override = shortened(f"{key}={text}")
    if bool in expected:
        raise ConfigError(f"--set {override}: {shown(text)} is neither true nor false")
    quoted = shortened(f'{key}="{text}"')
    raise ConfigError(
        f"--set {override}: {shown(text)} is not a TOML value; a text is written in quotes, --set '{quoted}'"
    )


def _alternatives(annotation: Any) -> set[Any]:
    """Return the types that an annotation allows; the choices of a literal are texts."""
    origin = typing.get_origin(annotation)
    if origin is Literal:
        return {type(choice) for choice in typing.get_args(annotation)}
    if origin in (typing.Union, types.UnionType):
        return set().union(*map(_alternatives, typing.get_args(annotation)))
    return {annotation}


def _annotation(body: Mapping[str, Any], keys: list[str]) -> Any:
    """Return the type of a key, of an option from the name that its section states; else None."""
    model: type[BaseModel] = Config
    for section in keys[:-1]:
        found = _section_of(model, section)
        if found is None:
            return None
        model, body = found, body[section]
    if keys[-1] in model.model_fields:
        return model.model_fields[keys[-1]].annotation
    if not issubclass(model, _OpenSection):
        return None
    name = body.get("name", model.model_fields["name"].default)
    try:
        return model.option_types(name).get(keys[-1])
    except (InputError, TypeError):
        return None  # the name itself is wrong, which the check of the whole says


def _problem(location: tuple[int | str, ...], kind: str, message: str) -> str:
    name = shortened(".".join(map(str, location)))
    if kind == "missing":
        return f"{name} is missing"
    if kind != "extra_forbidden":
        message = message.removeprefix("Value error, ")
        return f"{name}: {message}" if name else message
    return f"unknown key {shown(name)}: {hint(str(location[-1]), _known_keys(location[:-1]))}"


def _known_keys(sections: tuple[int | str, ...]) -> list[str]:
    model: type[BaseModel] = Config
    for section in sections:
        found = _section_of(model, str(section))
        if found is None:
            return []
        model = found
    return list(model.model_fields)


def _section_of(model: type[BaseModel], name: str) -> type[BaseModel] | None:
    """Return the section that a key names, optional or not."""
    if name not in model.model_fields:
        return None
    annotation = model.model_fields[name].annotation
    for part in (annotation, *typing.get_args(annotation)):
        if isinstance(part, type) and issubclass(part, BaseModel):
            return part
    return None
