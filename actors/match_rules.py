"""First step: an alert meets the tenant's rules, and each channel that should hear of it gets a job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dramatiq
from peewee import fn

from actors.broker import MATCH, runtime
from actors.fanout_devices import fanout_devices
from actors.handing import hand_on
from model import bulk
from model.database import is_sqlite, transaction, utcnow
from model.jobs import job_row
from model.rulebook import rulebooks
from model.tables import Alert, Job

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from model.rulebook import RuleBook

#: (tenant id, alert id, channel id) -> when the channel was last notified of the alert.
LastNotified = dict[tuple[str, str, int], "datetime"]


@dramatiq.actor(queue_name=MATCH)
def match_rules(alert_rows: list[int]) -> None:
    """Turn alert events (rows of `alerts`) into jobs, one for each channel that a rule names."""
    now = utcnow()
    with transaction():
        alerts = _unmatched(alert_rows)
        books = rulebooks(alert.tenant_id for alert in alerts)
        notified = _last_notified(alerts, books)
        jobs, done = [], []
        for alert in alerts:
            found = _jobs_of(alert, books[alert.tenant_id], notified, now)
            jobs += found
            done.append({"id": alert.id, "matched_at": now, "jobs": len(found), "sweep_at": None})
        # A conflict is a duplicate: the job is there, from a message that came twice.
        job_ids = [row[0] for row in bulk.insert(Job, jobs, ignore_conflicts=True, returning=["id"])]
        bulk.update(Alert, done)
    hand_on(fanout_devices, job_ids)


def _unmatched(alert_rows: Sequence[int]) -> list[Alert]:
    query: Any = (
        Alert.select().where(Alert.id.in_(list(alert_rows)) & Alert.matched_at.is_null()).order_by(Alert.id)
    )
    return list(query if is_sqlite() else query.for_update())


def _jobs_of(alert: Alert, book: RuleBook, notified: LastNotified, now: datetime) -> list[bulk.Row]:
    """One job for each channel that at least one rule asks for; the first such rule is named in it."""
    jobs: dict[int, bulk.Row] = {}
    for rule in book.rules:
        if rule.channel_id in jobs or not rule.matches(alert.event_type, alert.payload):
            continue
        key = (alert.tenant_id, alert.alert_id, rule.channel_id)
        if rule.is_throttled(notified.get(key), now):
            continue
        # The next event of the same alert in this batch is throttled by this one.
        notified[key] = now
        jobs[rule.channel_id] = job_row(
            runtime.settings, tenant_id=alert.tenant_id, sequence=alert.id, event=alert.event_type,
            payload=alert.payload, accepted_at=alert.accepted_at, channel=book.channels[rule.channel_id],
            rule=(rule.rule_id, rule.name), now=now,
        )  # fmt: skip
    return list(jobs.values())


def _last_notified(alerts: Sequence[Alert], books: dict[str, RuleBook]) -> LastNotified:
    """When each channel was last notified of these alerts: by what succeeded or is under way, not by what failed."""
    throttled = {rule.channel_id for book in books.values() for rule in book.rules if rule.throttle}
    if not throttled or not alerts:
        return {}
    query: Any = (
        Job.select(
            Job.tenant,
            Job.alert_id,
            Job.channel_id,
            fn.MAX(Job.created_at).converter(Job.created_at.python_value),
        )
        .where(
            Job.tenant.in_(sorted(books))
            & Job.alert_id.in_(sorted({alert.alert_id for alert in alerts}))
            & Job.channel_id.in_(sorted(throttled))
            & ((Job.delivered > 0) | Job.finished_at.is_null())
        )
        .group_by(Job.tenant, Job.alert_id, Job.channel_id)
        .tuples()
    )
    return {(tenant, alert_id, channel): moment for tenant, alert_id, channel, moment in query}
