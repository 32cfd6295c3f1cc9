"""Dramatiq's RabbitMQ broker, with what it lacks where the broker falls silent, loses data or is sent nonsense."""

from __future__ import annotations

import contextlib
import copy
import socket
import time
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlencode, urlsplit, urlunsplit

import pika.exceptions
from dramatiq.brokers.rabbitmq import RabbitmqBroker, _RabbitmqConsumer
from dramatiq.common import current_millis, dq_name, q_name, xq_name
from dramatiq.errors import ConnectionClosed
from pika.adapters.utils.connection_workflow import AMQPConnectorException

from actors.handing import TABLES
from actors.roads import ACCEPT, LONGEST_DELAYED_MESSAGE, MATCH
from actors.together import has_ended, parts_of
from config.logging import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from dramatiq import Message
    from dramatiq.broker import MessageProxy
    from dramatiq.middleware import Middleware

#: pika's URL parameters, where the URL does not say otherwise. Without `blocked_connection_timeout` a publish waits
#: for as long as the broker's memory or disk alarm lasts; Dramatiq's attempts at an enqueue come without a pause, so
#: the pause must be pika's. https://pika.readthedocs.io/en/stable/modules/parameters.html
#: RabbitMQ misses a client after two to three heartbeats, and gives messages to a consumer that is no more until then
#: (measured: after a cut of 30 s, for 16 s at a heartbeat of 20). Shorter ones would have a client missed that
#: publishes thousands of delayed messages at once. A try to connect begun during a cut waits for TCP's next: short.
CONNECTION = {
    "blocked_connection_timeout": "10",
    "connection_attempts": "2",
    "heartbeat": "10",
    "retry_delay": "0.5",
    "socket_timeout": "5",
    "stack_timeout": "15",
}

#: After a cut of half a minute TCP itself tries again as late (RFC 6298: the timer doubles). A connection that is given
#: up sooner is made anew within seconds of the return.
TCP_OPTIONS = {"TCP_USER_TIMEOUT": 5_000} if hasattr(socket, "TCP_USER_TIMEOUT") else {}

#: What pika raises where a broker cannot be reached: of one that accepts a connection and says nothing, no AMQPError.
UNREACHABLE = (pika.exceptions.AMQPError, AMQPConnectorException, OSError)

#: The first try may find this thread's connection closed while it was idle; the second speaks of the broker.
ENQUEUE_TRIES = 2

#: Seconds that a hint at rows, or a question, waits for a broker that says nothing: for a connection, or on one. With
#: pika's limits above, which follow one another, it would be a minute, and pika has none for a broker that stops
#: without an alarm. A connection over a far line with TLS takes less, and so does a busy broker's answer.
PATIENCE = 5.0

#: Messages that a process holds at least, where many of them may be of one alert each: with Dramatiq's own number, two
#: a thread, eight of these would go together at most. Not many more, since they wait for a process that stands still.
PREFETCH = {ACCEPT: 32, MATCH: 32}

#: AMQP's reply code for a queue that is not there (AMQP 0-9-1 specification, section 1.2).
NOT_FOUND = 404


#: What each part of a message must be. Dramatiq takes any, and its worker dies of some; then the next one does, since
#: what is not acknowledged comes again.
SHAPE = {"actor_name": str, "kwargs": dict, "options": dict, "message_id": str, "message_timestamp": int}

log = get_logger(__name__)


def flaw(message: Message[Any] | MessageProxy, queue_name: str) -> str | None:
    """Why a message of this queue cannot be worked on, whoever put it there; None: it can."""
    if not isinstance(message.queue_name, str) or q_name(message.queue_name) != q_name(queue_name):
        return f"queue_name: must be {q_name(queue_name)}, the queue that it is in"
    for name, kind in SHAPE.items():
        if not isinstance(getattr(message, name), kind):
            return f"{name}: must be {_KINDS[kind]}"
    return None


_KINDS = {str: "a string", dict: "an object", int: "an integer"}


def _keep_in_bounds(message: Message[Any] | MessageProxy) -> None:
    """Cut a delay that is longer than any of ours: its end was written by another machine's clock, which was ahead.

    On `tocsin.accept` the message is the only copy, and would wait until all clocks say so.
    """
    due = message.options.get("eta")
    latest = current_millis() + int(LONGEST_DELAYED_MESSAGE.total_seconds() * 1000)
    if isinstance(due, (int, float)) and due > latest:
        message.options["eta"] = latest


