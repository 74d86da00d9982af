"""Galleries on the tests' PostgreSQL server."""

from __future__ import annotations

import itertools
from typing import Any

from tests.unit.gallery.files import DIGEST, SIZE
from verifykit.gallery import PostgresGallery
from verifykit.gallery.postgres.connection import parse_url

_numbers = itertools.count()


def next_name() -> str:
    """Of a gallery that is not there yet."""
    return f"unit_{next(_numbers)}"


def reopen(url: str, **options: Any) -> PostgresGallery:
    """The gallery of the tests' model, made if it is not there."""
    usual: dict[str, Any] = {"spec_digest": DIGEST, "embedding_size": SIZE, "model": "face"}
    return PostgresGallery(url, **{**usual, **options})


def sql(url: str, query: str) -> list[tuple[Any, ...]]:
    """Behind the gallery's back, in its schema."""
    import psycopg

    address = parse_url(url)
    with psycopg.connect(**address.parameters, autocommit=True) as connection:
        connection.execute(f"SET search_path = {address.schema}, public".encode())
        cursor = connection.execute(query.encode())
        return cursor.fetchall() if cursor.description else []
