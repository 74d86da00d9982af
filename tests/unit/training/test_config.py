"""Configurations: strict, with suggestions, and written out as resolved."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.unit.training.drawing import small_config
from verifykit_training.config import Config, load_config, require_same_config
from verifykit_training.errors import ConfigError

CONFIGS = sorted((Path(__file__).parents[3] / "configs").glob("*.toml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_shipped_configurations_are_valid_and_survive_writing(
    path: Path, tmp_path: Path
) -> None:
    config = load_config(path)
    written = tmp_path / "config.toml"
    written.write_text(config.to_toml(), encoding="utf-8")
    assert load_config(written) == config


def test_there_are_configurations() -> None:
    assert {path.stem for path in CONFIGS} >= {"face_resnet152", "face_efficientnet_lite0"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(small_config().to_toml(), encoding="utf-8")
    return path


def test_an_override_is_laid_over_the_file(file: Path) -> None:
    config = load_config(
        file, ["loss.margin=0.3", "encoder.weights=some/file.pth", "run.epochs = 7", "seed=3"]
    )
    assert config.loss.options == {"margin": 0.3}
    assert config.encoder.weights == "some/file.pth"
    assert (config.run.epochs, config.seed) == (7, 3)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("run.epoch=3", r"unknown key 'run.epoch': did you mean 'epochs'\?"),
        ("samplr.p=3", r"unknown key 'samplr': did you mean 'sampler'\?"),
        ("run.epochs=-1", "run.epochs: Input should be greater than or equal to 0"),
        ("run.epochs=0", "run.epochs = 0 records weights that were trained elsewhere"),
        ("run.epochs='2'", "run.epochs: Input should be a valid integer"),
        ("run.epochs=2.5", "run.epochs"),
        ("crop.kind=oval", "crop.kind"),
        ("data.test_share=0.8", "leave no subject"),
        ("data", "section.key=value"),
        ("seed.deep=1", "is not a section"),
        ("seed=\n", "not a TOML value"),
        ("seed=1\nname='x'", "not a TOML value"),
        ("optimiser.rate=inf", "optimiser.rate: Input should be a finite number"),
        ("loss.margin=abc", r"""'abc' is not a TOML value; .* --set 'loss.margin="abc"'"""),
        ('loss.margin="0.2"', "option margin is '0.2': Input should be a valid number"),
        ("loss.margin=true", "option margin is True: Input should be a valid number"),
        ("loss.margin=nan", "finite number"),
        ("loss.metric=euclid", "option metric is 'euclid': Input should be 'l2'"),
        ("loss.margn=1", "has no option 'margn'; did you mean 'margin'"),
        ("loss.name=semihard", "there is no loss 'semihard'; did you mean 'semi_hard'"),
        ("encoder.tanh=maybe", "encoder.tanh=maybe: 'maybe' is neither true nor false"),
        ("encoder.tanh='False'", "option tanh is 'False': Input should be a valid boolean"),
        ("encoder.name=cnn6", "there is no encoder 'cnn6'; did you mean 'cnn5'"),
        ("softmax_stage.scale=abc", "softmax_stage.scale"),
        ("softmax_stage.name=batch_all", "name is one of cosface, arcface"),
        ("loss.name=triplet", 'sampler "pk" makes none: set sampler.name'),
        ("augmentation.hand.mirro=1", "did you mean 'mirror'"),
        ("a..b=1", "section.key=value"),
    ],
)
def test_what_is_not_allowed_is_named(file: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(file, [override])


def test_a_byte_order_mark_is_no_part_of_the_file(file: Path) -> None:
    config = load_config(file)
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert load_config(file) == config


def test_every_problem_is_named_at_once(file: Path) -> None:
    text = file.read_text().replace('licence = "Apache-2.0"\n', "").replace("p = 3", "q = 3")
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"licence is missing; .*'sampler.q'"):
        load_config(file)


def test_no_file_and_no_toml_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        load_config(tmp_path / "none.toml")
    (tmp_path / "latin.toml").write_bytes(b'name = "M\xfcller"')
    with pytest.raises(ConfigError, match=r"latin\.toml': it is not UTF-8 text"):
        load_config(tmp_path / "latin.toml")
    (tmp_path / "bad.toml").write_text("name = ")
    with pytest.raises(ConfigError, match="is not TOML"):
        load_config(tmp_path / "bad.toml")


def test_a_continuation_may_differ_only_in_what_changes_no_weight() -> None:
    begun = small_config()
    require_same_config(small_config(data={"workers": 3}, run={"log_every_steps": 5}), begun)
    with pytest.raises(ConfigError, match=r"differs .* in optimiser"):
        require_same_config(small_config(optimiser={"rate": 1e-4}), begun)
    with pytest.raises(ConfigError, match=r"differs .* in run"):
        require_same_config(small_config(run={"epochs": 3}), begun)


@pytest.mark.parametrize("written", ["true", "True", "TRUE", "yes", "on", "1"])
@pytest.mark.parametrize("key", ["loss.soft", "encoder.tanh", "sampler.even"])
def test_a_boolean_is_written_as_python_toml_or_a_shell_write_it(
    file: Path, key: str, written: str
) -> None:
    # The name of the loss comes last, and still says which options there are.
    overrides = [f"{key}={written}", "loss.name=batch_hard"]
    section, name = key.split(".")

    def value(config: Config) -> object:
        found = getattr(config, section)
        return found.options[name] if name in getattr(found, "options", {}) else found.even

    assert value(load_config(file, overrides)) is True
    opposite = {"true": "false", "True": "False", "TRUE": "FALSE", "yes": "no", "on": "off"}
    overrides[0] = f"{key}={opposite.get(written, '0')}"
    assert value(load_config(file, overrides)) is False


def test_a_text_needs_no_quotes_and_a_list_is_toml(file: Path) -> None:
    config = load_config(
        file,
        [
            "name=2024",
            "run.precision=32-true",
            'licence="MIT"',
            "encoder.name=grid_resnet",
            "encoder.widths=[8, 8]",
            "encoder.blocks=[1,1]",
            "encoder.weights=true",
        ],
    )
    assert (config.name, config.run.precision, config.licence) == ("2024", "32-true", "MIT")
    assert config.encoder.options == {"widths": [8, 8], "blocks": [1, 1]}
    assert config.encoder.weights == "true"


def test_the_weights_that_a_configuration_names_are_those_that_are_fetched() -> None:
    from torchvision.models import get_model_weights

    url = get_model_weights("resnet152")["IMAGENET1K_V1"].url
    (path,) = [path for path in CONFIGS if path.stem == "face_resnet152"]
    named = set(re.findall(r"resnet152-\w+\.pth", path.read_text(encoding="utf-8")))
    assert named == {url.rsplit("/", 1)[-1]}
