"""Batches: the same whatever the number of workers, and cut among processes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.unit.training.drawing import draw_folder, small_config
from verifykit.image import load_image
from verifykit.modalities import crop, to_tensor
from verifykit_training.augmentation import Augmentation
from verifykit_training.batches import (
    Batch,
    BatchPlan,
    CropDataset,
    PKSampler,
    Plan,
    TripletListSampler,
    build_loader,
    derived_seed,
)
from verifykit_training.config import AugmentationConfig
from verifykit_training.dataset import Record, read_records
from verifykit_training.errors import DataError
from verifykit_training.learner import input_of
from verifykit_training.preparation import build_sampler, crop_records, default_data, prepare

CONFIG = small_config()


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> CropDataset:
    folder = tmp_path_factory.mktemp("drawn")
    records = read_records(draw_folder(folder / "data", 4, 5))
    crops, kept, _ = crop_records(records, CONFIG, folder / "cache")
    labels = [int(record.subject[1:]) for record in kept]
    augmentation = Augmentation(AugmentationConfig(preset="plain"))
    return CropDataset(kept, labels, crops, input_of(CONFIG), augmentation)


def _plan(dataset: CropDataset, **changes: int) -> BatchPlan:
    options = {"batches": 5, "seed": 3} | changes
    return BatchPlan(PKSampler(dataset.labels, 2, 2, 0), **options)  # type: ignore[arg-type]


def test_without_augmentation_a_batch_is_what_the_runtime_computes(dataset: CropDataset) -> None:
    bare = CropDataset(dataset.records, dataset.labels, dataset._cache, dataset._spec)
    batch = bare.__getitems__(Plan([3, 11], 0))
    spec = dataset._cache.spec
    images = [crop(load_image(dataset.records[row].path), spec) for row in (3, 11)]
    np.testing.assert_array_equal(batch.images.numpy(), to_tensor(images, dataset._spec))
    assert batch.labels.tolist() == [0, 2]
    assert batch.rows.tolist() == [3, 11]
    assert not batch.forgeries.any()
    assert len(bare) == 20


def test_workers_change_nothing(dataset: CropDataset) -> None:
    epochs: list[list[Batch]] = []
    for workers in (0, 2):
        plan = _plan(dataset)
        plan.set_epoch(1)
        epochs.append(list(build_loader(dataset, plan, workers)))
    assert len(epochs[0]) == len(epochs[1]) == 5
    for alone, together in zip(*epochs, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))


def test_an_epoch_taken_up_in_the_middle_goes_on_as_it_would_have(dataset: CropDataset) -> None:
    plan = _plan(dataset)
    plan.set_epoch(2)
    whole = list(plan)
    plan.set_epoch(2, first=3)
    assert list(plan) == whole[3:]
    assert len(plan) == 2
    assert len({p.seed for p in whole}) == 5


def test_a_sampler_that_runs_out_is_begun_again_with_another_order(dataset: CropDataset) -> None:
    plan = _plan(dataset, batches=30)
    rows = [tuple(p.rows) for p in plan]
    assert len(rows) == 30
    assert len(set(rows)) > 20


def test_processes_share_a_batch(dataset: CropDataset) -> None:
    whole = list(_plan(dataset))
    parts = [list(_plan(dataset, rank=rank, processes=2)) for rank in (0, 1)]
    for both, first, second in zip(whole, *parts, strict=True):
        assert [*first.rows, *second.rows] == list(both.rows)
        assert first.seed != second.seed


def test_triplets_are_not_torn(dataset: CropDataset) -> None:
    sampler = TripletListSampler([[0, 1, 5], [5, 6, 0], [10, 11, 15]], 3, 0)
    plans = [
        list(BatchPlan(sampler, batches=1, seed=0, unit=3, rank=rank, processes=2))
        for rank in (0, 1)
    ]
    assert [len(plan.rows) for part in plans for plan in part] == [3, 3]
    for part in plans:
        anchor, positive, negative = part[0].rows
        assert dataset.labels[anchor] == dataset.labels[positive] != dataset.labels[negative]


def test_the_loader_leaves_the_global_generator_alone(dataset: CropDataset) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    for _ in build_loader(dataset, _plan(dataset), 0):
        pass
    assert torch.equal(before, torch.get_rng_state())


def test_a_derived_seed_depends_on_every_number() -> None:
    seeds = {derived_seed(*numbers) for numbers in ((1, 2), (2, 1), (1, 3), (0, 2), (1, 2, 1))}
    assert len(seeds) == 5
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_samplers_by_name(dataset: CropDataset, tmp_path: Path) -> None:
    triplets = tmp_path / "t.csv"
    names = [dataset.records[row].path for row in (0, 1, 5)]
    triplets.write_text("anchor,positive,negative\n" + ",".join(map(str, names)) + "\n")
    for name, size in (("pk", 9), ("balanced_triplets", 12), ("triplet_file", 3)):
        config = small_config(sampler={"name": name, "triplets": 4})
        assert (
            len(next(iter(build_sampler(config, dataset.records, dataset.labels, triplets))))
            == size
        )
    with pytest.raises(DataError, match="--triplets"):
        build_sampler(
            small_config(sampler={"name": "triplet_file"}), dataset.records, dataset.labels, None
        )


def test_forgeries_come_with_their_subject(dataset: CropDataset) -> None:
    records = [
        *dataset.records,
        *(Record(Path(f"f{i}"), f"s0{i}", is_forgery=True) for i in range(4)),
    ]
    labels = [*dataset.labels, 0, 1, 2, 3]
    forged = CropDataset(records, labels, dataset._cache, dataset._spec)
    config = small_config(sampler={"forgeries": 1})
    for rows in build_sampler(config, forged.records, forged.labels, None):
        kinds = [(labels[row], records[row].is_forgery) for row in rows]
        for label in {label for label, _ in kinds}:
            assert kinds.count((label, True)) == 1
            assert kinds.count((label, False)) == 3


def test_prepared_data_are_split_and_what_gave_no_crop_is_named(tmp_path: Path) -> None:
    data = draw_folder(tmp_path / "data", 8, 3)
    (data / "s00" / "0.png").write_bytes(b"nothing")
    prepared = prepare(CONFIG, data, input_of(CONFIG), tmp_path / "cache")
    assert prepared.validation is not None
    assert len(prepared.train) + len(prepared.validation) == 23
    assert list(prepared.refused) == [data / "s00" / "0.png"]
    assert [len(part) for part in prepared.splits.values()] == [6, 2, 0]
    assert len(prepared.subjects) == 6
    assert set(prepared.train.labels) == set(range(6))
    assert not set(prepared.subjects) & set(prepared.splits["validation"])
    for path in data.rglob("*.png"):
        path.write_bytes(b"nothing")
    with pytest.raises(DataError, match="not one of 24 images gave a crop"):
        prepare(CONFIG, data, input_of(CONFIG), tmp_path / "cache")


def test_data_come_from_the_option_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    # Elsewhere the variable names the folder above all data sets.
    monkeypatch.setenv("VERIFYKIT_DATA", "here")
    assert default_data(Path("there")) == Path("there")
    with pytest.raises(DataError, match="no data: give --data PATH"):
        default_data(None)
