"""Batches hold what they promise, as many as they say, and the same ones again for the same epoch."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from verifykit.errors import InputError
from verifykit_training.batches import BalancedTripletSampler, PKSampler, TripletListSampler

LABELS = np.repeat(np.arange(7), [4, 9, 1, 2, 6, 5, 12])


@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.integers(1, 12), min_size=1, max_size=12),
    p=st.integers(1, 5),
    k=st.integers(1, 5),
    seed=st.integers(0, 1000),
)
def test_pk_batches(counts: list[int], p: int, k: int, seed: int) -> None:
    labels = np.repeat(np.arange(len(counts)) * 3, counts)
    if len(counts) < p:
        with pytest.raises(InputError, match=f"p={p} subjects"):
            PKSampler(labels, p, k, seed)
        return
    sampler = PKSampler(labels, p, k, seed)
    batches = list(sampler)
    assert len(batches) == len(sampler) >= 1
    groups = [-(-count // k) for count in counts]
    # No more batches can be had: the next would need more groups than there are.
    assert sum(min(g, len(sampler) + 1) for g in groups) < p * (len(sampler) + 1)
    for batch in batches:
        subjects = labels[batch].reshape(p, k)
        assert (subjects == subjects[:, :1]).all()
        assert len(set(subjects[:, 0])) == p
        for group in np.array(batch).reshape(p, k):
            available = counts[labels[group[0]] // 3]
            assert max(Counter(group.tolist()).values()) <= -(-k // available)


def test_every_image_is_seen_when_all_groups_fit() -> None:
    labels = np.repeat(np.arange(6), 8)
    seen = Counter(index for batch in PKSampler(labels, 3, 4, seed=0) for index in batch)
    assert seen == dict.fromkeys(range(48), 1)


def test_even_subjects_come_equally_often_whatever_they_have() -> None:
    sampler = PKSampler(LABELS, 7, 3, seed=3, even=True)
    assert len(sampler) == 4  # groups of the subject with twelve images
    seen = Counter(int(LABELS[index]) for batch in sampler for index in batch)
    assert seen == dict.fromkeys(range(7), 12)
    images = Counter(index for batch in sampler for index in batch)
    assert {images[i] for i in np.flatnonzero(LABELS == 1)} <= {1, 2}  # nine images, dealt twice
    assert {images[i] for i in np.flatnonzero(LABELS == 6)} == {1}


def test_an_epoch_comes_again_exactly_and_others_differ() -> None:
    sampler = PKSampler(LABELS, 3, 4, seed=1)
    first = list(sampler)
    assert list(sampler) == first
    sampler.set_epoch(1)
    second = list(sampler)
    assert second != first
    assert len(second) == len(first)
    sampler.set_epoch(0)
    assert list(sampler) == first
    assert list(PKSampler(LABELS, 3, 4, seed=1)) == first
    assert list(PKSampler(LABELS, 3, 4, seed=2)) != first


def test_processes_share_the_batches() -> None:
    whole = list(PKSampler(LABELS, 4, 3, seed=0))
    parts = [list(PKSampler(LABELS, 4, 3, seed=0, rank=r, world_size=2)) for r in range(2)]
    assert [a + b for a, b in zip(*parts, strict=True)] == whole
    with pytest.raises(InputError, match="world_size must divide p"):
        PKSampler(LABELS, 3, 3, seed=0, world_size=2)


def test_forgeries_come_beside_the_genuine_images_of_their_subject() -> None:
    forged = np.zeros(len(LABELS), dtype=bool)
    forged[[2, 3, 8, 9, 10, 30, 31]] = True
    assert not any(
        forged[batch].any() for batch in PKSampler(LABELS, 3, 2, seed=0, forgeries=forged)
    )
    sampler = PKSampler(LABELS, 3, 2, seed=0, forgeries=forged, forgeries_per_subject=2)
    for batch in sampler:
        for group in np.array(batch).reshape(3, 4):
            assert len(set(LABELS[group])) == 1
            assert not forged[group[:2]].any()
            has_some = forged[LABELS[group[0]] == LABELS].any()
            assert forged[group[2:]].all() if has_some else not forged[group[2:]].any()


@pytest.mark.parametrize(("p", "k"), [(0, 2), (2, 0)])
def test_impossible_sizes_are_refused(p: int, k: int) -> None:
    with pytest.raises(InputError, match="1 or more"):
        PKSampler(LABELS, p, k, seed=0)


def test_labels_and_masks_are_checked() -> None:
    with pytest.raises(InputError, match="integers, got float64"):
        PKSampler(LABELS.astype(float), 2, 2, seed=0)
    with pytest.raises(InputError, match="booleans, got int64"):
        PKSampler(LABELS, 2, 2, seed=0, forgeries=LABELS)


def test_balanced_triplets() -> None:
    labels = np.repeat([4, 7, 9], [3, 20, 6])
    sampler = BalancedTripletSampler(labels, 12, seed=0, batches=5)
    batches = list(sampler)
    assert len(batches) == len(sampler) == 5
    assert len(BalancedTripletSampler(labels, 3, seed=0)) == 3
    for batch in batches:
        anchor, positive, negative = np.array(batch).reshape(12, 3).T
        assert (anchor != positive).all()
        assert (labels[anchor] == labels[positive]).all()
        pairs = Counter(zip(labels[anchor].tolist(), labels[negative].tolist(), strict=True))
        assert set(pairs.values()) == {2}
        assert len(pairs) == 6
    sampler.set_epoch(1)
    assert list(sampler) != batches
    sampler.set_epoch(0)
    assert list(sampler) == batches
    for wrong in ([1, 1, 1], [1, 1, 2]):
        with pytest.raises(InputError, match="two classes or more with two images"):
            BalancedTripletSampler(wrong, 2, seed=0)
    with pytest.raises(InputError, match="positive"):
        BalancedTripletSampler(labels, 0, seed=0)


def test_balanced_triplets_leave_forgeries_out() -> None:
    labels = np.repeat([0, 1], 6)
    forged = np.arange(12) % 3 == 0
    for batch in BalancedTripletSampler(labels, 4, seed=0, batches=6, forgeries=forged):
        assert not forged[batch].any()


def test_triplets_from_a_list() -> None:
    triplets = np.arange(21).reshape(7, 3)
    sampler = TripletListSampler(triplets, 3, seed=0)
    batches = list(sampler)
    assert [len(batch) for batch in batches] == [9, 9, 3]
    assert len(sampler) == 3
    dealt = [tuple(row) for batch in batches for row in np.array(batch).reshape(-1, 3)]
    assert sorted(dealt) == [tuple(row) for row in triplets]
    sampler.set_epoch(1)
    assert list(sampler) != batches
    for wrong in ([], [[1, 2]], [[0.5, 1, 2]]):
        with pytest.raises(InputError, match="triplets"):
            TripletListSampler(wrong, 3, seed=0)
    with pytest.raises(InputError, match="batches of 0"):
        TripletListSampler(triplets, 0, seed=0)
