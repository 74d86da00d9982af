"""The service: the verbs over HTTP, and a web page. Needs the extra ``server``."""

from __future__ import annotations

from verifykit.server.app import create_app
from verifykit.server.settings import ServerSettings
from verifykit.server.uvicorn_runner import serve

__all__ = ["ServerSettings", "create_app", "serve"]
