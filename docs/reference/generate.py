"""Write the reference pages that follow from the code: ``python docs/reference/generate.py``."""  # noqa: INP001

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

# One line a key; a key without one, or a line without a key, is an error.
MEANING = {
    "name": "the run's and the model's name",
    "modality": "what is compared",
    "licence": "of the weights that come out, for the model card",
    "training_data": "which data, and their terms, for the model card",
    "seed": "of weights, split, sampling and augmentation",
    "crop.kind": "`five_point` finds and aligns a face, `signature` finds ink on paper, `plain` takes it all",
    "crop.height_px": "height of the network's input",
    "crop.width_px": "its width",
    "crop.fit": "`plain` only: `stretch` the image to the size, or `cover` it and cut the rest off",
    "crop.detector": "`five_point` only: the face model that lends its detector, a name or a path",
    "encoder.name": "`cnn5`, `efficientnet_lite0`, `grid_resnet`, `signet`, `resnet18` (or 34, 50, 101, 152)",
    "encoder.embedding_size": "values in an embedding",
    "encoder.weights": "`imagenet`, `none` (a random start) or the path of a `.pth` or `.safetensors` file",
    "encoder.color": "three channels or one",
    "data.validation_share": "share of the subjects that choose the best epoch",
    "data.test_share": "share of the subjects that only `evaluate` looks at",
    "data.workers": "processes that load crops; 0 loads in the program itself",
    "sampler.name": "what makes a batch",
    "sampler.p": "`pk`: subjects in a batch",
    "sampler.k": "`pk`: images of each of them",
    "sampler.forgeries": "`pk`: skilled forgeries of each of them",
    "sampler.even": "`pk`: every subject equally often, rather than every image",
    "sampler.triplets": "triplets in a batch of the two other samplers",
    "augmentation.hand.mirror": "probability that a subject is mirrored, which makes it another subject",
    "augmentation.hand.subject_rotate_deg": "a subject is turned by up to so much either way",
    "augmentation.hand.subject_shear": "slanted, as a slope",
    "augmentation.hand.subject_stretch": "stretched in width and in height, as a share",
    "augmentation.hand.subject_warp_share": "bent smoothly: deviation as a share of the height",
    "augmentation.hand.subject_stroke_px": "written with a wider or narrower pen, on each side of the stroke",
    "augmentation.hand.rotate_deg": "an image is turned besides",
    "augmentation.hand.shear": "slanted besides",
    "augmentation.hand.scale": "larger or smaller, as a share",
    "augmentation.hand.shift_share": "moved, as a share of the width and of the height",
    "augmentation.hand.warp_share": "bent besides, more finely",
    "augmentation.hand.stroke_px": "written with another pen, every second image",
    "augmentation.preset": "which transforms come first",
    "augmentation.transforms": "further ones: `transform`, a class of albumentations, and its arguments",
    "loss.name": "see [losses](losses.md); further keys are the loss's options",
    "softmax_stage.epochs": "epochs with a margin softmax before the loss; 0 for none",
    "softmax_stage.name": "`cosface` or `arcface`; further keys are `margin` and `scale`",
    "optimiser.name": "which optimiser",
    "optimiser.rate": "learning rate of the last layer, and of the rest unless `backbone_rate` says other",
    "optimiser.backbone_rate": "learning rate of the rest; unset is `rate`",
    "optimiser.weight_decay": "weight decay",
    "optimiser.momentum": "of `sgd`",
    "optimiser.clip_norm": "gradients longer than this are shortened; 0 never",
    "optimiser.frozen_epochs": "epochs in which only the last layer is trained",
    "schedule.name": "how the rate falls after the warm-up",
    "schedule.warm_up_steps": "steps over which the rate rises from nought",
    "schedule.floor": "`cosine`: the last rate, as a share of the first",
    "schedule.step_epochs": "`step`: epochs at which the rate falls",
    "schedule.step_factor": "`step`: what it is multiplied by",
    "validation.metric": "what chooses the best epoch",
    "validation.every_epochs": "epochs between validations",
    "validation.patience": "validations without gain after which the run stops; 0 never",
    "run.epochs": "at the most",
    "run.steps_per_epoch": "0 is what the sampler gives",
    "run.accumulate": "batches whose gradients are added up before a step",
    "run.precision": "of the arithmetic",
    "run.ema_decay": "of the running average of the weights, which is what is kept; 0 for none",
    "run.batch_size": "images at a time when nothing is learnt (validation, evaluation)",
    "run.log_every_steps": "steps between lines in `metrics.jsonl`",
    "run.save_every_steps": "steps between checkpoints inside an epoch; 0 saves after epochs only",
    "run.accelerator": "of Lightning Fabric: `auto`, `cpu`, `cuda`",
    "run.strategy": "of Lightning Fabric",
    "run.devices": "processes on a machine",
    "run.nodes": "machines",
    "run.tensorboard": "write TensorBoard's files too, if it is installed",
}


def cli_page() -> str:
    """Every verb and option of the three programs, as Markdown."""
    lines = [NOTE, "", "# Command line", ""]
    lines += [
        "Exit status of `verifykit`: 0 match or done, 1 no match, 2 error. Of `verifykit-train`: 0 done,"
    ]
    lines += [
        "1 `check` found something, 2 error, 130 interrupted. Of `verifykit-export`: 0 written, 2 error and"
    ]
    lines += ["nothing written, 130 interrupted."]
    for program, app in PROGRAMS.items():
        for words, command in _commands(typer.main.get_command(app), program):
            lines += ["", f"## {words}", "", " ".join((command.help or "").split())]
            rows = [_parameter(item) for item in command.params if item.name != "help"]
            lines += ["", "| argument or option | default | |", "| --- | --- | --- |", *rows]
    return "\n".join(lines) + "\n"


def config_page() -> str:
    """Every key of a training run's TOML file, as Markdown."""
    known = dict(MEANING)
    lines = [NOTE, "", "# Configuration of a training run", ""]
    lines += [
        "A TOML file, checked strictly: an unknown key is an error that names the closest known one."
    ]
    lines += ["`--set section.key=value` overrides. Paths of data are not part of it: `--data` or"]
    lines += ["`VERIFYKIT_DATA`. Keys without a default must be written out.", ""]
    for prefix, model in _sections("", Config):
        lines += [f"## {f'[{prefix[:-1]}]' if prefix else 'At the top'}", ""]
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
    """The section that an annotation names, also one that may be left out."""
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
