"""Write the reference pages that are generated from the code: ``python docs/reference/generate.py``."""  # noqa: INP001

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import typer
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

import verifykit.cli.app
import verifykit_export.cli
import verifykit_training.cli
from verifykit_training.config import Config

HERE = Path(__file__).parent
PROGRAMS = {
    "verifykit": verifykit.cli.app.app,
    "verifykit-train": verifykit_training.cli.app,
    "verifykit-export": verifykit_export.cli.app,
}
NOTE = "<!-- Written by docs/reference/generate.py; a test keeps it in step with the code. -->"

# One line for each key; a missing or an extra key is an error.
MEANING = {
    "name": "name of the run and of the model",
    "modality": "what is compared",
    "licence": "licence of the resulting weights, for the model card",
    "training_data": "the data and their terms, for the model card",
    "seed": "seed of weights, split, sampling and augmentation",
    "crop.kind": "`five_point` aligns a face, `signature` finds ink on paper, `plain` uses the whole image",
    "crop.height_px": "height of the network's input",
    "crop.width_px": "width of the network's input",
    "crop.fit": "`plain` only: `stretch` the image to the size, or `cover` the size and cut off the rest",
    "crop.detector": "`five_point` only: the face model whose detector is used, a name or a path",
    "encoder.name": "`cnn5`, `efficientnet_lite0`, `grid_resnet`, `signet`, `inception_resnet_v1`, "
    "`mobilefacenet`, `iresnet18` (or 50, 100), `resnet18` (or 34, 50, 101, 152)",
    "encoder.embedding_size": "number of values in an embedding",
    "encoder.weights": "`imagenet`, `none` (a random start), a run's folder, or a file (`.pth`, `.onnx` …)",
    "encoder.color": "three channels or one",
    "data.validation_share": "share of the subjects (of their images, if few) that choose the best epoch",
    "data.test_share": "share of the subjects that only `evaluate` uses",
    "data.within_subjects": "validate on other images of the training subjects: a closed set of classes",
    "data.workers": "processes that load crops; 0 loads in the main process",
    "sampler.name": "how batches are formed",
    "sampler.p": "`pk`: subjects in a batch",
    "sampler.k": "`pk`: images of each subject",
    "sampler.forgeries": "`pk`: skilled forgeries of each subject",
    "sampler.even": "`pk`: sample every subject equally often, instead of every image",
    "sampler.triplets": "triplets in a batch of the other two samplers",
    "augmentation.hand.mirror": "probability that a subject is mirrored, which makes it a different subject",
    "augmentation.hand.subject_rotate_deg": "a subject is rotated by up to this angle in both directions",
    "augmentation.hand.subject_shear": "shear of a subject, as a slope",
    "augmentation.hand.subject_stretch": "stretch of a subject in width and in height, as a share",
    "augmentation.hand.subject_warp_share": "smooth displacement of a subject, as a share of the height",
    "augmentation.hand.subject_stroke_px": "wider or narrower strokes of a subject, on each side",
    "augmentation.hand.rotate_deg": "additional rotation of an image",
    "augmentation.hand.shear": "additional shear of an image",
    "augmentation.hand.scale": "scale of an image, as a share",
    "augmentation.hand.shift_share": "shift of an image, as a share of the width and of the height",
    "augmentation.hand.warp_share": "additional, finer displacement of an image",
    "augmentation.hand.stroke_px": "additional stroke width, for every second image",
    "augmentation.preset": "the first transforms",
    "augmentation.transforms": "more transforms: `transform`, a class of albumentations, and its arguments",
    "loss.name": "see [losses](losses.md); further keys are the loss's options",
    "softmax_stage.epochs": "epochs with a margin softmax before the loss; 0 disables it",
    "softmax_stage.name": "`cosface` or `arcface`; further keys are `margin` and `scale`",
    "distillation.teacher": "the teacher: a run's folder, a model's name or path, or `package.module:name`",
    "distillation.name": "`cosine`, `projected` or `relational`; further keys are its options",
    "distillation.weight": "factor of the distance to the teacher",
    "distillation.metric_weight": "factor of `[loss]`; 0 learns from the teacher alone",
    "quantisation.precision": "the precision whose rounding is trained with",
    "memory.size": "embeddings of earlier batches that are kept; 0 keeps none",
    "memory.start_step": "steps before the memory begins",
    "memory.weight": "weight of the loss against the memory",
    "memory.margin": "cosine above which a pair of two subjects counts",
    "optimiser.name": "the optimiser",
    "optimiser.rate": "learning rate of the last layer, and of the rest unless `backbone_rate` is set",
    "optimiser.backbone_rate": "learning rate of the other layers; unset is `rate`",
    "optimiser.weight_decay": "weight decay",
    "optimiser.momentum": "momentum of `sgd`",
    "optimiser.clip_norm": "maximum norm of gradients; 0 disables clipping",
    "optimiser.frozen_epochs": "epochs in which only the last layer is trained",
    "schedule.name": "how the rate falls after the warm-up",
    "schedule.warm_up_steps": "steps over which the rate rises from zero",
    "schedule.floor": "`cosine`: the last rate, as a share of the first",
    "schedule.step_epochs": "`step`: epochs at which the rate falls",
    "schedule.step_factor": "`step`: factor of each drop",
    "validation.metric": "metric that chooses the best epoch",
    "validation.every_epochs": "epochs between validations",
    "validation.patience": "validations without improvement after which the run stops; 0 disables it",
    "run.epochs": "maximum number of epochs; 0 records given weights as a run",
    "run.steps_per_epoch": "steps in an epoch; 0 uses the sampler's number",
    "run.accumulate": "batches whose gradients are accumulated before a step",
    "run.micro_batch": "images of a pass: the batch goes through the network twice, in such parts; 0 is once",
    "run.recompute_activations": "compute activations of blocks again in the backward pass, to save memory",
    "run.precision": "numeric precision",
    "run.ema_decay": "decay of the running average of the weights, which is saved; 0 disables it",
    "run.batch_size": "images in a batch of validation and evaluation",
    "run.log_every_steps": "steps between lines in `metrics.jsonl`",
    "run.save_every_steps": "steps between checkpoints inside an epoch; 0 saves after epochs only",
    "run.accelerator": "accelerator of Lightning Fabric: `auto`, `cpu`, `cuda`",
    "run.strategy": "strategy of Lightning Fabric",
    "run.devices": "processes on each machine",
    "run.nodes": "number of machines",
    "run.tensorboard": "also write TensorBoard files, if it is installed",
    "run.loggers": "also write to `tensorboard`, `mlflow`, `wandb`; each must be installed",
}


