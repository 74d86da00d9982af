from __future__ import annotations

import os
import subprocess
import sys
import types
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from onnx import TensorProto, helper

from verifykit import _environment, session
from verifykit.errors import InputError, ModelContractError, ModelIntegrityError, ProviderError
from verifykit.session import IntegerProduct, Session, available_providers, unit_rows


@pytest.fixture(scope="module")
def doubling() -> bytes:
    """y = x + x, for (N, 1, 2, 2)."""
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", 1, 2, 2]) for n in "xy")
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "doubling", [x], [y])
    opset = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()


def test_runs_any_batch(doubling: bytes) -> None:
    opened = Session(doubling, name="doubling", threads=1)
    for count in (1, 7):
        tensor = np.arange(count * 4, dtype=np.float32).reshape(count, 1, 2, 2)
        (output,) = opened.run(tensor)
        assert np.array_equal(output, 2 * tensor)
    assert opened.output_names == ("y",)
    assert opened.provider == "cpu"


def test_cpu_is_always_there() -> None:
    assert "cpu" in available_providers()


@pytest.mark.parametrize("provider", ["cuda", "openvino"])
def test_a_provider_that_is_not_built_in_is_refused(doubling: bytes, provider: Any) -> None:
    if provider in available_providers():
        pytest.skip(f"this onnxruntime has {provider}")
    extra = {"cuda": "gpu", "openvino": "openvino"}[provider]
    with pytest.raises(ProviderError, match=rf"verifykit-sdk\[{extra}\]"):
        Session(doubling, name="doubling", providers=provider)


class _FakeOrt(types.ModuleType):
    """An onnxruntime-gpu as it behaves where CUDA's libraries are missing: it says CUDA, runs on CPU."""

    class SessionOptions:
        intra_op_num_threads = 0
        log_severity_level = 2

        def add_session_config_entry(self, key: str, value: str) -> None:
            pass

    class InferenceSession:
        def __init__(self, model: bytes, options: Any, providers: list[str]) -> None:
            pass

        def get_providers(self) -> list[str]:
            return ["CPUExecutionProvider"]

        def disable_fallback(self) -> None:
            pass

        def get_inputs(self) -> list[Any]:
            return [types.SimpleNamespace(name="x")]

        get_outputs = get_inputs

    @staticmethod
    def get_available_providers() -> list[str]:
        return ["CUDAExecutionProvider", "CPUExecutionProvider"]


@pytest.mark.parametrize(
    ("version", "threads", "entries"),
    [
        ("1.26.0", 2, {"session.intra_op.spin_duration_us", "session.force_spinning_stop"}),
        ("1.31.1", None, {"session.intra_op.spin_duration_us", "session.force_spinning_stop"}),
        ("1.25.1", 2, {"session.intra_op.allow_spinning"}),  # knows no duration: milliseconds
        ("1.26.0", 1, {"session.intra_op.allow_spinning"}),
        ("1.26.0", 3, {"session.intra_op.allow_spinning"}),  # more threads than processors
    ],
)
def test_threads_spin_within_a_run_where_each_has_a_processor(
    doubling: bytes,
    monkeypatch: pytest.MonkeyPatch,
    version: str,
    threads: int | None,
    entries: set[str],
) -> None:
    ort = _FakeOrt("onnxruntime")
    given: dict[str, str] = {}

    class Options(_FakeOrt.SessionOptions):
        def add_session_config_entry(self, key: str, value: str) -> None:
            given[key] = value

    monkeypatch.setattr(ort, "SessionOptions", Options, raising=False)
    monkeypatch.setattr(ort, "__version__", version, raising=False)
    monkeypatch.setattr(session, "available_cpus", lambda: 2)
    monkeypatch.setattr(_environment, "telemetry_is_off", lambda: True)
    monkeypatch.setitem(sys.modules, "onnxruntime", ort)
    Session(doubling, name="doubling", providers="cpu", threads=threads)
    assert set(given) == entries
    assert given.get("session.intra_op.allow_spinning", "0") == "0"
    assert given.get("session.force_spinning_stop", "1") == "1"


