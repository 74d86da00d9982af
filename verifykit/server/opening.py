"""From settings to the verifiers that answer: models whose runs are shared, and their galleries."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from verifykit.acquisition import Acquisition
from verifykit.asked import Asked
from verifykit.encoder import BATCH_SIZES, Encoder
from verifykit.gallery import Gallery, open_gallery
from verifykit.image import load_image
from verifykit.models import registered
from verifykit.opening import open_encoder
from verifykit.server.batching import Batcher
from verifykit.server.late_gallery import LateGallery
from verifykit.server.settings import ServerSettings
from verifykit.types import Image, ImageLike, MultiFace, QualityGate, Sample
from verifykit.verifier import Verifier

__all__ = ["SIGNATURE", "ServedModel", "open_models"]

SIGNATURE = "signature"
"""The registered model of the second gallery."""

_WAIT_S = 0.003


@dataclass(frozen=True)
class ServedModel:
    """A verifier under the name by which requests ask for it.

    Attributes:
        name: The registered name, or the one in the model file.
        verifier: The model, open, with its gallery.
        usual: What decides, unless a request says otherwise.
        multi_face: What to do with several faces, unless a request says otherwise.
        quality: Whether a quality reason refuses or warns, likewise.
    """

    name: str
    verifier: Verifier
    usual: Asked
    multi_face: MultiFace
    quality: QualityGate

    def close(self) -> None:
        """Close the gallery."""
        close = getattr(self.verifier.gallery, "close", None)
        if close is not None:
            close()


class ServedAcquisition(Acquisition):
    """Images to crops, with the service's limit of pixels; tells the batcher that crops are coming."""

    def __init__(self, acquisition: Acquisition, batcher: Batcher, max_pixels: int) -> None:
        """Take over another's crop, detector and limits.

        Args:
            acquisition: The model's own.
            batcher: Where its crops will go.
            max_pixels: Images of more are refused before they are decoded.
        """
        super().__init__(
            acquisition.spec,
            acquisition.detector,
            limits=acquisition.limits,
            signature_limits=acquisition.signature_limits,
        )
        self._batcher, self._max_pixels = batcher, max_pixels

    def load(self, image: ImageLike) -> Image:
        """See :meth:`Acquisition.load`."""
        return load_image(image, max_pixels=self._max_pixels)

    def samples(
        self, image: ImageLike, *, multi_face: MultiFace = "error", quality: QualityGate = "strict"
    ) -> list[Sample]:
        """See :meth:`Acquisition.samples`."""
        with self._batcher.coming():
            return super().samples(image, multi_face=multi_face, quality=quality)


def open_models(
    settings: ServerSettings, on_batch: Callable[[int], None]
) -> Mapping[str, ServedModel]:
    """Open the models and galleries of the settings, the default first.

    Args:
        settings: What the operator decided.
        on_batch: Told the number of crops of each run of a network.

    Raises:
        ModelError: A model is not found, damaged, or not what it says it is.
        ProviderError: The provider is not there.
        GalleryError: A gallery cannot be made or opened, or is to keep crops and is not encrypted.
        TemplateMismatchError: A gallery was made with another model.
        CalibrationError: The calibration is of another model, or none goes down to this ``fmr``.
        InputError: An option is not allowed.
    """
    with contextlib.ExitStack() as undo:
        encoder = _encoder(settings, settings.model, settings.calibration, on_batch)
        name = settings.model if settings.model in registered() else encoder.spec.name
        first = ServedModel(
            name,
            Verifier(
                encoder,
                settings.gallery,
                key=settings.key,
                keep_crops=settings.keep_crops,
                fmr=settings.fmr,
                multi_face=settings.multi_face,
                quality=settings.quality,
            ),
            Asked(settings.fmr),
            settings.multi_face,
            settings.quality,
        )
        undo.callback(first.close)
        served = {name: first}
        location = settings.signature_gallery
        if location is not None and encoder.spec.modality != SIGNATURE:
            second = _encoder(settings, SIGNATURE, None, on_batch)
            gallery: Gallery
            if "://" in location:
                gallery = open_gallery(location, second.spec)
            else:
                gallery = LateGallery(location, second.spec, key=settings.key)
            served[SIGNATURE] = ServedModel(
                SIGNATURE,
                Verifier(second, gallery, keep_crops=settings.keep_crops, quality=settings.quality),
                Asked(),
                "error",
                settings.quality,
            )
        undo.pop_all()
        return served


def _encoder(
    settings: ServerSettings, model: str, calibration: str | None, on_batch: Callable[[int], None]
) -> Encoder:
    encoder = open_encoder(
        model, calibration, providers=settings.providers, threads=settings.thread_count
    )
    on_gpu = encoder.provider == "cuda"
    batcher = Batcher(
        encoder.encode,
        BATCH_SIZES[encoder.provider],
        # A GPU wants one large batch; a CPU has other cores for other runs, and gains nothing by waiting.
        runs=1 if on_gpu else max(1, settings.worker_count // 4),
        wait_s=_WAIT_S if on_gpu else 0.0,
        on_batch=on_batch,
    )
    acquisition = ServedAcquisition(encoder.acquisition, batcher, settings.max_pixels)
    return Encoder(encoder.spec, batcher.encode, acquisition, encoder.provider)
