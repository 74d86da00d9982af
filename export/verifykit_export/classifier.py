"""Fit a classifier of the training subjects on the embeddings of an exported model, and try it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from verifykit.classification import Classifier
from verifykit.encoder import Encoder
from verifykit.errors import InputError, shortened
from verifykit.extraction import SampleOptions
from verifykit.types import Template
from verifykit_training.dataset import Record, read_records
from verifykit_training.errors import DataError
from verifykit_training.preparation import digests_for
from verifykit_training.run_folder import RunFolder
from verifykit_training.stages import Stages, stage


@dataclass(frozen=True)
class Classified:
    """A fitted classifier's accuracy.

    Attributes:
        classes: How many classes.
        fitted_images: Images that it was fitted on, those that the run was trained on.
        held_out_images: Other images of the same subjects, on which it was tried.
        refused: Images without a template.
        linear: Share of them that the linear classifier names rightly, in [0, 1].
        nearest: The same of the nearest neighbour.
    """

    classes: int
    fitted_images: int
    held_out_images: int
    refused: int
    linear: float
    nearest: float


def fit_classifier(
    run: Path,
    model: Path,
    target: Path,
    data: Path,
    cache: Path | None = None,
    *,
    stages: Stages | None = None,
) -> Classified:
    """Fit on the images that a run was trained on, try the other images of those subjects, and write."""
    from sklearn.linear_model import LogisticRegression

    trained = RunFolder(run).read_trained_on()
    if trained.images is None:
        raise DataError(
            f"{shortened(run)} is of an earlier version and has no digests of its images: train again"
        )
    records = [record for record in read_records(data) if not record.is_forgery]
    digests = digests_for(trained, records, cache, stages=stages)
    seen = trained.images["train"]
    known = set(trained.subjects["train"])
    mine = [record for record in records if record.subject in known]
    encoder = Encoder.open(model)
    of_training = [r for r in mine if digests.get(r.path) in seen]
    others = [r for r in mine if digests.get(r.path) not in seen]
    progress = stage(stages, "embedding images of the training", len(of_training))
    fitted, refused = _templates(encoder, of_training, progress)
    progress = stage(stages, "embedding other images", len(others))
    held_out, more = _templates(encoder, others, progress)
    classes = tuple(sorted({name for name, _ in fitted}))
    if len(classes) < 2 or not held_out:
        raise DataError(
            f"{shortened(data)} holds {len(fitted)} images of {len(classes)} classes that the run was "
            f"trained on, and {len(held_out)} other images of them: give the run's data, and train with "
            "data.within_subjects = true and data.validation_share, or add images"
        )
    owners = np.array([classes.index(name) for name, _ in fitted], np.int64)
    rows = np.stack([template.embedding for _, template in fitted])
    fit = LogisticRegression(C=100.0, max_iter=2000).fit(rows, owners)
    weight, bias = fit.coef_, fit.intercept_
    if len(classes) == 2:  # one row, whose sign decides
        weight, bias = np.vstack([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    classifier = Classifier(
        encoder.spec.digest,
        classes,
        weight.astype(np.float32),
        bias.astype(np.float32),
        rows,
        owners,
    )
    right = {
        method: float(
            np.mean([classifier.classify(each, method) == name for name, each in held_out])
        )
        for method in ("linear", "nearest")
    }
    classifier.save(target)
    return Classified(len(classes), len(fitted), len(held_out), refused + more, **right)


def _templates(
    encoder: Encoder, records: Sequence[Record], progress: Callable[[int], None] | None
) -> tuple[list[tuple[str, Template]], int]:
    """Return subject and template of each image that has one, and how many have none."""
    found = []
    for number, record in enumerate(records, 1):
        template = _template(encoder, record.path)
        if template is not None:
            found.append((record.subject, template))
        if progress:
            progress(number)
    return found, len(records) - len(found)


def _template(encoder: Encoder, image: Path) -> Template | None:
    try:
        return encoder.templates(image, SampleOptions("largest", "warn"))[0]
    except InputError:
        return None
