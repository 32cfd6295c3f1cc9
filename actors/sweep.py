"""The net under the queue: sends on whatever is due and has no message in flight.

Losing any message, or the whole broker, loses nothing but time. One process at a time sweeps, by a lease in the
database; it runs beside the queue rather than through it, since the queue may be what was lost.

When is a row without its message? Its time alone does not say: behind a long backlog a message may wait for an hour,
and a second one for each row would only make the backlog longer. So the queue is asked. While messages wait in it, a
row is sent on after `sweep_grace`; once none waits, whatever is still undone is in a worker's hands or lost, and
`sweep_grace_idle` is enough. Messages too many thus fill the queue, which ends the hurry: the rule limits itself. With
every sweep of a row its patience doubles.
"""

from __future__ import annotations

import os
import socket
from datetime import timedelta
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Any

from actors.broker import runtime
from actors.deliver import deliver, deliver_critical, deliver_later
from actors.fanout_devices import fanout_critical, fanout_devices
from actors.handing import BATCH, BROKER_AWAY, batches, hand_on, lane_of, leave_to_the_sweep
from actors.match_rules import match_critical, match_rules
from config.logging import get_logger
from config.metrics import metrics
from model.database import among, connection, is_sqlite, transaction, tuples, utcnow
from model.jobs import is_critical
from model.states import DeliveryState
from model.tables import Alert, Delivery, Job, SweepLease
from model.tallies import TallyName, tally

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import datetime

    from dramatiq import Actor

#: Rows of one statement, and the rounds of one sweep: what is due beyond that is due at the next.
LIMIT = 1000
ROUNDS = 100

#: How often a row's patience doubles: from one minute up to a quarter of an hour.
DOUBLINGS = 4

#: Rows a message by how often they were swept before: one bad row must not hold others back for long.
SIZES = (BATCH, 10, 1)

HOLDER = f"{socket.gethostname()}:{os.getpid()}"

log = get_logger(__name__)


def sweep() -> dict[str, int]:
    """One round: how many rows were sent on, by stage. Nothing if another process is at it."""
    with connection():
        now = utcnow()
        if not _take_lease(now):
            return {}
        if is_sqlite():
            _set_right(now)
        return {
            "match": _sweep_stage("match", Alert, (match_rules, match_critical), _urgent_alerts, now),
            "fanout": _sweep_stage("fanout", Job, (fanout_devices, fanout_critical), _urgent_jobs, now),
            "deliver": _sweep_deliveries(now, is_critical=True) + _sweep_deliveries(now, is_critical=False),
        }


def _take_lease(now: datetime) -> bool:
    """Become, or stay, the one who sweeps."""
    # Twice the interval: the holder renews it in time, and after its death another takes over soon.
    lasts = timedelta(seconds=2 * runtime.settings.sweep_interval)
    until = now + lasts
    # A clock was ahead and is set right: nobody who sweeps now has set an end so far off.
    ended = (SweepLease.lease_until < now) | (SweepLease.lease_until > until + lasts)
    with transaction():
        SweepLease.insert(name="sweep", holder=HOLDER, lease_until=until).on_conflict_ignore().execute()
        taken = (
            SweepLease.update(holder=HOLDER, lease_until=until)
            .where((SweepLease.name == "sweep") & ((SweepLease.holder == HOLDER) | ended))
            .execute()
        )
    return bool(taken)


def _set_right(now: datetime) -> None:
    """Make due what a clock that was ahead, and is set right, has put off: SQLite goes by the machine's.

    Farther off than a right clock puts it, that is. What waits for a time of its own (RETRYING, DEFERRED) is not.
    """
    lease = timedelta(seconds=runtime.settings.lease)
    off = now + timedelta(seconds=runtime.settings.sweep_grace) * 2 ** (DOUBLINGS + 1)
    is_sending = Delivery.state == DeliveryState.SENDING
    is_far = Delivery.lease_until > now + 2 * lease
    wrong: tuple[tuple[Any, Any, dict[str, datetime]], ...] = (
        (Alert, Alert.sweep_at > off, {"sweep_at": now}),
        (Job, Job.sweep_at > off, {"sweep_at": now}),
        (Delivery, (Delivery.sweep_at > off) & (Delivery.state == DeliveryState.PENDING), {"sweep_at": now}),
        # Its worker may be at it: it has a lease's time, and the lease with which to settle it, until that is over.
        # What the sweep itself has put off for long has a lease that is over.
        (Delivery, (Delivery.sweep_at > now + 2 * lease) & is_sending & is_far, {"sweep_at": now + lease}),
        (Delivery, (Delivery.sweep_at <= now) & is_sending & is_far, {"lease_until": now}),
    )
    for table, condition, right in wrong:
        if table.select().where(condition).exists():
            with transaction():
                rows = table.update(right).where(condition).execute()
            log.warning("clock_was_ahead", table=table._meta.table_name, rows=rows)  # noqa: SLF001  # Peewee's own name for it


