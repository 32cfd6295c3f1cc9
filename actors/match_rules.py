"""First step: an alert meets the tenant's rules, and each channel that should hear of it gets a job.

A push job still has to find its devices, in fanout_devices. Any other has one target, its channel: the delivery is made
together with the job, which saves a message, a transaction and two writes.
"""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import dramatiq
from peewee import fn

from actors.broker import runtime
from actors.fanout_devices import fanout_critical, fanout_devices
from actors.handing import BATCH, hand_on
from actors.onward import Inserted, claim_own, deliver_own, hand_on_deliveries, supersede_earlier
from actors.record import PUSH
from actors.roads import CRITICAL, FRONT, MATCH, URGENT
from config.logging import get_logger
from model import bulk
from model.database import DATABASE_AWAY, Pulse, among, database, is_sqlite, transaction, tuples, utcnow
from model.jobs import delivery_row, job_row, notifies
from model.rulebook import rulebooks
from model.states import EventType
from model.tables import Alert, Delivery, Job
from senders.registry import ALIASES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from dramatiq import Actor

    from model.rulebook import RuleBook

#: (tenant id, alert id, channel id) -> when the channel was last notified of the alert.
LastNotified = dict[tuple[str, str, int], "datetime"]

log = get_logger(__name__)


class Unmatched(NamedTuple):
    """An alert event that no rule has met yet."""

    id: int
    tenant_id: str
    alert_id: str
    event_type: str
    payload: dict[str, Any]
    accepted_at: datetime


def _match(alert_rows: list[int]) -> None:
    """Turn alert events (rows of `alerts`) into jobs, one for each channel that a rule names.

    What follows is done in this thread where it is one thing: the deliveries to one destination, or one fan-out (which
    may find ten thousand devices), or those of critical alerts. The rest has messages.
    """
    with transaction():
        began, now = time.monotonic(), utcnow()  # as in deliver
        alerts = _unmatched(alert_rows)
        books = rulebooks(alert.tenant_id for alert in alerts)
        notified = _last_notified(alerts, books)
        jobs, done = [], []
        pulse = Pulse()
        for alert in alerts:
            pulse.beat()
            found = _jobs_of(alert, books[alert.tenant_id], notified, now)
            jobs += found
            done.append(
                {"id": alert.id, "matched_at": now, "jobs": len(found), "sweep_at": None, "error": None}
            )
        made = _insert(jobs)
        pushes = {number: job for number, job in made.items() if job["channel_type"] == PUSH}
        others = {number: job for number, job in made.items() if job["channel_type"] != PUSH}
        urgent = [number for number, job in pushes.items() if job["is_critical"]]
        # What ends an alert ends the deliveries of the events before it, unless they are claimed.
        is_each_alone = len({(alert.tenant_id, alert.alert_id) for alert in alerts}) == len(alerts)
        deliveries = _deliveries_of(others, now, claims=is_each_alone and not urgent)
        bulk.update(Alert, done)
    supersede_earlier(
        [number for number, job in others.items() if job["deliver_on_event"] != EventType.OPEN], now
    )
    hand_on_deliveries(deliveries)
    _fan_out(fanout_devices, sorted({*pushes} - {*urgent}), here=0 if deliveries or urgent else 1)
    _fan_out(fanout_critical, urgent, here=BATCH)
    payloads = {alert.id: alert.payload for alert in alerts}
    own = {number: (job, payloads[job["sequence"]]) for number, job in others.items()}
    deliver_own(deliveries, now, began, jobs=own)


def _fan_out(step: Actor[[list[int]], None], job_ids: Sequence[int], *, here: int) -> None:
    """Fan jobs out: so many at most in this thread, more by a message, and by a message if that fails."""
    if not job_ids:
        return
    if len(job_ids) > here or not runtime.is_alive:
        hand_on(step, job_ids)
        return
    try:
        step.fn(list(job_ids))
    except Exception as error:  # noqa: BLE001  # matching is done, whatever comes of this
        log.warning("not_fanned_out_at_once", jobs=len(job_ids), why=type(error).__name__)
        hand_on(step, job_ids)


def _step(name: str, queue: str, priority: int) -> Actor[[list[int]], None]:
    def step(alert_rows: list[int]) -> None:
        try:
            _match(alert_rows)
        except DATABASE_AWAY:
            raise
        except Exception as error:
            if len(alert_rows) < 2:  # noqa: PLR2004  # nobody else suffers by it
                raise
            # One of them is to blame, perhaps, and tenants that hand in at the same time share a message.
            log.warning("matched_apart", alerts=len(alert_rows), why=type(error).__name__)
            hand_on(made, alert_rows, size=1, alone=True)

    made = dramatiq.actor(actor_name=name, queue_name=queue, priority=priority)(step)
    return made


