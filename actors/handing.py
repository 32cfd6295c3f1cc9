"""How one step hands its rows to the next: commit first, then a message with their ids, which may be lost."""

from __future__ import annotations

import contextlib
import math
import threading
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


#: After a refusal a process asks nothing of its broker for so many seconds. Where the refusal had to be waited for, the
#: next one doubles that, up to the second of these.
PAUSE, LONGEST_PAUSE = 2.0, 30.0

#: A broker that has been asked for so many seconds and has taken nothing meanwhile says nothing: the others need not
#: ask too, and what they leave is later by one interval of the sweep. A busy broker confirms within this, and goes on
#: to take others' messages where one is late. Much longer, and five alerts a second would have all of the API's ten
#: threads wait before anybody knows.
SILENCE = 1.0

#: Seconds after which nobody can still be asking (actors.rabbitmq.PATIENCE): the time limit may have ended a thread
#: before it could say that it no longer does.
FORGOTTEN = 60.0


class Asking:
    """Who of this process asks a broker at the moment, and what came of it of late."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._under_way: list[float] = []
        self._taken_at = self._refused_at = -math.inf
        self._pause = 0.0

    def begin(self, *, is_sweep: bool) -> float | None:
        """Since when this caller asks; None: it should leave that be.

        Args:
            is_sweep: one thread that must find out soon when the broker is back: for it the pause does not grow.
        """
        now = time.monotonic()
        with self._lock:
            self._under_way = [began for began in self._under_way if now - began < FORGOTTEN]
            if is_sweep:
                may_ask = now >= self._refused_at + PAUSE
            elif self._pause:
                may_ask = now >= self._refused_at + self._pause and not self._under_way
            else:
                may_ask = not self._under_way or now < max(min(self._under_way), self._taken_at) + SILENCE
            if may_ask:
                self._under_way.append(now)
        return now if may_ask else None

    @contextlib.contextmanager
    def since(self, began: float) -> Iterator[None]:
        """Ask within the block, and learn from what comes of it."""
        try:
            yield
        except BROKER_AWAY:
            self._refused(began)
            raise
        else:
            with self._lock:
                self._taken_at, self._refused_at, self._pause = time.monotonic(), -math.inf, 0.0
        finally:
            with self._lock, contextlib.suppress(ValueError):  # it took longer than anybody thought
                self._under_way.remove(began)

    def _refused(self, began: float) -> None:
        with self._lock:
            if began <= self._refused_at:
                return  # of those that asked at the same time, one speaks for all
            self._refused_at = time.monotonic()
            was_slow = self._refused_at - began >= SILENCE
            self._pause = min(2 * self._pause, LONGEST_PAUSE) if was_slow and self._pause else PAUSE


_asking: WeakKeyDictionary[Broker, Asking] = WeakKeyDictionary()


def hand_on(
    actor: Actor[[list[int]], None],
    ids: Sequence[int],
    *,
    size: int = BATCH,
    lane: Lane | None = None,
    alone: bool = False,
    is_sweep: bool = False,
) -> bool:
    """Send ids to the next step, after their commit.

    A broker that is away loses nothing: the rows are marked as due, and the sweep sends them on when it is back. So
    this never raises for it, and gives up after the first refusal rather than wait for one refusal a batch. Nor do
    several threads wait for a broker that says nothing.

    Args:
        actor: the step.
        ids: rows of its table.
        size: how many ids a message has at most.
        lane: where all of them go; what waits for one lane may be worked on together (actors.together).
        alone: whether no message of theirs may be worked on together with others.
        is_sweep: whether the sweep asks (Asking.begin).

    Returns:
        Whether all was sent.
    """
    asking = _asking.setdefault(actor.broker, Asking())
    sent = 0
    options: dict[str, Any] = ({} if lane is None else {"lane": list(lane)}) | (
        {"alone": True} if alone else {}
    )
    for batch in batches(ids, size):
        began = asking.begin(is_sweep=is_sweep)
        if began is None:
            break
        try:
            with asking.since(began):
                actor.send_with_options(args=(list(batch),), **options)
        except BROKER_AWAY as error:
            log.warning("broker_away", actor=actor.actor_name, why=str(error) or type(error).__name__)
            break
        sent += len(batch)
    else:
        return True
    leave_to_the_sweep(actor, ids[sent:])
    return False


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
