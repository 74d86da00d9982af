"""Arguments and options that several commands share, and functions that parse and apply them.

Also the opening of model and gallery for commands that read both.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import os
import re
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from verifykit._options import OptionField, build_options, option_fields
from verifykit.cli._run import outcome
from verifykit.datasets import FaceChoice
from verifykit.decision import DecisionOptions
from verifykit.errors import InputError, shown
from verifykit.extraction import SampleOptions
from verifykit.gallery import KeySource, open_existing, open_gallery
from verifykit.session import NetworkOptions
from verifykit.spec import Fusion
from verifykit.types import QualityGate
from verifykit.verifier import Verifier, open_encoder

_KEY_VARIABLE = "VERIFYKIT_GALLERY_KEY"
_DURATION_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}

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
CalibrationOption = Annotated[
    Path | None,
    typer.Option(
        "--calibration", metavar="FILE", help="Your own thresholds, from verifykit calibrate."
    ),
]
PopulationOption = Annotated[
    str | None,
    typer.Option(
        "--population",
        metavar="NAME",
        help="Thresholds for other people than the usual: any is chosen so that every band keeps the rate.",
    ),
]
BandsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--band",
        metavar="COLUMN[=EDGES]",
        help="Rates by a column: sex, age=0,7,13,18 or sex+age=0,7,13,18; repeatable.",
    ),
]
FusionOption = Annotated[
    Fusion | None,
    typer.Option(
        "--fusion",
        help="How scores fuse, for a gallery on PostgreSQL whose model is not available.",
    ),
]
ThreadsOption = Annotated[
    int | None,
    typer.Option("--threads", min=1, help="Threads of a network run; default: all cores."),
]
MaxPixelsOption = Annotated[
    int,
    typer.Option("--max-pixels", min=1, help="Refuse images of more pixels, height x width."),
]
LimitOption = Annotated[
    int, typer.Option("--limit", "-n", min=1, help="Maximum number of candidates for each face.")
]
SaveOption = Annotated[
    Path | None,
    typer.Option(
        "--save", metavar="FILE", help="Draw faces, names and scores into this image file."
    ),
]
FaceOption = Annotated[
    list[str] | None,
    typer.Option(
        "--face",
        metavar="BOX|LANDMARKS",
        help="Where a face is that is not found: left,top,width,height or x,y of five landmarks; repeatable.",
    ),
]
KeepCropsOption = Annotated[
    bool,
    typer.Option(
        "--keep-crops",
        help="Store the part of each image that another model may need; encrypted galleries only.",
    ),
]
KeyFileOption = Annotated[
    Path | None,
    typer.Option(
        "--key-file",
        metavar="FILE",
        help="Key of an encrypted gallery; default: VERIFYKIT_GALLERY_KEY of the environment.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def gallery_key(key_file: Path | None) -> str | None:
    """Return where the key of a gallery is: the option's file, else the environment, else None."""
    if key_file is not None:
        return str(key_file)
    return f"env:{_KEY_VARIABLE}" if _KEY_VARIABLE in os.environ else None


@dataclass(frozen=True)
class Fields:
    """The fields of an option object that a command takes, and their changed defaults."""

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
"""The score from which two templates count as alike."""

SampleChoice: TypeAlias = Annotated[SampleOptions, Fields()]
QualityChoice: TypeAlias = Annotated[SampleOptions, Fields(("quality",))]
EverySample: TypeAlias = Annotated[SampleOptions, Fields(defaults={"multi_face": "all"})]


NetworkChoice: TypeAlias = Annotated[NetworkOptions, Fields()]
"""Where and how networks run."""

WorkerNetwork: TypeAlias = Annotated[NetworkOptions, Fields(defaults={"threads": 1})]
"""The same for a run whose workers are threads themselves."""


def _option(field: OptionField) -> Any:
    """Return what typer has to know; numbers of things are checked with the usage, rates by the library."""
    limits = field.bounds if int in (field.hint, *typing.get_args(field.hint)) else {}
    return typer.Option(
        _option_name(field.name), help=field.help, min=limits.get("ge"), max=limits.get("le")
    )


def command(function: Callable[..., None]) -> Callable[..., None]:
    """Make a function a command: an option for each field of its option objects, errors as messages.

    A parameter annotated with an option object and :class:`Fields` becomes one option for each field, and
    every command has ``--debug``. The function runs inside :func:`~verifykit.cli._run.outcome`.
    """
    hints = typing.get_type_hints(function, include_extras=True)
    objects: dict[str, tuple[type, list[OptionField]]] = {}
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(function).parameters.values():
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
                annotation=Annotated[each.hint, _option(each)],
            )
            for each in fields
        ]

    options = {each.name: _option_of(each) for each in parameters if _option_of(each)}

    @functools.wraps(function)
    def run(**values: Any) -> None:
        debug = values.pop("debug")
        with outcome(as_json=values.get("as_json", False), debug=debug, options=options):
            for name, (kind, fields) in objects.items():
                flat = {each.name: values.pop(each.name) for each in fields}
                values[name] = build_options(kind, flat, _option_name)
            function(**values)

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


