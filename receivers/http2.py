"""An HTTP/2 server of the kind APNs is: many concurrent small POSTs on few long-lived connections.

Framing, header compression and flow-control windows are h2's (RFC 9113); this module moves bytes, gathers
requests and sends replies, also late ones. It honours the peer's windows: a client that never acknowledges
what it was sent gets no more bodies, just as from Apple.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    RemoteSettingsChanged,
    RequestReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.exceptions import H2Error
from h2.settings import SettingCodes, Settings
from typing_extensions import override

from receivers.http import reset_connection

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from receivers.records import Answer, Reply

# What Apple announces: at most this many notifications under way on a connection.
MAX_CONCURRENT_STREAMS = 1000
# Bodies are kept up to here; more is counted and dropped, since every provider limit is far below.
LARGEST_BODY = 64 * 1024
# Seconds that a client has to answer TLS's close_notify before the connection is cut.
CLOSE_TIMEOUT = 0.5


@dataclass(slots=True)
class Http2Request:
    """One request. Pseudo-headers such as `:path` are among the headers; names are in lower case."""

    headers: list[tuple[str, str]]
    body: bytearray = field(default_factory=bytearray)
    size: int = 0

    def header(self, name: str) -> str:
        """The first header of this name, "" if there is none."""
        return next((value for key, value in self.headers if key == name), "")


class Http2Server:
    """Listens with TLS and hands requests to `handle`, which gives the reply and the order it follows."""

    def __init__(self, handle: Callable[[Http2Request], tuple[Reply | None, Answer]]) -> None:
        self.handle = handle
        self.connections: set[Http2Connection] = set()
        self._server: asyncio.Server | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def start(self, host: str, port: int, context: ssl.SSLContext) -> int:
        """Listen, and give the port (chosen by the system where `port` is 0)."""
        self._loop = asyncio.get_running_loop()
        self._server = await self._loop.create_server(
            lambda: Http2Connection(self),
            host,
            port,
            ssl=context,
            backlog=1024,
            ssl_shutdown_timeout=CLOSE_TIMEOUT,
        )
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def stop(self) -> None:
        """Close the listener and what is connected."""
        if self._server:
            self._server.close()
            for connection in list(self.connections):
                connection.abort()
            await self._server.wait_closed()

    def on_each(self, act: Callable[[Http2Connection], None]) -> None:
        """Do something to every open connection. Callable from any thread."""
        if self._loop:
            self._loop.call_soon_threadsafe(self._to_each, act)

    def _to_each(self, act: Callable[[Http2Connection], None]) -> None:
        for each in list(self.connections):
            act(each)


class Http2Connection(asyncio.Protocol):
    """One client's connection."""

    def __init__(self, server: Http2Server) -> None:
        self._server = server
        self._requests: dict[int, Http2Request] = {}
        self._unsent: dict[int, memoryview] = {}  # bodies that wait for the peer's window
        self._timers: dict[int, asyncio.TimerHandle] = {}
        self._transport: asyncio.Transport | None = None
        self._h2 = H2Connection(H2Configuration(client_side=False, header_encoding="latin-1"))
        self._h2.local_settings = Settings(
            client=False,
            initial_values={
                SettingCodes.MAX_CONCURRENT_STREAMS: MAX_CONCURRENT_STREAMS,
                SettingCodes.MAX_HEADER_LIST_SIZE: 16 * 1024,
            },
        )

    # What asyncio calls.

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # TLS transports are full transports
        self._server.connections.add(self)
        self._h2.initiate_connection()
        self._flush()

    @override
    def data_received(self, data: bytes) -> None:
        try:
            for event in self._h2.receive_data(data):
                self._on_event(event)
        except H2Error:
            self._flush()  # h2 has queued the GOAWAY that names the error
            if self._transport:
                self._transport.close()
            return
        self._flush()

    @override
    def connection_lost(self, exc: Exception | None) -> None:  # whyever it went, it is gone
        self._server.connections.discard(self)
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._transport = None

    # What the server's owner may do to it.

    def abort(self) -> None:
        """Reset the TCP connection, whatever is under way on it."""
        reset_connection(self._transport)

    def go_away(self) -> None:
        """Send GOAWAY as a provider that restarts, then close; what waits for a late answer gets none."""
        with contextlib.suppress(H2Error):
            self._h2.close_connection(ErrorCodes.NO_ERROR)
        self._flush()
        if self._transport:
            self._transport.close()

    # Inside.

    def _on_event(self, event: Any) -> None:
        match event:
            case RequestReceived():
                self._requests[event.stream_id] = Http2Request(event.headers)  # type: ignore[arg-type]  # decoded: header_encoding
            case DataReceived():
                self._on_data(event)
            case StreamEnded():
                if request := self._requests.pop(event.stream_id, None):
                    self._answer(event.stream_id, *self._server.handle(request))
            case StreamReset():
                self._forget(event.stream_id)
            case WindowUpdated() | RemoteSettingsChanged():
                for stream_id in list(self._unsent):
                    self._send_body(stream_id)
            case ConnectionTerminated() if self._transport:
                self._transport.close()

    def _on_data(self, event: DataReceived) -> None:
        self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        if request := self._requests.get(event.stream_id):
            request.size += len(event.data)
            if request.size <= LARGEST_BODY:
                request.body += event.data

    def _forget(self, stream_id: int) -> None:
        """Drop what belongs to a stream that the client has reset."""
        self._requests.pop(stream_id, None)
        self._unsent.pop(stream_id, None)
        if timer := self._timers.pop(stream_id, None):
            timer.cancel()

    def _answer(self, stream_id: int, reply: Reply | None, order: Answer) -> None:
        if order.stall:
            return
        if order.delay:
            self._timers[stream_id] = asyncio.get_running_loop().call_later(
                order.delay, self._answer_late, stream_id, reply
            )
        else:
            self._send(stream_id, reply)

    def _answer_late(self, stream_id: int, reply: Reply | None) -> None:
        del self._timers[stream_id]
        with contextlib.suppress(H2Error):  # the connection may be closing
            self._send(stream_id, reply)
        self._flush()

    def _send(self, stream_id: int, reply: Reply | None) -> None:
        if reply is None:
            self._h2.reset_stream(stream_id, ErrorCodes.INTERNAL_ERROR)
            return
        headers = [
            (":status", str(reply.status)),
            *((key.lower(), value) for key, value in reply.headers.items()),
        ]
        self._h2.send_headers(stream_id, headers, end_stream=not reply.body)
        if reply.body:
            self._unsent[stream_id] = memoryview(reply.body)
            self._send_body(stream_id)

    def _send_body(self, stream_id: int) -> None:
        """Send as much as the peer's windows allow (RFC 9113, section 5.2)."""
        rest = self._unsent[stream_id]
        while rest:
            room = min(self._h2.local_flow_control_window(stream_id), self._h2.max_outbound_frame_size)
            if room <= 0:
                self._unsent[stream_id] = rest
                return
            part, rest = rest[:room], rest[room:]
            self._h2.send_data(stream_id, bytes(part), end_stream=not rest)
        del self._unsent[stream_id]

    def _flush(self) -> None:
        if self._transport and (data := self._h2.data_to_send()):
            self._transport.write(data)