def _due(
    table: Any, now: datetime, *, idle: bool, extra: Sequence[Any] = (), only: Any = None
) -> list[tuple[Any, ...]]:
    """Take rows that are due, and put their next look further off each time.

    Args:
        idle: whether the queue that leads to them is empty.
        extra: more columns.
        only: a further condition.

    Returns:
        (id, sweeps before this one, *extra) of each.
    """
    grace = timedelta(seconds=runtime.settings.sweep_grace)
    condition = table.sweep_at <= now
    if idle:
        condition = (table.sweep_at <= now + grace * 2**DOUBLINGS) & (
            condition | _due_when_idle(table, now, grace)
        )
    if table is Delivery:
        condition &= table.lease_until.is_null() | (table.lease_until < now)
    if only is not None:
        condition &= only
    with transaction():
        query = (
            table.select(table.id, table.sweeps, *extra)
            .where(condition)
            .order_by(table.sweep_at)
            .limit(LIMIT)
        )
        # What somebody works on at this moment is not lost, and once it has ended it must not be marked as due again.
        rows = list(tuples(query if is_sqlite() else query.for_update("FOR UPDATE SKIP LOCKED")))
        by_sweeps: dict[int, list[int]] = {}
        for row in rows:
            by_sweeps.setdefault(min(row[1] + 1, DOUBLINGS), []).append(row[0])
        for sweeps, ids in by_sweeps.items():
            table.update(sweep_at=now + grace * 2**sweeps, sweeps=table.sweeps + 1).where(
                table.id.in_(ids) & table.sweep_at.is_null(False)
            ).execute()
    return rows


def _due_when_idle(table: Any, now: datetime, grace: timedelta) -> Any:
    """What waited for the shorter grace, where `sweep_at` counts with the longer one; both double with every sweep."""
    sooner = max(grace - timedelta(seconds=runtime.settings.sweep_grace_idle), timedelta(0))
    terms = [
        ((table.sweeps == times) if times < DOUBLINGS else (table.sweeps >= times))
        & (table.sweep_at <= now + sooner * 2**times)
        for times in range(DOUBLINGS + 1)
    ]
    condition = reduce(or_, terms)
    if table is Delivery:
        # What waits for its time is not late, and what is being sent has its lease.
        condition &= table.next_attempt_at.is_null() | (table.next_attempt_at <= now)
        condition &= table.state != DeliveryState.SENDING
    return condition


def _is_idle(*actors: Actor[[list[int]], None]) -> bool | None:
    """Whether no message waits for any of these actors; None while the broker is away."""
    waiting: Any = actors[0].broker
    try:
        return all(waiting.waiting(actor.queue_name) == 0 for actor in actors)
    except BROKER_AWAY as error:
        log.warning("broker_away", actor=actors[0].actor_name, why=str(error) or type(error).__name__)
        return None


def _send_on(actor: Actor[[list[int]], None], groups: Iterable[Sequence[tuple[Any, ...]]]) -> bool:
    """Send rows on, each group by itself; what the broker does not take is due again at once.

    Returns:
        Whether it took all.
    """
    taken = True
    for rows in groups:
        for sweeps, size in enumerate(SIZES):
            ids = [row[0] for row in rows if min(row[1], len(SIZES) - 1) == sweeps]
            if taken:
                taken = hand_on(actor, ids, size=size, is_sweep=True)
            else:
                leave_to_the_sweep(actor, ids)
    return taken


def _sweep_stage(
    name: str,
    table: Any,
    roads: tuple[Actor[[list[int]], None], Actor[[list[int]], None]],
    urgent_of: Callable[[list[int]], set[int]],
    now: datetime,
) -> int:
    """Sweep alerts or jobs, each on its road: that of the rest, and that of the critical ones."""
    idle = _is_idle(*roads)
    total = 0
    for _ in range(ROUNDS if idle is not None else 0):
        rows = _due(table, now, idle=bool(idle))
        total += len(rows)
        urgent = urgent_of([row[0] for row in rows])
        taken = _send_on(roads[1], [[row for row in rows if row[0] in urgent]])
        taken = _send_on(roads[0], [[row for row in rows if row[0] not in urgent]]) and taken
        if not taken or len(rows) < LIMIT:
            break
    _tell(name, total)
    return total


def _urgent_alerts(ids: list[int]) -> set[int]:
    found: set[int] = set()
    # Not all at once: an alert may have a quarter of a megabyte.
    for batch in batches(ids):
        query = Alert.select(Alert.id, Alert.payload).where(among(Alert.id, batch))
        found |= {number for number, payload in tuples(query) if is_critical(runtime.settings, payload)}
    return found


def _urgent_jobs(ids: list[int]) -> set[int]:
    return {row[0] for row in tuples(Job.select(Job.id).where(among(Job.id, ids) & Job.is_critical))}


def _sweep_deliveries(now: datetime, *, is_critical: bool) -> int:
    roads = (deliver_critical,) if is_critical else (deliver, deliver_later)
    mine = Delivery.is_critical == is_critical
    idle = _is_idle(*roads)
    total = 0
    extra = (Delivery.sender, Delivery.channel_id, Delivery.state, Delivery.tenant_id)
    for _ in range(ROUNDS if idle is not None else 0):
        rows = _due(Delivery, now, idle=bool(idle), extra=extra, only=mine)
        total += len(rows)
        lanes: dict[tuple[str, int], list[tuple[Any, ...]]] = {}
        for row in rows:
            lanes.setdefault(lane_of(row[2], row[3]), []).append(row)
        taken = _send_on(roads[-1], lanes.values())
        left_behind = (row[5] for row in rows if row[4] == DeliveryState.SENDING)
        metrics().leases_recovered.inc(tally(TallyName.LEASES_RECOVERED, left_behind))
        if not taken or len(rows) < LIMIT:
            break
    _tell("deliver", total)
    return total


def _tell(stage: str, number: int) -> None:
    if number:
        metrics().swept.labels(stage).inc(number)
        log.info("swept", stage=stage, rows=number)
