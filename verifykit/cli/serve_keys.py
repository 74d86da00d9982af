"""``verifykit serve keys``: the keys with which applications ask the service."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from verifykit.cli.options import DebugOption, JsonOption
from verifykit.cli.outcome import emit, outcome
from verifykit.cli.tables import columns
from verifykit.durations import parse_duration
from verifykit.errors import InputError

if TYPE_CHECKING:
    from verifykit.server.keys import ApiKey, KeyStore

__all__ = ["app"]

_GalleryOption = Annotated[
    str | None,
    typer.Option("--gallery", "-g", metavar="FILE", help="The gallery: keys lie beside its file."),
]
_StateOption = Annotated[
    Path | None,
    typer.Option("--state", metavar="FILE", help="The state file itself: for postgresql:// URLs."),
]

app = typer.Typer(help="Make, list and revoke API keys.", no_args_is_help=True)


@app.command()
def create(
    name: Annotated[str, typer.Option("--name", help="What people call it: who will use it.")],
    scope: Annotated[
        list[str],
        typer.Option(
            "--scope", metavar="SCOPE", help="verify, enrol, read or admin; may be repeated."
        ),
    ],
    gallery: _GalleryOption = None,
    state: _StateOption = None,
    expires: Annotated[
        str | None,
        typer.Option(
            "--expires", metavar="TIME", help="After 90d, 12h or 30m; never if not given."
        ),
    ] = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Make a key and print it: this once, as only its hash is stored."""
    with outcome(as_json=as_json, debug=debug):
        now = datetime.now(timezone.utc)
        expires_at = None if expires is None else now + parse_duration(expires)
        with _keys(gallery, state, create=True) as keys:
            key, token = keys.create(name, scope, expires_at)
        emit({**key.to_dict(), "token": token}, token, as_json=as_json)
        typer.echo(
            f"key {key.key_id} ({name}) may {', '.join(sorted(key.scopes))}; keep it now, it cannot be "
            "shown again",
            err=True,
        )


@app.command("list")
def list_(
    gallery: _GalleryOption = None,
    state: _StateOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Print all keys, also those that expired or were revoked."""
    with outcome(as_json=as_json, debug=debug):
        with _keys(gallery, state, create=False) as keys:
            found = keys.list()
        now = datetime.now(timezone.utc)
        rows = [
            (key.key_id, key.name, ",".join(sorted(key.scopes)), _day(key.created), _end(key, now))
            for key in found
        ]
        text = columns(("id", "name", "scopes", "created", "ends"), rows) if rows else "no keys"
        emit({"keys": [key.to_dict() for key in found]}, text, as_json=as_json)


@app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="The key's id: keys list.")],
    gallery: _GalleryOption = None,
    state: _StateOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Refuse a key from now on; running services see it at once."""
    with outcome(as_json=as_json, debug=debug):
        with _keys(gallery, state, create=False) as keys:
            key = keys.revoke(key_id)
        emit(key.to_dict(), f"revoked {key.key_id} ({key.name})", as_json=as_json)


@contextmanager
def _keys(gallery: str | None, state: Path | None, *, create: bool) -> Iterator[KeyStore]:
    try:
        # Not at the top: the other verbs do without this extra.
        from verifykit.server.keys import KeyStore
        from verifykit.server.state import ServerState
    except ImportError as error:
        raise InputError(
            f"`verifykit serve` needs {error.name}, which is not installed: "
            'pip install "verifykit[server]"'
        ) from error
    if (gallery is None) == (state is None):
        raise InputError("give --gallery or --state: one of them says where the keys lie")
    if gallery is not None and "://" in gallery:
        raise InputError("a gallery on a server has no file beside it: give --state")
    opened = ServerState(state or Path(f"{gallery}.server"), create=create)
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
