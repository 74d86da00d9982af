"""A TOML file to a :class:`~training.config.Config`, strictly, with overrides from the command line."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from training.config import Config
from training.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["load_config", "parse_config"]


def load_config(path: Path, overrides: Iterable[str] = ()) -> Config:
    """Read a TOML file and lay overrides over it.

    Args:
        path: The file.
        overrides: ``section.key=value``, the value written as in TOML; a bare word is a string.

    Raises:
        ConfigError: The file cannot be read, is not TOML, or holds a key or value that is not allowed.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read configuration {str(path)!r}: {error.strerror}") from error
    try:
        body = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error
    for override in overrides:
        _set(body, override)
    return parse_config(body, str(path))


def parse_config(body: Mapping[str, Any], where: str = "configuration") -> Config:
    """Check a parsed configuration.

    Args:
        body: As a TOML reader gives it.
        where: What errors call it.

    Raises:
        ConfigError: Names every key that is unknown (with the closest known one), missing or of a
            value that is not allowed.
    """
    try:
        return Config.model_validate(dict(body))
    except ValidationError as error:
        problems = [_problem(item["loc"], item["type"], item["msg"]) for item in error.errors()]
        raise ConfigError(f"{where}: {'; '.join(problems)}") from None


def _set(body: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    *sections, last = key.strip().split(".")
    if not equals or not last:
        raise ConfigError(f"--set takes section.key=value, got {override!r}")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    for section in sections:
        body = body.setdefault(section, {})
        if not isinstance(body, dict):
            raise ConfigError(f"--set {override}: {section!r} is not a section")
    body[last] = value


def _problem(location: tuple[int | str, ...], kind: str, message: str) -> str:
    name = ".".join(map(str, location))
    if kind == "missing":
        return f"{name} is missing"
    if kind != "extra_forbidden":
        return f"{name}: {message}"
    known = _known_keys(location[:-1])
    close = difflib.get_close_matches(str(location[-1]), known, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"
    return f"unknown key {name!r}: {hint}"


def _known_keys(sections: tuple[int | str, ...]) -> list[str]:
    model: type[BaseModel] = Config
    for section in sections:
        annotation = model.model_fields[str(section)].annotation
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        model = annotation
    return list(model.model_fields)
