"""The HTTP/1.1 side: a receiver that answers aiohttp requests."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from abc import abstractmethod
from typing import TYPE_CHECKING

from aiohttp import web

from receivers.base import Receiver

if TYPE_CHECKING:
    from collections.abc import Callable

    from receivers.records import Answer, Arrival, Received, Reply

# Above the largest limit of any provider (PagerDuty's 512,000 bytes), so that the receiver itself can refuse.
LARGEST_BODY = 1024 * 1024


def reset_connection(transport: asyncio.Transport | None) -> None:
    """Close a TCP connection so that the peer sees a reset: with linger 0, closing sends RST (socket(7))."""
    if transport is None:
        return
    sock = transport.get_extra_info("socket")
    with contextlib.suppress(OSError):  # the peer may have gone first
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def plain_headers(request: web.BaseRequest) -> dict[str, str]:
    """The headers as they are kept: in lower case, and without the credentials."""
    headers = {name.lower(): value for name, value in request.headers.items()}
    headers.pop("authorization", None)
    return headers


class HttpReceiver(Receiver):
    """A receiver behind routes of the shared HTTP server.

    Args:
        origin: scheme, host and port of that server, as in `http://127.0.0.1:8123`.
    """

    def __init__(
        self, origin: str, *, verify: bool = True, on_received: Callable[[Received], None] | None = None
    ) -> None:
        super().__init__(verify=verify, on_received=on_received)
        self.origin = origin

    @abstractmethod
    def routes(self) -> list[web.RouteDef]:
        """The routes to mount."""

    @abstractmethod
    def check(self, request: web.Request, body: bytes) -> Arrival:
        """Verify one request."""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Verify, keep and answer one request."""
        body = await request.read()
        return await self.answer(request, self.check(request, body))

    async def answer(self, request: web.Request, arrival: Arrival) -> web.StreamResponse:
        """Settle an arrival and carry its answer out."""
        return await self.carry_out(request, *self.settle(arrival, plain_headers(request)))

    async def carry_out(self, request: web.Request, reply: Reply | None, order: Answer) -> web.StreamResponse:
        """Answer with `reply`, or delay, reset or stall as ordered."""
        if order.delay:
            await asyncio.sleep(order.delay)
        if order.reset:
            reset_connection(request.transport)
        if reply is None:
            # Until the client hangs up, the reset is through or the server stops: each cancels this.
            await asyncio.Event().wait()
            raise AssertionError("nothing sets the event")
        return web.Response(status=reply.status, body=reply.body, headers=reply.headers)
