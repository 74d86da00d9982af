"""``verifykit serve``: the HTTP API and the web page; ``verifykit serve keys``: its API keys."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from verifykit._environment import import_problem
from verifykit.cli._run import emit
from verifykit.cli.options import (
    CalibrationOption,
    Fields,
    JsonOption,
    KeepCropsOption,
    KeyFileOption,
    NetworkChoice,
    PopulationOption,
    SampleChoice,
    command,
    gallery_key,
    parse_duration,
)
from verifykit.cli.render import columns
from verifykit.decision import DecisionOptions
from verifykit.errors import InputError, shortened
from verifykit.expiry_check import MAX_SHARE
from verifykit.extraction import SampleOptions
from verifykit.gallery.open import gallery_path
from verifykit.session import NetworkOptions

if TYPE_CHECKING:
    from verifykit.server.auth import ApiKey, KeyStore

_GalleryOption = Annotated[
    str | None,
    typer.Option(
        "--gallery", "-g", metavar="FILE", help="The gallery: keys are stored next to its file."
    ),
]
_StateOption = Annotated[
    Path | None,
    typer.Option(
        "--state", metavar="FILE", help="The state file, for galleries at postgresql:// URLs."
    ),
]

keys_app = typer.Typer(help="Create, list and revoke API keys.", no_args_is_help=True)


@keys_app.command()
@command
def create(
    name: Annotated[str, typer.Option("--name", help="A name for the key: who will use it.")],
    scope: Annotated[
        list[str],
        typer.Option("--scope", metavar="SCOPE", help="verify, enrol, read or admin; repeatable."),
    ],
    gallery: _GalleryOption = None,
    state: _StateOption = None,
    expires: Annotated[
        str | None,
        typer.Option("--expires", metavar="TIME", help="After 90d, 12h or 30m; never by default."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Create a key and print it, once: only its hash is stored."""
    now = datetime.now(timezone.utc)
    expires_at = None if expires is None else now + parse_duration(expires)
    with _keys(gallery, state, create=True) as keys:
        key, token = keys.create(name, scope, expires_at)
    emit({**key.to_dict(), "token": token}, token, as_json=as_json)
    typer.echo(
        f"key {key.key_id} ({name}) may {', '.join(sorted(key.scopes))}; save it now, it cannot be "
        "shown again",
        err=True,
    )


