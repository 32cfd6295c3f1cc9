"""The way of a request over the wire: on a connection of aiohttp's go a head and a body, and an answer comes back.

aiohttp's connector looks names up, connects past the guard, speaks TLS, goes through proxies and keeps connections. Its
session is passed by: for each request it makes an object that checks everything again, a writer, a timer and a stream,
which is most of what a request of a few hundred bytes costs. The answer is read by httptools (llhttp, the parser
of Node.js).
"""

from __future__ import annotations

import functools
import socket
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

import aiohttp
import httptools
from aiohttp.client_proto import ResponseHandler

from senders.deadline import check_deadline

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping

    import yarl
    from aiohttp import AddrInfoType, ClientRequest, ClientTimeout
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace

BODY_CAP: Final = 64 * 1024
"""Bytes of an answer that are read; no provider says more, and an endless answer must cost nothing."""

FIELD_CAP: Final = 64 * 1024
"""Bytes of a header, as many as http.client takes; some servers send long ones, a Content-Security-Policy above all."""

HEAD_CAP: Final = 256 * 1024
"""Bytes that may come before the end of an answer's head."""

INTERIM_CAP: Final = 16
"""Heads of 1xx before an answer's: without end they would keep the event loop from everything else."""

_BODILESS: Final = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})
"""An answer of these ends with its head, whatever that says of a body (RFC 9112, 6.3)."""


class NotHttpError(aiohttp.ClientError):
    """What came is no HTTP, or has no end."""


class Raw(NamedTuple):
    """An answer as it came: not decompressed, redirects not followed.

    Attributes:
        headers: by their names in lower case; what came several times is joined with commas (RFC 9110, 5.3).
        body: its first BODY_CAP bytes.
    """

    status: int
    headers: dict[str, str]
    body: bytes


class Target:
    """Where requests for the URLs of one origin go.

    Args:
        url: a checked one of them.
        proxy: an HTTP proxy, if it is asked through one.
        authorization: what that is told, if anything.

    Attributes:
        request: what the connector wants to know; it is never made.
    """

    def __init__(
        self, url: yarl.URL, proxy: yarl.URL | None = None, authorization: str | None = None
    ) -> None:
        told = None if authorization is None else {"authorization": authorization}
        self.request = aiohttp.ClientRequest("POST", url, proxy=proxy, proxy_headers=told)
        self._before_path = ""
        self._lines = [f"host: {self.request.headers['host']}"]
        if proxy is not None and not self.request.is_ssl():  # no tunnel: the proxy reads the request
            self._before_path = str(url.origin())
            self._lines += [] if authorization is None else [f"proxy-authorization: {authorization}"]

    def message(self, method: str, path: str, headers: Mapping[str, str], content: bytes) -> bytes:
        """A request, as it goes over the wire.

        Args:
            method: the HTTP method.
            path: of the URL, with its query, encoded.
            headers: of the caller; ours are added.
            content: the body.

        Raises:
            ValueError: a header is not ASCII, or has a line break or NUL in it.
        """
        lines = [
            f"{method} {self._before_path}{path} HTTP/1.1",
            *self._lines,
            *[f"{name}: {value}" for name, value in headers.items()],
            f"content-length: {len(content)}",
        ]
        text, breaks = "\r\n".join(lines), len(lines) - 1
        if text.count("\n") != breaks or text.count("\r") != breaks or "\0" in text:
            raise ValueError("a header must not hold line breaks or NUL")
        return b"%b\r\n\r\n%b" % (text.encode("ascii"), content)


async def exchange(connector: Connector, target: Target, message: bytes, connecting: ClientTimeout) -> Raw:
    """Make a request, once, and read its answer.

    Raises:
        aiohttp.ClientError, OSError: as they are, for senders.http_errors.
    """
    connection = await connector.connect(target.request, [], connecting)
    reader = cast("AnswerReader", connection.protocol)
    try:
        answer = await reader.ask(message)
    except BaseException:
        reader.abort()  # what is not yet written is not written any more
        connection.close()
        raise
    connection.release()
    return answer


