"""Deleting what is over and old: jobs with their deliveries, the log, alerts, dead devices.

In batches, each a transaction of its own, so that nobody waits for it. An alert that was pruned is forgotten:
if its producer sends it again, it is new.
"""

from __future__ import annotations

import bisect
import itertools
import time
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from peewee import fn

from model.database import is_sqlite, transaction, tuples, utcnow
from model.ledger import COUNTERS
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

    waiting: list[int] = []

    def jobs() -> bool:
        old = Job.finished_at < before
        return _jobs(old if tenant_id is None else old & (Job.tenant_id == tenant_id), waiting, done)

    def rows(name: str, table: Any, old: Any) -> Callable[[], bool]:
        def batch() -> bool:
            ids = _ids(table, old)
            if ids:
                # Asked again: a device may have been registered anew since it was found.
                done[name] += table.delete().where(table.id.in_(ids) & old).execute()
            return len(ids) == BATCH

        return batch

    same = (
        (Job.tenant_id == Alert.tenant)
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
        more = True
        while more:
            began = time.monotonic()
            with transaction():
                more = step()
            if more and is_sqlite():
                # Who waits for SQLite's lock looks for it now and then, and would find it taken again each time.
                time.sleep(time.monotonic() - began)
    return done


def _jobs(old: Any, waiting: list[int], done: dict[str, int]) -> bool:
    """Delete the oldest jobs, with a batch of deliveries in all, or a part of the first one's; whether to go on.

    Args:
        waiting: the jobs of a batch that are not deleted yet, from one call to the next: to find them reads all jobs.
        done: is counted in.
    """
    if not waiting:
        waiting.extend(_ids(Job, old))
        if not waiting:
            return False
    # Again, and locked: what is replayed is no longer old, and nobody replays what is deleted meanwhile.
    query = Job.select(Job.id, Job.targets).where(Job.id.in_(waiting) & old).order_by(Job.id)
    found = list(tuples(query if is_sqlite() else query.for_update()))
    waiting[:] = [job_id for job_id, _ in found]
    if not found or (found[0][1] > BATCH and _thin_out(waiting[0], done)):
        return True
    rows = list(itertools.accumulate(targets for _, targets in found))
    ids = waiting[: max(1, bisect.bisect_right(rows, BATCH))]
    del waiting[: len(ids)]
    done["deliveries"] += Delivery.delete().where(Delivery.job_id.in_(ids)).execute()
    done["jobs"] += Job.delete().where(Job.id.in_(ids)).execute()
    return True


def _thin_out(job_id: int, done: dict[str, int]) -> bool:
    """Delete a batch of a job's deliveries, and take it off its totals; nothing, and False, if it has not as many.

    A push to all of a tenant's users has a million, and who has them all deleted at once keeps everybody else out of
    SQLite for as long. The totals follow in the same transaction, so that the equation of the promise always holds.
    """
    some = Delivery.select(Delivery.id, Delivery.state).where(Delivery.job_id == job_id).limit(BATCH)
    states = dict(tuples(some))
    if len(states) < BATCH:
        return False
    done["deliveries"] += Delivery.delete().where(Delivery.id.in_(list(states))).execute()
    gone = Counter(state.lower() for state in states.values())
    less = {name: getattr(Job, name) - gone[name] for name in COUNTERS}
    Job.update(targets=Job.targets - len(states), **less).where(Job.id == job_id).execute()
    return True


def _ids(table: Any, condition: Any) -> list[int]:
    return [
        row[0] for row in table.select(table.id).where(condition).order_by(table.id).limit(BATCH).tuples()
    ]