def cli_page() -> str:
    """Return every verb and option of the three programs, as Markdown."""
    lines = [NOTE, "", "# Command line", ""]
    lines += [
        "Exit status of `verifykit`: 0 match or success, 1 no match, 2 error, 3 done but a part of",
        "the input was not looked at. Of `verifykit-train`:",
        "0 success, 1 `check` found problems, 2 error, 130 interrupted. Of",
        "`verifykit-export`: 0 written, 2 error and nothing written, 130 interrupted.",
    ]
    for program, app in PROGRAMS.items():
        for words, command in _commands(typer.main.get_command(app), program):
            lines += ["", f"## {words}", "", " ".join((command.help or "").split())]
            rows = [_parameter(item) for item in command.params if item.name != "help"]
            lines += ["", "| argument or option | default | |", "| --- | --- | --- |", *rows]
    return "\n".join(lines) + "\n"


def config_page() -> str:
    """Return every key of a training run's TOML file, as Markdown."""
    known = dict(MEANING)
    lines = [NOTE, "", "# Training configuration", ""]
    lines += [
        "A TOML file configures a training run. An unknown key is an error that names the closest known",
        "key. `--set section.key=value` overrides a key: a boolean may be written `true`, `True`, `yes`,",
        "`on` or `1`, a text needs no quotes, and everything else is TOML. Options of an encoder or a loss",
        "have the types of the function that takes them. The path of the data is not part of the file: use",
        "`--data`. Keys without a default are required.",
        "",
    ]
    for prefix, model in _sections("", Config):
        lines += [f"## {f'[{prefix[:-1]}]' if prefix else 'Top level'}", ""]
        if prefix:
            lines += [" ".join((model.__doc__ or "").replace("``", "`").split()), ""]
        lines += ["| key | values | default | |", "| --- | --- | --- | --- |"]
        for name, field in model.model_fields.items():
            if _section(field.annotation):
                continue
            meaning = known.pop(prefix + name)
            lines += [f"| `{name}` | {_values(field)} | {_default(field)} | {meaning} |"]
        lines += [""]
    if known:
        raise KeyError(f"no such keys: {sorted(known)}")
    return "\n".join(lines[:-1]) + "\n"


