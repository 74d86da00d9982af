"""Arguments and options that several verbs share, each written down once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from verifykit.criterion import Policy
from verifykit.errors import InputError
from verifykit.session import Provider
from verifykit.spec import Attack, Fusion
from verifykit.types import MultiFace, QualityGate

__all__ = [
    "AcceptOption",
    "AttackOption",
    "CalibrationOption",
    "DebugOption",
    "FmrOption",
    "FpirOption",
    "FusionOption",
    "GalleryOption",
    "ImageArgument",
    "JsonOption",
    "KeepCropsOption",
    "KeyFileOption",
    "LimitOption",
    "ModelOption",
    "MultiFaceOption",
    "ProvidersOption",
    "QualityOption",
    "ReviewOption",
    "SaveOption",
    "SubjectArgument",
    "ThreadsOption",
    "ThresholdOption",
    "gallery_key",
    "parse_metadata",
    "parse_policy",
]

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
