"""``verifykit serve --model NAME=GALLERY``: from the command line to the settings."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from typer.testing import CliRunner, Result

from verifykit import server
from verifykit.cli.serve import app
from verifykit.server import ServerSettings

Run = Callable[..., tuple[Result, list[ServerSettings]]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command with a service that ends at once, and gives the settings it was started with."""

    def run(*arguments: str) -> tuple[Result, list[ServerSettings]]:
        started: list[ServerSettings] = []
        monkeypatch.setattr(server, "serve", lambda settings, _: started.append(settings))
        return CliRunner().invoke(app, list(arguments)), started

    return run


@pytest.mark.parametrize(
    ("arguments", "galleries", "signatures"),
    [
        ("-g a.db", [("face", "a.db")], "a.signatures.db"),
        ("-g a.db --no-signatures", [("face", "a.db")], None),
        ("-g a.db --model m.onnx", [("m.onnx", "a.db")], "a.signatures.db"),
        ("-g a.db --model palm=p.db", [("face", "a.db"), ("palm", "p.db")], None),
        (
            "-g a.db --model palm=p.db --model m.onnx --signatures s.db",
            [("m.onnx", "a.db"), ("palm", "p.db")],
            "s.db",
        ),
        ("--model face=a.db", [("face", "a.db")], None),
        ("--model face=a.db --signatures s.db", [("face", "a.db")], "s.db"),
        (
            "--model a.onnx=a.db --model b.onnx=postgresql://h/b?sslmode=require",
            [("a.onnx", "a.db"), ("b.onnx", "postgresql://h/b?sslmode=require")],
            None,
        ),
    ],
)
def test_models_and_galleries(
    run: Run, arguments: str, galleries: list[tuple[str, str]], signatures: str | None
) -> None:
    result, (settings,) = run(*arguments.split())
    assert result.exit_code == 0, result.output
    assert list(settings.galleries) == galleries
    assert settings.signature_gallery == signatures


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "give --gallery FILE"),
        ("--model face", "--model face: this model has no gallery"),
        ("-g a.db --model a --model b", "give --model b=GALLERY"),
        ("-g a.db --model b=", "gallery is empty"),
        ("-g a.db --model =b.db", "model of gallery 'b.db' is empty"),
    ],
)
def test_what_cannot_be_is_one_message_and_status_2(run: Run, arguments: str, message: str) -> None:
    result, started = run(*arguments.split())
    assert (result.exit_code, started) == (2, [])
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