def _commands(command: Any, words: str) -> Iterator[tuple[str, Any]]:
    if not hasattr(command, "commands") or command.invoke_without_command:
        yield words, command
    for name, below in getattr(command, "commands", {}).items():
        yield from _commands(below, f"{words} {name}")


def _parameter(item: Any) -> str:
    option = item.param_type_name == "option"
    names = (
        ", ".join(f"`{name}`" for name in item.opts)
        if option
        else f"`{(item.metavar or item.name).upper()}`"
    )
    choices = _choices(item)
    if choices:
        names += f" ({', '.join(choices)})"
    default = "required" if item.required else _shown(item.default)
    return f"| {names} | {default} | {' '.join((item.help or '').split())} |"


def _choices(item: Any) -> list[str]:
    # Newer typer keeps the annotation, older typer has click's type.
    if descriptor := getattr(item, "type_descriptor", None):
        return [part for part in get_args(descriptor.annotation) if isinstance(part, str)]
    return [str(choice) for choice in getattr(item.type, "choices", ())]


def _shown(default: Any) -> str:
    unset = default is None or default is False or default == "" or callable(default)
    return "" if unset else f"`{getattr(default, 'value', default)}`"


def _sections(prefix: str, model: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    yield prefix, model
    for name, field in model.model_fields.items():
        if below := _section(field.annotation):
            yield from _sections(f"{prefix}{name}.", below)


def _section(annotation: Any) -> type[BaseModel] | None:
    """Return the section that an annotation names, optional or not."""
    for part in (annotation, *get_args(annotation)):
        if isinstance(part, type) and issubclass(part, BaseModel):
            return part
    return None


def _values(field: Any) -> str:
    annotation = field.annotation
    choices = getattr(annotation, "__args__", ())
    if choices and all(isinstance(choice, str) for choice in choices):
        return ", ".join(f"`{choice}`" for choice in choices)
    name = getattr(annotation, "__name__", "") if not choices else str(annotation)
    signs = {"Ge": ">=", "Gt": ">", "Le": "<=", "Lt": "<"}
    limits = [
        f"{signs[type(item).__name__]} {getattr(item, type(item).__name__.lower())}"
        for item in field.metadata
        if type(item).__name__ in signs
    ]
    words = {
        "int": "whole number",
        "str": "text",
        "bool": "`true`, `false`",
        "list[int]": "whole numbers",
        "list[str]": "texts",
    }
    kind = words.get(name, "tables" if name.startswith("list[dict") else "number")
    return f"{kind}{', ' if limits else ''}{' and '.join(limits)}"


def _default(field: Any) -> str:
    if field.default is PydanticUndefined:
        return "required"
    if isinstance(field.default, bool):
        return f"`{str(field.default).lower()}`"
    return "unset" if field.default is None else f"`{field.default}`"


if __name__ == "__main__":
    (HERE / "command-line.md").write_text(cli_page(), encoding="utf-8")
    (HERE / "training-config.md").write_text(config_page(), encoding="utf-8")
