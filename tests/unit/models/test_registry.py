"""The registry, where the cache lies, and the card."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.helpers.model_specs import POINTS, plain_spec
from tests.unit.models.tiny import SPEC
from verifykit import models
from verifykit.errors import InputError, ModelContractError
from verifykit.models import registry
from verifykit.spec import OperatingPoint


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text + "wrong = 1\n", "unknown key.*wrong"),
        (lambda text: text.replace('licence = "Apache-2.0"\n', ""), "missing key.*licence"),
        (lambda text: text + 'builder = "tiny"\n', "either file or builder"),
        (lambda text: text.replace('"plain"', '"smell"'), "smell"),
    ],
)
def test_the_registry_is_read_strictly(
    shipped: Path, change: Callable[[str], str], message: str
) -> None:
    path = shipped / "registry.toml"
    path.write_text(change(path.read_text()))
    with pytest.raises(ModelContractError, match=message):
        registry.registered(path)


def test_the_calibration_digest_covers_what_decides_and_nothing_else() -> None:
    digest = models.calibration_digest(SPEC)
    others = [
        plain_spec(operating_points=POINTS[:2]),
        plain_spec(default_fmr=1e-2),
        plain_spec(fusion="mean"),
        plain_spec(operating_points=POINTS[:2], default_fmr=1e-2),
        plain_spec(operating_points=tuple(replace(p, reference_count=3) for p in POINTS)),
    ]
    assert len({digest, *map(models.calibration_digest, others)}) == len(others) + 1
    assert models.calibration_digest(plain_spec(weights_sha256="f" * 64)) == digest


@pytest.mark.parametrize(
    ("platform", "environment", "wanted"),
    [
        ("linux", {"XDG_CACHE_HOME": "/x"}, "/x/verifykit"),
        ("linux", {}, "/me/.cache/verifykit"),
        ("darwin", {}, "/me/Library/Caches/verifykit"),
        ("win32", {"LOCALAPPDATA": "/l"}, "/l/verifykit"),
        ("linux", {"VERIFYKIT_HOME": "~/here"}, "/me/here"),
    ],
)
def test_the_cache_lies_where_the_platform_keeps_caches(
    monkeypatch: pytest.MonkeyPatch, platform: str, environment: dict[str, str], wanted: str
) -> None:
    for name in ("VERIFYKIT_HOME", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/me")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.platform", platform)
    assert models.cache_folder() == Path(wanted)


def test_without_a_home_folder_the_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("VERIFYKIT_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)

    def nobody() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nobody)
    with pytest.raises(InputError, match="set VERIFYKIT_HOME"):
        models.cache_folder()


def test_the_card_states_licence_data_and_operating_points(shipped: Path) -> None:
    text = models.card("ready")
    for part in ("Apache-2.0", SPEC.digest, "8 x 8 px", "FMR 1e-06", "(default)"):
        assert part in text
    rows = [line for line in text.splitlines() if line.startswith("| random_forgery")]
    assert rows[1] == "| random_forgery | 1 | 0.0001 (default) |  | 0.4000 | 300 | 3000000 |  |"
    uncalibrated = plain_spec(operating_points=(), default_fmr=None)
    assert "not calibrated" in models.render_card(uncalibrated)


def test_the_card_tells_attacks_and_numbers_of_references_apart() -> None:
    points = (
        OperatingPoint(5e-2, 0.5, 1000, 50, "skilled_forgery", 5),
        OperatingPoint(5e-2, 0.7, 1000, 50, "skilled_forgery"),
        OperatingPoint(1e-2, 0.6, 1000, 10, "random_forgery", 5, (0.005, 0.02), 0.25, (0.2, 0.3)),
    )
    text = models.render_card(
        plain_spec(operating_points=points, default_fmr=5e-2, default_attack="skilled_forgery")
    )
    assert [line for line in text.splitlines() if "_forgery |" in line] == [
        "| random_forgery | 5 | 0.01 | 0.005 to 0.02 | 0.6000 | 10 | 1000 | 25.00% |",
        "| skilled_forgery | 1 | 0.05 (default) |  | 0.7000 | 50 | 1000 |  |",
        "| skilled_forgery | 5 | 0.05 (default) |  | 0.5000 | 50 | 1000 |  |",
    ]
    assert "below FMR 0.01 for random_forgery" in text
    assert "below FMR 0.05 for skilled_forgery" in text
