"""Encoders as torch's two exporters and tf2onnx write them are imported; the page shows every one."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

if not find_spec("lightning_fabric"):
    pytest.skip("needs the extras train and export", allow_module_level=True)

from benchmarks.import_matrix.__main__ import PAGE
from benchmarks.import_matrix.matrix import (
    KERAS,
    Case,
    Exporters,
    all_networks,
    import_case,
    try_network,
)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(
    "case",
    [
        Case("IResNet", "dynamo=False", 1, 11),
        Case("MobileFaceNet", "dynamo=True", 1, 20),
        Case("MobileFaceNet", "dynamo=True", 0, 24),
        Case("VisionTransformer", "dynamo=True", 1, 18),
        Case(KERAS, "tf2onnx's form", 1, 12),
        Case(KERAS, "tf2onnx's form", 0, 17),
    ],
    ids=str,
)
def test_a_file_is_imported(case: Case, tmp_path: Path) -> None:
    source = tmp_path / "theirs.onnx"
    assert Exporters().write(case, source)
    outcome = import_case(case, source, tmp_path)
    assert (outcome.refusal, outcome.failure) == ("", "")
    assert outcome.gap is not None
    assert outcome.one_by_one == (case.network == "VisionTransformer")


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("network", all_networks())
def test_every_file_of_a_network_is_imported(network: str) -> None:
    outcomes = try_network(network)
    assert [item for item in outcomes if item.gap is None] == []
    assert {item.case.exporter for item in outcomes} == (
        {"tf2onnx's form"} if network == KERAS else {"dynamo=False", "dynamo=True"}
    )


def test_the_page_shows_every_network() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for network in all_networks():
        assert f"| {network} |" in page
    assert " 0 failed" in page
