"""Messages that wait for the same step, worked on as one: a hundred ids cost a step little more than one.

An alert that is handed in by itself makes a message by itself. While workers keep up each is worked on alone, at once;
when they fall behind, a thread takes what else waits for the same step along, and so the faster the more there is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dramatiq.broker import MessageProxy

from actors.handing import BATCH

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Steps whose messages may join whatever they speak of. A fan-out may be of ten thousand devices, and is enough alone.
ANY = ("match_rules", "match_critical")
#: The step whose messages carry alerts, rather than ids: each keeps its own, and what becomes of it.
ACCEPTING = "accept_alerts"
#: What a message of it has: alerts and perhaps a tenant.
ARGUMENTS = (1, 2)


class Together(MessageProxy):
    """One message made of several: it carries the ids of all or, where its step looks at the parts, those of the first.

    Attributes:
        parts: what is acknowledged, or given back, in its stead.
        ended: those of them whose step is done with them, so that they do not come again if it fails with the others.
    """

    def __init__(self, parts: Sequence[MessageProxy]) -> None:
        message = parts[0]._message  # noqa: SLF001  # what a proxy stands for has no public name
        if message.actor_name != ACCEPTING:
            message = message.copy(args=([each for part in parts for each in part.args[0]],))
        super().__init__(message)
        self.parts = tuple(parts)
        self.ended: list[MessageProxy] = []


def parts_of(message: MessageProxy) -> tuple[MessageProxy, ...]:
    """The messages that came from the broker."""
    return message.parts if isinstance(message, Together) else (message,)


def has_ended(message: MessageProxy, part: MessageProxy) -> bool:
    """Whether a part of a message that failed is to be acknowledged nevertheless."""
    return isinstance(message, Together) and any(part is each for each in message.ended)


def joins(message: MessageProxy) -> tuple[str, str, str] | None:
    """What a message may be worked on together with: all that has the same key. None: it stays alone.

    Only one consumer acknowledges what goes together, so that a step's message in another's queue is no company.

    A message that failed, or whose worker died, comes redelivered, and alone: no other suffers by it twice.
    """
    # RabbitMQ says so beside the message, our own broker in its options.
    if getattr(message, "redelivered", False) or message.options.keys() - {"lane"} or message.kwargs:
        return None
    if message.actor_name == ACCEPTING:
        return (message.queue_name, ACCEPTING, "") if len(message.args) in ARGUMENTS else None
    if len(message.args) != 1 or not isinstance(message.args[0], list):
        return None  # nobody's of ours: its step will say what is wrong with it
    if message.actor_name in ANY or "lane" in message.options:
        return message.queue_name, message.actor_name, str(message.options.get("lane"))
    return None


def _size(message: MessageProxy) -> int:
    """How many ids or alerts a message has."""
    return len(message.args[0]) if isinstance(message.args[0], list) else 1


def taken_along(message: MessageProxy, waiting: Sequence[MessageProxy]) -> list[int]:
    """Which of those that wait go with a message, as far as a batch has room: their places, in order."""
    key = joins(message)
    if key is None:
        return []
    size, found = _size(message), []
    for place, other in enumerate(waiting):
        if joins(other) == key:
            size += _size(other)
            if size > BATCH:
                break
            found.append(place)
    return found
