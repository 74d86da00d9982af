"""Arguments and options that several verbs share, each written down once.

What ``evaluate`` and ``calibrate`` share: the data, the choice of faces, the cache of embeddings.

Opening model and gallery for the verbs that need both.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import os
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from verifykit._options import OptionField, build_options, option_fields
from verifykit.cli._run import outcome
from verifykit.datasets import FaceChoice
from verifykit.decision import DecisionOptions, Policy
from verifykit.errors import InputError
from verifykit.extraction import SampleOptions
from verifykit.gallery import KeySource, open_existing, open_gallery
from verifykit.session import Provider
from verifykit.spec import Fusion
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
CalibrationOption = Annotated[
    Path | None,
    typer.Option(
        "--calibration", metavar="FILE", help="Thresholds of your own: verifykit calibrate."
    ),
]
FusionOption = Annotated[
    Fusion | None,
    typer.Option(
        "--fusion", help="How scores fuse, for a gallery on PostgreSQL whose model is not here."
    ),
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


@dataclass(frozen=True)
class Fields:
    """Which fields of an option object a verb takes, and with which other defaults."""

    names: tuple[str, ...] | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict)


ClaimDecision: TypeAlias = Annotated[
    DecisionOptions, Fields(("fmr", "threshold", "attack", "policy"))
]
"""How a 1:1 comparison is decided."""

SearchDecision: TypeAlias = Annotated[
    DecisionOptions, Fields(("fmr", "threshold", "attack", "fpir"))
]
"""How a search is decided."""

PairDecision: TypeAlias = Annotated[DecisionOptions, Fields(("fmr", "threshold", "attack"))]
"""From which score two templates count as alike."""

SampleChoice: TypeAlias = Annotated[SampleOptions, Fields()]
QualityChoice: TypeAlias = Annotated[SampleOptions, Fields(("quality",))]
EverySample: TypeAlias = Annotated[SampleOptions, Fields(defaults={"multi_face": "all"})]


def command(verb: Callable[..., None]) -> Callable[..., None]:
    """Make a verb a command: an option for each field of its option objects, errors as messages.

    A parameter annotated with an option object and :class:`Fields` becomes one option a field, and every
    command has ``--debug``. The verb runs inside :func:`~verifykit.cli._run.outcome`.
    """
    hints = typing.get_type_hints(verb, include_extras=True)
    objects: dict[str, tuple[type, list[OptionField]]] = {}
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(verb).parameters.values():
        hint = hints[parameter.name]
        chosen = next((m for m in getattr(hint, "__metadata__", ()) if isinstance(m, Fields)), None)
        if chosen is None:
            parameters.append(parameter.replace(annotation=hint))
            continue
        kind = typing.get_args(hint)[0]
        fields = option_fields(kind, chosen.names, chosen.defaults)
        objects[parameter.name] = (kind, fields)
        parameters += [
            inspect.Parameter(
                each.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=each.default,
                annotation=Annotated[each.hint, typer.Option(_spelled(each.name), help=each.help)],
            )
            for each in fields
        ]

    @functools.wraps(verb)
    def run(**values: Any) -> None:
        with outcome(as_json=values.get("as_json", False), debug=values.pop("debug")):
            for name, (kind, fields) in objects.items():
                flat = {each.name: values.pop(each.name) for each in fields}
                values[name] = build_options(kind, flat, _spelled)
            verb(**values)

    parameters.append(
        inspect.Parameter(
            "debug", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=DebugOption
        )
    )
    parameters = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in parameters]
    del run.__wrapped__  # the parameters are those of `run`
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    return run


def _spelled(name: str) -> str:
    return "--" + name.replace("_", "-")


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
    calibration: Path | None = None,
    key: KeySource | None = None,
    decision: DecisionOptions | None = None,
    sample: SampleOptions | None = None,
) -> Verifier:
    """Open a verifier over a gallery that exists and is not written to.

    A mistyped path creates no gallery, and no write permission is needed.

    Raises:
        VerifyKitError: As :class:`~verifykit.verifier.Verifier`; GalleryError too without a gallery.
    """
    # The gallery first: a wrong path is reported before the model is loaded.
    location = str(gallery)
    open_existing(location, key=key).close()
    encoder = open_encoder(model, calibration, providers=providers, threads=threads)
    opened = open_gallery(location, encoder.spec, key=key, create=False, read_only=True)
    return Verifier(encoder, opened, **verifier_options(decision, sample))


def verifier_options(
    decision: DecisionOptions | None, sample: SampleOptions | None
) -> dict[str, Any]:
    """Return option objects as keyword arguments of :class:`~verifykit.verifier.Verifier`."""
    return {
        **(decision or DecisionOptions()).given,
        **dataclasses.asdict(sample or SampleOptions()),
    }
