"""One suite over every gallery, in every fusion."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import verifykit.gallery
from tests.helpers import dummy_store
from verifykit.errors import (
    InputError,
    SubjectNotFoundError,
    TemplateFormatError,
    TemplateMismatchError,
)
from verifykit.gallery import (
    Gallery,
    MemoryGallery,
    PostgresGallery,
    SqliteGallery,
    StoredGallery,
    create_shards,
    open_for,
)
from verifykit.gallery.base import subject_page
from verifykit.scoring import FUSIONS, subject_score
from verifykit.spec import Fusion
from verifykit.types import Template

DIGEST = "d" * 64
SIZE = 16

Make = Callable[..., StoredGallery]
KINDS = [
    "memory",
    "sqlite",
    "encrypted",
    "dummy",
    "postgres",
    pytest.param("shards", marks=pytest.mark.slow),
]

_numbers = itertools.count()


@pytest.fixture(params=KINDS)
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    """Make a fresh gallery: ``make(fusion="max")``."""
    opened: list[SqliteGallery | PostgresGallery] = []

    def memory(**of: Any) -> StoredGallery:
        return MemoryGallery(**of)

    def sqlite(**of: Any) -> StoredGallery:
        opened.append(SqliteGallery(tmp_path / f"{len(opened)}.db", **of))
        return opened[-1]

    def postgres(**of: Any) -> StoredGallery:
        server = request.getfixturevalue("postgres")
        opened.append(PostgresGallery(server.url(gallery=f"contract_{next(_numbers)}"), **of))
        return opened[-1]

    def shards(**of: Any) -> StoredGallery:
        server, name = request.getfixturevalue("postgres"), f"contract_{next(_numbers)}"
        urls = [server.url(database, name) for database in ("postgres", "one", "two")]
        create_shards(urls[0], urls[1:], **of)
        opened.append(PostgresGallery(urls[0], **of))
        return opened[-1]

    def dummy(**of: Any) -> StoredGallery:
        of.setdefault("model", "")
        return open_for(f"dummy://contract/{next(_numbers)}", **of)

    kinds = {kind.__name__: kind for kind in (memory, sqlite, dummy, postgres, shards)}
    if request.param == "dummy":
        dummy_store.install(tmp_path, request.getfixturevalue("monkeypatch"))
    kind = {**kinds, "encrypted": partial(sqlite, key=bytes(32))}[request.param]

    def make(fusion: Fusion = "max") -> StoredGallery:
        return kind(spec_digest=DIGEST, embedding_size=SIZE, fusion=fusion)

    yield make
    for gallery in opened:
        assert gallery.check() == []
        gallery.close()
        gallery.close()


def units(seed: int, count: int) -> NDArray[np.float32]:
    rows = np.random.default_rng(seed).normal(size=(count, SIZE))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def templates(rows: NDArray[np.float32], digest: str = DIGEST) -> list[Template]:
    return [Template(row, digest, reasons=("too_dark",) * (i % 2)) for i, row in enumerate(rows)]


def test_it_has_the_protocol(make: Make) -> None:
    gallery = make()
    assert isinstance(gallery, Gallery)
    assert isinstance(gallery, StoredGallery)
    assert gallery.spec_digest == DIGEST


def test_the_name_of_version_0_1_is_kept() -> None:
    assert vars(verifykit.gallery)["PortableGallery"] is StoredGallery


def test_it_describes_itself(make: Make) -> None:
    gallery = make("mean")
    gallery.add("alice", templates(units(1, 3)))
    info = gallery.info()
    assert (info["spec_digest"], info["subject_count"]) == (DIGEST, 1)
    assert (info["template_count"], info["embedding_size"], info["model"]) == (3, SIZE, "")


def test_pages_of_ids(make: Make) -> None:
    gallery = make()
    for name in ("é", "b", "a", "🙂", "Z"):
        gallery.add(name, templates(units(1, 1)))
    whole = list(gallery.subject_ids())
    assert subject_page(gallery, None, 3) == whole[:3]
    assert subject_page(gallery, whole[2], 3) == whole[3:]
    assert subject_page(gallery, "aa", 1) == ["b"]


def test_what_is_added_comes_back_to_the_bit(make: Make) -> None:
    gallery = make()
    rows = units(1, 5)
    gallery.add(
        "team/alice 👩‍🚀", templates(rows[:2]), {"team": "blue", "n": [1, None, {"x": 0.5}]}
    )
    gallery.add("team/alice 👩‍🚀", templates(rows[2:]))
    subject = gallery.get("team/alice 👩‍🚀")
    assert subject.subject_id == "team/alice 👩‍🚀"
    assert [t.embedding.tobytes() for t in subject.templates] == [row.tobytes() for row in rows]
    assert {t.spec_digest for t in subject.templates} == {DIGEST}
    assert [t.reasons for t in subject.templates] == [(), ("too_dark",), (), ("too_dark",), ()]
    assert subject.metadata == {"team": "blue", "n": [1, None, {"x": 0.5}]}
    assert len(gallery) == 1


def test_metadata_are_replaced_when_given_and_copied_always(make: Make) -> None:
    gallery = make()
    mine: dict[str, Any] = {"tags": ["a"]}
    gallery.add("alice", templates(units(1, 1)), mine)
    mine["tags"].append("b")
    gallery.get("alice").metadata["tags"].append("c")
    gallery.search(units(1, 1), 1, -1.0)[0][0].metadata["tags"].append("d")
    assert gallery.get("alice").metadata == {"tags": ["a"]}
    gallery.add("alice", templates(units(2, 1)))
    assert gallery.search(units(1, 1), 1, -1.0)[0][0].metadata == {"tags": ["a"]}
    gallery.add("alice", templates(units(3, 1)), {})
    assert gallery.get("alice").metadata == {}
    assert gallery.search(units(1, 1), 1, -1.0)[0][0].metadata == {}


def test_ids_are_sorted_by_code_point_and_kept_apart(make: Make) -> None:
    gallery = make()
    names = ["b", "a/b", "Z", "é", "e", "🙂", "\uffee", "a b", "ab", "10", "9", "A"]
    for i, name in enumerate(names):
        gallery.add(name, templates(units(i, 1)))
    assert list(gallery.subject_ids()) == sorted(names)
    assert len(gallery) == len(names)
    for i, name in enumerate(names):
        assert gallery.search(units(i, 1), 1, 0.99)[0][0].subject_id == name


def test_two_forms_of_a_name_are_one_subject(make: Make) -> None:
    gallery = make()
    rows = units(3, 2)
    gallery.add("Zoe\u0308", templates(rows[:1]))
    gallery.add("Zo\u00eb", templates(rows[1:]))
    assert list(gallery.subject_ids()) == ["Zo\u00eb"]
    assert gallery.get("Zoe\u0308").subject_id == "Zo\u00eb"
    with pytest.raises(InputError, match=r"U\+200B"):
        gallery.get("Zo\u200b\u00eb")
    assert gallery.remove("Zoe\u0308") == 2
    assert len(gallery) == 0


def test_removed_means_gone_until_enrolled_again(make: Make) -> None:
    gallery = make()
    rows = units(1, 4)
    gallery.add("alice", templates(rows[:3]), {"team": "blue"})
    gallery.add("bob", templates(rows[3:]))
    assert gallery.search(rows[:1], 5, 0.99)[0][0].subject_id == "alice"
    assert gallery.remove("alice") == 3
    assert gallery.search(rows[:1], 5, 0.99) == [[]]
    assert list(gallery.subject_ids()) == ["bob"]
    for forget in (gallery.get, gallery.remove):
        with pytest.raises(SubjectNotFoundError, match="alice"):
            forget("alice")
    gallery.add("alice", templates(rows[:1]))
    assert len(gallery.get("alice").templates) == 1
    assert gallery.get("alice").metadata == {}
    assert gallery.search(rows[:1], 5, 0.99)[0][0].subject_id == "alice"


def test_nothing_of_a_refused_enrolment_is_stored(make: Make) -> None:
    gallery = make()
    good = templates(units(1, 2))
    short = Template(np.ones(1, np.float32), DIGEST)
    cases: list[tuple[type[Exception], tuple[Any, ...]]] = [
        (InputError, ("", good)),
        (InputError, ("a" * 256, good)),
        (InputError, ("a\nb", good)),
        (InputError, (7, good)),
        (InputError, ("alice", [])),
        (InputError, ("alice", good[0])),
        (InputError, ("alice", [units(1, 1)[0]])),
        (InputError, ("alice", good, {"when": object()})),
        (InputError, ("alice", good, {"score": float("nan")})),
        (InputError, ("alice", good, {1: "one"})),
        (InputError, ("alice", good, {"deep": {None: "x"}})),
        (InputError, ("alice", good, ["no", "object"])),
        (InputError, ("alice", good, {"long": "x" * (1 << 20)})),
        (TemplateMismatchError, ("alice", [*good, *templates(units(2, 1), "e" * 64)])),
        (TemplateFormatError, ("alice", [*good, short])),
    ]
    for error, arguments in cases:
        with pytest.raises(error):
            gallery.add(*arguments)
    assert len(gallery) == 0
    assert list(gallery.subject_ids()) == []
    assert gallery.search(units(1, 1), 5, -1.0) == [[]]


def test_bad_questions_are_refused(make: Make) -> None:
    gallery = make()
    gallery.add("alice", templates(units(1, 1)))
    probe = units(1, 1)
    for probes in (probe[0], probe[:, :8], probe * np.nan, probe * 2, probe.astype(np.int32)):
        with pytest.raises(TemplateFormatError):
            gallery.search(probes, 1, 0.0)
    for limit in (0, -1, 1.5, True, None):
        with pytest.raises(InputError, match="limit"):
            gallery.search(probe, limit, 0.0)  # type: ignore[arg-type]
    for threshold in (float("nan"), float("inf"), None, "0.4"):
        with pytest.raises(InputError, match="threshold"):
            gallery.search(probe, 1, threshold)  # type: ignore[arg-type]
    for ask in (gallery.get, gallery.remove):
        with pytest.raises(InputError):
            ask("")
    assert gallery.search(np.empty((0, SIZE), np.float32), 1, 0.0) == []


def test_a_threshold_of_zero_is_a_threshold(make: Make) -> None:
    gallery = make()
    gallery.add("like", templates(units(1, 1)))
    gallery.add("opposite", templates(-units(1, 1)))
    assert [c.subject_id for c in gallery.search(units(1, 1), 5, 0.0)[0]] == ["like"]
    everybody = gallery.search(units(1, 1), 5, -1.0)[0]
    assert [c.subject_id for c in everybody] == ["like", "opposite"]
    assert {c.threshold for c in everybody} == {-1.0}


@pytest.mark.parametrize("fusion", FUSIONS)
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    seed=st.integers(0, 10_000),
    counts=st.lists(st.integers(1, 5), min_size=0, max_size=12),
    limit=st.integers(1, 15),
    threshold=st.sampled_from([-1.0, 0.0, 0.2, 0.9]),
)
def test_search_is_the_loop_over_all_subjects(
    make: Make, fusion: Fusion, seed: int, counts: Sequence[int], limit: int, threshold: float
) -> None:
    gallery = make(fusion)  # in two steps and with a removal, so that updates are searched as well
    pool = units(seed, 6)  # few vectors: subjects share them, and tie
    choose = np.random.default_rng(seed).integers
    stored = {str(i): pool[choose(0, 6, size=count)] for i, count in enumerate(counts)}
    for name, rows in stored.items():
        gallery.add(name, templates(rows[:1]), {"name": name})
    gallery.search(pool, limit, threshold)
    for name, rows in stored.items():
        if len(rows) > 1:
            gallery.add(name, templates(rows[1:]))
    if "0" in stored:
        gallery.remove("0")
        del stored["0"]
    for probe, found in zip(pool, gallery.search(pool, limit, threshold), strict=True):
        scores = {name: subject_score(probe, rows, fusion) for name, rows in stored.items()}
        over = [(-score, name) for name, score in scores.items() if score >= threshold]
        assert [(-c.score, c.subject_id) for c in found] == sorted(over)[:limit]  # equal bits
        assert all(c.metadata == {"name": c.subject_id} for c in found)
        for name, score in scores.items():
            assert score == pytest.approx(by_float64(probe, stored[name], fusion), abs=1e-6)
    batch = gallery.search(pool, limit, threshold)
    assert batch == [gallery.search(probe[None], limit, threshold)[0] for probe in pool]


def by_float64(probe: NDArray[np.float32], rows: NDArray[np.float32], fusion: Fusion) -> float:
    wide = rows.astype(np.float64) / np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    unit = probe.astype(np.float64) / np.linalg.norm(probe.astype(np.float64))
    scores = wide @ unit
    if fusion == "max":
        return float(scores.max())
    if fusion == "mean":
        return float(scores.mean())
    length = np.linalg.norm(wide.mean(axis=0))
    if fusion == "centroid":
        return float(scores.mean() / length)
    return float(np.clip(scores.mean() / max(length, 1 / 4) ** 2, -1.0, 1.0))


def test_one_gallery_serves_many_threads(make: Make) -> None:
    gallery = make()
    rows = units(9, 40)
    gallery.add("always", templates(rows[:1]))

    def enrol(first: int) -> None:
        for i in range(first, 40, 4):
            gallery.add(f"s{i}", templates(rows[i : i + 1]))
            if i % 3 == 0:
                gallery.remove(f"s{i}")

    def ask() -> None:
        for _ in range(40):
            found = gallery.search(rows[:1], 1, 0.999)[0]
            assert [c.subject_id for c in found] == ["always"]
            assert len(gallery.get("always").templates) == 1

    with ThreadPoolExecutor(6) as pool:
        work = [pool.submit(enrol, i) for i in range(1, 5)] + [pool.submit(ask) for _ in range(2)]
        for future in work:
            future.result()
    left = {"always"} | {f"s{i}" for i in range(1, 40) if i % 3}
    assert set(gallery.subject_ids()) == left
    found = gallery.search(rows, 1, 0.999)
    assert {c[0].subject_id for c in found if c} == left


def test_the_lowest_threshold_takes_everybody(make: Make) -> None:
    gallery, axes = make(fusion="spread"), np.eye(SIZE, dtype=np.float32)
    for number in range(4):
        gallery.add(f"s{number}", templates(axes[:2]))
    # The opposite of the references: a product of -1.4, which is the score -1.
    opposite = (-(axes[0] + axes[1]) / np.sqrt(2)).astype(np.float32)
    found = gallery.search(opposite[None], 3, -1.0)[0]
    assert [(c.subject_id, c.score) for c in found] == [("s0", -1.0), ("s1", -1.0), ("s2", -1.0)]
