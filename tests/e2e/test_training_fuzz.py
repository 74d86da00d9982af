"""Random configurations and ``--set`` values: an answer or one line of error, and never a traceback."""

from __future__ import annotations

import contextlib
import io
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

if not find_spec("lightning_fabric"):
    pytest.skip("needs the extra train", allow_module_level=True)

from tests.unit.training.drawing import draw_folder, small_config
from verifykit_training.cli import main
from verifykit_training.config import Config
from verifykit_training.encoders import encoder_options
from verifykit_training.loop import train
from verifykit_training.losses import LOSSES, MARGIN_LOSSES, loss_options
from verifykit_training.losses.distillation import DISTILLATIONS, distillation_options
from verifykit_training.run_folder import TrainingJob

pytestmark = pytest.mark.usefixtures("one_thread")

# Small networks, and no weights to fetch; one of the user's own, and one that 32 px are too small for.
OWN = "tests.unit.training.own_encoder:make"
ENCODERS = ("cnn5", "grid_resnet", "signet", "efficientnet_lite0", "mobilefacenet", OWN)
# Replaced by the folder of a finished run.
RUN = "{run}"


def _keys(model: type[BaseModel], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        parts = (field.annotation, *get_args(field.annotation))
        below = [p for p in parts if isinstance(p, type) and issubclass(p, BaseModel)]
        found |= _keys(below[0], f"{prefix}{name}.") if below else {prefix + name: field.annotation}
    return found


KEYS: dict[str, Any] = _keys(Config)
for section, kinds, options_of in (
    ("loss", LOSSES, loss_options),
    ("softmax_stage", MARGIN_LOSSES, loss_options),
    ("encoder", ENCODERS, encoder_options),
    ("distillation", DISTILLATIONS, distillation_options),
):
    for kind in kinds:
        KEYS |= {f"{section}.{name}": hint for name, hint in options_of(kind).items()}

FITTING = {
    bool: ("true", "False", "1", "off"),
    int: ("0", "1", "2", "3", "7", "-1"),
    float: ("0", "0.0", "0.2", "0.5", "1.0", "2", "-0.5", "1e-9", "1e30"),
    str: ("none", "cpu", "auto", "nowhere.pth", "ddp", RUN, "face", OWN, f"{RUN}/spec.json"),
}


def _fitting(key: str) -> st.SearchStrategy[str]:
    """Values of the key's type, allowed or not."""
    hint = KEYS[key]
    words: list[str] = []
    for part in (hint, *get_args(hint)):
        words += [part] if isinstance(part, str) else FITTING.get(part, ())
    return st.sampled_from(words or ["[1]", "[2, 3]", "[]"])


WORDS = (
    *(
        "true",
        "False",
        "yes",
        "0",
        "1",
        "2",
        "-1",
        "3.5",
        "1e-3",
        "1e400",
        "nan",
        "inf",
        "",
        " ",
        "abc",
    ),
    *(
        "[]",
        "[1, 2]",
        "[0]",
        '["a"]',
        "{}",
        "{a = 1}",
        '"quoted"',
        "'single'",
        "none",
        "null",
        "None",
    ),
    *(
        "0x10",
        "1_000",
        "1979-05-27",
        "99999999999999999999",
        "\u00e9\u4e2d",
        "[[[",
        "a=b",
        "#",
        '"',
    ),
    *("pk", "balanced_triplets", "triplet_file", "eer", "skilled_eer", "bf16-mixed", "16-mixed"),
    *(
        "plain",
        "signature",
        "face",
        "rgb",
        "grey",
        "sgd",
        "step",
        "constant",
        "cover",
        "ddp",
        "gpu",
    ),
    *(
        "spread",
        "cosine",
        "l2",
        RUN,
        f"{RUN}/weights.safetensors",
        f"{RUN}/config.toml",
        OWN,
        "os:path",
    ),
    *('[{transform="HorizontalFlip"}]', '[{transform="Foo"}]', "[{p=1}]", "[{transform=1}]"),
    *('[{transform="Rotate", limit=[1]}]', '[{transform="Rotate", limit="a"}]', "[[]]", "[{}]"),
    *(
        "{a = {b = {c = 1}}}",
        "[[1, 2], [3]]",
        '[1, "a", true]',
        "[true]",
        "[1.5]",
        "[nan]",
        "[1979-05-27]",
    ),
    *(
        "07:32:00",
        "1979-05-27T07:32:00Z",
        "-0",
        "+1",
        "0b1",
        "1e308",
        "-inf",
        "5e-324",
        "18446744073709551616",
    ),
)
# A section as a whole, or something else in its place.
WHOLE = (
    *(
        "loss={name='batch_all', margin={a=1}}",
        "loss={margin=1}",
        "loss=3",
        "loss=[]",
        "loss={name=[]}",
    ),
    *("run={epochs=1}", "run=1", "encoder={name='cnn5', weights='none'}", "encoder='cnn5'"),
    *("augmentation.hand={}", "augmentation.hand=true", "augmentation={hand={mirror=0.5}}"),
    *("distillation={}", "distillation=none", "distillation={teacher='face', share=2}"),
    *("quantisation={}", "quantisation=int8", "memory={size=8, start_step=0}", "memory=8"),
    *(
        "softmax_stage={epochs=1, name='arcface'}",
        "softmax_stage=[1]",
        "data=1979-05-27",
        "crop={}",
    ),
)
VALUES = st.sampled_from(WORDS) | st.text(max_size=6) | st.integers(-3, 40).map(str)
NAMES = st.sampled_from(sorted(KEYS)) | st.sampled_from(
    ["los.margin", "a..b", "", "run", "encoder.name.x"]
)


def _override(pair: tuple[str, str]) -> str:
    key, value = pair
    return f"{key}={value}"


WILD = st.tuples(NAMES, VALUES).map(_override)
TAME = st.sampled_from(sorted(KEYS)).flatmap(lambda key: st.tuples(st.just(key), _fitting(key)))
OVERRIDES = (
    st.lists(TAME.map(_override), max_size=3)
    | st.lists(WILD, min_size=1, max_size=4)
    | st.lists(WILD | st.sampled_from(WHOLE), min_size=1, max_size=3)
)
CHOSEN = st.fixed_dictionaries(
    {
        "encoder.name": st.sampled_from(ENCODERS),
        "loss.name": st.sampled_from(LOSSES),
        "sampler.name": st.sampled_from(["pk", "balanced_triplets"]),
        "encoder.color": st.sampled_from(["rgb", "grey"]),
        "encoder.weights": st.sampled_from(["none", "none", RUN]),
    }
)


def _section(required: dict[str, str], **optional: tuple[str, ...]) -> st.SearchStrategy[list[str]]:
    """Sections that a configuration may leave out, with values that mostly fit."""
    fixed = [f"{key}={value}" for key, value in required.items()]
    each = [
        st.sampled_from([[]] + [[f"{key.replace('__', '.')}={value}"] for value in values])
        for key, values in optional.items()
    ]
    return st.tuples(*each).map(lambda found: [*fixed, *(item for some in found for item in some)])


SECTIONS = st.one_of(
    st.just([]),
    _section(
        {"distillation.teacher": RUN},
        distillation__name=DISTILLATIONS,
        distillation__share=("0.5", "1.0", "0.0", "2"),
        distillation__weight=("0.5", "0", "1e30"),
        distillation__metric_weight=("0.0", "-1"),
        distillation__teacher=("face", "nowhere", OWN, "os:path", ""),
    ),
    _section(
        {"quantisation.precision": "int8", "encoder.weights": RUN},
        run__precision=("bf16-mixed", "auto"),
        run__micro_batch=("2",),
    ),
    _section(
        {"memory.size": "8", "memory.start_step": "0"},
        memory__weight=("0.5", "0", "1e30"),
        memory__margin=("-1.0", "1.5"),
    ),
    _section(
        {"crop.kind": "signature", "modality": "signature"},
        augmentation__hand__mirror=("0.5", "0", "2"),
        augmentation__hand__subject_warp_share=("0.2", "0.0", "nan"),
        augmentation__preset=("ink", "signature", "face"),
        loss__fusion=("mean", "spread", "max", "sum"),
    ),
    _section(
        {"softmax_stage.epochs": "1"},
        softmax_stage__name=MARGIN_LOSSES,
        softmax_stage__margin=("0.5", "4", "-1"),
        softmax_stage__scale=("0", "1e30", "64"),
    ),
    _section(
        {"run.micro_batch": "2"},
        run__recompute_activations=("true", "yes"),
        run__precision=("bf16-mixed", "16-mixed", "64-true", "auto"),
        run__ema_decay=("0.9", "0.0"),
        optimiser__frozen_epochs=("1",),
    ),
    _section(
        {"schedule.name": "step"},
        schedule__step_epochs=("[1]", "[]", "[0]", "[-1]", "[2, 1]", "[1.5]"),
        schedule__step_factor=("1.0", "0"),
        schedule__warm_up_steps=("1000000", "-1"),
    ),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fuzz")
    draw_folder(folder / "data", 8, 3)
    config = small_config(run={"epochs": 1, "steps_per_epoch": 1}, softmax_stage={"epochs": 1})
    (folder / "small.toml").write_text(config.to_toml(), encoding="utf-8")
    finished = small_config(run={"epochs": 1, "steps_per_epoch": 1})
    train(TrainingJob(finished, folder / "data", folder / "finished", folder / "cache", quiet=True))
    return folder


def _status(words: list[str]) -> tuple[int, str]:
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(said):
        patch.setattr(sys, "argv", ["verifykit-train", *words])
        with contextlib.redirect_stdout(io.StringIO()), pytest.raises(SystemExit) as exit_:
            main()
    return int(exit_.value.code or 0), said.getvalue()


def _words(folder: Path, options: list[str]) -> list[str]:
    run = str(folder / "finished")
    return [word for option in options for word in ("--set", option.replace(RUN, run))]


def _check(folder: Path, chosen: dict[str, str], overrides: list[str]) -> None:
    # What a machine has is its own matter here; processes and large networks take too long.
    fixed = ["run.accelerator=cpu", "data.workers=0"]
    words = _words(folder, [*map(_override, chosen.items()), *overrides, *fixed])
    data, config = folder / "data", folder / "small.toml"
    status, err = _status(["check", str(data), "--config", str(config), *words])
    event(f"status {status}")
    assert status in (0, 1, 2), err
    assert (status == 2) is ("error:" in err or "Error" in err), err
    assert "Traceback" not in err


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(chosen=CHOSEN, sections=SECTIONS, overrides=OVERRIDES)
def test_some_random_configurations_give_no_traceback(
    folder: Path, chosen: dict[str, str], sections: list[str], overrides: list[str]
) -> None:
    _check(folder, chosen, sections + overrides)


@pytest.mark.slow
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(chosen=CHOSEN, sections=SECTIONS, overrides=OVERRIDES)
def test_random_configurations_give_no_traceback(
    folder: Path, chosen: dict[str, str], sections: list[str], overrides: list[str]
) -> None:
    _check(folder, chosen, sections + overrides)


@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(chosen=CHOSEN, sections=SECTIONS, overrides=OVERRIDES, number=st.integers(0, 2**40))
def test_random_runs_give_no_traceback(
    folder: Path, chosen: dict[str, str], sections: list[str], overrides: list[str], number: int
) -> None:
    one = ["run.accelerator=cpu", "data.workers=0", "run.devices=1", "run.nodes=1", "run.epochs=1"]
    one += ["run.steps_per_epoch=1", "run.accumulate=1", "run.strategy=auto"]
    words = _words(folder, [*map(_override, chosen.items()), *sections, *overrides, *one])
    places = ["--data", str(folder / "data"), "--cache", str(folder / "cache")]
    places += ["--run", str(folder / "runs" / str(number)), "--quiet"]
    status, err = _status(["train", str(folder / "small.toml"), *places, *words])
    event(f"status {status}")
    assert status in (0, 2), err
    assert "Traceback" not in err
