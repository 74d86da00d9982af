"""The routes of the service, by theme."""

from __future__ import annotations

from verifykit.server.routes import health, identification, models, subjects, verification

__all__ = ["ROUTERS"]


ROUTERS = (
    subjects.router,
    verification.router,
    identification.router,
    models.router,
    health.router,
)
