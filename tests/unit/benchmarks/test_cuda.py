"""`benchmarks.cuda` without a GPU: it refuses, and its steps run on the CPU when that is said."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("lightning_fabric", reason="needs the extra train")

import torch

from benchmarks import cuda
from verifykit.errors import ProviderError


def test_without_a_gpu_it_refuses_before_anything_is_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit) as stopped:
        cuda.main([])
    assert stopped.value.code == 2
    said = capsys.readouterr()
    assert not said.out
    assert "finds no CUDA device" in said.err


def test_a_provider_that_is_missing_or_falls_back_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(*_: object, **__: object) -> None:
        raise ProviderError("onnxruntime fell back to CPUExecutionProvider")

    class OnTheCpu:
        class encoder:  # noqa: N801
            provider = "cpu"

    for verifier, reason in ((missing, "fell back"), (lambda *_, **__: OnTheCpu, "runs on cpu")):
        monkeypatch.setattr("benchmarks.cuda.vk.Verifier", verifier)
        with pytest.raises(SystemExit) as stopped:
            cuda.open_verifier("cuda")
        assert stopped.value.code == 2
        assert reason in capsys.readouterr().err


def test_arguments_are_checked(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cuda.main(["--on", "tpu"])
    assert stopped.value.code == 2
    assert "invalid choice" in capsys.readouterr().err


def test_embeddings_that_differ_end_the_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cuda, "open_verifier", lambda _: None)
    monkeypatch.setattr(cuda, "portraits", lambda **_: {})
    monkeypatch.setattr(cuda, "parity", lambda *_: {"encoder, lowest cosine": 0.99})
    with pytest.raises(SystemExit) as stopped:
        cuda.main(["--on", "cpu"])
    assert stopped.value.code == 1
    assert json.loads(capsys.readouterr().out)["parity"] == {"encoder, lowest cosine": 0.99}


def test_what_was_measured_before_a_part_fails_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("CUDA error: out of memory")

    monkeypatch.setattr(cuda, "open_verifier", lambda _: None)
    monkeypatch.setattr(cuda, "portraits", lambda **_: {})
    monkeypatch.setattr(cuda, "parity", lambda *_: {"encoder, lowest cosine": 1.0})
    monkeypatch.setattr(cuda, "speed", fails)
    with pytest.raises(SystemExit) as stopped:
        cuda.main(["--on", "cpu"])
    assert stopped.value.code == 2
    said = capsys.readouterr()
    assert json.loads(said.out)["parity"] == {"encoder, lowest cosine": 1.0}
    assert "speed: RuntimeError: CUDA error: out of memory" in said.err


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_every_step_runs_on_the_cpu_when_that_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cuda, "CROPS", 8)
    small = ["--rows", "2000", "--rounds", "1", "--subjects", "12", "--encoder", "cnn5"]
    cuda.main(["--on", "cpu", *small])
    figures = json.loads(capsys.readouterr().out)
    assert figures.pop("device").startswith("CPU: no figure")
    assert "torch" in figures.pop("versions")
    assert figures.pop("seconds") > 0
    assert list(figures) == ["parity", "speed", "search", "training"]
    assert min(figures["parity"].values()) > 0.9999
    values = [value for part in figures.values() for value in part.values()]
    assert len(values) == 13
    assert all(np.isfinite(value) and value > 0 for value in values)
