"""The way of a request over the wire: httpx's types in and out, aiohttp's connections in between.

httpx-aiohttp's own transport parses and quotes the checked URL a second time, and reads the answer through two
generators (measured: 256 us a request, then 155, of which bare aiohttp takes 110).
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Final, cast

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport
from multidict import CIMultiDict

from senders.deadline import check_deadline

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp import AddrInfoType, ClientRequest, ClientTimeout
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace

BODY_CAP: Final = 64 * 1024
"""Bytes of an answer that are read; no provider says more, and an endless answer must cost nothing."""


class Transport(AiohttpTransport):
    """One request, one answer of at most BODY_CAP bytes, as it came: not decompressed, redirects not followed.

    Beside its own, a request has two extensions: `target`, its URL as aiohttp has it, and aiohttp's `timeout`.
    """

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Make the request; its body is a httpx.ByteStream, and so is the answer's.

        Raises:
            aiohttp.ClientError, OSError: as they are, for senders.http_errors.
        """
        if not isinstance(self.client, aiohttp.ClientSession):
            self.client = self.get_client()
        async with self.client.request(
            request.method,
            request.extensions["target"],
            headers=CIMultiDict(
                (name.decode("ascii"), value.decode("ascii")) for name, value in request.headers.raw
            ),
            data=b"".join(cast("httpx.ByteStream", request.stream)) or None,
            allow_redirects=False,
            timeout=request.extensions["timeout"],
            proxy=None if self.proxy is None else str(self.proxy.url),
            proxy_headers=None if self.proxy is None else self.proxy.headers,
        ) as response:
            body = await response.content.read(BODY_CAP)
            while len(body) < BODY_CAP and not response.content.at_eof():
                body += await response.content.read(BODY_CAP - len(body))
            # Leaving the block with the body half read drops the connection: an endless answer is not drained. And a
            # stream, since httpx would decompress `content`.
            return httpx.Response(
                response.status, headers=response.raw_headers, stream=httpx.ByteStream(body)
            )


class Connector(aiohttp.TCPConnector):
    """Connections, none of which is handed out when its request's time is over."""

    async def connect(self, req: ClientRequest, traces: list[Trace], timeout: ClientTimeout) -> Connection:  # noqa: ASYNC109  # aiohttp's signature
        """As aiohttp's.

        Raises:
            TimeoutError: it came too late.
        """
        connection = await super().connect(req, traces, timeout)
        try:
            check_deadline()
        except TimeoutError:
            connection.close()
            raise
        return connection


def forgetful(
    open_socket: Callable[[AddrInfoType], socket.socket], seconds: float
) -> Callable[[AddrInfoType], socket.socket]:
    """Sockets that give up what could not be delivered shortly before so many seconds have passed.

    When a send has timed out its socket is closed, but the kernel goes on with the bytes that it was given: behind a
    mended cable an OPEN would still arrive, after the CLOSED that was sent meanwhile. Linux alone has the option
    (tcp(7), TCP_USER_TIMEOUT); elsewhere that may happen.
    """

    def open_forgetful(info: AddrInfoType) -> socket.socket:
        opened = open_socket(info)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(seconds * 900))
        return opened

    return open_forgetful
