"""Arguments and options that several verbs share, each written down once.

What ``evaluate`` and ``calibrate`` share: the data, the choice of faces, the cache of embeddings.

Opening model and gallery for the verbs that need both.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from verifykit.datasets import FaceChoice
from verifykit.decision import Policy
from verifykit.errors import InputError
from verifykit.gallery import KeySource, open_existing, open_gallery
from verifykit.session import Provider
from verifykit.spec import Attack, Fusion
from verifykit.types import MultiFace, QualityGate
from verifykit.verifier import Verifier, open_encoder

_KEY_VARIABLE = "VERIFYKIT_GALLERY_KEY"

SubjectArgument = Annotated[str, typer.Argument(metavar="SUBJECT", help="The subject's id.")]
ImageArgument = Annotated[str, typer.Argument(metavar="IMAGE", help="Path of an image.")]
GalleryOption = Annotated[
    str,
    typer.Option(
        "--gallery", "-g", metavar="FILE|URL", help="The gallery's file, or a postgresql:// URL."
    ),
]
ModelOption = Annotated[
    str,
    typer.Option("--model", "-m", metavar="NAME|FILE", help="A registered model, or a model file."),
]
FmrOption = Annotated[
    float | None,
    typer.Option("--fmr", help="False match rate to decide at; the model's default if not given."),
]
ThresholdOption = Annotated[
    float | None,
    typer.Option("--threshold", help="A bare cosine threshold instead; it stands for no rate."),
]
AttackOption = Annotated[
    Attack | None,
    typer.Option("--attack", help="What the rate is about; the model's default if not given."),
]
CalibrationOption = Annotated[
    Path | None,
    typer.Option(
        "--calibration", metavar="FILE", help="Thresholds of your own: verifykit calibrate."
    ),
]
FpirOption = Annotated[
    float | None,
    typer.Option(
        "--fpir",
        help="Rate of searches that find somebody wrong in this gallery, instead of --fmr.",
    ),
]
FusionOption = Annotated[
    Fusion | None,
    typer.Option(
        "--fusion", help="How scores fuse, for a gallery on PostgreSQL whose model is not here."
    ),
]
AcceptOption = Annotated[
    float | None,
    typer.Option("--accept-fmr", help="With --review-fmr: accept at this rate, instead of --fmr."),
]
ReviewOption = Annotated[
    float | None,
    typer.Option("--review-fmr", help="Above --accept-fmr: send to review up to this rate."),
]
MultiFaceOption = Annotated[
    MultiFace, typer.Option("--multi-face", help="What to do with several faces in an image.")
]
QualityOption = Annotated[
    QualityGate, typer.Option("--quality", help="Refuse weak samples, or take them and warn.")
]
ProvidersOption = Annotated[
    Provider, typer.Option("--providers", help="Where the network runs; a named one or an error.")
]
ThreadsOption = Annotated[
    int | None,
    typer.Option("--threads", min=1, help="Threads of a network run; default all cores."),
]
LimitOption = Annotated[
    int, typer.Option("--limit", "-n", min=1, help="At most so many candidates for each face.")
]
SaveOption = Annotated[
    Path | None,
    typer.Option("--save", metavar="PICTURE", help="Draw faces, names and scores into this file."),
]
KeepCropsOption = Annotated[
    bool,
    typer.Option(
        "--keep-crops",
        help="Keep what another model may want of each image; in an encrypted gallery only.",
    ),
]
KeyFileOption = Annotated[
    Path | None,
    typer.Option(
        "--key-file",
        metavar="FILE",
        help="Key of an encrypted gallery; without it, what VERIFYKIT_GALLERY_KEY holds.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def gallery_key(key_file: Path | None) -> str | None:
    """Where the key of a gallery is: the option's file, else the environment, else None."""
    if key_file is not None:
        return str(key_file)
    return f"env:{_KEY_VARIABLE}" if _KEY_VARIABLE in os.environ else None


def parse_policy(accept_fmr: float | None, review_fmr: float | None) -> Policy | None:
    """The policy of two options; None without either.

    Raises:
        InputError: One of them without the other, or a rate out of range.
    """
    if accept_fmr is None and review_fmr is None:
        return None
    if accept_fmr is None or review_fmr is None:
        raise InputError("--accept-fmr and --review-fmr go together: give both, or --fmr")
    return Policy(accept_fmr, review_fmr)


def parse_metadata(pairs: list[str]) -> dict[str, str] | None:
    """``["team=blue"]`` as ``{"team": "blue"}``; None without any, which leaves what is stored.

    Raises:
        InputError: One of them is not ``KEY=VALUE``.
    """
    for pair in pairs:
        if not pair.partition("=")[0] or "=" not in pair:
            raise InputError(f"--metadata takes KEY=VALUE, got {pair!r}")
    return dict(pair.split("=", 1) for pair in pairs) or None


if TYPE_CHECKING:
    from verifykit.evaluation.embedding import EmbeddingCache

DataArgument = Annotated[
    Path,
    typer.Argument(
        metavar="DATA",
        help="A folder for each subject, a CSV of images or pairs, or LFW's pairs.txt.",
    ),
]
ImagesOption = Annotated[
    Path | None,
    typer.Option(
        "--images", metavar="FOLDER", help="Where a file's paths start; default: beside it."
    ),
]
FaceChoiceOption = Annotated[
    FaceChoice | None,
    typer.Option(
        "--multi-face",
        help="With several faces: refuse as the verbs do (default), take the largest, or the one in the "
        "middle (default for LFW's pairs.txt).",
    ),
]
DataQualityOption = Annotated[
    QualityGate | None,
    typer.Option("--quality", help="strict as the verbs (default); warn is LFW's default."),
]
CacheOption = Annotated[
    Path | None,
    typer.Option("--cache", metavar="FILE", help="Embeddings of earlier runs; holds templates."),
]
NoCacheOption = Annotated[
    bool, typer.Option("--no-cache", help="Keep no embeddings, and take none that are kept.")
]


def choices(
    kind: str, multi_face: FaceChoice | None, quality: QualityGate | None
) -> tuple[FaceChoice, QualityGate]:
    """What is done with several faces and weak samples: as asked, else as the data mean it.

    LFW labels the face in the middle of a picture, and its protocol leaves no picture out.

    Args:
        kind: Of the data.
        multi_face: As asked, or None.
        quality: As asked, or None.
    """
    is_lfw = kind == "lfw_pairs"
    return multi_face or ("middle" if is_lfw else "error"), quality or (
        "warn" if is_lfw else "strict"
    )


@contextmanager
def opened_cache(path: Path | None, *, off: bool) -> Iterator[EmbeddingCache | None]:
    """The cache of embeddings, closed at the end; None if there shall be none.

    Args:
        path: Its file; None is the one beside the models.
        off: Whether there shall be none.

    Raises:
        InputError: The file is no cache, or cannot be written.
    """
    if off:
        yield None
        return
    from verifykit.evaluation.embedding import EmbeddingCache

    with EmbeddingCache(path) as cache:
        yield cache


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
    opened = open_gallery(location, encoder.spec, key=key, create=False, read_only=True)
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
