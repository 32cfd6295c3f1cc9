"""How one step hands its rows to the next: commit first, then a message with their ids, which may be lost."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any, TypeVar

from dramatiq.errors import BrokerError
from pika.exceptions import AMQPError

from config.logging import get_logger
from model.database import DATABASE_AWAY, connection, utcnow
from model.tables import Alert, Delivery, Job

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dramatiq import Actor

#: Rows a message speaks of at most. A hundred cost one statement and one publish, as one does.
BATCH = 100

#: What an enqueue raises while the broker is away or refuses.
BROKER_AWAY = (BrokerError, AMQPError, OSError)

#: What the ids of each step's messages are.
TABLES: dict[str, Any] = {"match_rules": Alert, "fanout_devices": Job, "deliver": Delivery}

#: Ids of one statement: well below SQLite's limit of 32,766 parameters.
LIMIT = 10_000

T = TypeVar("T")

log = get_logger(__name__)


def batches(items: Sequence[T], size: int = BATCH) -> Iterator[Sequence[T]]:
    """Cut a sequence into parts of at most so many."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


class _Pause:
    """After a refusal this process asks nothing of the broker for a while: each refusal costs seconds to wait for."""

    SECONDS = 2.0

    def __init__(self) -> None:
        self._until = float("-inf")

    def begin(self) -> None:
        """The broker has just refused."""
        self._until = time.monotonic() + self.SECONDS

    def lasts(self) -> bool:
        """Whether it is too early to ask again."""
        return time.monotonic() < self._until


_pause = _Pause()


def hand_on(actor: Actor[[list[int]], None], ids: Sequence[int], *, size: int = BATCH) -> bool:
    """Send ids to the next step, after their commit.

    A broker that is away loses nothing: the rows are marked as due, and the sweep sends them on when it is back. So
    this never raises for it, and gives up after the first refusal rather than wait for one refusal a batch.

    Returns:
        Whether all was sent.
    """
    if _pause.lasts():
        leave_to_the_sweep(actor, ids)
        return False
    sent = 0
    for batch in batches(ids, size):
        try:
            actor.send(list(batch))
        except BROKER_AWAY as error:
            log.warning("broker_away", actor=actor.actor_name, why=str(error) or type(error).__name__)
            _pause.begin()
            leave_to_the_sweep(actor, ids[sent:])
            return False
        sent += len(batch)
    return True


def leave_to_the_sweep(actor: Actor[[list[int]], None], ids: Sequence[int]) -> None:
    """Mark rows as due now: no message speaks of them."""
    table = TABLES[actor.actor_name]
    # Should the database be away as well, the rows come due by themselves, a little later.
    with contextlib.suppress(*DATABASE_AWAY), connection():
        for batch in batches(ids, LIMIT):
            unfinished = table.sweep_at.is_null(False)
            table.update(sweep_at=utcnow()).where(table.id.in_(list(batch)) & unfinished).execute()
