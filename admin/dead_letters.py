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
from typing import TYPE_CHECKING, Any, NamedTuple

from dramatiq import Message
from dramatiq.common import xq_name
from dramatiq.errors import ActorNotFound, DecodeError
from pika import BlockingConnection, URLParameters
from pika.exceptions import ChannelClosedByBroker

from actors.rabbitmq import NOT_FOUND, UNREACHABLE, ConfirmingRabbitmqBroker, flaw
from actors.roads import ACCEPT, QUEUES
from admin.deaths import deaths_of, refused_at, why

if TYPE_CHECKING:
    from collections.abc import Generator
    from datetime import datetime

    from dramatiq import Broker
    from pika import BasicProperties

    from admin.deaths import Death
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
        died_at: when; None if nobody says.
        deaths: what RabbitMQ says of that, the latest first; empty if it says nothing.
        message_id: by which the log names it; None if it cannot be read, as the actor.
        why: why it lies here, in words.
        why_not: why it cannot be imported, or None.
    """

    queue: str
    died_at: datetime | None
    deaths: list[Death]
    message_id: str | None
    actor: str | None
    arguments: str
    why: str
    why_not: str | None

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "queue": self.queue,
            "died_at": self.died_at.isoformat() if self.died_at else None,
            "deaths": [each.document() for each in self.deaths],
            "message_id": self.message_id,
            "actor": self.actor,
            "arguments": self.arguments,
            "why": self.why,
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
                found.append(_letter(broker, name, properties, body))
    return found


def _letter(broker: Broker, queue: str, properties: BasicProperties, body: bytes) -> DeadLetter:
    message, fault, why_not = _read(broker, queue, body)
    headers = properties.headers
    deaths = deaths_of(headers)
    return DeadLetter(
        queue,
        deaths[0].time if deaths else refused_at(properties),
        deaths,
        str(message.message_id) if message else None,
        str(message.actor_name) if message else None,
        str(list(message.args))[:SHOWN] if message else body[:SHOWN].decode(errors="replace"),
        fault or why(message.options if message else {}, deaths, headers),
        why_not,
    )


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
                message, _, why_not = _read(broker, name, body)
                if message is None or why_not is not None:
                    done.left[why_not or "unreadable"] += 1
                    continue
                broker.enqueue(_anew(name, message))
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


class _Read(NamedTuple):
    """A body as far as it can be read.

    Attributes:
        fault: what is wrong with the message itself, for which a worker refuses it.
        why_not: why it cannot be imported.
    """

    message: Message[Any] | None
    fault: str | None
    why_not: str | None


def _read(broker: Broker, queue: str, body: bytes) -> _Read:
    try:
        message: Message[Any] = Message.decode(body)
    except DecodeError as error:
        is_json = not isinstance(error.__cause__, DecodeError)  # the encoder's own
        what = "parts of a Dramatiq message are missing, or surplus" if is_json else "no JSON"
        return _Read(None, f"unreadable: {what}", "unreadable")
    if wrong := flaw(_anew(queue, message), queue):
        shape = f"not Dramatiq's shape: {wrong}"
        return _Read(message, shape, shape)
    try:
        broker.get_actor(message.actor_name)
    except ActorNotFound:
        unknown = "unknown actor: start workers that know it first"
        return _Read(message, "unknown actor: no worker of this version knows it", unknown)
    wrong = flaw(message, queue)  # which importing mends
    return _Read(message, wrong and f"not Dramatiq's shape: {wrong}", None)


def _anew(queue: str, message: Message[Any]) -> Message[Any]:
    return Message(queue, message.actor_name, message.args, message.kwargs, {})
