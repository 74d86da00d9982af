"""The page: files of the package, served as they are."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles

__all__ = ["mount_page"]

_PAGE = Path(__file__).parent / "page"


def mount_page(app: FastAPI) -> None:
    """Serve the page at ``/`` and what it needs at ``/static``."""

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return FileResponse(_PAGE / "index.html", media_type="text/html")

    app.mount("/static", StaticFiles(directory=_PAGE), name="static")
