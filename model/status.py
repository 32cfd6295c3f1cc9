"""What is going on, from the database: the backlog of each stage, and counts by state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from peewee import SQL, fn

from model.database import UtcDateTimeField, reading_all, tuples, utcnow
from model.states import IN_PROGRESS, DeliveryState, JobState
from model.tables import Alert, Delivery, Job
from model.tallies import tallies

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class Stage:
    """The work in progress at one stage of the chain.

    Attributes:
        name: match, fanout or deliver.
        oldest_seconds: how long the oldest has waited since it could be done; 0 for none.
    """

    name: str
    count: int
    oldest_seconds: float


def backlog(tenant_id: str | None = None, *, now: datetime | None = None) -> list[Stage]:
    """The three stages, from the partial indexes that hold the work in progress only."""
    now = now or utcnow()
    stages = (
        ("match", Alert, Alert.accepted_at, Alert.tenant),
        ("fanout", Job, Job.created_at, Job.tenant_id),
        ("deliver", Delivery, fn.COALESCE(Delivery.next_attempt_at, Delivery.created_at), Delivery.tenant_id),
    )
    found = []
    for name, table, since, tenant in stages:
        query = table.select(fn.COUNT(table.id), fn.MIN(since)).where(table.sweep_at.is_null(is_null=False))
        if tenant_id is not None:
            query = query.where(tenant == tenant_id)
        number, oldest = next(tuples(query))
        oldest = UtcDateTimeField.python_value(Job.created_at, oldest)
        found.append(Stage(name, number, max(0.0, (now - oldest).total_seconds()) if oldest else 0.0))
    return found


def status(tenant_id: str | None = None) -> dict[str, Any]:
    """What `tocsin status --json` says, but for what only the broker knows; of one tenant or of all."""
    alerts = Alert.select(fn.COUNT(Alert.id), fn.COUNT(Alert.matched_at))
    jobs = Job.select(Job.state, fn.COUNT(Job.id)).group_by(Job.state)
    deliveries = Delivery.select(Delivery.state, fn.COUNT(Delivery.id)).group_by(Delivery.state)
    # In these very words: they are what the index of failed deliveries is limited to.
    failed = (
        Delivery.select(Delivery.reason, fn.COUNT(Delivery.id))
        .where(SQL("state = 'FAILED'"))
        .group_by(Delivery.reason)
    )
    if tenant_id is not None:
        failed = failed.where(Delivery.tenant_id == tenant_id)
        alerts = alerts.where(Alert.tenant == tenant_id)
        jobs = jobs.where(Job.tenant_id == tenant_id)
        deliveries = deliveries.where(Delivery.tenant_id == tenant_id)
    with reading_all():
        accepted, matched = next(tuples(alerts))
        by_job: dict[str, int] = dict(row[:2] for row in tuples(jobs))
        by_delivery: dict[str, int] = dict(row[:2] for row in tuples(deliveries))
    stages = backlog(tenant_id)
    return {
        "alerts": {"accepted": accepted, "matched": matched, "unmatched": accepted - matched},
        "jobs": {state.value: by_job.get(state, 0) for state in JobState},
        "deliveries": {state.value: by_delivery.get(state, 0) for state in DeliveryState},
        "failed_by_reason": dict(sorted((reason or "unknown", number) for reason, number in tuples(failed))),
        "in_progress": {
            "alerts": accepted - matched,
            "jobs": sum(by_job.get(state, 0) for state in JobState if not state.is_final),
            "deliveries": sum(by_delivery.get(state, 0) for state in IN_PROGRESS),
        },
        "oldest_pending_seconds": {stage.name: round(stage.oldest_seconds, 3) for stage in stages},
        "recovery": tallies(tenant_id),
    }
