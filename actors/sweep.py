"""The net under the queue: sends on whatever is due and has no message in flight.

Losing any message, or the whole broker, loses nothing but time. One process at a time sweeps, by a lease in the
database; it runs beside the queue rather than through it, since the queue may be what was lost.
"""

from __future__ import annotations

import os
import socket
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from actors.broker import runtime
from actors.deliver import deliver
from actors.fanout_devices import fanout_devices, lane
from actors.handing import hand_on
from actors.match_rules import match_rules
from config.logging import get_logger
from config.metrics import metrics
from model.database import connection, transaction, utcnow
from model.states import DeliveryState
from model.tables import Alert, Delivery, Job, SweepLease

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from dramatiq import Actor

#: Rows of one statement, and the rounds of one sweep: what is due beyond that is due at the next.
LIMIT = 1000
ROUNDS = 100

HOLDER = f"{socket.gethostname()}:{os.getpid()}"

log = get_logger(__name__)


def sweep() -> dict[str, int]:
    """One round: how many rows were sent on, by stage. Nothing if another process is at it."""
    now = utcnow()
    with connection():
        if not _take_lease(now):
            return {}
        return {
            "match": _sweep_stage("match", Alert, match_rules, now),
            "fanout": _sweep_stage("fanout", Job, fanout_devices, now),
            "deliver": _sweep_deliveries(now),
        }


def _take_lease(now: datetime) -> bool:
    """Become, or stay, the one who sweeps."""
    # Twice the interval: the holder renews it in time, and after its death another takes over soon.
    until = now + timedelta(seconds=2 * runtime.settings.sweep_interval)
    with transaction():
        SweepLease.insert(name="sweep", holder=HOLDER, lease_until=until).on_conflict_ignore().execute()
        taken = (
            SweepLease.update(holder=HOLDER, lease_until=until)
            .where(
                (SweepLease.name == "sweep")
                & ((SweepLease.holder == HOLDER) | (SweepLease.lease_until < now))
            )
            .execute()
        )
    return bool(taken)


def _due(table: Any, now: datetime, extra: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """Take rows that are due, and put their next look a grace further off each time.

    Returns:
        (id, sweeps before this one, *extra) of each.
    """
    grace = timedelta(seconds=runtime.settings.sweep_grace)
    condition = table.sweep_at <= now
    if table is Delivery:
        condition &= table.lease_until.is_null() | (table.lease_until < now)
    with transaction():
        rows = list(
            table.select(table.id, table.sweeps, *extra)
            .where(condition)
            .order_by(table.sweep_at)
            .limit(LIMIT)
            .tuples()
        )
        if rows:
            table.update(sweep_at=now + grace, sweeps=table.sweeps + 1).where(
                table.id.in_([row[0] for row in rows])
            ).execute()
    return rows


def _send_on(actor: Actor[[list[int]], None], rows: Sequence[tuple[Any, ...]]) -> bool:
    """What was swept once goes in batches; what comes again goes alone, so that one bad row cannot hold others back."""
    first = [row[0] for row in rows if row[1] == 0]
    again = [row[0] for row in rows if row[1] > 0]
    return hand_on(actor, first) and hand_on(actor, again, size=1)


def _sweep_stage(name: str, table: Any, actor: Actor[[list[int]], None], now: datetime) -> int:
    total = 0
    for _ in range(ROUNDS):
        rows = _due(table, now)
        total += len(rows)
        if not _send_on(actor, rows) or len(rows) < LIMIT:
            break
    _tell(name, total)
    return total


def _sweep_deliveries(now: datetime) -> int:
    total = recovered = 0
    for _ in range(ROUNDS):
        rows = _due(Delivery, now, (Delivery.sender, Delivery.channel_id, Delivery.state))
        total += len(rows)
        recovered += sum(row[4] == DeliveryState.SENDING for row in rows)
        lanes: dict[tuple[str, int], list[tuple[Any, ...]]] = {}
        for row in rows:
            # Deferred ones come by the sweep as a matter of course: their first time is no sign of trouble.
            lanes.setdefault(lane(row[2], row[3]), []).append(row)
        if not all(_send_on(deliver, mine) for mine in lanes.values()) or len(rows) < LIMIT:
            break
    metrics().leases_recovered.inc(recovered)
    _tell("deliver", total)
    return total


def _tell(stage: str, number: int) -> None:
    if number:
        metrics().swept.labels(stage).inc(number)
        log.info("swept", stage=stage, rows=number)
