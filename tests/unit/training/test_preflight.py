"""What is found before a run: too few subjects, images or forgeries, and parts that do not work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.unit.training.drawing import draw_folder, small_config
from verifykit.errors import VerifyKitError
from verifykit_training.dataset import Record
from verifykit_training.errors import TrainingError
from verifykit_training.learner import input_of
from verifykit_training.preflight import build_fabric, examine, try_out
from verifykit_training.preparation import prepare
from verifykit_training.splits import divide_for


def _records(counts: dict[str, int], forgeries: int = 0) -> list[Record]:
    return [
        Record(Path(f"{subject}/{kind}{number}.png"), subject, is_forgery=kind == "f")
        for subject, count in counts.items()
        for kind, images in (("g", count), ("f", forgeries))
        for number in range(images)
    ]


def _people(subjects: int, images: int = 6, forgeries: int = 0) -> list[Record]:
    return _records({f"s{number:02}": images for number in range(subjects)}, forgeries)


@pytest.mark.parametrize(
    ("records", "sections", "problem"),
    [
        (
            _people(12),
            {"sampler": {"p": 10}},
            "sampler.p = 10 subjects make a batch, and 9 are left to train on",
        ),
        (_people(20, 1), {}, "each of the 15 training subjects has one image"),
        (_people(12), {"validation": {"metric": "skilled_eer"}}, "hold no skilled forgery"),
        (_people(12), {"run": {"devices": 2}}, "sampler.p = 3 cannot be shared equally by 2"),
        (_people(12), {"data": {"validation_share": 0.5, "test_share": 0.45}}, "fewer than two"),
        (_people(12), {"sampler": {"name": "triplet_file"}}, "--triplets"),
        (
            _people(12, 1),
            {"sampler": {"name": "balanced_triplets"}, "loss": {"name": "cosface"}},
            "two images or more each",
        ),
        (
            [Record(Path(f"v{n}"), "v", split="validation") for n in range(3)]
            + [Record(r.path, r.subject, split="train") for r in _people(5)],
            {},
            "the validation images are of one subject",
        ),
        (
            [Record(Path(f"v{n}"), f"v{n}", split="validation") for n in range(3)]
            + [Record(r.path, r.subject, split="train") for r in _people(5)],
            {},
            "the validation images give no mated pair",
        ),
    ],
)
def test_a_run_that_would_fail_is_a_problem(
    records: list[Record], sections: dict[str, Any], problem: str
) -> None:
    found = examine(small_config(**sections), records)
    assert any(problem in sentence for sentence in found.problems), found


@pytest.mark.parametrize("forgeries", [0, 3])
def test_data_that_are_enough_have_no_problem(forgeries: int) -> None:
    metric = "skilled_eer" if forgeries else "eer"
    found = examine(small_config(validation={"metric": metric}), _people(12, forgeries=forgeries))
    assert found == type(found)()


@pytest.mark.parametrize("subjects", range(5, 15))
def test_few_subjects_are_validated_on_images_of_theirs(subjects: int) -> None:
    config = small_config(data={"validation_share": 0.1})
    division = divide_for(config, _people(subjects))
    assert division.is_within
    assert division.subjects["validation"] == []
    train, validation = division.parts["train"], division.parts["validation"]
    assert len(train) == 4 * subjects
    assert len(validation) == 2 * subjects
    assert not set(train) & set(validation)
    again = divide_for(config, _people(subjects)[::-1])
    assert set(again.parts["validation"]) == set(validation)
    assert "validate instead" in examine(config, _people(subjects)).notes[0]


def test_enough_subjects_are_validated_on_others() -> None:
    config = small_config(data={"validation_share": 0.1})
    assert not divide_for(config, _people(15)).is_within
    skilled = small_config(data={"validation_share": 0.1}, validation={"metric": "skilled_eer"})
    # A subject's forgeries are compared with that subject alone.
    assert not divide_for(skilled, _people(5, forgeries=4)).is_within
    within = divide_for(skilled, _people(4, forgeries=4))
    assert within.is_within
    assert sum(record.is_forgery for record in within.parts["validation"]) == 4


def test_subjects_with_few_images_are_left_to_training() -> None:
    config = small_config(data={"validation_share": 0.1})
    division = divide_for(config, _records({"a": 6, "b": 3, "c": 2, "d": 1}))
    aside = [record.subject for record in division.parts["validation"]]
    assert sorted(aside) == ["a", "a", "b"]
    assert not divide_for(config, _people(4, 2)).is_within
    assert "the last epoch is kept" in examine(config, _people(4, 2)).notes[-1]


def test_a_subject_with_most_images_is_said_unless_all_are_sampled_evenly() -> None:
    records = _records({"most": 3000, **{f"s{n}": 4 for n in range(9)}})
    data = {"validation_share": 0.0}
    config = small_config(data=data, sampler={"p": 8, "k": 4})
    (note,) = examine(config, records).notes
    assert "at most 32 of 3036 images" in note
    assert "sampler.even = true" in note
    even = small_config(data=data, sampler={"p": 8, "k": 4, "even": True})
    assert examine(even, records).notes == ()


def test_lone_images_are_said() -> None:
    records = _records({"lone": 1, **{f"s{n}": 4 for n in range(9)}})
    found = examine(small_config(data={"validation_share": 0.0}), records)
    assert found.problems == ()
    assert found.notes == ("1 of 10 training subjects have one image: no mated pair.",)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"encoder": {"weights": "nowhere.pth"}}, "no weights file nowhere.pth"),
        ({"encoder": {"name": "mobilefacenet"}}, "takes images of 112x112 px, got 32x32"),
        ({"encoder": {"name": "iresnet18"}}, "takes images of 112x112 px, got 32x32"),
        ({"encoder": {"weights": "imagenet"}}, "cnn5 has no ImageNet weights"),
        ({"loss": {"name": "batch_hard", "reduction": "none"}}, "one value for each term"),
        ({"loss": {"reduction": "avg"}}, "reduction is"),
        ({"encoder": {"name": "grid_resnet", "dropout": 2.0}}, "dropout"),
        ({"augmentation": {"transforms": [{"transform": "Foo"}]}}, "no transform .* 'Foo'"),
        (
            {
                "augmentation": {
                    "transforms": [{"transform": "RandomCrop", "height": 9, "width": 9}]
                }
            },
            "size and type must stay",
        ),
        ({"crop": {"kind": "five_point", "detector": "no-such-model"}}, "no-such-model"),
    ],
)
def test_what_does_not_work_is_found_by_one_use(sections: dict[str, Any], message: str) -> None:
    with pytest.raises(VerifyKitError, match=message):
        try_out(small_config(**sections))


@pytest.mark.parametrize("color", ["rgb", "grey"])
@pytest.mark.parametrize(
    "loss", ["batch_all", "batch_hard", "semi_hard", "contrastive", "decision", "arcface"]
)
def test_what_works_is_used_and_leaves_the_generator_alone(color: str, loss: str) -> None:
    import torch

    before = torch.get_rng_state()
    try_out(small_config(encoder={"color": color}, loss={"name": loss}))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    "run", [{"strategy": "ddpp"}, {"accelerator": "gpuu"}, {"accelerator": "tpu"}]
)
def test_a_machine_that_cannot_be_had_is_one_sentence(run: dict[str, Any]) -> None:
    with pytest.raises(TrainingError, match="cannot be had here") as error:
        build_fabric(small_config(run=run).run, print)
    assert "\n" not in str(error.value)


def test_warnings_about_the_machine_are_said_without_a_path() -> None:
    said: list[str] = []
    build_fabric(small_config(run={"precision": "16-mixed"}).run, said.append)
    (text,) = said
    assert text.startswith("note: You passed")
    assert ".py" not in text


def test_prepared_data_within_subjects(tmp_path: Path) -> None:
    data = draw_folder(tmp_path / "data", 5, 6)
    config = small_config(data={"validation_share": 0.1})
    prepared = prepare(config, data, input_of(config), tmp_path / "cache")
    assert prepared.is_within
    assert prepared.validation is not None
    assert (len(prepared.train), len(prepared.validation)) == (20, 10)
    assert prepared.splits["validation"] == []
    assert [len(digests) for digests in prepared.images.values()] == [20, 10, 0]
