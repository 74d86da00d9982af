"""The ASGI application: routes, middlewares, the page, and what is open while it runs."""

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
from verifykit.server.exception_handlers import add_exception_handlers
from verifykit.server.middleware import (
    AccessLogMiddleware,
    BodyLimitMiddleware,
    ErrorMiddleware,
    MetricsMiddleware,
    RequestIdMiddleware,
    SameOriginMiddleware,
    SecurityHeadersMiddleware,
    SubjectPathMiddleware,
    TrustedHostsMiddleware,
)
from verifykit.server.observability import Metrics
from verifykit.server.openapi import complete
from verifykit.server.retention import retention
from verifykit.server.routes import ROUTERS
from verifykit.server.service import Service
from verifykit.server.settings import ServerSettings

_PAGE = Path(__file__).parent / "page"


class _Application(FastAPI):
    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document."""
        if self.openapi_schema is None:
            complete(super().openapi(), self.state.service.models)
        return super().openapi()


def create_app(settings: ServerSettings, service: Service | None = None) -> FastAPI:
    """Return the service as an ASGI application.

    Models and galleries are opened when the application starts, and closed after the last response.

    Args:
        settings: The operator's settings.
        service: A service that is already open; the application closes it.

    Raises:
        InputError: An origin or a host name in the settings is invalid.
    """
    metrics = Metrics() if service is None else service.metrics

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        opened = service
        if opened is None:
            opened = await asyncio.to_thread(Service.open, settings, metrics)
        app.state.service = opened
        app.openapi()  # otherwise the first client would wait for it
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
    _mount_page(app)
    add_exception_handlers(app, [route for router in ROUTERS for route in router.routes], metrics)
    _protect(app, settings, metrics)
    return app


def _mount_page(app: FastAPI) -> None:
    """Serve the page at ``/`` and its files at ``/static``."""

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return FileResponse(_PAGE / "index.html", media_type="text/html")

    app.mount("/static", StaticFiles(directory=_PAGE), name="static")


def _protect(app: FastAPI, settings: ServerSettings, metrics: Metrics) -> None:
    """Add the middlewares, the innermost first."""
    app.add_middleware(SubjectPathMiddleware)
    app.add_middleware(ErrorMiddleware, metrics=metrics)
    app.add_middleware(
        BodyLimitMiddleware, max_bytes=settings.max_body_bytes, timeout_s=settings.body_timeout_s
    )
    app.add_middleware(SameOriginMiddleware, cors_origins=settings.cors)
    own = (settings.host, "localhost", "127.0.0.1", "::1")
    app.add_middleware(TrustedHostsMiddleware, hosts=(*own, *settings.trusted_hosts))
    app.add_middleware(SecurityHeadersMiddleware)
    app.add_middleware(MetricsMiddleware, metrics=metrics)
    app.add_middleware(AccessLogMiddleware)
    app.add_middleware(RequestIdMiddleware)
    # Starlette builds the middlewares with the first request: report wrong settings now.
    app.middleware_stack = app.build_middleware_stack()


def _operation_id(route: APIRoute) -> str:
    return route.name
