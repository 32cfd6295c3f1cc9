"""A job as it is born, and what its alert makes of it: how severe, until when worth sending."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from peewee import JOIN, SQL, fn

from model.states import DeliveryState, JobState
from model.tables import NO_DEVICE, Alert, Delivery, Job

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from config import Settings
    from model.states import Reason


def is_critical(settings: Settings, alert: Mapping[str, Any]) -> bool:
    """Whether an alert may override quiet hours: by its severity, or because its producer says so."""
    return (alert.get("severity") or 0) >= settings.critical_severity or (
        (alert.get("details") or {}).get("is_critical") is True
    )


def time_to_live(settings: Settings, alert: Mapping[str, Any]) -> timedelta:
    """How long a notification of this alert is worth sending, from its acceptance on."""
    if is_critical(settings, alert):
        return timedelta(seconds=settings.expiry_critical)
    by_severity = (settings.expiry_info, settings.expiry_info, settings.expiry_warning, settings.expiry_error)
    severity = min(alert.get("severity") or 0, len(by_severity) - 1)
    return timedelta(seconds=by_severity[severity])


def job_row(
    settings: Settings,
    *,
    tenant_id: str,
    sequence: int,
    event: str,
    payload: Mapping[str, Any],
    accepted_at: datetime,
    channel: tuple[int, str, str],
    now: datetime,
    targets: int | None,
    rule: tuple[int, str] | None = None,
    user_id: str | None = None,
) -> dict[str, Any]:
    """A job's row.

    Args:
        settings: say what is critical, and how long it is worth sending.
        tenant_id: whose alert it is.
        sequence: the id of the alert event.
        event: its type.
        payload: what the alert says.
        accepted_at: when the alert was committed; its time to live begins then.
        channel: id, name, type.
        rule: id and name of the first rule that asked for it.
        user_id: the one user to notify, where no rule asked for it.
        now: when the job is made.
        targets: how many deliveries are made together with it; None where a fan-out has to find its targets first.
    """
    return {
        "tenant_id": tenant_id,
        "alert_id": str(payload["alert_id"]),
        "deliver_on_event": event,
        "sequence": sequence,
        "channel_id": channel[0],
        "channel_name": channel[1],
        "channel_type": channel[2],
        "rule_id": rule[0] if rule else None,
        "rule_name": rule[1] if rule else None,
        "user_id": user_id,
        "severity": payload.get("severity") or 0,
        "is_critical": is_critical(settings, payload),
        "accepted_at": accepted_at,
        "expires_at": accepted_at + time_to_live(settings, payload),
        "state": JobState.PENDING if targets is None else JobState.PROCESSING,
        "targets": targets or 0,
        "created_at": now,
        "sweep_at": now + timedelta(seconds=settings.sweep_grace) if targets is None else None,
    }


def delivery_row(
    settings: Settings,
    *,
    job_id: int,
    tenant_id: str,
    channel_id: int,
    sender: str,
    expires_at: datetime,
    is_critical: bool,
    now: datetime,
    device_id: int = NO_DEVICE,
    user_id: str | None = None,
    state: DeliveryState = DeliveryState.PENDING,
    reason: Reason | None = None,
    due: datetime | None = None,
) -> dict[str, Any]:
    """A delivery's row.

    Args:
        settings: say when the sweep looks after it.
        job_id: of which job it is one target.
        tenant_id: whose it is.
        channel_id: the job's channel.
        sender: who makes it.
        expires_at: from when on it is not worth sending.
        is_critical: takes the road of critical alerts.
        now: when it is made.
        device_id: the target; the channel itself by default.
        user_id: whose device it is.
        state: PENDING, DEFERRED with `due`, or a final one.
        reason: why it is not to be sent, or not yet.
        due: when a deferred one is to be sent.
    """
    return {
        "job_id": job_id,
        "tenant_id": tenant_id,
        "channel_id": channel_id,
        "device_id": device_id,
        "user_id": user_id,
        "sender": sender,
        "is_critical": is_critical,
        "state": state,
        "reason": reason,
        "attempts": 0,
        "lease_until": None,
        "next_attempt_at": due,
        "expires_at": expires_at,
        "created_at": now,
        "finished_at": now if state.is_final else None,
        "sweep_at": None if state.is_final else due or now + timedelta(seconds=settings.sweep_grace),
    }


def claimed_row(settings: Settings, row: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """A delivery's row as `ledger.claim` would leave it, for whoever inserts it and makes the delivery as well."""
    until = lease_end(settings, now)
    return {**row, "state": DeliveryState.SENDING, "attempts": 1, "lease_until": until, "sweep_at": until}


def lease_end(settings: Settings, now: datetime) -> datetime:
    """Until when a delivery is its claimer's."""
    return now + timedelta(seconds=settings.lease)


def with_alert(*columns: Any) -> Any:
    """A query of jobs and what their alerts say.

    Args:
        columns: of both; by default a job's, and as `payload` what its alert says: nothing, if a hand deleted that.
    """
    says = fn.COALESCE(Alert.payload, "{}").converter(Alert.payload.python_value)
    chosen = columns or (Job, says.alias("payload"))
    return Job.select(*chosen).join(Alert, JOIN.LEFT_OUTER, on=Job.sequence == Alert.id).objects()


def in_states(tenant_id: str, states: Iterable[str]) -> Any:
    """The condition that a job of this tenant, which a query asks for besides, stands in one of these states.

    By an index, but for COMPLETED: what most jobs are, a query finds among the tenant's newest.
    """
    wanted = {JobState(state) for state in states}
    stands = Job.state.in_(sorted(wanted))
    if JobState.COMPLETED in wanted:
        return stands
    ended = [state for state in wanted if state.is_final]
    if len(ended) == len(wanted):
        return Job.ended_as.in_(sorted(ended))
    other = Job.alias()
    ids: Any = Delivery.select(Delivery.job_id).where(
        (Delivery.tenant_id == tenant_id) & Delivery.sweep_at.is_null(is_null=False)
    )
    for mine in (other.sweep_at.is_null(is_null=False), other.ended_as.in_(sorted(ended))):
        ids = ids.union_all(other.select(other.id).where((other.tenant_id == tenant_id) & mine))
    return stands & Job.id.in_(ids)


def notifies() -> Any:
    """The condition that a job uses up its channel's throttle: it reached somebody, or is about to.

    One that failed does not, nor one that waits for the morning: what is worse than it must not wait with it. Nor does
    a push that is still to be fanned out (PENDING): nobody knows yet whether it waits for the morning. A later event
    takes the place of what is not sent by then.
    """
    moving = [DeliveryState.PENDING, DeliveryState.SENDING, DeliveryState.RETRYING]
    is_moving = fn.EXISTS(
        Delivery.select(SQL("1")).where((Delivery.job_id == Job.id) & Delivery.state.in_(moving))
    )
    return (Job.delivered > 0) | (Job.finished_at.is_null() & is_moving)
