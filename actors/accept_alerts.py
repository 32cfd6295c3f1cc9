"""Where alerts come in by the queue, from producers that only have RabbitMQ: docs/producers.md has the format.

The one message of the chain that carries alerts rather than ids: until it is worked on it is the only copy. So it comes
again for as long as the database is away, or not migrated yet. What can never be accepted is logged and put among the
queue's dead letters with its reason, and never tried again.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import dramatiq
import pika
from dramatiq.broker import MessageProxy
from dramatiq.middleware import CurrentMessage, TimeLimitExceeded
from peewee import ProgrammingError

from actors.accepting import HandedIn, accept_all
from actors.broker import broker
from actors.intake import Accepted, parse_alerts
from actors.memory import MemoryBroker
from actors.rabbitmq import ConfirmingRabbitmqBroker
from actors.roads import ACCEPT, FRONT
from actors.together import Together
from config.logging import get_logger
from model.database import DATABASE_AWAY
from model.problems import InvalidInput, Problem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dramatiq import Message

    from model.alert import AlertEvent

#: Problems that a dead letter and its log line tell.
TOLD = 20
#: The largest header of an AMQP message that we write (a frame has 128 KiB).
REASON = 4000
#: Characters of a tenant's name: the width of its column.
LONGEST_NAME = 64

log = get_logger(__name__)


def _database_is_away(_retries: int, error: BaseException) -> bool:
    """However often: there is no other copy.

    A database that hangs shows itself by the time limit alone, and one that nobody has migrated yet by what it lacks.
    """
    return isinstance(error, (*DATABASE_AWAY, ProgrammingError, TimeLimitExceeded))


class ComeAgainError(Exception):
    """Of messages that were worked on together those that have not ended come again, each alone. Its cause says why."""


class _Given(NamedTuple):
    """A message, and what it brings. Without one the step was called as a function, as tests of other things do."""

    message: Any
    alerts: Any
    tenant_id: Any = "default"

    def read(self) -> list[AlertEvent]:
        # What the database would refuse in words of its own, or not even be asked for.
        name = self.tenant_id
        if not isinstance(name, str) or not name.isprintable() or len(name) > LONGEST_NAME:
            raise InvalidInput([Problem("tenant_id", "must be the name of a tenant")])
        return parse_alerts(self.alerts if isinstance(self.alerts, list) else [self.alerts])


@dramatiq.actor(queue_name=ACCEPT, priority=FRONT, retry_when=_database_is_away, max_backoff=60_000)
def accept_alerts(alerts: Any, tenant_id: Any = "default") -> None:
    """Accept alerts that a producer put on the queue: all of them or, if one is wrong, none.

    Args:
        alerts: one alert as in docs/api.md, or a list of up to 1,000.
        tenant_id: whose rules decide about them.
    """
    message: Any = CurrentMessage.get_current_message()
    if not isinstance(message, Together):
        _accept([_Given(message, alerts, tenant_id)], [])
        return
    try:
        _accept([_Given(part, *part.args) for part in message.parts], message.ended)
    except (Exception, TimeLimitExceeded) as error:
        # Retries knows one message, and these are several.
        raise ComeAgainError from error


def _accept(given: Sequence[_Given], ended: list[Any]) -> None:
    """Accept or refuse each, and say of which that is done: what is refused was counted, and has its dead letter."""
    readable: list[tuple[_Given, HandedIn]] = []
    for each in given:
        try:
            alerts = each.read()
        except InvalidInput as error:
            _refuse(each.message, error)
            ended.append(each.message)
        else:
            readable.append((each, HandedIn(each.tenant_id, partial(list, alerts))))
    failed: Exception | None = None
    for (each, _), outcome in zip(readable, accept_all([one for _, one in readable]), strict=True):
        if isinstance(outcome, Accepted):
            log.info(
                "alerts_accepted",
                tenant=each.tenant_id,
                accepted=outcome.accepted,
                duplicates=outcome.duplicates,
            )
        elif isinstance(outcome, InvalidInput):
            _refuse(each.message, outcome)
        else:
            failed = failed or outcome
            continue
        ended.append(each.message)
    if failed is not None:
        raise failed


def _refuse(message: Any, error: InvalidInput) -> None:
    """Log it, and put the message among the dead letters as it is, with the reason beside it.

    Dramatiq's own way to the dead letters leads through the broker, which adds no reason.
    """
    reason = "; ".join(map(str, error.problems[:TOLD]))[:REASON]
    if message is None:
        raise error
    log.error("alerts_refused", message_id=message.message_id, reason=reason)
    dead = message.copy(options={**message.options, "reason": reason})
    if isinstance(broker, ConfirmingRabbitmqBroker):
        _publish_dead(broker, dead, reason)
    elif isinstance(broker, MemoryBroker):
        broker.dead_letters_by_queue[ACCEPT].append(MessageProxy(dead))


def _publish_dead(rabbitmq: ConfirmingRabbitmqBroker, dead: Message[Any], reason: str) -> None:
    """The reason stands in a header too, where RabbitMQ's console shows it, and the timestamp says when that was.

    If this fails, the error sends the message to the same queue, without the reason; the log has it.
    """
    properties = pika.BasicProperties(
        delivery_mode=2,
        content_type="application/json",
        headers={"reason": reason},
        timestamp=int(time.time()),
    )
    rabbitmq.bury(dead, properties)


broker.add_middleware(CurrentMessage())
