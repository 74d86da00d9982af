"""The pages of the documentation, their commands, and checks that run nothing."""

from __future__ import annotations

import re
import shlex
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import tomli
import typer

CHECKOUT = Path(__file__).parents[2]
DOCS = CHECKOUT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# The reader's own shell, and programs of other projects.
OTHERS = {"cd", "celery", "cp", "dask", "git", "gunicorn", "mkdir", "mv", "uvicorn"}
# The default command of a command line.
FIRST = {"verifykit-train": "train", "verifykit-export": "run"}
EXTRAS: dict[str, list[str]] = tomli.loads((CHECKOUT / "pyproject.toml").read_text("utf-8"))[
    "project"
]["optional-dependencies"]


def blocks(page: Path) -> list[tuple[str, str]]:
    """Return language and text of every fenced block."""
    return FENCE.findall(page.read_text(encoding="utf-8"))


def commands(page: Path) -> list[str]:
    """Return every command of the blocks ``console`` and ``sh``; lines that continue are joined."""
    found = []
    for language, code in blocks(page):
        lines = code.replace("\\\n", " ").splitlines()
        if language == "console":
            found += [line[2:] for line in lines if line.startswith("$ ")]
        elif language == "sh":
            found += [line for line in lines if line.strip()]
    return found


def programs() -> dict[str, Any]:
    """Return the command lines that can be imported here, by name."""
    import verifykit.cli.app

    apps = {"verifykit": verifykit.cli.app.app}
    if find_spec("lightning_fabric"):
        import verifykit_export.cli
        import verifykit_training.cli

        apps |= {
            "verifykit-train": verifykit_training.cli.app,
            "verifykit-export": verifykit_export.cli.app,
        }
    return {name: typer.main.get_command(app) for name, app in apps.items()}


def verbs() -> set[str]:
    """Return every command of every command line, as a reader types it."""
    return {words for name, group in programs().items() for words in _below(name, group)}


def _below(words: str, command: Any) -> list[str]:
    below = getattr(command, "commands", None)
    if below is None:
        return [words]
    itself = [words] if command.invoke_without_command else []
    return itself + [verb for name in below for verb in _below(f"{words} {name}", below[name])]


def require_understood(line: str) -> None:
    """Raise unless the program in a line knows its arguments; nothing is run.

    Raises:
        AssertionError: There is no such program, module, file or target here.
        click.UsageError: The program does not know an option, or misses an argument.
    """
    program, *words = shlex.split(line, comments=True)
    if program in ("python", "pip") and "install" in words:
        for extras in re.findall(r"\[([\w,]+)\]", line):
            assert set(extras.split(",")) <= set(EXTRAS), line
    elif program == "python":
        module = words[1].replace(".", "/") if words[0] == "-m" else words[0].removesuffix(".py")
        assert any((CHECKOUT / f"{module}{end}").is_file() for end in (".py", "/__main__.py")), line
    elif program == "make":
        targets = re.findall(
            r"^([\w-]+):", (CHECKOUT / "Makefile").read_text("utf-8"), re.MULTILINE
        )
        assert set(words) <= set(targets), line
    elif program in ("verifykit", *FIRST):
        if command := programs().get(program):
            _parse(command, program, words)
    else:
        assert program in OTHERS or line.startswith("pip wheel"), line


def _parse(command: Any, program: str, words: list[str]) -> None:
    while hasattr(command, "commands"):
        named = bool(words) and words[0] in command.commands
        if not named and command.invoke_without_command:
            break
        command = command.commands[words.pop(0) if named else FIRST[program]]
    command.make_context(program, words)  # raises for what it does not know
