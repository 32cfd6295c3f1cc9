"""Around every request: its id, one line in the log, and the last net for errors of ours."""

from __future__ import annotations

import re
import time
import uuid
from typing import TYPE_CHECKING

import structlog
from starlette.datastructures import Headers, MutableHeaders

from api import work
from api.problems import problem
from config.logging import get_logger

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: What a caller may choose as a request's id; it ends up in logs and headers.
_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")

#: Asked every few seconds by machines: worth a line only when one looks closely.
_QUIET = frozenset({"/healthz", "/readyz", "/metrics"})

log = get_logger("tocsin.http")


class RequestContext:
    """Gives each request an id, binds it to every log line of its work, and tells how it ended.

    It catches what no handler translates, so that the answer to an error of ours is a problem document too and the
    traceback is in the log once.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _ID.fullmatch(given) else uuid.uuid4().hex
        state = scope.setdefault("state", {})
        state["request_id"] = request_id
        work.begin()
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        began = time.perf_counter()
        status = 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = request_id
                headers["X-Content-Type-Options"] = "nosniff"
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        try:
            await self.app(scope, receive, sending)
        except Exception:
            log.exception("request_failed", method=scope["method"], path=scope["path"])
            if status:
                raise  # half an answer is out; the server can only cut it off
            detail = "an error in Tocsin; its log has it under this request_id"
            await problem(scope, 500, detail)(scope, receive, sending)
        finally:
            caller = state.get("caller")
            write = log.debug if scope["path"] in _QUIET else log.info
            write(
                "request",
                method=scope["method"],
                path=scope["path"],
                status=status,
                ms=round((time.perf_counter() - began) * 1000, 1),
                tenant=getattr(caller, "tenant_id", None),
                key=getattr(caller, "key_id", None),
            )
