"""How one step hands its rows to the next: commit first, then a message with their ids, which may be lost."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

from dramatiq.errors import BrokerError
from pika.exceptions import AMQPError

from config.logging import get_logger
from model.database import DATABASE_AWAY, connection, utcnow
from model.tables import NO_DEVICE, Alert, Delivery, Job
from senders.registry import PLATFORMS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dramatiq import Actor, Broker

#: Rows a message speaks of at most. A hundred cost one statement and one publish, as one does.
BATCH = 100

#: What an enqueue raises while the broker is away or refuses.
BROKER_AWAY = (BrokerError, AMQPError, OSError)

#: What the ids of each step's messages are.
TABLES: dict[str, Any] = {
    "match_rules": Alert,
    "match_critical": Alert,
    "fanout_devices": Job,
    "fanout_critical": Job,
    "deliver": Delivery,
    "deliver_critical": Delivery,
    "deliver_later": Delivery,
}

#: One destination: a sender and a channel; of APNs and FCM all channels together, and NO_DEVICE.
Lane = tuple[str, int]

#: Push services that all tenants share. Browsers name their own, any address that their users like: a channel's dead
#: ones must hold up no other channel's.
SERVICES = frozenset({PLATFORMS["ios"], PLATFORMS["android"]})

#: Ids of one statement: well below SQLite's limit of 32,766 parameters.
LIMIT = 10_000

T = TypeVar("T")

log = get_logger(__name__)


def batches(items: Sequence[T], size: int = BATCH) -> Iterator[Sequence[T]]:
    """Cut a sequence into parts of at most so many."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


#: After a refusal a process asks nothing of its broker for so many seconds: each refusal costs some to wait for.
PAUSE = 2.0

#: When each broker may be asked again, by the monotonic clock.
_asked_again: WeakKeyDictionary[Broker, float] = WeakKeyDictionary()


def hand_on(
    actor: Actor[[list[int]], None], ids: Sequence[int], *, size: int = BATCH, lane: Lane | None = None
) -> bool:
    """Send ids to the next step, after their commit.

    A broker that is away loses nothing: the rows are marked as due, and the sweep sends them on when it is back. So
    this never raises for it, and gives up after the first refusal rather than wait for one refusal a batch.

    Args:
        actor: the step.
        ids: rows of its table.
        size: how many ids a message has at most.
        lane: where all of them go; what waits for one lane may be worked on together (actors.together).

    Returns:
        Whether all was sent.
    """
    if time.monotonic() < _asked_again.get(actor.broker, 0.0):
        leave_to_the_sweep(actor, ids)
        return False
    sent = 0
    options: dict[str, Any] = {} if lane is None else {"lane": list(lane)}
    for batch in batches(ids, size):
        try:
            actor.send_with_options(args=(list(batch),), **options)
        except BROKER_AWAY as error:
            log.warning("broker_away", actor=actor.actor_name, why=str(error) or type(error).__name__)
            _asked_again[actor.broker] = time.monotonic() + PAUSE
            leave_to_the_sweep(actor, ids[sent:])
            return False
        sent += len(batch)
    return True


def lane_of(sender: str, channel_id: int) -> Lane:
    """What one message speaks of: one channel, or APNs, or FCM. So destinations do not wait for each other."""
    return (sender, NO_DEVICE if sender in SERVICES else channel_id)


def leave_to_the_sweep(actor: Actor[[list[int]], None], ids: Sequence[int]) -> None:
    """Mark rows as due now: no message speaks of them."""
    table = TABLES[actor.actor_name]
    # Should the database be away as well, the rows come due by themselves, a little later.
    with contextlib.suppress(*DATABASE_AWAY), connection():
        for batch in batches(ids, LIMIT):
            unfinished = table.sweep_at.is_null(False)
            table.update(sweep_at=utcnow()).where(table.id.in_(list(batch)) & unfinished).execute()