match_rules = _step("match_rules", MATCH, FRONT)
match_critical = _step("match_critical", CRITICAL, URGENT)


def _unmatched(alert_rows: Sequence[int]) -> list[Unmatched]:
    query: Any = (
        Alert.select(
            Alert.id, Alert.tenant, Alert.alert_id, Alert.event_type, Alert.payload, Alert.accepted_at
        )
        .where(among(Alert.id, alert_rows) & Alert.matched_at.is_null())
        .order_by(Alert.id)
    )
    return [Unmatched(*row) for row in tuples(query if is_sqlite() else query.for_update())]


def _insert(jobs: Sequence[bulk.Row]) -> dict[int, bulk.Row]:
    """Insert jobs; by id those that are new. A conflict is a duplicate, from a message that came twice."""
    key = ("tenant_id", "alert_id", "channel_id", "deliver_on_event")
    given = {tuple(job[name] for name in key): job for job in jobs}
    inserted = bulk.insert(Job, jobs, ignore_conflicts=True, returning=("id", *key))
    return {row[0]: given[row[1:]] for row in inserted}


def _deliveries_of(jobs: Mapping[int, bulk.Row], now: datetime, *, claims: bool) -> list[Inserted]:
    """Make the one delivery of each job, and claim what this thread is to make."""
    rows = [
        delivery_row(
            runtime.settings, job_id=number, tenant_id=job["tenant_id"], channel_id=job["channel_id"],
            sender=ALIASES.get(job["channel_type"]) or job["channel_type"], expires_at=job["expires_at"],
            is_critical=job["is_critical"], now=now,
        )
        for number, job in jobs.items()
    ]  # fmt: skip
    if claims:
        rows = claim_own(rows, now)
    return [Inserted(*row) for row in bulk.insert(Delivery, rows, returning=Inserted._fields)]


def _jobs_of(alert: Unmatched, book: RuleBook, notified: LastNotified, now: datetime) -> list[bulk.Row]:
    """One job for each channel that at least one rule asks for; the first such rule is named in it."""
    jobs: dict[int, bulk.Row] = {}
    for rule in book.about(alert.payload):
        if rule.channel_id in jobs or not rule.matches(alert.event_type, alert.payload):
            continue
        key = (alert.tenant_id, alert.alert_id, rule.channel_id)
        if rule.is_throttled(notified.get(key), now):
            continue
        channel = book.channels[rule.channel_id]
        if channel[2] != PUSH:
            # The next event of the same alert in this batch is throttled by this one. A push may still have to wait for
            # the end of quiet hours, as model.jobs.notifies says.
            notified[key] = now
        jobs[rule.channel_id] = job_row(
            runtime.settings, tenant_id=alert.tenant_id, sequence=alert.id, event=alert.event_type,
            payload=alert.payload, accepted_at=alert.accepted_at, channel=channel,
            rule=(rule.rule_id, rule.name), targets=None if channel[2] == PUSH else 1, now=now,
        )  # fmt: skip
    return list(jobs.values())


def _lock_alerts(alerts: Iterable[tuple[str, str]]) -> None:
    """Wait until nobody else matches an event of these alerts, and let nobody, until the end of the transaction.

    Of two events that are matched at once neither would see that the other notifies. SQLite's writers are alone anyway.
    """
    if not is_sqlite():
        digests = (hashlib.sha256(f"{tenant}\0{alert_id}".encode()).digest() for tenant, alert_id in alerts)
        keys = [int.from_bytes(digest[:8], "big", signed=True) for digest in digests]
        # In their order, as all do: https://www.postgresql.org/docs/current/explicit-locking.html#ADVISORY-LOCKS
        database.execute_sql(
            "SELECT pg_advisory_xact_lock(key) FROM (SELECT unnest(%s) AS key ORDER BY key) AS keys", (keys,)
        )


def _last_notified(alerts: Sequence[Unmatched], books: dict[str, RuleBook]) -> LastNotified:
    """When each channel was last notified of these alerts: by what counts (model.jobs.notifies)."""
    throttled = {rule.channel_id for book in books.values() for rule in book.rules if rule.throttle}
    if not throttled or not alerts:
        return {}
    _lock_alerts({(alert.tenant_id, alert.alert_id) for alert in alerts})
    query: Any = (
        Job.select(
            Job.tenant_id,
            Job.alert_id,
            Job.channel_id,
            fn.MAX(Job.created_at).converter(Job.created_at.python_value),
        )
        .where(
            Job.tenant_id.in_(sorted(books))
            & Job.alert_id.in_(sorted({alert.alert_id for alert in alerts}))
            & Job.channel_id.in_(sorted(throttled))
            & notifies()
        )
        .group_by(Job.tenant_id, Job.alert_id, Job.channel_id)
        .tuples()
    )
    return {(tenant, alert_id, channel): moment for tenant, alert_id, channel, moment in query}
