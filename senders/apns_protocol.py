"""One HTTP/2 connection to APNs: aioapns made safe for a sender that lives long.

What aioapns 4.0 does, and what the subclass here does instead (the tests show each):

- It never acknowledges received data, so that the connection's window (65,535 bytes, RFC 9113 section
  6.9.2) closes after some 1,285 error answers. Here every byte is acknowledged.
- It matches answers by the apns-id header and reads a reason out of each data frame: a reset stream, an
  empty error body or an answer without the header is never resolved. Here an answer belongs to its stream.
- A cancelled send makes it set the result of a finished future, which ends the connection for all. Here a
  cancelled send resets its own stream and frees the slot.
- GOAWAY drops what is in flight. Here the streams that the server has promised to answer are answered
  (RFC 9113 section 6.8), the others fail as not processed.
- Its limit of streams sticks when the server raises it from 1 while that stream is open, which is what Apple
  does after the first accepted token; it sends before it knows the limit; it sleeps a second when the window
  is full. Here h2's own view of the far side counts, and bodies wait for the window.
- It closes after ten idle seconds. Here an idle connection lives an hour, and a PING finds out a dead one.

The pool and the provider token are in `senders.apns_pool`.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from aioapns.common import NotificationRequest, NotificationResult, PushType
from aioapns.connection import APNsTLSClientProtocol
from h2.connection import ConnectionInputs, ConnectionState, H2ConnectionStateMachine
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    RemoteSettingsChanged,
    ResponseReceived,
    StreamEnded,
    StreamReset,
)
from h2.exceptions import H2Error
from hpack import HeaderTuple, NeverIndexedHeaderTuple

from senders.deadline import current_deadline, now

if TYPE_CHECKING:
    from collections.abc import Callable

    from aioapns.connection import AuthorizationHeaderProvider
    from h2.events import Event

MAX_ANSWER_BYTES = 65_536
HTTPS_PORT = 443


class NoAnswerError(Exception):
    """The connection or the stream ended without an answer.

    Attributes:
        code: what happened, in a few words.
        not_processed: the far side promises that it did not look at the request.
    """

    def __init__(self, code: str, *, not_processed: bool = False) -> None:
        super().__init__(code)
        self.code = code
        self.not_processed = not_processed


class ApnsRequest(NotificationRequest):
    """aioapns' request, with the exact body, an absolute expiration and the token that it went with.

    Args:
        device_token: hexadecimal; checked before, it becomes part of a path.
        body: the JSON as it is sent.
        apns_id: a UUID.
        topic: the app's bundle id.
        collapse_id: at most 64 bytes.
        priority: 10 or 5.
        expiration: Unix seconds.
    """

    __slots__ = ("authorization", "body", "expiration")

    def __init__(
        self,
        device_token: str,
        body: bytes,
        *,
        apns_id: str,
        topic: str,
        collapse_id: str,
        priority: int,
        expiration: int,
    ) -> None:
        super().__init__(
            device_token, {}, apns_id, None, priority, collapse_id, PushType.ALERT, apns_topic=topic
        )
        self.body = body
        self.expiration = expiration
        self.authorization = ""


class _ServesAfterGoaway(H2ConnectionStateMachine):
    """h2 calls the connection closed at GOAWAY and refuses the answers that the server still owes us."""

    _transitions = H2ConnectionStateMachine._transitions | {  # noqa: SLF001  # h2 offers no other way
        (ConnectionState.CLIENT_OPEN, ConnectionInputs.RECV_GOAWAY): (None, ConnectionState.CLIENT_OPEN),
    }


@dataclass(slots=True)
class _Stream:
    """One request under way, and as much of its answer as has come."""

    answer: asyncio.Future[NotificationResult]
    ends_at: float
    status: str = ""
    apns_id: str = ""
    body: bytearray = field(default_factory=bytearray)

    def result(self) -> NotificationResult:
        """What the far side said; an unreadable body leaves the status to speak for itself."""
        try:
            said = json.loads(self.body) if self.body else {}
        except (ValueError, RecursionError):
            said = {}
        said = said if isinstance(said, dict) else {}
        reason = str(said.get("reason") or "")[:200] or None
        return NotificationResult(self.apns_id, self.status, reason, said.get("timestamp"))


class ApnsProtocol(APNsTLSClientProtocol):
    """One connection. Subclassed per host and port, which aioapns keeps on the class.

    Args:
        token: gives the authorization header.
        on_capacity: called when a stream may have become free.
        on_gone: called once, when no further request may be put on this connection.

    Attributes:
        ready: done when the far side has said how many streams it takes.
        is_gone: no further request may be put on it.
    """

    INACTIVITY_TIME = 3600
    TICK: ClassVar[float] = 5.0
    IDLE_PING: ClassVar[float] = 60.0

    def __init__(
        self,
        token: AuthorizationHeaderProvider,
        on_capacity: Callable[[], None],
        on_gone: Callable[[ApnsProtocol], None],
    ) -> None:
        super().__init__("", asyncio.get_running_loop(), None, token)
        self.conn.state_machine = _ServesAfterGoaway()
        self.ready: asyncio.Future[None] = self.loop.create_future()
        self.lost = asyncio.Event()
        self.is_gone = False
        self._token = token
        self._on_capacity = on_capacity
        self._on_gone = on_gone
        self._streams: dict[int, _Stream] = {}
        self._unsent: dict[int, bytes] = {}
        self._is_paused = False
        self._will_flush = False
        self._loss = "connection lost"
        self._used_at = self._heard_at = self.loop.time()
        self._waits_for_pong = False

    # What the pool asks.

    @property
    def room(self) -> int:
        """How many requests could be sent now, without waiting for a stream, the window or the socket."""
        if self.is_gone or self._is_paused or self._unsent:
            return 0
        return max(0, self.conn.remote_settings.max_concurrent_streams - len(self._streams))

    @property
    def is_busy(self) -> bool:
        """Whether a request would have to wait."""
        return self.room == 0

    async def send_notification(self, request: NotificationRequest) -> NotificationResult:
        """Send and wait for the answer. The caller has seen that there is room.

        Raises:
            NoAnswerError: the stream or the connection ended first.
        """
        if not isinstance(request, ApnsRequest):
            raise TypeError("an ApnsRequest is needed")
        request.authorization = self._token.get_header()
        try:
            stream_id = self.conn.get_next_available_stream_id()
            self.conn.send_headers(stream_id, self._headers(request, is_first=stream_id == 1))
        except H2Error as error:
            self._retire(f"no stream: {error}")
            self._settled()
            raise NoAnswerError("no stream available", not_processed=True) from error
        self._used_at = self.loop.time()
        stream = self._streams[stream_id] = _Stream(self.loop.create_future(), current_deadline())
        self._unsent[stream_id] = request.body
        self._pump()
        try:
            return await stream.answer
        finally:
            if self._streams.pop(stream_id, None):  # cancelled
                self._reset(stream_id)
                self._settled()

    def _headers(self, request: ApnsRequest, *, is_first: bool) -> list[HeaderTuple]:
        port = "" if self.APNS_PORT == HTTPS_PORT else f":{self.APNS_PORT}"
        # The first request brings the names into the compression table. Values that differ each time stay out
        # of it after that: they would only push the others out.
        passing = HeaderTuple if is_first else NeverIndexedHeaderTuple
        return [
            HeaderTuple(":method", "POST"),
            HeaderTuple(":scheme", "https"),
            HeaderTuple(":authority", self.APNS_SERVER + port),
            passing(":path", f"/3/device/{request.device_token}"),
            HeaderTuple("authorization", request.authorization),
            HeaderTuple("apns-topic", request.apns_topic or ""),
            HeaderTuple("apns-push-type", PushType.ALERT.value),
            HeaderTuple("apns-priority", str(request.priority)),
            passing("apns-id", request.notification_id),
            passing("apns-collapse-id", request.collapse_key or ""),
            passing("apns-expiration", str(request.expiration)),
            HeaderTuple("content-type", "application/json"),
        ]

    # What asyncio and aioapns call.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Open the HTTP/2 connection and watch over it."""
        super().connection_made(transport)
        self.inactivity_timer = self.loop.call_later(self.TICK, self._tick)

    def refresh_inactivity_timer(self) -> None:
        """Nothing: aioapns makes a timer at every flush; `_tick` is the one timer here."""

    def flush(self) -> None:
        """Write what h2 has ready."""
        if self.transport and not self.transport.is_closing() and (data := self.conn.data_to_send()):
            self.transport.write(data)

    def pause_writing(self) -> None:
        """The socket is full: no new requests."""
        self._is_paused = True

    def resume_writing(self) -> None:
        """The socket has drained."""
        self._is_paused = False
        self._settled()

    def data_received(self, data: bytes) -> None:
        """Take the far side's frames."""
        self.flush()  # h2 drops what it has ready when a GOAWAY comes in
        try:
            events = self.conn.receive_data(data)
            if events:  # whole frames that make sense, not just bytes
                self._heard_at = self.loop.time()
                self._waits_for_pong = False
            for event in events:
                self._on_event(event)
        except H2Error as error:
            self.flush()  # the GOAWAY in which h2 names the error
            self._abort(f"HTTP/2 error: {error}")
            return
        self._pump()
        self._settled()

    def connection_lost(self, exc: Exception | None) -> None:
        """Everything still under way ends here."""
        self.lost.set()
        if self.inactivity_timer:
            self.inactivity_timer.cancel()
        self._retire(f"{self._loss}: {exc}" if exc else self._loss)
        self._fail(list(self._streams), not_processed=False)
        if not self.ready.done():
            self.ready.set_exception(NoAnswerError(self._loss, not_processed=True))
            self.ready.exception()  # looked at: the pool may have stopped waiting

    # What follows from it.

    def _on_event(self, event: Event) -> None:
        if isinstance(event, RemoteSettingsChanged):
            if not self.ready.done():
                self.ready.set_result(None)
        elif isinstance(event, ConnectionTerminated):
            code = getattr(event.error_code, "name", event.error_code)
            said = (event.additional_data or b"")[:200].decode("utf-8", "replace")
            self._retire(f"GOAWAY {code} {said}".rstrip())
            last = event.last_stream_id or 0
            self._fail([stream_id for stream_id in self._streams if stream_id > last], not_processed=True)
        elif isinstance(event, DataReceived):
            self.conn.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            self._on_answer(event)
        elif isinstance(event, ResponseReceived | StreamEnded | StreamReset):
            self._on_answer(event)
        # The rest are acknowledgements and extensions, which h2 has dealt with.

    def _on_answer(self, event: ResponseReceived | DataReceived | StreamEnded | StreamReset) -> None:
        stream = self._streams.get(event.stream_id)
        if stream is None:
            return  # its sender was cancelled
        if isinstance(event, ResponseReceived):
            headers = dict(event.headers)
            stream.status = headers.get(b":status", b"").decode("ascii", "replace")
            stream.apns_id = headers.get(b"apns-id", b"").decode("ascii", "replace")[:64]
        elif isinstance(event, DataReceived):
            if len(stream.body) + len(event.data) <= MAX_ANSWER_BYTES:
                stream.body += event.data
        else:
            del self._streams[event.stream_id]
            if event.stream_id in self._unsent:
                self._reset(event.stream_id)  # answered early, as 413 may be: the rest need not be sent
            if stream.answer.done():
                return
            if isinstance(event, StreamEnded):
                stream.answer.set_result(stream.result())
            else:
                name = getattr(event.error_code, "name", event.error_code)
                refused = event.error_code == ErrorCodes.REFUSED_STREAM
                stream.answer.set_exception(NoAnswerError(f"stream reset: {name}", not_processed=refused))

    def _fail(self, stream_ids: list[int], *, not_processed: bool) -> None:
        for stream_id in stream_ids:
            stream = self._streams.pop(stream_id)
            self._unsent.pop(stream_id, None)
            if not stream.answer.done():
                stream.answer.set_exception(NoAnswerError(self._loss, not_processed=not_processed))

    def _reset(self, stream_id: int) -> None:
        self._unsent.pop(stream_id, None)
        try:
            self.conn.reset_stream(stream_id, ErrorCodes.CANCEL)
        except H2Error:
            return  # already closed, or the whole connection is
        self.flush()

    def _pump(self) -> None:
        """Send as much of the waiting bodies as the far side's windows allow, oldest first."""
        window = self.conn.local_flow_control_window
        moment = now()
        try:
            for stream_id, body in list(self._unsent.items()):
                if moment >= self._streams[stream_id].ends_at:
                    self._reset(stream_id)  # its sender is about to find out
                    continue
                rest = body
                while rest and (room := min(window(stream_id), self.conn.max_outbound_frame_size)) > 0:
                    chunk, rest = rest[:room], rest[room:]
                    self.conn.send_data(stream_id, chunk, end_stream=not rest)
                if rest:
                    self._unsent[stream_id] = rest
                else:
                    del self._unsent[stream_id]
        except H2Error as error:
            self._abort(f"HTTP/2 error: {error}")
            return
        if not self._will_flush:
            self._will_flush = True
            self.loop.call_soon(self._flush_together)

    def _flush_together(self) -> None:
        """One write, one TLS record, for all requests of one turn of the event loop."""
        self._will_flush = False
        self.flush()

    def _settled(self) -> None:
        """After a change: close when all that was owed has come, else tell who waits."""
        if self.is_gone and not self._streams:
            self.close()
        elif self.room:
            self._on_capacity()

    def _retire(self, loss: str) -> None:
        """Take no further request."""
        if not self.is_gone:
            self._loss = loss
            self.is_gone = True
            self._on_gone(self)

    def _abort(self, loss: str) -> None:
        """End at once. `connection_lost` tells the senders."""
        self._retire(loss)
        if self.transport is not None:
            self.transport.abort()

    def _tick(self) -> None:
        """Every few seconds: find out a dead connection by a PING, let go of one that is not used."""
        now = self.loop.time()
        if self._waits_for_pong:
            self._abort("connection dead: no answer to a PING")
            return
        if not self._streams and now - self._used_at >= self.INACTIVITY_TIME:
            self._retire("idle")
            self.close()
            return
        if self.ready.done() and now - self._heard_at >= (self.TICK if self._streams else self.IDLE_PING):
            self._waits_for_pong = True
            self.conn.ping(b"areyouok")
            self.flush()
        self.inactivity_timer = self.loop.call_later(self.TICK, self._tick)
