"""Classifiers over embeddings, and their file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from verifykit import Classifier, ModelIntegrityError, ModelNotFoundError, Template
from verifykit.errors import TemplateMismatchError

DIGEST = "ab" * 32


@pytest.fixture
def classifier() -> Classifier:
    """The linear function prefers b everywhere; the neighbours are apart."""
    rows = np.eye(3, dtype=np.float32)
    weight, bias = np.zeros((2, 3), np.float32), np.array([0.0, 1.0], np.float32)
    return Classifier(DIGEST, ("a", "b"), weight, bias, rows, np.array([0, 1, 1]))


def template(*row: float, digest: str = DIGEST) -> Template:
    return Template(np.array(row, np.float32), digest)


def test_both_methods_and_the_file(classifier: Classifier, tmp_path: Path) -> None:
    path = tmp_path / "c.npz"
    classifier.save(path)
    for each in (classifier, Classifier.load(path)):
        assert each.classify(template(1, 0, 0)) == "b"
        assert each.classify(template(1, 0, 0), "nearest") == "a"
        assert each.classify(template(0, 0, 1), "nearest") == "b"
        with pytest.raises(TemplateMismatchError):
            each.classify(template(1, 0, 0, digest="cd" * 32))


def test_damaged_files_are_refused(classifier: Classifier, tmp_path: Path) -> None:
    path = tmp_path / "c.npz"
    with pytest.raises(ModelNotFoundError, match="cannot read"):
        Classifier.load(path)
    classifier.save(path)
    whole = path.read_bytes()
    arrays = dict(np.load(path))
    for data in (b"", b"text", whole[: len(whole) // 2], whole[:-1]):
        path.write_bytes(data)
        with pytest.raises(ModelIntegrityError, match="not a classifier"):
            Classifier.load(path)
    changes = {
        "owners": np.array([0, 1, 2]),
        "bias": np.zeros(3, np.float32),
        "weight": np.zeros((2, 4), np.float32),
        "embeddings": np.array(["x"], dtype=object),
        "format": np.array("verifykit-classifier/2"),
    }
    for name, value in changes.items():
        np.savez(path, **{**arrays, name: value})
        with pytest.raises(ModelIntegrityError, match="not a classifier"):
            Classifier.load(path)
