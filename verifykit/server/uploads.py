"""From the body of a request to the bytes of pictures: multipart files, or JSON with base64."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NoReturn

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from verifykit.server.errors import ProblemError

_JSON = "application/json"
_MULTIPART = "multipart/form-data"


class _InMemoryParser(MultiPartParser):
    # Pictures of people are not written to temporary files; the body's size is limited already.
    spool_max_size = 1 << 40


@dataclass(frozen=True)
class Upload:
    """A body that was received and not yet understood.

    Attributes:
        json: The bytes of a JSON body; None for a multipart body.
        parts: The parts of a multipart body by name: bytes of files, text of the others.
    """

    json: bytes | None
    parts: Mapping[str, list[bytes | str]]

    def pictures(self, part: str, key: str, *, most: int) -> list[bytes]:
        """The encoded bytes of one or more pictures.

        Args:
            part: Name of the parts in a multipart body.
            key: Name in a JSON body, of a list of base64.
            most: More than this are refused.

        Raises:
            ProblemError: None, too many, or something else in their place.
        """
        if self.json is None:
            self._allow((part, "metadata"))
            found = self._files(part)
        else:
            body = self._object((key, "metadata"))
            values = body.get(key)
            if not isinstance(values, list):
                _refuse(f"{key} is a list of base64 strings")
            found = [_decoded(f"{key}[{i}]", value) for i, value in enumerate(values[: most + 1])]
        if not found:
            _refuse(
                f"no picture was sent: give at least one as {part if self.json is None else key}"
            )
        if len(found) > most:
            raise ProblemError(
                "too_many_images", f"at most {most} pictures are taken in one request"
            )
        return found

    def picture_each(self, *names: str) -> list[bytes]:
        """The encoded bytes of exactly one picture for each name, in a body of either kind.

        Raises:
            ProblemError: One is missing, there are several, or something else in its place.
        """
        if self.json is None:
            self._allow(names)
            found = []
            for name in names:
                files = self._files(name)
                if len(files) != 1:
                    _refuse(f"{name} is one file, got {len(files)}")
                found.append(files[0])
            return found
        body = self._object(names)
        return [_decoded(name, body.get(name)) for name in names]

    def metadata(self) -> dict[str, Any] | None:
        """The JSON object ``metadata``; None without one.

        Raises:
            ProblemError: It is something else.
        """
        if self.json is not None:
            value = self._body.get("metadata")
        else:
            parts = self.parts.get("metadata", [])
            if not parts:
                return None
            if len(parts) != 1:
                _refuse(f"metadata is sent once, got {len(parts)}")
            value = _parsed(parts[0], "metadata")
        if value is not None and not isinstance(value, dict):
            _refuse("metadata is a JSON object")
        return value

    def _files(self, name: str) -> list[bytes]:
        files = self.parts.get(name, [])
        for file in files:
            if not isinstance(file, bytes):
                _refuse(f"{name} is a file: its part needs a filename in Content-Disposition")
        return [file for file in files if isinstance(file, bytes)]

    def _allow(self, names: Collection[str]) -> None:
        for name in self.parts:
            if name not in names:
                _refuse(f"no part {name[:64]!r} is known here: possible are {', '.join(names)}")

    @cached_property
    def _body(self) -> dict[str, Any]:
        body = _parsed(self.json or b"", "the body")
        if not isinstance(body, dict):
            _refuse("the body is a JSON object")
        return body

    def _object(self, names: Collection[str]) -> dict[str, Any]:
        for name in self._body:
            if name not in names:
                _refuse(f"no key {name[:64]!r} is known here: possible are {', '.join(names)}")
        return self._body


async def receive(request: Request) -> Upload:
    """Take in a body, in memory.

    Raises:
        ProblemError: Neither JSON nor multipart, or multipart that is malformed.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type == _JSON:
        return Upload(await request.body(), {})
    if media_type != _MULTIPART:
        raise ProblemError(
            "unsupported_media_type",
            f"the body is {_MULTIPART} or {_JSON}, got {media_type[:64] or 'no Content-Type'!r}",
        )
    parts: dict[str, list[bytes | str]] = {}
    try:
        form = await _InMemoryParser(request.headers, request.stream()).parse()
    except (MultiPartException, KeyError, ValueError) as error:
        raise ProblemError("bad_request", f"the multipart body is malformed: {error}") from error
    try:
        for name, value in form.multi_items():
            read = await value.read() if isinstance(value, UploadFile) else value
            parts.setdefault(name, []).append(read)
    finally:
        await form.close()
    return Upload(None, parts)


def _parsed(text: bytes | str, what: str) -> Any:
    try:
        return json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise ProblemError("bad_request", f"{what} is not JSON: {error}") from error


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _decoded(name: str, value: object) -> bytes:
    if not isinstance(value, str):
        _refuse(f"{name} is a picture in base64")
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ProblemError("invalid_value", f"{name} is not base64: {error}") from error


def _refuse(detail: str) -> NoReturn:
    raise ProblemError("invalid_value", detail)
