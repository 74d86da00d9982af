"""The parts of the OpenAPI document that FastAPI does not derive: bodies, problems, names of models."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from verifykit.modalities import reason_hints
from verifykit.server.errors import CODES, MEDIA_TYPE, kind_of
from verifykit.server.schemas import Problem

_FILE = {"type": "string", "format": "binary", "contentMediaType": "image/*"}
_BASE64 = {"type": "string", "contentEncoding": "base64", "format": "byte"}
_METADATA = {"type": "object", "description": "Stored with the subject."}

_EVERYWHERE = (400, 401, 403, 408, 413, 429, 500)


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the problems of a route: those of every route, and those of these statuses."""
    found: dict[int | str, dict[str, Any]] = {}
    for status in sorted({*_EVERYWHERE, *statuses}):
        reasons = reason_hints() if status == kind_of("").status else ()
        codes = [*reasons, *(code for code, kind in CODES.items() if kind.status == status)]
        found[status] = {
            "model": Problem,
            "description": f"Problem, with one of the codes {', '.join(codes)}.",
        }
        if status in (429, 503):
            found[status]["headers"] = {
                "Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."}
            }
    return found


def enrolment_body() -> dict[str, Any]:
    """Return the body of an enrolment: images and metadata, as multipart or JSON."""
    most = "As many as the operator allows."
    return _body(
        {
            "image": {"type": "array", "items": _FILE, "minItems": 1, "description": most},
            "metadata": {"type": "string", "description": "A JSON object."},
        },
        {
            "images": {"type": "array", "items": _BASE64, "minItems": 1, "description": most},
            "metadata": {"anyOf": [_METADATA, {"type": "null"}]},
        },
        ["image"],
        ["images"],
    )


def images_body(*names: str) -> dict[str, Any]:
    """Return a body with one image for each name, as multipart or JSON."""
    required = list(names)
    return _body(dict.fromkeys(names, _FILE), dict.fromkeys(names, _BASE64), required, required)


def complete(document: dict[str, Any], models: Iterable[str]) -> None:
    """Add to a whole document, in place, the media type of problems and the names of the models."""
    model = {"type": "string", "enum": list(models)}
    for path in document["paths"].values():
        for operation in path.values():
            for status, response in operation["responses"].items():
                content = response.get("content", {})
                for media_type in tuple(content):
                    if int(status) >= 400 and _is_problem(content[media_type]):
                        content[MEDIA_TYPE] = content.pop(media_type)
            for parameter in operation.get("parameters", ()):
                if (parameter["in"], parameter["name"]) == ("query", "model"):
                    parameter["schema"] = dict(model)


def _body(
    parts: dict[str, Any], keys: dict[str, Any], required_parts: list[str], required: list[str]
) -> dict[str, Any]:
    def described(properties: dict[str, Any], names: list[str]) -> dict[str, Any]:
        return {
            "schema": {
                "type": "object",
                "properties": properties,
                "required": names,
                "additionalProperties": False,
            }
        }

    return {
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": described(parts, required_parts),
                "application/json": described(keys, required),
            },
        }
    }


def _is_problem(content: dict[str, Any]) -> bool:
    return str(content.get("schema", {}).get("$ref", "")).endswith("/Problem")