class _Consumer(_RabbitmqConsumer):
    """A consumer that acknowledges its own messages only, and gives nobody a message that would kill its worker.

    Delivery tags start at 1 on every connection. After a reconnect the acknowledgement of an old message would hit the
    new message with the same tag, which then is lost. The old message is redelivered anyway.
    """

    def __next__(self) -> Any:
        message = super().__next__()  # type: ignore[no-untyped-call]
        if message is not None:
            message.consumer = self
            why_not = flaw(message, self.queue_name)
            if why_not is not None:
                log.error(
                    "message_refused", queue=self.queue_name, message_id=message.message_id, reason=why_not
                )
                self.nack(message)  # to the dead letters
                return None
            _keep_in_bounds(message)
            if self._put_off(message):
                return None
        return message

    def _put_off(self, message: Any) -> bool:
        """Move what is to wait to where messages wait. Here it would keep one of our few places from what is due."""
        due = message.options.get("eta")
        now = current_millis()
        if self.queue_name == dq_name(self.queue_name) or not (isinstance(due, (int, float)) and due > now):
            return False
        try:
            self.broker.enqueue(message, delay=int(due) - now)
        except (ConnectionClosed, pika.exceptions.AMQPError):
            return False  # it waits here
        self.ack(message)
        return True

    def ack(self, message: Any) -> None:
        for part in parts_of(message):
            if part.consumer is self:
                self._ack(part)

    def nack(self, message: Any) -> None:
        parts = parts_of(message)
        for part in parts:
            if part.consumer is not self:
                continue
            if has_ended(message, part):
                self._ack(part)
            elif len(parts) > 1:
                # One of them may be to blame. Each comes again, alone, and is judged by itself.
                self._give_back(part)
            else:
                with contextlib.suppress(ConnectionClosed):  # as below
                    super().nack(part)  # type: ignore[no-untyped-call]

    def _ack(self, message: Any) -> None:
        if self.broker.was_refused(message) and message.actor_name not in TABLES:
            # Its retry could not be enqueued, which Dramatiq only logs, and it is no mere hint at rows: the only copy.
            self._give_back(message)
        else:
            # A connection that is gone has given the message back. Dramatiq's worker would wait for five seconds and
            # try again, by when the consumer is another one, and the message none of its own.
            with contextlib.suppress(ConnectionClosed):
                super().ack(message)  # type: ignore[no-untyped-call]

    def _give_back(self, message: Any) -> None:
        self.known_tags.discard(message._tag)  # noqa: SLF001  # the parent's own way to it
        with contextlib.suppress(
            pika.exceptions.AMQPError
        ):  # the connection is gone, and so it goes back by itself
            self.connection.add_callback_threadsafe(
                partial(self.channel.basic_nack, message._tag, requeue=True)  # noqa: SLF001  # as above
            )


class _Connection(pika.BlockingConnection):  # type: ignore[misc]  # untyped
    """A thread's connection for publishing and asking.

    Args:
        state: the thread's (dramatiq.Broker.state). While it has a `since`, no wait lasts longer than PATIENCE.
    """

    def __init__(self, parameters: Sequence[Any], state: Any) -> None:
        self._state = state
        super().__init__(parameters)

    def _flush_output(self, *waiters: Callable[[], bool]) -> None:
        # Every wait for the broker's answer comes by here, and pika has no limit for it but what it does in an alarm.
        if self.is_closed or not hasattr(self._state, "since"):
            super()._flush_output(*waiters)
            return
        timer = self._impl.ioloop.call_later(PATIENCE, self._give_up)
        try:
            super()._flush_output(*waiters)
        finally:
            self._impl.ioloop.remove_timeout(timer)

    def _give_up(self) -> None:
        silent = pika.exceptions.ConnectionBlockedTimeout(f"the broker has said nothing for {PATIENCE:g} s")
        self._impl._terminate_stream(silent)  # noqa: SLF001  # as pika's own limit in an alarm


