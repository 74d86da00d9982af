"""Uploads: from the body of a request to the bytes of images, as multipart files or JSON with base64."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NoReturn

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from verifykit.errors import shortened, shown
from verifykit.image import encoded_image
from verifykit.server.errors import ProblemError

_JSON = "application/json"
_MULTIPART = "multipart/form-data"

_AS_BASE64 = (
    "Send the bytes of the image file in base64, or as a data URL that begins with data:image/jpeg;base64, "
    "or send the file in multipart/form-data."
)


class _InMemoryParser(MultiPartParser):
    # Images of people are not written to temporary files; the size of the body is already limited.
    spool_max_size = 1 << 40


@dataclass(frozen=True)
class Upload:
    """A body that was received and not yet parsed: JSON, or the parts of a multipart body by name."""

    json: bytes | None
    parts: Mapping[str, list[bytes | str]]

    def images(self, part: str, key: str, *, most: int) -> list[bytes]:
        """Return the encoded bytes of 1 to ``most`` images: parts of one name, or a list under a key."""
        if self.json is None:
            self._allow((part, "metadata"))
            found = self._files(part)
        else:
            body = self._object((key, "metadata"))
            values = body.get(key)
            if not isinstance(values, list):
                _refuse(
                    f"{key} must be a list of base64 strings",
                    f'Send {{"{key}": ["..."]}}, also for one image.',
                )
            found = [_decoded(f"{key}[{i}]", value) for i, value in enumerate(values[: most + 1])]
        if not found:
            _refuse(f"no image was sent: give at least one as {part if self.json is None else key}")
        if len(found) > most:
            raise ProblemError(
                "too_many_images", f"at most {most} images are accepted in one request"
            )
        return found

    def image_each(self, *names: str) -> list[bytes]:
        """Return the encoded bytes of exactly one image for each name."""
        if self.json is None:
            self._allow(names)
            found = []
            for name in names:
                files = self._files(name)
                if len(files) != 1:
                    _refuse(f"{name} must be one file, got {len(files)}")
                found.append(files[0])
            return found
        body = self._object(names)
        return [_decoded(name, body.get(name)) for name in names]

    def metadata(self) -> dict[str, Any] | None:
        """Return the JSON object ``metadata``; None without one."""
        if self.json is not None:
            value = self._body.get("metadata")
        else:
            parts = self.parts.get("metadata", [])
            if not parts:
                return None
            if len(parts) != 1:
                _refuse(f"metadata must be sent once, got {len(parts)}")
            value = _parsed(parts[0], "metadata")
        if value is not None and not isinstance(value, dict):
            _refuse("metadata must be a JSON object")
        return value

    def _files(self, name: str) -> list[bytes]:
        files = self.parts.get(name, [])
        for file in files:
            if not isinstance(file, bytes):
                _refuse(f"{name} must be a file: its part needs a filename in Content-Disposition")
        return [file for file in files if isinstance(file, bytes)]

    def _allow(self, names: Sequence[str]) -> None:
        for name in self.parts:
            if name not in names:
                _refuse(
                    f"unknown part {shown(name)}: known are {', '.join(names)}",
                    f"Name the part {names[0]}.",
                )

    @cached_property
    def _body(self) -> dict[str, Any]:
        body = _parsed(self.json or b"", "the body")
        if not isinstance(body, dict):
            _refuse("the body must be a JSON object")
        return body

    def _object(self, names: Sequence[str]) -> dict[str, Any]:
        for name in self._body:
            if name not in names:
                _refuse(
                    f"unknown key {shown(name)}: known are {', '.join(names)}",
                    f"Name the key {names[0]}.",
                )
        return self._body


async def receive(request: Request) -> Upload:
    """Receive a body, in memory."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type == _JSON:
        return Upload(await request.body(), {})
    if media_type != _MULTIPART:
        raise ProblemError(
            "unsupported_media_type",
            f"the body must be {_MULTIPART} or {_JSON}, got {shown(media_type or 'no Content-Type')}",
            hint=f"Send the file in {_MULTIPART}, or {_JSON} with base64.",
        )
    parts: dict[str, list[bytes | str]] = {}
    try:
        form = await _InMemoryParser(request.headers, request.stream()).parse()
    except (MultiPartException, KeyError, ValueError) as error:
        raise ProblemError(
            "bad_request", f"the multipart body is malformed: {shortened(error)}"
        ) from error
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
    raise ValueError(f"{name} is not a JSON number")


def _decoded(name: str, value: object) -> bytes:
    if not isinstance(value, str):
        _refuse(f"{name} must be an image in base64", _AS_BASE64)
    try:
        return encoded_image(value)
    except ValueError as error:
        raise ProblemError(
            "invalid_value", f"{name} is not base64: {error}", hint=_AS_BASE64
        ) from error


def _refuse(detail: str, hint: str | None = None) -> NoReturn:
    raise ProblemError("invalid_value", detail, hint=hint)
