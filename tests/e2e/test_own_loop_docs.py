"""The page on modules and loops of one's own is followed from its first block to its last."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

if not find_spec("lightning_fabric"):
    pytest.skip("needs the extras train and export", allow_module_level=True)

import verifykit.cli
import verifykit_export.cli
import verifykit_training.cli
from tests.helpers.documents import DOCS
from tests.helpers.run_document import shown_commands
from tests.unit.training.drawing import draw_folder

PAGE = DOCS / "how-to" / "own-loop.md"
BLOCK = re.compile(r"^```(python|toml|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROGRAMS: dict[str, Callable[[], None]] = {
    "verifykit": verifykit.cli.main,
    "verifykit-train": verifykit_training.cli.main,
    "verifykit-export": verifykit_export.cli.main,
}


def call(monkeypatch: pytest.MonkeyPatch, command: str) -> int:
    program, *arguments = shlex.split(command)
    monkeypatch.setattr(sys, "argv", [program, *arguments])
    try:
        PROGRAMS[program]()
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else 0 if exit_.code is None else 1
    return 0


def test_the_page_on_an_own_loop_runs(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    one_thread: None,
    capfd: pytest.CaptureFixture[str],
) -> None:
    draw_folder(tmp_path / "people", subjects=14, images=6)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VERIFYKIT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    module, *rest = BLOCK.findall(PAGE.read_text(encoding="utf-8"))
    assert module[0] == "python"
    Path("my_encoder.py").write_text(module[1], encoding="utf-8")
    namespace: dict[str, object] = {"__name__": "__main__"}
    ran: list[str] = []
    for language, code in rest:
        if language == "toml":
            Path("own.toml").write_text(code, encoding="utf-8")
        elif language == "python":
            exec(compile(code, str(PAGE), "exec"), namespace)
        for command, _ in shown_commands(code) if language == "console" else ():
            ran.append(command.split()[0])
            status = call(monkeypatch, command)
            out, err = capfd.readouterr()
            # verifykit compares: 1 is no match.
            assert status in ((0, 1) if ran[-1] == "verifykit" else (0,)), (command, out, err)
            if "check" in command:
                # Two convolutions, a batch norm of five tensors, and the last layer.
                assert "11 of 11 tensors loaded from mine.pth" in " ".join(out.split())
    further = ["verifykit-train", "verifykit-export"]
    assert ran == [*["verifykit-train"] * 3, "verifykit-export", "verifykit", *further]
    assert json.loads(Path("runs/mine/weights.json").read_text())["missing"] == []
    assert Path("mine.onnx").is_file()
    assert Path("arrays.onnx").is_file()
    report = json.loads(Path("runs/mine/spec.json").read_text())
    assert (report["encoder"], report["options"]) == ("my_encoder:make", {"width": 16})