class _Answer:
    """An answer as it is read; httptools calls what begins with `on_`.

    Attributes:
        waiting: is done with the answer.
        status: 0 until the end of its head; those of 1xx come before it.
        is_last: the connection is of no use after it.
    """

    def __init__(self, waiting: asyncio.Future[Raw]) -> None:
        self.waiting = waiting
        self.status = 0
        self.is_last = False
        self._parser = httptools.HttpResponseParser(self)  # each holds the other: see `close`
        # RFC 9112, 2.2: "a recipient MAY recognize a single LF as a line terminator". Servers rely on it.
        self._parser.set_dangerous_leniencies(
            lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
        )
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._size = self._head = self._interim = 0

    def feed(self, data: bytes) -> None:
        """Read what has come.

        Raises:
            NotHttpError: it is no HTTP, and the answer is not whole.
        """
        if not self.status:
            self._head += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            if not self.waiting.done():
                raise NotHttpError("a body that is none" if self.status else "a head that is none") from None
            self.is_last = True
        if not self.status and self._head > HEAD_CAP:
            raise NotHttpError("the head does not end")

    def feed_eof(self) -> None:
        """The far side has hung up, which ends a body whose length was not given."""
        if self.status and not self._has_end():
            self.is_last = True
            self._end()

    def close(self) -> None:
        """Leave nothing to the cycle collector. Nothing is read any more."""
        del self._parser

    def on_message_begin(self) -> None:
        """A head begins; behind a whole answer it is nobody's."""
        self.is_last = self.is_last or self.waiting.done()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a field of a head, or of what follows the last chunk."""
        if len(value) > FIELD_CAP:
            raise NotHttpError("a header is too long")
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        self._headers[key] = f"{self._headers[key]}, {text}" if key in self._headers else text

    def on_headers_complete(self) -> None:
        """A head is whole."""
        if self.waiting.done():
            return
        status = self._parser.get_status_code()
        if status < HTTPStatus.OK:
            self._interim += 1
            if self._interim > INTERIM_CAP:
                raise NotHttpError("nothing but 1xx")
            self._headers.clear()
            return
        self.status = status
        if status in _BODILESS:
            # A body may follow all the same, which some frameworks write, and would meet the next request.
            self.is_last = (
                self._headers.get("content-length", "0") != "0" or "transfer-encoding" in self._headers
            )
            self._end()

    def on_body(self, data: bytes) -> None:
        """Take a part of the body; an endless one is hung up on."""
        if self.waiting.done():
            return
        self._body.append(data)
        self._size += len(data)
        if self._size >= BODY_CAP:
            self.is_last = True
            self._end()

    def on_message_complete(self) -> None:
        """An answer is whole, or a head of 1xx."""
        if self.status:
            self.is_last = self.is_last or not self._parser.should_keep_alive()
            self._end()

    def _has_end(self) -> bool:
        return (
            "content-length" in self._headers
            or "chunked" in self._headers.get("transfer-encoding", "").lower()
        )

    def _end(self) -> None:
        if not self.waiting.done():
            self.waiting.set_result(Raw(self.status, self._headers, b"".join(self._body)[:BODY_CAP]))


class AnswerReader(ResponseHandler):
    """One connection's protocol: aiohttp's while a proxy is asked for a tunnel, and our own from then on.

    To it a whole head is an answer, whatever comes behind it, such as the body of a 204. And what comes while nobody
    asks, such as a proxy's 408, closes the connection, lest the next request take it for its answer.
    """

    _answer: _Answer | None = None

    def ask(self, message: bytes) -> asyncio.Future[Raw]:
        """Write a request. Its answer, or what came instead: an aiohttp.ClientError, or an OSError."""
        waiting: asyncio.Future[Raw] = self._loop.create_future()
        if not self.is_connected():
            waiting.set_exception(aiohttp.ServerDisconnectedError())
            return waiting
        self._answer = _Answer(waiting)
        cast("asyncio.Transport", self.transport).write(message)
        return waiting

    def data_received(self, data: bytes) -> None:
        """Read what has come."""
        answer = self._answer
        if answer is None:
            if self._parser is None:
                self._hang_up()
            else:
                super().data_received(data)
            return
        try:
            answer.feed(data)
        except NotHttpError as error:
            self._fail(error if not answer.status else aiohttp.ClientPayloadError(str(error)))
            self._hang_up()
            return
        if answer.waiting.done():
            self._answer = None
            answer.close()
            if answer.is_last:
                self._hang_up()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Tell who waits for an answer."""
        if self._answer is not None:
            if exc is None:
                self._answer.feed_eof()
            if self._answer.status:
                self._fail(aiohttp.ClientPayloadError("the answer broke off"))
            elif isinstance(exc, OSError):
                self._fail(aiohttp.ClientOSError(*exc.args))
            else:
                self._fail(aiohttp.ServerDisconnectedError())
        super().connection_lost(exc)

    def _fail(self, error: Exception) -> None:
        answer, self._answer = self._answer, None
        if answer is None:
            return
        answer.close()
        if not answer.waiting.done():
            answer.waiting.set_exception(error)

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