class ConfirmingRabbitmqBroker(RabbitmqBroker):
    """Publisher confirms on, waits bounded, queue type chosen on purpose.

    Args:
        urls: `amqp(s)://...`, several separated by `;`.
        queue_type: classic or quorum (x-queue-type). Must not change for queues that exist.
    """

    def __init__(self, urls: str, *, queue_type: str, middleware: list[Middleware]) -> None:
        super().__init__(
            url=[_with_defaults(url) for url in urls.split(";")], confirm_delivery=True, middleware=middleware
        )
        for parameters in self.parameters:
            parameters.tcp_options = parameters.tcp_options or TCP_OPTIONS
        self.queue_type = queue_type

    @property
    def connection(self) -> Any:
        """This thread's connection; made where there is none.

        Raises:
            pika.exceptions.AMQPConnectionError: also of a broker that accepts a connection and says nothing, for which
                pika has an exception that neither Dramatiq nor anybody else expects; and where this thread has been
                patient for long enough.
        """
        found = getattr(self.state, "connection", None)
        if found is None:
            try:
                found = _Connection(self._parameters_now(), self.state)
            except AMQPConnectorException as error:
                raise pika.exceptions.AMQPConnectionError(error) from None
            self.state.connection = found
            self.connections.add(found)
        return found

    @connection.deleter
    def connection(self) -> None:
        RabbitmqBroker.connection.fdel(self)  # type: ignore[attr-defined]  # mypy takes a property for its getter

    def _parameters_now(self) -> list[Any]:
        since = getattr(self.state, "since", None)
        if since is None:
            return self.parameters
        if time.monotonic() - since >= PATIENCE:
            raise pika.exceptions.AMQPConnectionError(f"no connection within {PATIENCE:g} s")
        impatient = [copy.copy(each) for each in self.parameters]
        for each in impatient:
            each.connection_attempts = 1
            each.stack_timeout = min(each.stack_timeout, PATIENCE)
        return impatient

    @contextlib.contextmanager
    def _patience(self) -> Iterator[None]:
        """What follows in this thread waits for the broker for some seconds, rather than for a minute."""
        self.state.since = time.monotonic()
        try:
            yield
        finally:
            del self.state.since

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> Any:
        """As Dramatiq's, but holding more of what may be worked on together."""
        return super().consume(queue_name, max(prefetch, PREFETCH.get(queue_name, 0)), timeout)

    @property
    def consumer_class(self) -> type[_Consumer]:
        """What `consume` makes."""
        return _Consumer

    def enqueue(self, message: Message[Any], *, delay: int | None = None) -> Message[Any]:
        """As Dramatiq's, which tries six times: with an alarm at the broker its caller would wait for half a minute.

        A mere hint at rows, which the sweep replaces, waits for PATIENCE. What exists nowhere else may be large, and
        on a slow line.

        Raises:
            dramatiq.errors.ConnectionClosed: the broker is away, or takes nothing.
        """
        self.state.tries = 0
        self.state.refused = message.message_id
        is_hint = message.actor_name in TABLES
        try:
            with self._patience() if is_hint else contextlib.nullcontext():
                done = super().enqueue(message, delay=delay)
        finally:
            del self.state.tries
        self.state.refused = None
        return done

    def was_refused(self, message: MessageProxy) -> bool:
        """Whether this thread has just tried to enqueue this very message, in vain. Asking forgets it."""
        refused = getattr(self.state, "refused", None)
        self.state.refused = None
        return refused == message.message_id

    def declare_queue(self, queue_name: str, *, ensure: bool = False) -> None:
        """Declare a queue. Every try of `enqueue` begins here."""
        tries = getattr(self.state, "tries", None)
        if ensure and tries is not None:
            if tries >= ENQUEUE_TRIES:
                raise ConnectionClosed("the broker does not take messages")  # type: ignore[no-untyped-call]  # Dramatiq's
            self.state.tries = tries + 1
        super().declare_queue(queue_name, ensure=ensure)

    def bury(self, message: Message[Any], properties: pika.BasicProperties) -> None:
        """Put a message among its queue's dead letters.

        Raises:
            pika.exceptions.AMQPError: the broker is away, or takes nothing.
        """
        with self._patience():
            for last_try in (False, True):
                try:
                    self.channel.basic_publish("", xq_name(message.queue_name), message.encode(), properties)
                except (pika.exceptions.AMQPConnectionError, pika.exceptions.AMQPChannelError):
                    del self.connection  # as below
                    if last_try:
                        raise
                else:
                    return

    def waiting(self, queue_name: str) -> int:
        """How many messages wait in a queue, delayed ones included, besides those that workers hold already.

        Raises:
            dramatiq.errors.ConnectionClosed: the broker is away.
        """
        with self._patience():
            return self._ready(queue_name, dq_name(queue_name))

    def dead_letters(self, queue_name: str) -> int:
        """How many messages of a queue nobody could work on. RabbitMQ drops them after a week.

        Raises:
            dramatiq.errors.ConnectionClosed: the broker is away.
        """
        with self._patience():
            return self._ready(xq_name(queue_name))

    def _ready(self, *names: str) -> int:
        for last_try in (False, True):
            try:
                return sum(
                    self.channel.queue_declare(name, passive=True).method.message_count for name in names
                )
            except pika.exceptions.ChannelClosedByBroker as error:
                del self.channel
                if error.reply_code != NOT_FOUND:
                    raise ConnectionClosed(error) from None  # type: ignore[no-untyped-call]  # Dramatiq's
                # The broker has lost its data. Nobody has noticed yet, and the next enqueue shall declare it.
                self.queues_pending.add(q_name(names[0]))
                return 0
            except (pika.exceptions.AMQPConnectionError, pika.exceptions.AMQPChannelError) as error:
                # This thread's connection may have been closed while it was idle: one more, with a new one.
                del self.connection
                if last_try:
                    raise ConnectionClosed(error) from None  # type: ignore[no-untyped-call]  # Dramatiq's
        raise AssertionError("the second try returns or raises")

    def _build_queue_arguments(self, queue_name: str) -> dict[str, Any]:
        arguments: dict[str, Any] = super()._build_queue_arguments(queue_name)  # type: ignore[no-untyped-call]
        arguments["x-queue-type"] = self.queue_type
        if self.queue_type == "quorum":
            # RabbitMQ 4 drops a message after 20 deliveries by default. Deliveries are counted in the database, where a
            # poisonous one ends with a reason; a restarting worker group must not use them up.
            arguments["x-delivery-limit"] = -1
        return arguments


def _with_defaults(url: str) -> str:
    parts = urlsplit(url)
    query = CONNECTION | {name: values[-1] for name, values in parse_qs(parts.query).items()}
    return urlunsplit(parts._replace(query=urlencode(query)))
