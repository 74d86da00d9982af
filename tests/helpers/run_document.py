"""Run the examples of a document as a reader would, in a folder of images.

    python run_document.py README.md

Only the standard library and an installed verifykit are needed, so that it runs in a clean
environment. Every ``python`` block is executed, in order and in one namespace. Of every ``console``
block the ``verifykit`` commands are run, and what they print must be what the document shows:
word for word, numbers within 0.02, and ``...`` for lines left out.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

Run = Callable[[str], tuple[int, str, str]]

# The names that the documents use for the portraits.
NAMES = {
    "a.jpg": "person_a_1.jpg",
    "b.jpg": "person_a_2.jpg",
    "a1.jpg": "person_a_1.jpg",
    "a2.jpg": "person_a_2.jpg",
    "b1.jpg": "person_b_1.jpg",
    "b2.jpg": "person_b_2.jpg",
    "alice_1.jpg": "person_b_1.jpg",
    "alice_2.jpg": "person_b_2.jpg",
    "bob_1.jpg": "person_a_1.jpg",
    "bob_2.jpg": "person_a_2.jpg",
    "door.jpg": "person_a_2.jpg",
    "stranger.jpg": "impostor_1.jpg",
}
# Set-up that the reader has behind them, or that runs elsewhere: not run again from here.
ELSEWHERE = ("make", "pip", "python -m pip", "python -m benchmarks", "git", "cd")
# They need torch, which the README's reader may not have: tests/e2e/test_docs.py runs them.
TRAINING = ("verifykit-train", "verifykit-export")
BLOCK = re.compile(r"^```(python|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?", re.IGNORECASE)


def run_in_a_shell(command: str) -> tuple[int, str, str]:
    """Run a command with this Python's programs; return its exit status and output."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "COLUMNS": "100", "NO_COLOR": "1"}
    run = subprocess.run(
        command, shell=True, env=environment, capture_output=True, text=True, check=False
    )
    return run.returncode, run.stdout, run.stderr


def run_document(
    document: Path,
    programs: Sequence[str] = ("verifykit",),
    run: Run = run_in_a_shell,
) -> dict[str, int]:
    """Run every example of a document in the current folder.

    Args:
        document: A Markdown file.
        programs: Whose commands are run.
        run: Gives a command's exit status, standard output and standard error.

    Returns:
        How many ``python`` blocks and how many of their commands were run.

    Raises:
        AssertionError: A command failed, or printed something else than the document shows.
    """
    for name, portrait in NAMES.items():
        shutil.copy(portrait, name)
    text = document.read_text(encoding="utf-8")
    namespace: dict[str, Any] = {"__name__": "__main__"}
    counts = {"python": 0, "console": 0}
    for block in BLOCK.finditer(text):
        language, code = block.groups()
        line = text.count("\n", 0, block.start(2))
        if language == "python":
            exec(compile("\n" * line + code, str(document), "exec"), namespace)
            counts["python"] += 1
            continue
        for command, shown in shown_commands(code):
            if command.split()[0] in programs:
                _require_shown(command, shown, *run(command))
                counts["console"] += 1
            elif not command.startswith((*ELSEWHERE, *TRAINING)):
                raise AssertionError(
                    f"{document.name} shows a command that is not checked: {command}"
                )
    return counts


def shown_commands(code: str) -> Iterator[tuple[str, list[str]]]:
    command, shown = "", []
    for line in code.splitlines():
        if line.startswith("$ "):
            if command:
                yield command, shown
            command, shown = line[2:], []
        else:
            shown.append(line)
    if command:
        yield command, shown


def _require_shown(command: str, shown: list[str], status: int, out: str, err: str) -> None:
    output = f"$ {command}\n{out}{err}"
    if status not in (0, 1, 3) or "Traceback" in err:
        raise AssertionError(f"exit status {status}:\n{output}")
    printed = iter([line for line in out.splitlines() if line.strip()])
    skipping = False
    for expected in (line for line in shown if line.strip()):
        if expected.strip() == "...":
            skipping = True
            continue
        for line in printed:
            if same_output(line, expected):
                break
            if not skipping:
                raise AssertionError(f"the document shows {expected!r}, printed was:\n{output}")
        else:
            raise AssertionError(f"the document shows {expected!r}, printed was:\n{output}")
        skipping = False


def same_output(line: str, expected: str) -> bool:
    if NUMBER.sub("#", line).split() != NUMBER.sub("#", expected).split():
        return False
    pairs = zip(NUMBER.findall(line), NUMBER.findall(expected), strict=True)
    return all(abs(float(left) - float(right)) <= 0.02 for left, right in pairs)


if __name__ == "__main__":
    ran = run_document(Path(sys.argv[1]).resolve())
    print(f"{sys.argv[1]}: {ran['python']} python blocks and {ran['console']} commands ran")
