"""Name one of a closed set of classes: a classifier over a model's embeddings, in a file of its own."""

from __future__ import annotations

import io
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from verifykit._files import atomic_write
from verifykit.errors import ModelIntegrityError, ModelNotFoundError, shortened, shortened_path
from verifykit.types import Template

_FORMAT = "verifykit-classifier/1"
_SHAPES = {"weight": 2, "bias": 1, "embeddings": 2, "owners": 1}


@dataclass(frozen=True, eq=False)
class Classifier:
    """A linear and a nearest-neighbour classifier over embeddings; ``verifykit-export classifier`` fits both.

    It always names one of its classes, also for an image of none of them: to recognise strangers, enroll the
    classes and use ``Verifier.identify``, which has a threshold.

    Attributes:
        spec_digest: Digest of the model whose embeddings these are.
        classes: (C,) names.
        weight: (C, D) float32, a row for each class.
        bias: (C,) float32.
        embeddings: (N, D) float32 of unit length, the images that it was fitted on.
        owners: (N,) int64, the class of each.
    """

    spec_digest: str
    classes: tuple[str, ...]
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    embeddings: NDArray[np.float32]
    owners: NDArray[np.int64]

    def classify(self, template: Template, method: Literal["linear", "nearest"] = "linear") -> str:
        """Return the class of a template.

        Args:
            template: Of the same model, as ``Verifier.extract`` returns it.
            method: ``"linear"`` takes the class with the greatest value of the linear function,
                ``"nearest"`` that of the image with the most similar embedding.

        Returns:
            One of `classes`.

        Raises:
            TemplateMismatchError: The template is of another model.
        """
        template.require(self.spec_digest, self.weight.shape[1])
        if method == "nearest":
            place = int(self.owners[np.argmax(self.embeddings @ template.embedding)])
        else:
            place = int(np.argmax(self.weight @ template.embedding + self.bias))
        return self.classes[place]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file, an ``.npz`` of arrays without pickled objects.

        Args:
            path: Where to; a file there is replaced.
        """
        buffer = io.BytesIO()
        arrays: dict[str, Any] = {name: getattr(self, name) for name in _SHAPES}
        texts = {"format": _FORMAT, "spec_digest": self.spec_digest, "classes": self.classes}
        arrays |= {name: np.array(text, np.str_) for name, text in texts.items()}
        np.savez_compressed(buffer, **arrays)
        atomic_write(Path(path), buffer.getvalue())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Classifier:
        """Read a file that :meth:`save` wrote; nothing in it is executed.

        Args:
            path: The file.

        Returns:
            The classifier.

        Raises:
            ModelNotFoundError: There is no such file.
            ModelIntegrityError: It is damaged, or no classifier of this version.
        """
        where = shortened(path)
        try:
            data = Path(path).read_bytes()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "no path"
            cause = shortened_path(error)
            raise ModelNotFoundError(f"cannot read classifier {where}: {reason}") from cause
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            found = cls(
                str(arrays["spec_digest"]),
                tuple(arrays["classes"].tolist()),
                **{name: arrays[name] for name in _SHAPES},
            )
            found._require_sense(str(arrays["format"]))
        except (ValueError, KeyError, OSError, EOFError, TypeError, zipfile.BadZipFile) as error:
            raise ModelIntegrityError(
                f"{where} is not a classifier that this version reads: write it again with "
                "verifykit-export classifier"
            ) from error
        return found

    def _require_sense(self, format_: str) -> None:
        count, size = self.weight.shape
        right = format_ == _FORMAT and (count,) == self.bias.shape == (len(self.classes),)
        right &= self.embeddings.shape == (len(self.owners), size) and len(self.owners) > 0
        kinds = {name: "i" if name == "owners" else "f" for name in _SHAPES}
        for name, dimensions in _SHAPES.items():
            array = getattr(self, name)
            right &= array.ndim == dimensions and array.dtype.kind == kinds[name]
        if not right or not 0 <= self.owners.min() <= self.owners.max() < count:
            raise ValueError("arrays that do not fit together")
