"""What OpenAPI says about bodies and problems, beside what FastAPI knows by itself."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from verifykit.server.answers import Problem
from verifykit.server.problem_codes import CODES
from verifykit.server.problems import MEDIA_TYPE

__all__ = [
    "compare_body",
    "enrol_body",
    "name_models",
    "picture_body",
    "problem_media_type",
    "problems",
]

_FILE = {"type": "string", "format": "binary", "contentMediaType": "image/*"}
_BASE64 = {"type": "string", "contentEncoding": "base64", "format": "byte"}
_METADATA = {"type": "object", "description": "Stored with the subject."}

_EVERYWHERE = (400, 401, 403, 408, 413, 429, 500)


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The problems that a route answers with, besides those that each does.

    Args:
        *statuses: HTTP statuses.
    """
    found: dict[int | str, dict[str, Any]] = {}
    for status in sorted({*_EVERYWHERE, *statuses}):
        codes = [code for code, kind in CODES.items() if kind.status == status]
        found[status] = {
            "model": Problem,
            "description": f"Problem, with one of the codes {', '.join(codes)}.",
        }
        if status in (429, 503):
            found[status]["headers"] = {
                "Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."}
            }
    return found


def problem_media_type(schema: dict[str, Any]) -> None:
    """Put the problems of a whole OpenAPI document under their own media type, in place.

    Args:
        schema: The document as FastAPI made it, which says ``application/json`` everywhere.
    """
    for path in schema["paths"].values():
        for operation in path.values():
            for status, response in operation["responses"].items():
                content = response.get("content", {})
                for media_type in tuple(content):
                    if int(status) >= 400 and _is_problem(content[media_type]):
                        content[MEDIA_TYPE] = content.pop(media_type)


def name_models(schema: dict[str, Any], names: Iterable[str]) -> None:
    """Say which models can be asked for, in place.

    Args:
        schema: The document.
        names: Of the models that are served.
    """
    for path in schema["paths"].values():
        for operation in path.values():
            for parameter in operation.get("parameters", ()):
                if (parameter["in"], parameter["name"]) == ("query", "model"):
                    parameter["schema"] = {"type": "string", "enum": list(names)}


def enrol_body(most: str) -> dict[str, Any]:
    """Pictures and metadata, of either kind."""
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


def picture_body() -> dict[str, Any]:
    """One picture, of either kind."""
    return _body({"image": _FILE}, {"image": _BASE64}, ["image"], ["image"])


def compare_body() -> dict[str, Any]:
    """Two pictures, of either kind."""
    names = ["probe", "reference"]
    return _body(dict.fromkeys(names, _FILE), dict.fromkeys(names, _BASE64), names, names)


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
