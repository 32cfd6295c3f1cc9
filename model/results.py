"""What came of a job, in the shapes that the API and the command line show: a job, and its DispatchResult."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from peewee import JOIN, fn

from model.jobs import with_alert
from model.ledger import COUNTERS
from model.states import DeliveryState
from model.tables import NO_DEVICE, Alert, Delivery, Device, Job

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

#: A delivery's state, as a DispatchResult says it.
STATUS = {
    DeliveryState.DELIVERED: "success",
    DeliveryState.FAILED: "failure",
    DeliveryState.EXPIRED: "failure",
    DeliveryState.SUPPRESSED: "skipped",
    DeliveryState.SUPERSEDED: "skipped",
}

#: Those that a DispatchResult lists before others.
DEAD = (DeliveryState.FAILED, DeliveryState.EXPIRED)

#: Targets that a DispatchResult lists: those of a push to a million devices would take gigabytes.
LISTED = 1000


def totals(job: Job) -> dict[str, int]:
    """The two sides of the equation: targets, and what became of them."""
    counts = {name: getattr(job, name) for name in COUNTERS}
    return {"targets": job.targets, **counts, "in_progress": job.targets - sum(counts.values())}


def dispatch_result(job: Job) -> dict[str, Any]:
    """The DispatchResult of a job.

    The counts are the job's own, of all its targets. `results` has LISTED of them at most, those that failed or expired
    first; `results_left_out` says how many it lacks.
    """
    rows = _listed(job)
    left_out = max(0, job.targets - len(rows))
    success = job.delivered
    skipped = job.suppressed + job.superseded
    return {
        "user_id": job.user_id or _only_user(job, rows, is_whole=not left_out),
        "total_devices": job.targets,
        "success_count": success,
        "failure_count": job.failed + job.expired,
        "skipped_count": skipped,
        "results": [target_document(row) for row in rows],
        "results_left_out": left_out,
        "duration_ms": round((job.finished_at - job.accepted_at).total_seconds() * 1000, 3)
        if job.finished_at
        else None,
        "all_succeeded": bool(job.targets) and success + skipped == job.targets,
    }


def _listed(job: Job) -> list[Delivery]:
    if job.targets <= LISTED:
        return sorted(targets_of(job.id, limit=LISTED), key=lambda row: row.id)
    dead = job.failed + job.expired
    found = targets_of(job.id, states=DEAD, limit=min(dead, LISTED)) if dead else []
    others = [state for state in DeliveryState if state not in DEAD]
    found += targets_of(job.id, states=others, limit=LISTED - len(found)) if len(found) < LISTED else []
    # By id: one may have changed its state between the two queries.
    return list({row.id: row for row in found}.values())


def _only_user(job: Job, rows: Sequence[Delivery], *, is_whole: bool) -> str | None:
    users = {row.user_id for row in rows}
    if len(users) != 1:
        return None
    (user_id,) = users
    others = (Delivery.job_id == job.id) & (Delivery.user_id != user_id)
    return user_id if is_whole or not Delivery.select().where(others).limit(1).exists() else None


def targets_of(
    job_id: int, *, limit: int, states: Iterable[str] = (), after: int | None = None
) -> list[Delivery]:
    """Deliveries of a job with their `platform`, in the order of their device_id.

    That order is an index's: no page of a million sorts them.

    Args:
        job_id: whose.
        limit: how many at most.
        states: only these; none for all.
        after: only those with a greater device_id.
    """
    query = (
        Delivery.select(Delivery, Device.platform.alias("platform"))
        .join(Device, JOIN.LEFT_OUTER, on=Delivery.device_id == Device.id)
        .where(Delivery.job_id == job_id)
        .order_by(Delivery.device_id)
        .limit(limit)
        .objects()
    )
    if chosen := list(states):
        query = query.where(Delivery.state.in_(chosen))
    if after is not None:
        query = query.where(Delivery.device_id > after)
    return list(query)


def target_document(delivery: Delivery) -> dict[str, Any]:
    """What became of one target; a row of `targets_of`."""
    return {
        "delivery_id": delivery.id,
        "device_id": None if delivery.device_id == NO_DEVICE else delivery.device_id,
        "user_id": delivery.user_id,
        "platform": getattr(delivery, "platform", None) or delivery.sender,
        "status": STATUS.get(DeliveryState(delivery.state), "in_progress"),
        "state": delivery.state,
        "reason": delivery.reason,
        "code": delivery.code,
        "provider_id": delivery.provider_id,
        "attempts": delivery.attempts,
        "retry_count": max(0, delivery.attempts - 1),
        "latency_ms": delivery.latency_ms,
        "next_attempt_at": delivery.next_attempt_at.isoformat() if delivery.next_attempt_at else None,
    }


def listed_jobs() -> Any:
    """A query of jobs whose documents have no result, nor what their alerts say, of which many may be gigabytes.

    How it begins tells the one thing that the document has of it: whether the id was given as a number.
    """
    beginning = fn.SUBSTR(Alert.payload, 1, _BEGINNING).coerce(False)  # a part of the JSON, not to be decoded
    return with_alert(Job, beginning.alias("beginning"))


#: How an alert whose id is a number begins, its members being in the order of AlertEvent's fields; and its characters.
_NUMBERED = re.compile(r'\{"alert_id":[-0-9]')
_BEGINNING = 13


def _alert_id(job: Job) -> Any:
    beginning = getattr(job, "beginning", None)  # of a list's
    if beginning is None:
        return job.payload.get("alert_id", job.alert_id)
    return int(job.alert_id) if _NUMBERED.match(beginning) else job.alert_id


def job_document(job: Job, result: dict[str, Any] | None = None) -> dict[str, Any]:
    """A job as the API and `tocsin job --json` show it.

    Args:
        job: of `listed_jobs` or, with a result, of model.jobs.with_alert.
        result: its `dispatch_result`.
    """
    document: dict[str, Any] = {
        "job_id": job.id,
        "alert_id": _alert_id(job),
        "event_type": job.deliver_on_event,
        "channel": job.channel_name,
        "channel_id": job.channel_id,
        "channel_type": job.channel_type,
        "rule": job.rule_name,
        "state": job.state,
        "reason": job.reason,
        "totals": totals(job),
        "accepted_at": job.accepted_at.isoformat(),
        "finished_at": job.finished_at.isoformat() if job.finished_at else None,
        "expires_at": job.expires_at.isoformat(),
    }
    if result is not None:
        document["alert"] = job.payload
        document["result"] = result
    return document
