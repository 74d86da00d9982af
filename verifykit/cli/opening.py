"""Opening model and gallery for the verbs that need both."""

from __future__ import annotations

from pathlib import Path

from verifykit.criterion import Policy
from verifykit.gallery import KeySource, open_existing, open_for
from verifykit.opening import open_encoder
from verifykit.session import Provider
from verifykit.spec import Attack
from verifykit.types import MultiFace, QualityGate
from verifykit.verifier import Verifier

__all__ = ["open_reader"]


def open_reader(
    model: str,
    gallery: str | Path,
    *,
    providers: Provider,
    threads: int | None,
    fmr: float | None = None,
    threshold: float | None = None,
    attack: Attack | None = None,
    policy: Policy | None = None,
    calibration: Path | None = None,
    multi_face: MultiFace = "error",
    quality: QualityGate = "strict",
    key: KeySource | None = None,
) -> Verifier:
    """A verifier over a gallery that is there already and is not written to.

    A mistyped path makes no new gallery, and none needs permission to write.

    Args:
        model: A registered name, or the path of a model file.
        gallery: The gallery's file or URL.
        providers: As for :class:`~verifykit.verifier.Verifier`, like everything below.
        threads: Threads within one network run.
        fmr: False match rate for every decision.
        threshold: A bare threshold instead.
        attack: What the rate is about.
        policy: Two rates and a review zone instead.
        calibration: File of thresholds in place of the model's own.
        multi_face: What to do with several faces in an image.
        quality: Whether a quality reason refuses or only warns.
        key: Of an encrypted gallery.

    Raises:
        VerifyKitError: As :class:`~verifykit.verifier.Verifier`; GalleryError too if there is none.
    """
    # The gallery first: a wrong path is told at once, not after the model has been loaded.
    location = str(gallery)
    open_existing(location, key=key).close()
    encoder = open_encoder(model, calibration, providers=providers, threads=threads)
    opened = open_for(
        location,
        spec_digest=encoder.spec.digest,
        embedding_size=encoder.spec.embedding_size,
        fusion=encoder.spec.fusion,
        model=encoder.spec.name,
        key=key,
        create=False,
        read_only=True,
    )
    return Verifier(
        encoder,
        opened,
        fmr=fmr,
        threshold=threshold,
        attack=attack,
        policy=policy,
        multi_face=multi_face,
        quality=quality,
    )
