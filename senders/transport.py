"""The way of a request over the wire: httpx's types in and out, aiohttp's connections in between.

httpx-aiohttp's own transport parses and quotes the checked URL a second time, and reads the answer through two
generators (measured: 256 us a request, then 155, of which bare aiohttp takes 110).
"""

from __future__ import annotations

import functools
import re
import socket
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, cast

import aiohttp
import httpx
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import HttpProcessingError
from httpx_aiohttp import AiohttpTransport
from multidict import CIMultiDict

from senders.deadline import check_deadline

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from aiohttp import AddrInfoType, ClientRequest, ClientTimeout, StreamReader
    from aiohttp.connector import Connection
    from aiohttp.http import RawResponseMessage
    from aiohttp.tracing import Trace

BODY_CAP: Final = 64 * 1024
"""Bytes of an answer that are read; no provider says more, and an endless answer must cost nothing."""

FIELD_CAP: Final = 64 * 1024
"""Bytes of a header, as many as http.client takes; a Content-Security-Policy passes aiohttp's 8,190."""

HEAD_CAP: Final = 256 * 1024
"""Bytes that may come before the end of a head."""

INTERIM_CAP: Final = 16
"""Heads of 1xx before an answer's: without end they would keep the event loop from everything else."""

_HEAD_END: Final = re.compile(rb"\n\r?\n")
"""Of any head; RFC 9112, 2.2 has a recipient take LF alone."""


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


class AnswerReader(ResponseHandler):
    """aiohttp's reader of a connection, to which a whole head is an answer, whatever comes behind it.

    aiohttp parses what came in one piece as one. If it ends in what the parser refuses, such as the body of a 204 that
    some frameworks write, the head is lost with it, and what was taken is sent again and again. So a head is parsed by
    itself. And what comes behind a whole answer, such as a proxy's 408 while nobody asks, closes the connection, where
    aiohttp gives it to the next request as its answer.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._answered = False
        self._last = b""
        self._seen = self._interim = 0

    def set_response_params(self, **params: Any) -> None:
        """A request begins, and waits for its head."""
        self._answered, self._last, self._seen, self._interim = False, b"", 0, 0
        super().set_response_params(**params)

    def feed_data(self, data: tuple[RawResponseMessage, StreamReader], size: int = 0) -> None:
        """Take a head that was parsed; those of 1xx come before the answer's."""
        head = data[0]
        if self._answered:  # behind a whole answer, in the very piece that ended it
            self._hang_up()
            return
        self._answered = head.code >= HTTPStatus.OK
        if not self._answered:
            self._interim += 1
            if self._interim > INTERIM_CAP:
                self._give_up("nothing but 1xx")
                return
        if head.code == HTTPStatus.NO_CONTENT and (
            head.chunked or head.headers.get("content-length", "0") != "0"
        ):
            # A body may follow that a 204 has not (RFC 9112, 6.3), and would meet the next request.
            self.force_close()
        super().feed_data(data, size)

    def data_received(self, data: bytes) -> None:
        """Parse what has come; empty, what the parser still has in hand."""
        while data and not self._answered:
            head, data = self._split(data)
            super().data_received(head)
            if not data or self._exception is not None:
                return
        if data and (self._payload is None or self._payload.is_eof()):
            self._hang_up()
            return
        super().data_received(data)
        if self._exception is not None and self._payload is not None and not self._payload.is_eof():
            # Who reads the body would wait for the rest of it.
            self._payload.set_exception(aiohttp.ClientPayloadError("the body is no HTTP"))

    def _split(self, data: bytes) -> tuple[bytes, bytes]:
        """What belongs to the head, whose end may have begun in the piece before, and the rest."""
        end = _HEAD_END.search(self._last + data)
        if end is not None:
            cut = end.end() - len(self._last)
            self._last = b""
            return data[:cut], data[cut:]
        self._last = (self._last + data)[-2:]
        self._seen += len(data)
        if self._seen > HEAD_CAP:
            self._give_up("the head does not end")
            return b"", b""
        return data, b""

    def _give_up(self, why: str) -> None:
        self.set_exception(HttpProcessingError(message=why))
        self._hang_up()

    def _hang_up(self) -> None:
        self.force_close()
        if self.transport is not None:
            self.transport.close()


class Connector(aiohttp.TCPConnector):
    """Connections, none of which is handed out when its request's time is over; an AnswerReader reads each."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        # aiohttp has no public way to say who reads; the tests notice if it drops this one.
        self._factory: functools.partial[Any] = functools.partial(AnswerReader, loop=self._loop)

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
