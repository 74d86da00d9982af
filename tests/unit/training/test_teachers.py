"""Teachers: what is opened, what is kept of their embeddings, and what is refused before a run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.unit.training.drawing import SIZE_PX, draw_folder, drawn, small_config
from verifykit.errors import VerifyKitError
from verifykit.image import load_image
from verifykit.spec import InputSpec
from verifykit_training.config import Config
from verifykit_training.dataset import Record, read_records
from verifykit_training.errors import DataError
from verifykit_training.preflight import examine, try_out
from verifykit_training.teachers import (
    Teacher,
    embed_targets,
    module_teacher,
    open_teacher,
    require_teachable,
)


class Averages(nn.Module):
    """Mean colours of a grid of parts: a network with one weight."""

    def __init__(self, parts: int = 2) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(parts)
        self.factor = nn.Parameter(torch.tensor(3.0))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        rows: torch.Tensor = self.pool(images).flatten(1) * self.factor
        return rows


def _config(teacher: str = "mine", **sections: Any) -> Config:
    return small_config(**{"distillation": {"teacher": teacher}, **sections})


@pytest.fixture
def people(tmp_path: Path) -> list[Record]:
    return read_records(draw_folder(tmp_path / "people", 3, 2))


def test_a_module_answers_in_unit_rows_and_is_frozen() -> None:
    module = Averages()
    teacher = module_teacher(module, _config(), name="averages", licence="MIT")
    crops = [drawn(0, 0), drawn(1, 0)]
    found = teacher.encode(crops)
    assert (teacher.record.name, teacher.record.licence) == ("averages", "MIT")
    assert teacher.record.embedding_size == 12
    # The input of cnn5: (pixel / 255 - 0.5) / 0.5.
    expected = [(crop / 255 - 0.5) / 0.5 for crop in crops]
    for row, image in zip(found, expected, strict=True):
        half = SIZE_PX // 2
        means = [
            image[y : y + half, x : x + half, channel].mean()
            for channel in range(3)
            for y in (0, half)
            for x in (0, half)
        ]
        np.testing.assert_allclose(row, means / np.linalg.norm(means), atol=1e-5)
    assert not module.training
    assert not any(parameter.requires_grad for parameter in module.parameters())


def test_a_module_may_state_its_own_input() -> None:
    module = Averages()
    module.input_spec = InputSpec(48, 24, "grey", 1.0, (0.0,), (1.0,))  # type: ignore[assignment]
    module.training_data = "nothing"  # type: ignore[assignment]
    teacher = open_teacher(_config(), module)
    assert (teacher.extractor.spec.height_px, teacher.extractor.spec.width_px) == (48, 24)
    assert teacher.record.embedding_size == 4
    assert teacher.record.training_data == "nothing"
    assert teacher.record.name == "mine"


def test_the_digest_follows_weights_and_input() -> None:
    def digest(module: nn.Module, **more: Any) -> str:
        return module_teacher(module, _config(), name="any", **more).record.digest

    first = digest(Averages())
    assert digest(Averages()) == first
    other = Averages()
    with torch.no_grad():
        other.factor.add_(1e-6)
    spec = InputSpec(SIZE_PX, SIZE_PX, "grey", 1.0, (0.0,), (1.0,))
    found = {first, digest(other), digest(Averages(3)), digest(Averages(), input_spec=spec)}
    assert len(found) == 4


def test_embeddings_are_computed_once_for_a_teacher_and_a_content(
    people: list[Record], tmp_path: Path
) -> None:
    calls: list[int] = []

    def counted(teacher: Teacher) -> Teacher:
        def encode(crops: Any) -> Any:
            calls.append(len(crops))
            return teacher.encode(crops)

        return replace(teacher, encode=encode)

    teacher = counted(module_teacher(Averages(), _config(), name="a"))
    cache = tmp_path / "cache"
    first = embed_targets(teacher, people, cache)
    assert len(calls) == len(people) == 6
    again = embed_targets(teacher, people, cache)
    assert len(calls) == 6
    np.testing.assert_array_equal(first.rows, again.rows)
    for record, row in zip(people, first.rows, strict=True):
        np.testing.assert_array_equal(row, teacher.encode([load_image(record.path)])[0])
    calls.clear()

    # A renamed copy is known, another content and another teacher are not.
    copy = tmp_path / "copy.png"
    copy.write_bytes(people[0].path.read_bytes())
    embed_targets(teacher, [Record(copy, "other")], cache)
    assert calls == []
    people[0].path.write_bytes(people[5].path.read_bytes())
    changed = embed_targets(teacher, people, cache)
    np.testing.assert_array_equal(changed.rows[0], first.rows[5])
    module = Averages()
    nn.init.constant_(module.factor, -1.0)
    opposite = embed_targets(counted(module_teacher(module, _config(), name="a")), people, cache)
    assert len(calls) == 5
    np.testing.assert_allclose(opposite.rows, -changed.rows, atol=1e-6)


def test_an_image_without_a_sample_for_the_teacher_has_no_target(
    people: list[Record], tmp_path: Path
) -> None:
    teacher = module_teacher(Averages(), _config(), name="a")
    people[2].path.write_bytes(b"no image")
    found = embed_targets(teacher, people, tmp_path / "cache")
    assert np.isnan(found.rows[2]).all()
    assert np.isfinite(np.delete(found.rows, 2, axis=0)).all()
    assert found.missing == {"unreadable": 1}
    with pytest.raises(DataError, match="no embedding of any of 1 images"):
        embed_targets(teacher, people[2:3], tmp_path / "cache")


@pytest.fixture
def importable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "own_teachers.py").write_text(
        "import torch\n"
        "def make():\n"
        "    net = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten())\n"
        "    net.licence = 'MIT'\n"
        "    return net\n"
        "ready = make()\n"
        "def broken():\n"
        "    raise RuntimeError('first line\\nsecond line')\n"
        "def number():\n"
        "    return 3\n"
        "class Images(torch.nn.Module):\n"
        "    def forward(self, images):\n"
        "        return images\n"
        "class Several(torch.nn.Module):\n"
        "    def forward(self, images):\n"
        "        return images, images\n"
        "class Zero(torch.nn.Module):\n"
        "    def forward(self, images):\n"
        "        return images.mean((2, 3)) * 0.0\n"
        "class Wide(torch.nn.Linear):\n"
        "    def __init__(self):\n"
        "        super().__init__(77, 3)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "own_teachers"


@pytest.mark.parametrize("name", ["make", "ready"])
def test_a_module_by_import_path(importable: str, name: str) -> None:
    teacher = open_teacher(_config(f"{importable}:{name}"))
    assert teacher.record.name == f"{importable}:{name}"
    assert teacher.record.licence == "MIT"
    assert teacher.encode([drawn(0, 0)]).shape == (1, 12)
    try_out(_config(f"{importable}:{name}"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("own_teachers:nothing", "cannot be imported from .*has no attribute 'nothing'"),
        ("no_such_package.of_mine:make", "cannot be imported from .*No module named"),
        ("own_teachers:broken", "RuntimeError: first line"),
        ("own_teachers:number", "gives int, not a torch.nn.Module"),
        ("own_teachers:Images", r"of shape \(1, 3, 32, 32\) for 1 images, not \(N, D\)"),
        ("own_teachers:Several", "returns tuple, not a tensor"),
        ("own_teachers:Zero", "a row that is zero or not finite"),
        ("own_teachers:Wide", r"does not take images of \(1, 3, 32, 32\)"),
        ("no-such-model", "no-such-model"),
        ("nowhere/model.onnx", "nowhere/model.onnx"),
        ("face", "compares face, the student plain"),
    ],
)
def test_a_teacher_that_cannot_teach_is_found_by_check(
    importable: str, name: str, message: str
) -> None:
    assert importable
    with pytest.raises(VerifyKitError, match=message) as error:
        try_out(_config(name))
    assert "\n" not in str(error.value)


def test_a_folder_that_is_no_run_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(VerifyKitError, match="is not a finished run"):
        open_teacher(_config(str(tmp_path)))


def test_lengths_that_do_not_agree_are_found_by_check() -> None:
    config = _config(distillation={"teacher": "mine", "name": "cosine"})
    with pytest.raises(VerifyKitError, match=r"set encoder\.embedding_size = 12"):
        try_out(config, Averages())
    try_out(_config(), Averages())


def test_a_teacher_needs_a_section() -> None:
    with pytest.raises(VerifyKitError, match="no section distillation"):
        try_out(small_config(), Averages())
    with pytest.raises(VerifyKitError, match="no section distillation"):
        open_teacher(small_config())
    with pytest.raises(VerifyKitError, match="no section distillation"):
        require_teachable(small_config(), module_teacher(Averages(), _config(), name="a"))


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"distillation": {"name": "cosine"}}, "distillation.teacher is missing"),
        ({"distillation": {"teacher": ""}}, "distillation.teacher"),
        ({"distillation": {"teacher": "face", "name": "relation"}}, "did you mean 'relational'"),
        ({"distillation": {"teacher": "face", "weight": 0.0}}, "distillation.weight"),
        ({"distillation": {"teacher": "face", "share": "1"}}, "option share"),
        (
            {
                "distillation": {"teacher": "signature"},
                "crop": {"kind": "signature"},
                "augmentation": {"hand": {"mirror": 0.5}},
            },
            "the teacher of distillation sees them as they are: set mirror = 0",
        ),
    ],
)
def test_a_wrong_section_is_one_sentence(sections: dict[str, Any], message: str) -> None:
    with pytest.raises(VerifyKitError, match=message) as error:
        small_config(**sections)
    assert "\n" not in str(error.value)


def test_single_images_can_be_taught_by_a_teacher_alone() -> None:
    lone = [Record(Path(f"s{n}/0.png"), f"s{n}") for n in range(12)]
    section = {"teacher": "mine", "metric_weight": 0.0}
    no_validation = {"data": {"validation_share": 0.0}}
    assert examine(_config(distillation=section, **no_validation), lone).problems == ()
    assert "teaches nothing" in examine(_config(**no_validation), lone).problems[0]


def test_the_section_is_written_and_read_again() -> None:
    config = _config("runs/large", distillation={"teacher": "runs/large", "share": 0.5})
    assert json.loads(config.model_dump_json())["distillation"]["share"] == 0.5
    assert 'teacher = "runs/large"' in config.to_toml()
