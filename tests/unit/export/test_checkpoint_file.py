"""Tensors of a checkpoint are read by name, and nothing in it is run."""

from __future__ import annotations

import os
import struct
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

if not find_spec("lightning_fabric"):
    pytest.skip("needs the extras train and export", allow_module_level=True)

import torch

from tests.unit.export.published_files import AdaFace, adaface, write_adaface
from verifykit.errors import ModelContractError, ModelIntegrityError
from verifykit_export.adaface import read_adaface
from verifykit_export.checkpoint_file import Checkpoint, open_checkpoint


class _Harmful:
    """Runs a command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self._command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self._command,)


def tensors(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    with open_checkpoint(path) as archive:
        checkpoint = Checkpoint(archive)
        return {name: checkpoint.read(name) for name in checkpoint.tensors}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "weights.ckpt"


def test_tensors_are_those_that_torch_reads(path: Path) -> None:
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    state = {
        "whole": base,
        "turned": base.T,
        "part": base[1:3, ::2],
        "half": base.half(),
        "long": torch.tensor(7),
        "none": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(base),
    }
    torch.save({"state_dict": state, "other": 1}, path)
    found = tensors(path)
    assert found.keys() == state.keys()
    for name, value in state.items():
        np.testing.assert_array_equal(found[name], value.detach().numpy())
    torch.save(state, path)  # a state dict by itself
    assert tensors(path).keys() == state.keys()


def test_what_a_pickle_names_is_not_run(path: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    torch.save(
        {
            "hyper_parameters": _Harmful(f"touch {trace}"),
            "callbacks": {Path: [_Harmful(f"touch {trace}")]},
            "state_dict": {"a": torch.ones(2)},
        },
        path,
    )
    assert list(tensors(path)) == ["a"]
    assert not trace.exists()
    torch.load(path, weights_only=False)
    assert trace.exists()  # it would have been


def rewritten(path: Path, **replaced: bytes) -> Path:
    """Write a checkpoint again with other members; ``values`` are those of the first tensor."""
    with zipfile.ZipFile(path) as file:
        members = {name: file.read(name) for name in file.namelist()}
    names = {"index": "data.pkl", "values": "data/0", "byteorder": "byteorder"}
    with zipfile.ZipFile(path, "w") as file:
        for name, data in members.items():
            short = name.split("/", 1)[1]
            new = next((v for k, v in replaced.items() if names[k] == short), data)
            file.writestr(name, new)
    return path


@pytest.mark.parametrize(
    ("replaced", "because"),
    [
        ({"values": b"\0" * 4}, "reaches behind its values"),
        ({"values": b"\0" * 33}, "ends within a value"),
        ({"index": b"\x80\x02not a pickle"}, "is damaged"),
        ({"byteorder": b"big"}, "big-endian"),
    ],
)
def test_a_damaged_checkpoint_is_refused(
    path: Path, replaced: dict[str, bytes], because: str
) -> None:
    torch.save({"state_dict": {"a": torch.ones(8)}}, path)
    with pytest.raises(ModelIntegrityError, match=because):
        tensors(rewritten(path, **replaced))


def text(value: str) -> bytes:
    """Return the opcode that loads a text."""
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def crafted(
    path: Path, *, after: bytes = b"", shape: bytes = b"K\x02K\x03", key: bytes = b""
) -> Path:
    """Write a checkpoint with one tensor ``a``, and opcodes after it."""
    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n"
    storage += (key or text("0")) + text("cpu") + b"K\x08tQ"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\x00"
    tensor += b"(" + shape + b"t(K\x03K\x01t\x89NtR"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a/data.pkl", b"\x80\x02}(" + text("a") + tensor + after + b"u.")
        file.writestr("a/data/0", np.arange(8, dtype="<f4").tobytes())
    return path


def attributes(**values: bytes) -> bytes:
    """Return opcodes that set attributes of the last object."""
    return b"}(" + b"".join(text(name) + value for name, value in values.items()) + b"ub"


def test_attributes_that_a_file_sets_do_not_reach_other_memory(path: Path) -> None:
    expected = [[0, 1, 2], [3, 4, 5]]
    back = b"(J" + struct.pack("<i", -3000) + b"J\xff\xff\xff\xfft"
    found = tensors(crafted(path, after=attributes(strides=back, offset=b"K\x01")))
    assert found["a"].tolist() == expected
    # Nor do they stay for the next file.
    other = text("b") + b"ctorch\nFloatStorage\n" + attributes(name=text("DoubleStorage"))
    assert tensors(crafted(path, after=other))["a"].tolist() == expected
    assert tensors(crafted(path))["a"].tolist() == expected
    named = b"ccollections\nOrderedDict\n)R" + attributes(items=b"cos\nsystem\n")
    assert tensors(crafted(path, after=text("b") + named))["a"].tolist() == expected


@pytest.mark.parametrize(
    ("shape", "key"),
    [
        (b"K\x02\x8a\x09" + b"\xff" * 8 + b"\x00", b""),  # more than 2**48
        (b"J\xff\xff\xff\xffK\x03", b""),
        (b"K\x02K\x03", b"(" + text("0") + b"t"),  # a text of nested tuples has no end
    ],
)
def test_tensors_of_another_form_are_refused(path: Path, shape: bytes, key: bytes) -> None:
    with pytest.raises(ModelIntegrityError, match="is damaged, or not a checkpoint"):
        tensors(crafted(path, shape=shape, key=key))


def test_a_number_of_the_memo_takes_no_memory(path: Path) -> None:
    assert list(tensors(crafted(path, after=b"r\xff\xff\xff\x7f"))) == ["a"]


def test_a_tensor_that_claims_to_be_huge_is_refused_before_it_is_made(path: Path) -> None:
    state = dict(adaface().state_dict())
    name = "model.output_layer.3.bias"
    whole = torch.zeros(1).expand(1 << 40)
    torch.save(
        {"state_dict": {f"model.{key}": value for key, value in state.items()} | {name: whole}},
        path,
    )
    with pytest.raises(ModelContractError, match=r"has the shape \(1099511627776,\)"):
        read_adaface(path)


@pytest.mark.parametrize("body", [[1, 2], {"state_dict": {"a": 1}}, {"state_dict": 3}])
def test_a_file_without_a_state_dict_is_refused(path: Path, body: Any) -> None:
    torch.save(body, path)
    with pytest.raises(ModelIntegrityError, match="has no state dict"):
        tensors(path)


def test_other_files_are_refused(path: Path) -> None:
    path.write_bytes(b"nothing")
    with pytest.raises(ModelIntegrityError, match="not a checkpoint that torch"):
        read_adaface(path)
    torch.save({"a": torch.ones(1)}, path, _use_new_zipfile_serialization=False)
    with pytest.raises(ModelIntegrityError, match=r"save it again with torch\.save"):
        read_adaface(path)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("x/y", b"")
    with pytest.raises(ModelIntegrityError, match=r"save it again with torch\.save"):
        read_adaface(path)


@pytest.mark.parametrize(
    ("change", "because"),
    [
        ("net", "has 0 blocks model.body.N"),
        ("se", "unknown: body.0.res_layer.6.fc1.weight"),
        ("missing", "missing: output_layer.3.bias"),
        ("shape", "tensor output_layer.3.bias has the shape (7,)"),
        ("deep", "has 9 blocks model.body.N: checkpoints of AdaFace have 8, 16, 24, 49"),
    ],
)
def test_tensors_of_another_network_are_refused(path: Path, change: str, because: str) -> None:
    state: dict[str, torch.Tensor] = dict(adaface().state_dict())
    if change == "net":  # as CVLface names them
        torch.save({f"net.{name}": value for name, value in state.items()}, path)
    else:
        if change == "se":
            state["body.0.res_layer.6.fc1.weight"] = torch.zeros(4, 64, 1, 1)
        if change == "missing":
            del state["output_layer.3.bias"]
        if change == "shape":
            state["output_layer.3.bias"] = torch.zeros(7)
        if change == "deep":
            state["body.8.res_layer.0.weight"] = torch.zeros(512)
        write_adaface(path, state)
    with pytest.raises(ModelContractError) as error:
        read_adaface(path)
    assert because in str(error.value)


@pytest.mark.slow
@pytest.mark.parametrize("stages", [(3, 4, 6, 3), (3, 4, 14, 3), (3, 13, 30, 3)], ids=str)
def test_deeper_networks_are_read(path: Path, stages: tuple[int, ...]) -> None:
    import onnxruntime

    torch.manual_seed(2)
    network = AdaFace(stages).eval()
    write_adaface(path, network.state_dict())
    session = onnxruntime.InferenceSession(
        read_adaface(path).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    images = torch.randn(2, 3, 112, 112)
    rows = session.run(None, {"input": images.numpy()})[0]
    with torch.inference_mode():
        expected, lengths = network(images)
    np.testing.assert_allclose(rows, (expected * lengths).numpy(), rtol=1e-3, atol=1e-4)