@keys_app.command("list")
@command
def list_(
    gallery: _GalleryOption = None,
    state: _StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print all keys, with those that expired or were revoked."""
    with _keys(gallery, state, create=False) as keys:
        found = keys.list()
    now = datetime.now(timezone.utc)
    rows = [
        (key.key_id, key.name, ",".join(sorted(key.scopes)), _day(key.created), _end(key, now))
        for key in found
    ]
    text = columns(("id", "name", "scopes", "created", "ends"), rows) if rows else "no keys"
    emit({"keys": [key.to_dict() for key in found]}, text, as_json=as_json)


@keys_app.command()
@command
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="The id of the key, from keys list.")],
    gallery: _GalleryOption = None,
    state: _StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Refuse a key from now on, also in running services."""
    with _keys(gallery, state, create=False) as keys:
        key = keys.revoke(key_id)
    emit(key.to_dict(), f"revoked {key.key_id} ({key.name})", as_json=as_json)


def _without_server(error: ImportError) -> InputError:
    missing = (
        f"`verifykit serve` needs {error.name}, which is not installed: "
        'pip install "verifykit-sdk[server]"'
    )
    return InputError(import_problem(error, missing))


@contextmanager
def _keys(gallery: str | None, state: Path | None, *, create: bool) -> Iterator[KeyStore]:
    try:
        # Not at the top: the other verbs work without this extra.
        from verifykit.server.auth import KeyStore
        from verifykit.server.state import ServerState, state_path
    except ImportError as error:
        raise _without_server(error) from error
    if (gallery is None) == (state is None):
        raise InputError("give either --gallery or --state: the keys are stored there")
    if gallery is not None and gallery_path(gallery) is None:
        raise InputError("a gallery on a server has no folder for the state file: give --state")
    opened = ServerState(state or state_path(str(gallery)), create=create)
    try:
        yield KeyStore(opened)
    finally:
        opened.close()


def _day(moment: datetime) -> str:
    return moment.date().isoformat()


def _end(key: ApiKey, now: datetime) -> str:
    if key.revoked is not None:
        return f"revoked {_day(key.revoked)}"
    if key.expires is None:
        return "never"
    return f"{'expires' if key.is_valid(now) else 'expired'} {_day(key.expires)}"


_MB = 1_000_000

app = typer.Typer(help="Serve the verbs over HTTP, with a web page; create API keys.")
app.add_typer(keys_app, name="keys")


@app.callback(invoke_without_command=True)
@command
def serve(
    context: typer.Context,
    gallery: Annotated[
        str | None,
        typer.Option(
            "--gallery",
            "-g",
            metavar="FILE|URL",
            help="The default model's gallery: a file, or a postgresql:// URL.",
        ),
    ] = None,
    key_file: KeyFileOption = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            metavar="NAME[=GALLERY]",
            help="A model, or its file, and its gallery, repeatable; without one, of --gallery [face].",
        ),
    ] = None,
    signatures: Annotated[
        str | None,
        typer.Option(
            "--signatures",
            metavar="FILE|URL",
            help="As --model signature=GALLERY; next to NAME.db, NAME.signatures.db by default.",
        ),
    ] = None,
    no_signatures: Annotated[
        bool, typer.Option("--no-signatures", help="Do not serve signatures.")
    ] = False,
    host: Annotated[
        str,
        typer.Option("--host", help="Address to listen at; beyond this machine only with keys."),
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")
    ] = 8000,
    state: Annotated[
        str | None,
        typer.Option(
            "--state", metavar="FILE", help="The file of API keys; next to the gallery by default."
        ),
    ] = None,
    audit: Annotated[
        str | None,
        typer.Option(
            "--audit", metavar="FILE", help="The audit log; next to the gallery by default."
        ),
    ] = None,
    decision: Annotated[DecisionOptions, Fields(("fmr",))] = DecisionOptions(),
    calibration: CalibrationOption = None,
    population: PopulationOption = None,
    sample: SampleChoice = SampleOptions(),
    network: NetworkChoice = NetworkOptions(),
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers", min=1, help="Requests at the same time; two for each core by default."
        ),
    ] = None,
    queue: Annotated[
        int, typer.Option("--queue", min=0, help="Requests that may wait; more are answered 503.")
    ] = 64,
    max_body_mb: Annotated[
        float,
        typer.Option("--max-body-mb", min=0.001, help="Maximum size of a request, in 10^6 bytes."),
    ] = 20.0,
    max_images: Annotated[
        int, typer.Option("--max-images", min=1, help="Maximum number of images of one enrolment.")
    ] = 10,
    max_pixels: Annotated[
        int, typer.Option("--max-pixels", min=1, help="Maximum height x width of an image.")
    ] = 40_000_000,
    rate: Annotated[
        int, typer.Option("--rate", min=0, help="Requests per minute of one key; 0 is no limit.")
    ] = 0,
    failed_verifications: Annotated[
        int,
        typer.Option(
            "--failed-verifications",
            min=0,
            help="Non-matches of one subject in 15 minutes; 0 is no limit.",
        ),
    ] = 10,
    cors: Annotated[
        list[str] | None,
        typer.Option(
            "--cors",
            metavar="ORIGIN",
            help="Another site whose pages may call the API; repeatable.",
        ),
    ] = None,
    trusted_host: Annotated[
        list[str] | None,
        typer.Option(
            "--trusted-host", metavar="NAME", help="Another host name of the service; repeatable."
        ),
    ] = None,
    keep_crops: KeepCropsOption = False,
    expire: Annotated[
        str | None,
        typer.Option(
            "--expire",
            metavar="TIME",
            help="Erase subjects enrolled longer ago, such as 365d; at the start and daily.",
        ),
    ] = None,
    expire_max_share: Annotated[
        float,
        typer.Option(
            "--expire-max-share",
            min=0.0,
            max=1.0,
            help="Share of a gallery's subjects that may expire at once.",
        ),
    ] = MAX_SHARE,
    no_watch_scores: Annotated[
        bool,
        typer.Option(
            "--no-watch-scores", help="Do not count scores to find out when a stated rate fails."
        ),
    ] = False,
    tls_cert: Annotated[
        str | None, typer.Option("--tls-cert", metavar="FILE", help="Certificate chain, PEM.")
    ] = None,
    tls_key: Annotated[
        str | None, typer.Option("--tls-key", metavar="FILE", help="Its private key, PEM.")
    ] = None,
) -> None:
    """Answer over HTTP until interrupted; then finish what was accepted."""
    if context.invoked_subcommand is not None:
        return
    galleries = _galleries(gallery, model or [])
    try:
        # Not at the top: the other verbs work without this extra.
        from verifykit.server import ServerSettings
        from verifykit.server import serve as answer
    except ImportError as error:
        raise _without_server(error) from error
    (default, location), *others = galleries
    settings = ServerSettings(
        location,
        key=gallery_key(key_file),
        model=default,
        models=tuple(others),
        calibration=None if calibration is None else str(calibration),
        fmr=decision.fmr,
        population=population,
        signatures=signatures,
        # A list of models with their galleries is complete: nothing is added to it.
        with_signatures=not no_signatures and (gallery is not None or signatures is not None),
        host=host,
        port=port,
        state=state,
        audit=audit,
        **dataclasses.asdict(sample),
        **dataclasses.asdict(network),
        workers=workers,
        queue=queue,
        max_body_bytes=round(max_body_mb * _MB),
        max_images=max_images,
        max_pixels=max_pixels,
        rate_per_minute=rate,
        failed_verifications=failed_verifications,
        cors=tuple(cors or ()),
        trusted_hosts=tuple(trusted_host or ()),
        keep_crops=keep_crops,
        expire=None if expire is None else parse_duration(expire),
        expire_max_share=expire_max_share,
        watch_scores=not no_watch_scores,
        tls_cert=tls_cert,
        tls_key=tls_key,
    )
    answer(settings, lambda address: typer.echo(f"listening at {address}"))


def _galleries(gallery: str | None, models: list[str]) -> list[tuple[str, str]]:
    """Return pairs of a model and its gallery, the default first."""
    named = [model for model in models if "=" not in model]
    pairs = [
        (name, location) for name, _, location in (m.partition("=") for m in models if "=" in m)
    ]
    if len(named) > 1 or (named and gallery is None):
        name = shortened(named[-1])
        raise InputError(f"--model {name}: this model has no gallery; give --model {name}=GALLERY")
    if gallery is not None:
        return [(named[0] if named else "face", gallery), *pairs]
    if not pairs:
        raise InputError("give --gallery FILE, --gallery postgresql://... or --model NAME=GALLERY")
    return pairs
