"""A registry of two tiny models, and a real builder behind a real entry point."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.models.tiny import BUILDER, BUILT, REGISTRY, SPEC, model_bytes
from verifykit import models
from verifykit.models import registry


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "home"
    monkeypatch.setenv("VERIFYKIT_HOME", str(home))
    return home


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a registry of two models: one that is built, and one that is shipped."""
    folder = tmp_path / "shipped"
    folder.mkdir()
    digests = {
        "spec_digest": SPEC.digest,
        "calibration_digest": models.calibration_digest(SPEC),
    }
    text = REGISTRY.format(name="tiny", **digests) + BUILT
    text += REGISTRY.format(name="ready", **digests) + 'file = "ready.onnx"\n'
    (folder / "registry.toml").write_text(text)
    (folder / "ready.onnx").write_bytes(model_bytes())
    for module in (registry, models):
        monkeypatch.setattr(module, "model_folder", lambda: folder)
    registry.registered.cache_clear()
    yield folder
    registry.registered.cache_clear()


@pytest.fixture
def product(tmp_path: Path, shipped: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the installed builder builds."""
    site = tmp_path / "site"
    info = site / "tiny_builder-1.0.dist-info"
    info.mkdir(parents=True)
    metadata = "Metadata-Version: 2.1\nName: tiny-builder\nVersion: 1.0\nProvides-Extra: tiny\n"
    metadata += "Requires-Dist: not-installed-here>=1; extra == 'tiny'\n"
    (info / "METADATA").write_text(metadata)
    (info / "entry_points.txt").write_text(f"[{models.BUILDERS}]\ntiny = tiny_builder:build\n")
    (site / "tiny_builder.py").write_text(textwrap.dedent(BUILDER))
    (site / "product.onnx").write_bytes(model_bytes())
    monkeypatch.syspath_prepend(site)
    monkeypatch.delitem(sys.modules, "tiny_builder", raising=False)
    return site / "product.onnx"
