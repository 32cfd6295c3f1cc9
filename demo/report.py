"""What came of it: every delivery from the database, held against what was expected and what the far side saw."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from peewee import JOIN

from demo.scenario import TENANT
from model import ledger
from model.database import connection
from model.states import DeliveryState
from model.tables import Alert, Delivery, Device, Job

if TYPE_CHECKING:
    from collections.abc import Iterable

    from demo.scenario import Expected
    from receivers import FarSide

#: A delivery in one of these is not done, and will be soon. DEFERRED waits for the morning.
SOON = (DeliveryState.PENDING, DeliveryState.SENDING, DeliveryState.RETRYING)


@dataclass(frozen=True, slots=True)
class Line:
    """One delivery, as the demo shows it."""

    alert_id: int
    event: str
    message: str
    channel: str
    sender: str
    target: str
    state: str
    reason: str | None
    attempts: int
    code: str | None


def lines() -> list[Line]:
    """All deliveries of the demo's tenant, in the order in which they came about."""
    query: Any = (
        Delivery.select(
            Job.alert_id, Job.deliver_on_event, Alert.payload, Job.channel_name, Delivery.sender, Device.name,
            Delivery.state, Delivery.reason, Delivery.attempts, Delivery.code,
        )
        .join(Job, on=Delivery.job_id == Job.id)
        .join(Alert, on=Job.sequence == Alert.id)
        .join(Device, JOIN.LEFT_OUTER, on=Delivery.device_id == Device.id)
        .where(Job.tenant_id == TENANT)
        .order_by(Job.id, Delivery.id)
        .tuples()
    )  # fmt: skip
    with connection():
        return [
            Line(int(alert), event, payload["message"], channel, sender, name or "", *rest)
            for alert, event, payload, channel, sender, name, *rest in query
        ]


def is_settled() -> bool:
    """Whether every alert was matched, every job fanned out, and every delivery is done or waits for the morning."""
    with connection():
        return not (
            Alert.select().where(Alert.matched_at.is_null()).exists()
            or Job.select().where(Job.state == "PENDING").exists()
            or Delivery.select().where(Delivery.state.in_(SOON)).exists()
        )


def differences(found: Iterable[Line], expected: Iterable[Expected]) -> list[str]:
    """What is there and should not be, is not there and should be, or ended otherwise than it should."""
    have = {(line.alert_id, line.event, line.channel, line.target): line for line in found}
    want = {(each.alert_id, each.event, each.channel, each.target): each for each in expected}
    problems = [f"nobody expected {key}: {have[key].state}" for key in have.keys() - want.keys()]
    problems += [f"missing: {key}, which should be {want[key].state}" for key in want.keys() - have.keys()]
    for key in have.keys() & want.keys():
        line, each = have[key], want[key]
        if (line.state, line.reason) != (each.state, each.reason):
            problems.append(
                f"{key} is {line.state} ({line.reason}, {line.code}), not {each.state} ({each.reason})"
            )
        if each.attempts is not None and line.attempts != each.attempts:
            problems.append(f"{key} took {line.attempts} attempts, not {each.attempts}")
    return sorted(problems)


def far_side_differences(far: FarSide, found: Iterable[Line]) -> list[str]:
    """What the receivers saw otherwise: something invalid, something twice, something that nobody sent."""
    problems = [
        f"{name} refused {each.target}: {'; '.join(each.problems)}"
        for name, receiver in far.receivers.items()
        for each in receiver.received
        if not each.valid
    ]
    delivered = Counter(line.sender for line in found if line.state == DeliveryState.DELIVERED)
    for name, receiver in far.receivers.items():
        taken = sum(each.accepted for each in receiver.received)
        if taken != delivered[name]:
            problems.append(
                f"{name} took {taken} notifications, and {delivered[name]} are recorded as delivered"
            )
    states = [incident.state for incident in far.pagerduty.incidents]
    if states != ["resolved"]:
        problems.append(f"PagerDuty should hold one incident, resolved, and holds {states}")
    return problems


def equation() -> dict[str, int]:
    """The promise: targets = delivered + failed + suppressed + superseded + expired + in progress.

    Raises:
        AssertionError: it does not hold.
    """
    with connection():
        return ledger.conservation(TENANT)
