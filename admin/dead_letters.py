"""Messages that nobody could work on, in the broker's `.XQ` queues: listed, and put back to work.

A message ends there when no worker can read it, knows its actor, or gets through with it; RabbitMQ drops it after a
week. What its rows need comes by the sweep in any case; what was never accepted (`tocsin.accept`) is here alone.
Importing one twice does no harm: claims and unique indexes see to that.
"""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from dramatiq import Message
from dramatiq.common import xq_name
from dramatiq.errors import ActorNotFound, DecodeError
from pika import BlockingConnection, URLParameters
from pika.exceptions import ChannelClosedByBroker

from actors.accept_alerts import ACCEPT
from actors.rabbitmq import NOT_FOUND, UNREACHABLE, ConfirmingRabbitmqBroker
from actors.roads import QUEUES

if TYPE_CHECKING:
    from collections.abc import Generator

    from dramatiq import Broker

    from config import Settings

#: Seconds that the broker has for each step of counting: who asks how things are does not wait for what is away.
PATIENCE = 2.0

#: Characters of a message's body that a list shows.
SHOWN = 200


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One of them.

    Attributes:
        queue: where it was when it died.
        died_at: None if the broker does not say.
        actor: None if it cannot be read.
        why_not: why it cannot be imported, or None.
    """

    queue: str
    died_at: datetime | None
    actor: str | None
    arguments: str
    why_not: str | None

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "queue": self.queue,
            "died_at": self.died_at.isoformat() if self.died_at else None,
            "actor": self.actor,
            "arguments": self.arguments,
            "importable": self.why_not is None,
            "why_not": self.why_not,
        }


@dataclass(slots=True)
class Imported:
    """What an import did.

    Attributes:
        left: why -> how many stay where they are.
    """

    messages: int = 0
    left: Counter[str] = field(default_factory=Counter)

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        return {"imported": self.messages, "left": dict(self.left)}


def list_dead_letters(broker: Broker, *, queue: str | None = None, limit: int = 100) -> list[DeadLetter]:
    """Look at dead letters, oldest first in each queue, and leave them where they are.

    Args:
        queue: only this one's, such as tocsin.deliver.

    Raises:
        LookupError: the broker is the in-process one, which keeps none beyond its process, or has no such queue.
        pika.exceptions.AMQPError: the broker is away.
    """
    found: list[DeadLetter] = []
    for name in _queues(broker, queue):
        with contextlib.closing(_take(broker, name)) as letters:
            for _, _, properties, body in itertools.islice(letters, limit - len(found)):
                message, why_not = _read(broker, body)
                found.append(
                    DeadLetter(
                        name,
                        _died_at(properties.headers),
                        message.actor_name if message else None,
                        str(list(message.args))[:SHOWN] if message else body[:SHOWN].decode(errors="replace"),
                        why_not,
                    )
                )
    return found


def count_dead_letters(settings: Settings) -> dict[str, int] | None:
    """How many lie in each queue, on a connection of its own that is closed at once.

    Returns:
        By the queue where they died; nothing for memory://, which keeps none; None while the broker is away.
    """
    urls = settings.broker_url.get_secret_value()
    if urls == "memory://":
        return {}
    parameters = [URLParameters(url) for url in urls.split(";")]
    for each in parameters:
        each.connection_attempts = 1
        each.socket_timeout = each.stack_timeout = each.blocked_connection_timeout = PATIENCE
    try:
        with contextlib.closing(BlockingConnection(parameters)) as connection:
            return {name: _lying(connection, xq_name(name)) for name in (*QUEUES, ACCEPT)}
    except UNREACHABLE:
        return None


def _lying(connection: BlockingConnection, name: str) -> int:
    """Messages of a queue; of one that is not there yet, none."""
    channel = connection.channel()
    try:
        return int(channel.queue_declare(name, passive=True).method.message_count)
    except ChannelClosedByBroker as error:
        if error.reply_code != NOT_FOUND:
            raise
        return 0


def import_dead_letters(broker: Broker, *, queue: str | None = None, limit: int = 10_000) -> Imported:
    """Put dead letters back into their queues, as new: without the tries that they had.

    Each is acknowledged after the broker has confirmed its successor, so that an interruption repeats one at most.

    Args:
        queue: only this one's.
        limit: so many are imported at most. What cannot be does not count: it lies at the head again each time.

    Raises:
        LookupError, pika.exceptions.AMQPError: as `list_dead_letters`.
        dramatiq.errors.BrokerError: the broker went away in between; what was imported stays so.
    """
    done = Imported()
    for name in _queues(broker, queue):
        with contextlib.closing(_take(broker, name)) as letters:
            while done.messages < limit and (letter := next(letters, None)):
                channel, method, _, body = letter
                message, why_not = _read(broker, body)
                if message is None or why_not is not None:
                    done.left[why_not or "unreadable"] += 1
                    continue
                broker.enqueue(Message(name, message.actor_name, message.args, message.kwargs, {}))
                channel.basic_ack(method.delivery_tag)
                done.messages += 1
    return done


def _queues(broker: Broker, queue: str | None) -> list[str]:
    if not isinstance(broker, ConfirmingRabbitmqBroker):
        raise LookupError(  # noqa: TRY004  # there is nothing to be found
            "memory:// keeps no dead letters beyond its process; its log tells of each"
        )
    known = sorted(broker.get_declared_queues())
    if queue is not None and queue not in known:
        raise LookupError(f"there is no queue {queue!r}; there are {', '.join(known)}")
    return [queue] if queue is not None else known


def _take(broker: Any, queue: str) -> Generator[tuple[Any, Any, Any, bytes]]:
    """(channel, method, properties, body) of what lies there now. What is not acknowledged goes back at the end."""
    channel = broker.connection.channel()
    try:
        for _ in range(broker.dead_letters(queue)):
            try:
                method, properties, body = channel.basic_get(xq_name(queue))
            except ChannelClosedByBroker:  # the queue has gone
                return
            if method is None:
                return
            yield channel, method, properties, body
    finally:
        with contextlib.suppress(ChannelClosedByBroker):
            if channel.is_open:
                channel.close()


def _read(broker: Broker, body: bytes) -> tuple[Message[Any] | None, str | None]:
    """The message, if it can be read; and why it cannot be imported."""
    try:
        message: Message[Any] = Message.decode(body)
        broker.get_actor(message.actor_name)
    except ActorNotFound:
        return message, "unknown actor: start workers that know it first"
    except (DecodeError, TypeError, AttributeError):
        return None, "unreadable"
    return message, None


def _died_at(headers: dict[str, Any] | None) -> datetime | None:
    """When RabbitMQ put it there: https://www.rabbitmq.com/docs/dlx#effects ("x-death")."""
    deaths = (headers or {}).get("x-death") or [{}]
    moment = deaths[0].get("time")
    return moment.replace(tzinfo=UTC) if isinstance(moment, datetime) else None