def _option_of(parameter: inspect.Parameter) -> str:
    """Return the option that a parameter is given by; empty for an argument."""
    for each in getattr(parameter.annotation, "__metadata__", ()):
        # Typer takes the first name of an annotation for the default until it builds the command.
        for name in (getattr(each, "default", None), *(getattr(each, "param_decls", None) or ())):
            if isinstance(name, str) and name.startswith("--"):
                return name
    return ""


def _option_name(name: str) -> str:
    return "--" + name.replace("_", "-")


def parse_metadata(pairs: list[str]) -> dict[str, str] | None:
    """Return ``["team=blue"]`` as ``{"team": "blue"}``; None without any, which keeps stored metadata.

    Raises:
        InputError: A text is not ``KEY=VALUE``.
    """
    for pair in pairs:
        if not pair.partition("=")[0] or "=" not in pair:
            raise InputError(f"--metadata takes KEY=VALUE, got {shown(pair)}")
    return dict(pair.split("=", 1) for pair in pairs) or None


def parse_duration(text: str) -> timedelta:
    """Return the duration of a whole number, 1 to 99999, and its unit: ``m``, ``h`` or ``d``.

    Raises:
        InputError: The text is something else.
    """
    match = re.fullmatch(r"([1-9][0-9]{0,4})([mhd])", text, re.ASCII)
    if match is None:
        raise InputError(
            f"a duration is a number and m, h or d, such as 365d, 12h or 90m, got {shown(text)}"
        )
    return int(match[1]) * _DURATION_UNITS[match[2]]


if TYPE_CHECKING:
    from verifykit.evaluation.embedding import EmbeddingCache

DataArgument = Annotated[
    Path,
    typer.Argument(
        metavar="DATA",
        help="A folder for each subject, a CSV of images or pairs, LFW's pairs.txt, or insightface's .bin.",
    ),
]
ImagesOption = Annotated[
    Path | None,
    typer.Option(
        "--images",
        metavar="FOLDER",
        help="Folder that a file's paths are relative to; default: the file's.",
    ),
]
FaceChoiceOption = Annotated[
    FaceChoice | None,
    typer.Option(
        "--multi-face",
        help="With several faces: refuse the image (default), use the largest, or the one in the middle "
        "(default for LFW's pairs.txt).",
    ),
]
DataQualityOption = Annotated[
    QualityGate | None,
    typer.Option(
        "--quality",
        help="Refuse weak samples (strict, default), or use them and warn (default for LFW).",
    ),
]
CacheOption = Annotated[
    Path | None,
    typer.Option("--cache", metavar="FILE", help="Embeddings of earlier runs; contains templates."),
]
NoCacheOption = Annotated[
    bool, typer.Option("--no-cache", help="Neither read nor write cached embeddings.")
]


def choices(
    kind: str, multi_face: FaceChoice | None, quality: QualityGate | None
) -> tuple[FaceChoice, QualityGate]:
    """Return the choice of faces and the quality gate: as given, else the defaults of the kind of data.

    LFW labels the face in the middle of an image, and its protocol leaves no image out.
    """
    is_lfw = kind == "lfw_pairs"
    return multi_face or ("middle" if is_lfw else "error"), quality or (
        "warn" if is_lfw else "strict"
    )


@contextmanager
def opened_cache(path: Path | None, *, off: bool) -> Iterator[EmbeddingCache | None]:
    """Open the cache of embeddings and close it at the end; None with ``off``.

    Raises:
        InputError: The file is not a cache, or cannot be written.
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
    network: NetworkOptions,
    calibration: Path | None = None,
    population: str | None = None,
    key: KeySource | None = None,
    decision: DecisionOptions | None = None,
    sample: SampleOptions | None = None,
    max_pixels: int | None = None,
) -> Verifier:
    """Open a verifier over an existing gallery, which is not written to.

    A mistyped path creates no gallery, and no write permission is needed.

    Raises:
        VerifyKitError: As :class:`~verifykit.verifier.Verifier`; GalleryError too without a gallery.
    """
    # The gallery first: a wrong path is reported before the model is loaded.
    location = str(gallery)
    open_existing(location, key=key).close()
    encoder = open_encoder(
        model,
        calibration,
        **dataclasses.asdict(network),
        max_pixels=max_pixels,
        population=population,
    )
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
