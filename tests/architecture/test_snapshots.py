"""The public API, the commands and the HTTP API are those that are stored in `snapshots/`."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest

import verifykit
from tests.architecture import command_tree, public_api
from tests.architecture.snapshot import UPDATE, assert_same

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CHECKOUT = Path(__file__).parents[2]
SNAPSHOTS = Path(__file__).with_name("snapshots")
THIS = Path(__file__).name
PROGRAMS: dict[str, str] = tomllib.loads((CHECKOUT / "pyproject.toml").read_text("utf-8"))[
    "project"
]["scripts"]


def test_the_public_api() -> None:
    text = "\n".join(public_api.describe(verifykit)) + "\n"
    assert_same(text, SNAPSHOTS / "public_api.txt", THIS)


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_commands(program: str) -> None:
    module, _, name = PROGRAMS[program].partition(":")
    main = getattr(importlib.import_module(module), name)
    lines = list(command_tree.describe(program, main))
    assert_same("\n".join(lines), SNAPSHOTS / f"{program}.txt", THIS)


def test_the_http_api(face_model: Path, tmp_path: Path) -> None:
    if importlib.util.find_spec("fastapi") is None:
        pytest.skip("needs the extra server")
    from verifykit.server import ServerSettings, create_app

    app = create_app(ServerSettings(str(tmp_path / "staff.db")))

    async def document() -> dict[str, Any]:
        async with app.router.lifespan_context(app):
            return app.openapi()

    found = asyncio.run(document())
    found["info"]["version"] = "(of verifykit)"
    text = json.dumps(found, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    assert_same(text, SNAPSHOTS / "openapi.json", THIS)


def test_a_difference_is_shown_with_the_command_that_accepts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = tmp_path / "stored.txt"
    stored.write_text("one\ntwo\n")
    monkeypatch.delenv(UPDATE, raising=False)
    assert_same("one\ntwo\n", stored, THIS)
    with pytest.raises(AssertionError, match=f"(?s){UPDATE}=1 .*{THIS}.*-two.*[+]three"):
        assert_same("one\nthree\n", stored, THIS)
    assert stored.read_text() == "one\ntwo\n"
    monkeypatch.setenv(UPDATE, "1")
    assert_same("one\nthree\n", stored, THIS)
    assert stored.read_text() == "one\nthree\n"


def test_a_snapshot_of_the_public_api_sees_what_matters() -> None:
    def sample(a: int, /, b: str = "x", *, c: object = object) -> None: ...

    assert public_api.signature(sample) == (
        "(a: int, /, b: str = 'x', *, c: object = <class 'object'>) -> None"
    )
    lines = list(public_api.describe(verifykit))
    assert "error SubjectNotFoundError(GalleryError, KeyError)" in lines
    assert any(line.startswith("    method identify(self, image: ImageLike") for line in lines)
