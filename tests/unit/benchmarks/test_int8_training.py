"""The continuations of a run that the benchmark trains: valid configurations that differ in rounding only."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.distillation.__main__ import CONFIG, variant
from benchmarks.int8_training import continuation
from verifykit_training.config import Config, load_config
from verifykit_training.run_folder import RunFolder


class _Run(RunFolder):
    def __init__(self, path: Path, config: Config) -> None:
        super().__init__(path)
        self._config = config

    def read_config(self) -> Config:
        return self._config


@pytest.mark.parametrize("name", ["alone", "distilled"])
def test_both_continue_at_a_tenth_of_the_rate(tmp_path: Path, name: str) -> None:
    config = variant(load_config(CONFIG), name)
    base = _Run(tmp_path / "base", config)
    rounded, further = (continuation(base, rounded=is_int8, steps=100) for is_int8 in (True, False))
    for found in (rounded, further):
        assert Config.model_validate(found.model_dump(exclude_unset=False)) == found
        assert found.encoder.weights == str(base.path)
        assert found.optimiser.rate == config.optimiser.rate / 10
        assert found.run.epochs * (found.run.steps_per_epoch or 0) == 100
        assert found.softmax_stage.epochs == 0
        assert found.distillation == config.distillation
    assert rounded.quantisation is not None
    assert further.quantisation is None
    same = {"name": "x", "quantisation": None}
    assert rounded.model_copy(update=same) == further.model_copy(update=same)
