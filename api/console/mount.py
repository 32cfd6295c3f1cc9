"""Adds the console to the app."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles

from api.console.figures import Overview
from api.console.letters import DeadLetters
from api.console.live import Pulse
from api.console.page import HEADERS, STATIC, stray_page
from api.console.routes import alerts, channels, dead, device, entrance, overview, rules, users

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.responses import Response


class _Static(StaticFiles):
    """Files whose address changes with their content (`page.static`), so that browsers keep them."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        return response


def add_to(app: FastAPI) -> None:
    """Add pages, files, what they share, and a page for addresses at which there is nothing.

    Streams of live pages end when `app.state.is_stopping` says so.
    """
    app.state.console_overview = Overview()
    app.state.console_dead_letters = DeadLetters(app.state.settings)
    app.state.console_pulse = Pulse(lambda: bool(app.state.is_stopping()))
    for module in (entrance, overview, alerts, dead, channels, rules, users, device):
        app.include_router(module.router)
    app.add_exception_handler(HTTPException, stray_page)
    app.mount("/static", _Static(directory=STATIC), name="static")
