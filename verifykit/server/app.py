"""The application: routes, middlewares, and what is open while it runs.

The page: files of the package, served as they are.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles

import verifykit
from verifykit.server.exception_handlers import LastResort, handle_failures
from verifykit.server.middleware import (
    BodyLimit,
    EncodedSubjects,
    RequestId,
    SameOrigin,
    SecurityHeaders,
    TrustedHosts,
)
from verifykit.server.observability import AccessLog, Metrics, RequestMetrics
from verifykit.server.retention import retention
from verifykit.server.routes import ROUTERS
from verifykit.server.schemas import name_models, problem_media_type
from verifykit.server.service import Service
from verifykit.server.settings import ServerSettings

_PAGE = Path(__file__).parent / "page"


def mount_page(app: FastAPI) -> None:
    """Serve the page at ``/`` and what it needs at ``/static``."""

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return FileResponse(_PAGE / "index.html", media_type="text/html")

    app.mount("/static", StaticFiles(directory=_PAGE), name="static")


class _Application(FastAPI):
    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document."""
        if self.openapi_schema is None:
            schema = super().openapi()
            problem_media_type(schema)
            name_models(schema, self.state.service.models)
        return super().openapi()


def create_app(settings: ServerSettings, service: Service | None = None) -> FastAPI:
    """The service as an ASGI application.

    What it needs is opened when the application starts, and closed after the last answer when it ends.

    Args:
        settings: What the operator decided.
        service: What is open already; the application closes it.

    Raises:
        InputError: An origin or a host name in the settings is none.
    """
    metrics = Metrics() if service is None else service.metrics

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        opened = service
        if opened is None:
            opened = await asyncio.to_thread(Service.open, settings, metrics)
        app.state.service = opened
        app.openapi()  # what FastAPI prepares late would make the first client wait
        try:
            async with retention(opened):
                yield
        finally:
            await asyncio.to_thread(opened.close)

    app = _Application(
        title="verifykit",
        summary="Verify and identify people by face or handwritten signature.",
        version=verifykit.__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=_operation_id,
    )
    for router in ROUTERS:
        app.include_router(router)
    mount_page(app)
    handle_failures(app, [route for router in ROUTERS for route in router.routes], metrics)
    _protect(app, settings, metrics)
    return app


def _protect(app: FastAPI, settings: ServerSettings, metrics: Metrics) -> None:
    """Put the middlewares around the application, the innermost first."""
    app.add_middleware(EncodedSubjects)
    app.add_middleware(LastResort, metrics=metrics)
    app.add_middleware(
        BodyLimit, max_bytes=settings.max_body_bytes, timeout_s=settings.body_timeout_s
    )
    app.add_middleware(SameOrigin, cors_origins=settings.cors)
    own = (settings.host, "localhost", "127.0.0.1", "::1")
    app.add_middleware(TrustedHosts, hosts=(*own, *settings.trusted_hosts))
    app.add_middleware(SecurityHeaders)
    app.add_middleware(RequestMetrics, metrics=metrics)
    app.add_middleware(AccessLog)
    app.add_middleware(RequestId)
    # Starlette builds the middlewares with the first request: what is wrong is said now.
    app.middleware_stack = app.build_middleware_stack()


def _operation_id(route: APIRoute) -> str:
    return route.name
