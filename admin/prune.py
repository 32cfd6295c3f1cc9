"""Deleting what is over and old: jobs with their deliveries, the log, alerts, dead devices.

In batches, each a transaction of its own, so that nobody waits for it. An alert that was pruned is forgotten:
if its producer sends it again, it is new.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from peewee import fn

from model.database import transaction, utcnow
from model.tables import Alert, Delivery, Device, Job, LogEntry

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

#: Rows of one transaction.
BATCH = 1000


def prune(
    *,
    days: float,
    device_days: float | None = None,
    tenant_id: str | None = None,
    now: datetime | None = None,
) -> dict[str, int]:
    """Delete what ended so many days ago.

    Args:
        days: the age of jobs by their end, of alerts by their acceptance, of log entries.
        device_days: devices that were disabled so many days ago go as well; None keeps them all.
        tenant_id: only this tenant's.
        now: the moment from which ages are counted.

    Returns:
        The number of rows by kind: jobs, deliveries, log, alerts, devices.
    """
    now = now or utcnow()
    before = now - timedelta(days=days)
    done = {"jobs": 0, "deliveries": 0, "log": 0, "alerts": 0, "devices": 0}

    def jobs() -> int:
        old = Job.finished_at < before
        ids = _ids(Job, old if tenant_id is None else old & (Job.tenant == tenant_id))
        if ids:
            done["deliveries"] += Delivery.delete().where(Delivery.job.in_(ids)).execute()
            done["jobs"] += Job.delete().where(Job.id.in_(ids)).execute()
        return len(ids)

    def rows(name: str, table: Any, old: Any) -> Callable[[], int]:
        def batch() -> int:
            ids = _ids(table, old)
            if ids:
                done[name] += table.delete().where(table.id.in_(ids)).execute()
            return len(ids)

        return batch

    same = (
        (Job.tenant == Alert.tenant)
        & (Job.alert_id == Alert.alert_id)
        & (Job.deliver_on_event == Alert.event_type)
    )
    over = (Alert.accepted_at < before) & Alert.matched_at.is_null(is_null=False)
    over &= ~fn.EXISTS(Job.select(Job.id).where(same))
    logged = LogEntry.at < before
    if tenant_id is not None:
        over, logged = over & (Alert.tenant == tenant_id), logged & (LogEntry.tenant_id == tenant_id)
    steps = [jobs, rows("log", LogEntry, logged), rows("alerts", Alert, over)]
    if device_days is not None:
        gone = Device.disabled_at < now - timedelta(days=device_days)
        steps.append(
            rows("devices", Device, gone if tenant_id is None else gone & (Device.tenant == tenant_id))
        )
    for step in steps:
        found = BATCH
        while found == BATCH:
            with transaction():
                found = step()
    return done


def _ids(table: Any, condition: Any) -> list[int]:
    return [
        row[0] for row in table.select(table.id).where(condition).order_by(table.id).limit(BATCH).tuples()
    ]
