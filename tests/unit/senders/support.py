"""A receiver that answers what it is told to, and notifications to send to it."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import orjson
from aiohttp import web

from config.settings import load_settings
from senders.base import Notification
from senders.http import HttpClient
from senders.outcomes import Receipt, SendError

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from multidict import CIMultiDict

    from senders.base import ChannelConfig, Sender

ACCEPTED_AT = datetime(2026, 11, 3, 20, 26, 10, 344000, tzinfo=UTC)

#: Stands for a secret: where it is found, a secret would be.
CANARY = "CANARY-9f8e7d"

ALERT: dict[str, Any] = {
    "alert_id": 4711,
    "alert_type": "smoke_detected",
    "severity": 3,
    "device_id": "cam-3",
    "site_id": "berlin",
    "message": "Smoke in the hall",
    "details": {"camera_id": "cam-3", "device_tags": {"floor": "2"}, "note": "<b>R&D</b>"},
    "triggered_at": "2026-11-03T20:26:09Z",
}


def loopback_settings(**overrides: Any) -> Any:
    """Settings that permit a receiver on this machine."""
    return load_settings(allowed_networks="127.0.0.0/8 ::1/128", **overrides)


def notification(
    config: ChannelConfig, event: str = "OPEN", *, alert: Mapping[str, Any] | None = None, **overrides: Any
) -> Notification[Any]:
    """A notification with ALERT, changed by `alert`; other fields by name."""
    fields: dict[str, Any] = {
        "id": UUID("0190163d-8694-739b-aea5-966c26f8ad90"),
        "tenant_id": "acme",
        "job_id": 12,
        "severity": 3,
        "is_critical": False,
        "thread": "q0Zx3bTzQkq0Zx3bTzQkq0Zx3bTzQkAA",
        "accepted_at": ACCEPTED_AT,
        "expires_at": ACCEPTED_AT + timedelta(hours=12),
    }
    fields |= overrides
    return Notification(alert={**ALERT, **(alert or {})}, event=event, config=config, **fields)


@dataclass
class Received:
    """One request, whole."""

    method: str
    path: str
    headers: CIMultiDict[str]
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)


@dataclass
class Receiver:
    """A real HTTP server on 127.0.0.1. Set `status`, `body` and `headers` to what it shall answer."""

    status: int = 200
    body: bytes = b"ok"
    headers: dict[str, str] = field(default_factory=dict)
    requests: list[Received] = field(default_factory=list)
    connections: set[int] = field(default_factory=set)
    url: str = ""
    echo: bool = False

    async def handle(self, request: web.Request) -> web.Response:
        received = Received(request.method, request.path_qs, request.headers.copy(), await request.read())
        self.requests.append(received)
        self.connections.add(id(request.transport))
        body = self.body
        if self.echo:
            seen = [f"{name}: {value}" for name, value in received.headers.items()]
            body = "\n".join([received.path, *seen, received.body.decode()]).encode()
        return web.Response(status=self.status, body=body, headers=self.headers)


@asynccontextmanager
async def receiving(*, tls: ssl.SSLContext | None = None, **answer: Any) -> AsyncIterator[Receiver]:
    """Run a receiver."""
    receiver = Receiver(**answer)
    runner = web.AppRunner(web.Application(client_max_size=2**22))
    runner.app.router.add_route("*", "/{path:.*}", receiver.handle)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        scheme = "https" if tls else "http"
        receiver.url = f"{scheme}://127.0.0.1:{runner.addresses[0][1]}"
        yield receiver
    finally:
        await runner.cleanup()


@asynccontextmanager
async def raw_server(
    talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    *,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[str]:
    """Run a server that talks TCP, or TLS, as `talk` does, and give its http:// or https:// URL."""
    talking: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        talking.add(task)
        try:
            await talk(reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            pass  # the client hung up, or the test is over
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls)
    try:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in talking:
            task.cancel()
        await asyncio.gather(*talking, return_exceptions=True)


@asynccontextmanager
async def client(settings: Any = None, **parts: Any) -> AsyncIterator[HttpClient]:
    """An HttpClient that may reach this machine, closed at the end."""
    http = HttpClient(settings or loopback_settings(), **parts)
    try:
        yield http
    finally:
        await http.aclose()


def closed_port() -> int:
    """A port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def outcome(sender: Sender[Any], sent: Notification[Any]) -> Receipt | SendError:
    """What came of it, raised or returned."""
    try:
        return await sender.send(sent)
    except SendError as error:
        return error
