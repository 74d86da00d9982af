"""Where a gallery on a PostgreSQL server is: its URL, without a word of its password in any message."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any
from urllib.parse import unquote

from verifykit.errors import GalleryError, InputError

__all__ = ["POSTGRES_SCHEMES", "PostgresAddress", "driver", "is_postgres_url", "parse_url"]

POSTGRES_SCHEMES = ("postgresql://", "postgres://")

_PARAMETER = "verifykit_gallery"
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")


@dataclass(frozen=True)
class PostgresAddress:
    """A gallery on a server.

    Attributes:
        parameters: What libpq takes, with the password: never printed.
        name: Name of the gallery in the database.
        shown: The URL for people, without password.
    """

    parameters: dict[str, Any] = field(repr=False)
    name: str
    shown: str

    @property
    def schema(self) -> str:
        """The database schema that holds the gallery's tables."""
        return f"verifykit_{self.name}"


def driver() -> ModuleType:
    """The module ``psycopg``, imported when a gallery needs it and not before.

    Raises:
        GalleryError: It is not installed.
    """
    try:
        import psycopg
    except ImportError as error:
        raise GalleryError(
            'a gallery on PostgreSQL needs psycopg: pip install "verifykit[postgres]" '
            f"({type(error).__name__}: {error})"
        ) from error
    return psycopg


def is_postgres_url(location: object) -> bool:
    """Whether this names a gallery on a PostgreSQL server."""
    return isinstance(location, str) and location.startswith(POSTGRES_SCHEMES)


def parse_url(url: str) -> PostgresAddress:
    """The parts of ``postgresql://user@host:port/database?verifykit_gallery=name``.

    Args:
        url: Whatever libpq takes as a URL; ``verifykit_gallery`` is ours, 1 to 40 of ``a-z0-9_``, beginning
            with a letter, ``default`` if it is not given.

    Raises:
        InputError: It is no such URL, or no such name is possible. The message does not repeat the URL.
        GalleryError: psycopg is not installed.
    """
    psycopg = driver()
    if not is_postgres_url(url):
        raise InputError("a PostgreSQL gallery is postgresql://user@host:port/database")
    head, _, query = url.partition("?")
    pairs = [pair for pair in query.split("&") if pair]
    ours = [pair for pair in pairs if pair.partition("=")[0] == _PARAMETER]
    rest = [pair for pair in pairs if pair not in ours]
    name = unquote(ours[-1].partition("=")[2]) if ours else "default"
    if len(ours) > 1 or not _NAME.fullmatch(name):
        raise InputError(
            f"{_PARAMETER} is one name of 1 to 40 of a-z, 0-9 and _, beginning with a letter, got "
            f"{name!r}"
        )
    try:
        parameters = psycopg.conninfo.conninfo_to_dict(
            head + ("?" if rest else "") + "&".join(rest)
        )
    except psycopg.Error:
        # Neither repeated nor chained: libpq's message quotes the URL, and the password with it.
        raise InputError(
            "this is not a PostgreSQL URL: write postgresql://user@host:port/database, special "
            "characters in a password as %XX"
        ) from None
    parts = [str(parameters.get(key, "")) for key in ("host", "port", "dbname")]
    if any("@" in part for part in parts) or not re.fullmatch(r"[0-9,]*", parts[1]):
        # A piece of a password whose @ or / was not escaped: not to be taken for a host, and shown.
        raise InputError(
            "this URL's password, or its host, port or database, holds an @ or a /: write them as %40 "
            "and %2F"
        )
    user = f"{parameters['user']}@" if parameters.get("user") else ""
    port = f":{parameters['port']}" if parameters.get("port") else ""
    place = f"{user}{parameters.get('host', '')}{port}/{parameters.get('dbname', '')}"
    query = "" if name == "default" else f"?{_PARAMETER}={name}"
    return PostgresAddress(parameters, name, f"postgresql://{place}{query}")
