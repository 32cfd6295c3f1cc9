"""What came of a job, in the shapes that the API and the command line show: a job, and its DispatchResult."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from peewee import JOIN, fn

from model.ledger import COUNTERS
from model.states import DeliveryState
from model.tables import NO_DEVICE, Delivery, Device, Job

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


def totals(job: Job) -> dict[str, int]:
    """The two sides of the equation: targets, and what became of them."""
    counts = {name: getattr(job, name) for name in COUNTERS}
    return {"targets": job.targets, **counts, "in_progress": job.targets - sum(counts.values())}


def dispatch_results(jobs: Sequence[Job]) -> dict[int, dict[str, Any]]:
    """The DispatchResult of each job, by job id, from one query."""
    query = (
        Delivery.select(Delivery, Device.platform.alias("platform"))
        .join(Device, JOIN.LEFT_OUTER, on=Delivery.device_id == Device.id)
        .where(Delivery.job.in_([job.id for job in jobs]))
        .order_by(Delivery.job, Delivery.id)
        .objects()
    )
    by_job: dict[int, list[Delivery]] = {job.id: [] for job in jobs}
    for delivery in query:
        by_job[delivery.job_id].append(delivery)
    return {job.id: _result(job, by_job[job.id]) for job in jobs}


def _result(job: Job, deliveries: Iterable[Delivery]) -> dict[str, Any]:
    results = [
        {
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
        for delivery in deliveries
    ]
    users = {result["user_id"] for result in results}
    count = {
        status: sum(result["status"] == status for result in results)
        for status in ("success", "failure", "skipped")
    }
    return {
        "user_id": job.user_id or (users.pop() if len(users) == 1 else None),
        "total_devices": len(results),
        "success_count": count["success"],
        "failure_count": count["failure"],
        "skipped_count": count["skipped"],
        "results": results,
        "duration_ms": round((job.finished_at - job.accepted_at).total_seconds() * 1000, 3)
        if job.finished_at
        else None,
        "all_succeeded": bool(results) and count["success"] + count["skipped"] == len(results),
    }


def without_alert() -> list[Any]:
    """What to select of jobs whose documents have no result: all but the alert, of which many may be gigabytes.

    How it begins tells the one thing that the document has of it: whether the id was given as a number.
    """
    fields = [field for field in Job._meta.sorted_fields if field is not Job.payload]  # noqa: SLF001  # Peewee's, documented
    beginning = fn.SUBSTR(Job.payload, 1, _BEGINNING).coerce(False)  # a part of the JSON, not to be decoded
    return [*fields, beginning.alias("beginning")]


#: How an alert whose id is a number begins, its members being in the order of AlertEvent's fields; and its characters.
_NUMBERED = re.compile(r'\{"alert_id":[-0-9]')
_BEGINNING = 13


def _alert_id(job: Job) -> Any:
    if job.payload is not None:
        return job.payload.get("alert_id", job.alert_id)
    return int(job.alert_id) if _NUMBERED.match(getattr(job, "beginning", "")) else job.alert_id


def job_document(job: Job, result: dict[str, Any] | None = None) -> dict[str, Any]:
    """A job as the API and `tocsin job --json` show it."""
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
