"""Data sets whose folders have names that are not UTF-8, or hold control characters or markup."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

if not find_spec("lightning_fabric"):
    pytest.skip("needs the extras train and export", allow_module_level=True)
if sys.platform != "linux":
    pytest.skip("other systems refuse such names", allow_module_level=True)

import verifykit_export.cli
import verifykit_training.cli
from tests.unit.training.drawing import draw_folder, small_config
from verifykit.datasets import printable_name
from verifykit.errors import shortened
from verifykit_training.dataset import divide, read_records

ODD = [b"caf\xe9", b"a\nb", b"x\x1b[31my", "\u202e".encode() * 70, b"[red]r", b"$x$ $", b"_u"]


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    data = draw_folder(tmp_path / "odd", 14, 4)
    for folder, name in zip(sorted(data.iterdir()), ODD, strict=False):
        folder.rename(os.fsdecode(os.fsencode(data) + b"/" + name))
    (data / os.fsdecode(ODD[0]) / os.fsdecode(b"z\xff\n.txt")).write_text("x", encoding="utf-8")
    return data


def test_a_run_over_odd_names(
    odd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "small.toml"
    config.write_text(small_config(data={"test_share": 0.4}).to_toml(), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VERIFYKIT_HOME", str(tmp_path / "home"))

    def run(main: object, *words: object) -> str:
        monkeypatch.setattr(sys, "argv", [str(word) for word in words])
        assert callable(main)
        with pytest.raises(SystemExit) as stop:
            main()
        captured = capfd.readouterr()
        assert not stop.value.code, captured.err
        printed = captured.out + captured.err
        assert "\x1b[31m" not in printed
        assert "\u202e" not in printed
        return printed

    train, given = verifykit_training.cli.main, ("--data", odd)
    printed = run(train, "verifykit-train", "check", odd, "--config", config)
    assert "nothing prevents training" in printed
    run(train, "verifykit-train", config, *given, "--run", "r", "--quiet")
    assert "eer" in run(train, "verifykit-train", "evaluate", "r", *given, "--part", "all")
    run(verifykit_export.cli.main, "verifykit-export", "r", "odd.onnx", *given)
    assert Path("odd.onnx").is_file()


def test_the_split_of_other_names_stays(odd: Path, tmp_path: Path) -> None:
    def places(folder: Path) -> dict[str, str]:
        parts = divide(read_records(folder), validation_share=0.2, test_share=0.2, seed=3)
        return {record.subject: part for part, records in parts.items() for record in records}

    found = places(odd)
    assert set(map(os.fsencode, found)) >= set(ODD)
    plain = draw_folder(tmp_path / "plain", 14, 1)
    # Measured with the version before names that are not UTF-8 were possible.
    assert sorted(name for name, part in places(plain).items() if part == "test") == [
        "s00",
        "s03",
        "s07",
    ]


def test_what_cannot_be_printed_is_escaped_before_it_is_cut() -> None:
    for name in ("\u202e" * 90, "\udce9" * 30, "a\nb", "x" * 200):
        for text in (shortened(name), printable_name(name)):
            assert len(text) <= 80
            assert text.isprintable()
    assert shortened("a\nb\udce9") == r"a\nb\udce9"
    assert shortened("/data/Zoë") == printable_name("/data/Zoë") == "/data/Zoë"