def test_the_silent_fall_back_of_onnxruntime_is_an_error(
    doubling: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", _FakeOrt("onnxruntime"))
    with pytest.raises(ProviderError, match=r"fell back to CPUExecutionProvider.*CUDA and cuDNN"):
        Session(doubling, name="doubling", providers="cuda")


def test_auto_says_what_it_could_not_use(
    doubling: bytes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", _FakeOrt("onnxruntime"))
    with caplog.at_level("INFO", logger="verifykit"):
        assert Session(doubling, name="doubling", providers="auto").provider == "cpu"
    assert "fell back to CPUExecutionProvider" in caplog.text
    assert "doubling: runs on cpu" in caplog.text


class _FakeOpenVino(_FakeOrt):
    """An onnxruntime-openvino that keeps what it was opened with."""

    opened: ClassVar[list[Any]] = []

    class InferenceSession(_FakeOrt.InferenceSession):
        def __init__(self, model: bytes, options: Any, providers: list[Any]) -> None:
            _FakeOpenVino.opened.append(providers[0])
            first = providers[0]
            self._name = first if isinstance(first, str) else first[0]

        def get_providers(self) -> list[str]:
            return [self._name]

    @staticmethod
    def get_available_providers() -> list[str]:
        return ["OpenVINOExecutionProvider", "CPUExecutionProvider"]


@pytest.fixture
def openvino(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What sessions were opened with, as if on a processor with bfloat16."""
    monkeypatch.setitem(sys.modules, "onnxruntime", _FakeOpenVino("onnxruntime"))
    monkeypatch.setattr(session, "computes_bf16", lambda: True)
    monkeypatch.setattr(_FakeOpenVino, "opened", [])
    return _FakeOpenVino.opened


def test_auto_takes_openvino_for_bf16_only(doubling: bytes, openvino: list[Any]) -> None:
    assert Session(doubling, name="doubling").provider == "cpu"
    opened = Session(doubling, name="doubling", precision="bf16")
    assert (opened.provider, opened.precision) == ("openvino", "bf16")
    assert available_providers() == ("cpu", "openvino")


def test_auto_takes_openvino_for_a_network_in_int8(openvino: list[Any]) -> None:
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", 1, 2, 2]) for n in "xy")
    scale = helper.make_tensor("scale", TensorProto.FLOAT, [], [0.5])
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale"], ["y"]),
    ]
    for some, provider in ((nodes, "openvino"), (nodes[1:], "cpu")):
        graph = helper.make_graph(some, "rounded", [x], [y], [scale])
        model = helper.make_model(graph).SerializeToString()
        assert Session(model, name="rounded").provider == provider
        assert Session(model, name="rounded", providers="cpu").provider == "cpu"


@pytest.mark.parametrize(("precision", "hint"), [("fp32", "f32"), ("bf16", "bf16")])
def test_threads_and_precision_reach_openvino(
    doubling: bytes,
    openvino: list[Any],
    precision: Any,
    hint: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(session, "available_cpus", lambda: 8)
    for threads in (None, 1, 3, 16):
        Session(
            doubling, name="doubling", providers="openvino", threads=threads, precision=precision
        )
    load = f'{{"CPU": {{"INFERENCE_PRECISION_HINT": "{hint}"}}}}'
    # As many runs at once as there is room for, each of so many threads.
    assert [options for _, options in openvino] == [
        {
            "device_type": "CPU",
            "num_of_threads": str(streams * each),
            "num_streams": str(streams),
            "load_config": load,
        }
        for streams, each in ((1, 8), (8, 1), (2, 3), (1, 16))
    ]
    assert {name for name, _ in openvino} == {"OpenVINOExecutionProvider"}


def test_bf16_on_another_provider_is_refused(doubling: bytes) -> None:
    with pytest.raises(InputError, match="precision='bf16' needs OpenVINO, and providers='cpu'"):
        Session(doubling, name="doubling", providers="cpu", precision="bf16")


def test_bf16_on_a_processor_without_it_is_refused(
    doubling: bytes, openvino: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "computes_bf16", lambda: False)
    with pytest.raises(ProviderError, match="neither avx512_bf16 nor amx_bf16"):
        Session(doubling, name="doubling", precision="bf16")
    assert openvino == []


def test_bf16_without_openvino_is_refused(doubling: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", _FakeOrt("onnxruntime"))
    monkeypatch.setattr(session, "computes_bf16", lambda: True)
    with pytest.raises(ProviderError, match=r"has cuda, cpu only.*verifykit-sdk\[openvino\]"):
        Session(doubling, name="doubling", precision="bf16")


def test_an_unknown_precision(doubling: bytes) -> None:
    with pytest.raises(InputError, match="precision must be one of"):
        Session(doubling, name="doubling", precision="fp16")  # type: ignore[arg-type]


def test_without_onnxruntime_the_extras_are_named(
    doubling: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(
        ProviderError, match=r"verifykit-sdk\[cpu\].*verifykit-sdk\[gpu\].*never two"
    ):
        Session(doubling, name="doubling")


def test_an_onnxruntime_whose_import_fails_is_not_called_missing(
    doubling: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = "raise ImportError('libcublas.so.13: cannot open shared object file')"
    (tmp_path / "onnxruntime.py").write_text(broken + "\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)
    with pytest.raises(
        ProviderError,
        match=r"onnxruntime is installed and cannot be imported .*libcublas.*reinstall",
    ):
        Session(doubling, name="doubling")


def test_a_half_removed_onnxruntime_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", types.ModuleType("onnxruntime"))
    with pytest.raises(ProviderError, match="overwrite each other"):
        available_providers()


@pytest.mark.parametrize(("providers", "threads"), [("tpu", None), ("cpu", 0), ("cpu", 1.5)])
def test_nonsense_arguments(doubling: bytes, providers: Any, threads: int | None) -> None:
    with pytest.raises(InputError, match="must be"):
        Session(doubling, name="doubling", providers=providers, threads=threads)


def test_bytes_that_are_no_model() -> None:
    with pytest.raises(ModelIntegrityError, match="cannot load"):
        Session(b"not a model", name="junk")


def test_a_tensor_of_another_shape(doubling: bytes) -> None:
    with pytest.raises(ModelContractError, match=r"does not take \(1, 3, 2, 2\)"):
        Session(doubling, name="doubling").run(np.zeros((1, 3, 2, 2), np.float32))


def test_unit_rows() -> None:
    rows = unit_rows([np.array([[3.0, 4.0], [0.0, -2.0]], np.float32)], "m", 2, 2)
    assert np.allclose(rows, [[0.6, 0.8], [0.0, -1.0]])
    assert rows.dtype == np.float32


@pytest.mark.parametrize(
    "outputs",
    [
        [],
        [np.ones((2, 3), np.float32)],
        [np.ones((1, 2), np.float32)],
        [np.ones((2, 2), np.float32)] * 2,
        [np.array([[0.0, 0.0], [1.0, 0.0]], np.float32)],
        [np.array([[np.nan, 0.0], [1.0, 0.0]], np.float32)],
        [np.array([[np.inf, 0.0], [1.0, 0.0]], np.float32)],
    ],
)
def test_rows_that_are_no_embeddings(outputs: list[np.ndarray]) -> None:
    with pytest.raises(ModelContractError):
        unit_rows(outputs, "m", 2, 2)


LATE = """
import logging, os, sys, warnings
{first}
import verifykit
assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"
from verifykit.session import Session, TelemetryWarning, telemetry_problem
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for _ in range(2):
        try:
            Session(b"", name="nothing", threads=1)
        except verifykit.ModelError:
            pass
print(len([w for w in caught if w.category is TelemetryWarning]), telemetry_problem())
"""


@pytest.mark.parametrize(
    ("first", "value", "warned"),
    [
        ("", None, False),
        ("", "0", False),
        ("import onnxruntime", "1", False),
        ("import verifykit, onnxruntime", "0", False),
        ("import onnxruntime", "0", True),
        ("import onnxruntime", None, True),
    ],
)
def test_a_telemetry_that_is_on_is_warned_of_once(
    first: str, value: str | None, warned: bool, tmp_path: Path
) -> None:
    environment = {
        name: each for name, each in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"
    }
    environment |= {
        "HOME": str(tmp_path),
        "CI": "true",
    }  # which keeps this test's own onnxruntime still
    if value is not None:
        environment["ORT_DISABLE_TELEMETRY"] = value
    run = subprocess.run(
        [sys.executable, "-c", LATE.format(first=first)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    if not warned:
        assert run.stdout == "0 None\n"
        return
    assert run.stdout.startswith("1 onnxruntime 1.")
    assert "ORT_DISABLE_TELEMETRY=1 before the process starts" in run.stdout
    assert run.stderr.count("calls its collector") == 1  # logged, too


def test_an_onnxruntime_without_telemetry_is_no_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    old = _FakeOrt("onnxruntime")
    old.__version__ = "1.28.2"
    monkeypatch.setitem(sys.modules, "onnxruntime", old)
    monkeypatch.setattr("verifykit._environment.telemetry_is_off", lambda: False)
    assert session.telemetry_problem() is None
    old.__version__ = "1.29.0"
    assert "1.29.0" in str(session.telemetry_problem())


def test_onnxruntime_is_imported_nowhere_else() -> None:
    package = Path(session.__file__).parent
    importing = [
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if "import onnxruntime" in path.read_text("utf-8")
    ]
    assert importing == ["session.py"]


def test_the_integer_product_is_the_model_it_is_said_to_be() -> None:
    kinds = {"a": TensorProto.UINT8, "b": TensorProto.INT8, "y": TensorProto.INT32}
    a, b, y = (helper.make_tensor_value_info(name, kind, None) for name, kind in kinds.items())
    node = helper.make_node("MatMulInteger", ["a", "b"], ["y"])
    graph = helper.make_graph([node], "g", [a, b], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 10)], ir_version=5)
    assert model.SerializeToString() == session.INTEGER_PRODUCT


@pytest.mark.parametrize("count", [1, 2, 9])
def test_the_integer_product_is_exact(count: int) -> None:
    generator = np.random.default_rng(0)
    left = generator.integers(0, 256, (count, 130)).astype(np.uint8)
    right = generator.integers(-127, 128, (3, 130, 64)).astype(np.int8)
    product = IntegerProduct()
    expected = left.astype(np.int64) @ right.astype(np.int64)
    assert np.array_equal(product.run(left, right), expected)
    product.forget()
    assert np.array_equal(product.run(left, right), expected)
