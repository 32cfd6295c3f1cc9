"""What the pages list, a page at a time, newest first unless said otherwise. Within a connection of the caller's.

A search for text reads the tenant's newest SEARCHED rows and no more: the tables have no index over what alerts say.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import orjson
from peewee import JOIN, SQL, fn

from api import cursors
from model.audience import addressed, preferences_of
from model.database import tuples, utcnow
from model.jobs import in_states, with_alert
from model.states import DeliveryState, JobState
from model.tables import Alert, Channel, Delivery, Device, Job, LogEntry, PreferenceRow

if TYPE_CHECKING:
    from collections.abc import Sequence

    from model.preferences import Preference

#: Rows of a page; deliveries of a job on its page, and attempts of those.
ROWS = 50
DELIVERIES = 100
ATTEMPTS = 500
#: Rows that a search for text reads.
SEARCHED = 100_000

#: Jobs among whose deliveries are such that failed or expired.
_WITH_DEAD = (JobState.PROCESSING, JobState.PARTIAL, JobState.FAILED, JobState.EXPIRED)
DEAD = (DeliveryState.FAILED, DeliveryState.EXPIRED)


@dataclass(frozen=True, slots=True)
class Rows:
    """A page of a list.

    Attributes:
        next: the cursor of the following page, or None.
    """

    items: list[Any]
    next: str | None


def _page(name: str, query: Any, limit: int = ROWS) -> Rows:
    found = list(query.limit(limit + 1))
    following = cursors.encode(name, (found[limit - 1].id,)) if len(found) > limit else None
    return Rows(found[:limit], following)


def _says(table: Any, tenant_id: str, text: str) -> Any:
    """Whether an alert's id begins with a text, or its payload holds it; of the tenant's newest alerts or jobs.

    Args:
        table: Alert, or Job in a query that has joined it.
    """
    # Counted in the index over (tenant, id) alone. Ids are shared: other tenants' rows do not count.
    newest = table.select(table.id).where(table.tenant_id == tenant_id).order_by(table.id.desc())
    oldest = newest.offset(SEARCHED - 1).limit(1).scalar() or 0  # none: the tenant has fewer
    # The payload is JSON: what is looked for must be spelled as it is there.
    spelled = orjson.dumps(text).decode()[1:-1]
    return (table.id >= oldest) & (
        table.alert_id.startswith(text) | Alert.payload.cast("TEXT").contains(spelled)
    )


def alerts(
    tenant_id: str, *, text: str, event: str, outcome: str, cursor: str | None, limit: int = ROWS
) -> Rows:
    """Alert events.

    Args:
        outcome: "none": no rule asked for a job; "error": it could not be matched; else all.
    """
    before = cursors.decode("alerts", cursor, width=1)
    query = Alert.select().where(Alert.tenant == tenant_id).order_by(Alert.id.desc())
    if text:
        query = query.where(_says(Alert, tenant_id, text))
    if event:
        query = query.where(Alert.event_type == event)
    if outcome == "none":
        query = query.where((Alert.jobs == 0) & Alert.matched_at.is_null(is_null=False))
    elif outcome == "error":
        query = query.where(Alert.error.is_null(is_null=False))
    if before is not None:
        query = query.where(Alert.id < before[0])
    return _page("alerts", query, limit)


def alert(tenant_id: str, alert_id: str) -> tuple[list[Alert], list[Job]]:
    """All events of an alert, oldest first, and its jobs.

    Raises:
        LookupError: this tenant has no such alert.
    """
    events = list(
        Alert.select().where((Alert.tenant == tenant_id) & (Alert.alert_id == alert_id)).order_by(Alert.id)
    )
    if not events:
        raise LookupError(f"there is no alert {alert_id!r} in tenant {tenant_id!r}")
    mine = (Job.tenant_id == tenant_id) & (Job.alert_id == alert_id)
    return events, list(Job.select().where(mine).order_by(Job.id).limit(1000))


def jobs(
    tenant_id: str,
    *,
    text: str,
    states: Sequence[str],
    channel: int | None,
    cursor: str | None,
    limit: int = ROWS,
) -> Rows:
    """Jobs."""
    before = cursors.decode("jobs", cursor, width=1)
    query = with_alert().where(Job.tenant_id == tenant_id).order_by(Job.id.desc())
    if text:
        query = query.where(_says(Job, tenant_id, text))
    if states:
        query = query.where(in_states(tenant_id, states))
    if channel is not None:
        query = query.where(Job.channel_id == channel)
    if before is not None:
        query = query.where(Job.id < before[0])
    return _page("jobs", query, limit)


def job(tenant_id: str, job_id: int) -> Job:
    """One job.

    Raises:
        LookupError: this tenant has no such job.
    """
    found: Job | None = with_alert().where((Job.tenant_id == tenant_id) & (Job.id == job_id)).first()
    if found is None:
        raise LookupError(f"there is no job {job_id} in tenant {tenant_id!r}")
    return found


def deliveries(found: Job, cursor: str | None) -> Rows:
    """A job's deliveries, oldest first, each with `platform` and `device_name`."""
    after = cursors.decode("deliveries", cursor, width=1)
    query = (
        Delivery.select(Delivery, Device.platform.alias("platform"), Device.name.alias("device_name"))
        .join(Device, JOIN.LEFT_OUTER, on=addressed())
        .where(Delivery.job_id == found.id)
        .order_by(Delivery.id)
        .objects()
    )
    if after is not None:
        query = query.where(Delivery.id > after[0])
    return _page("deliveries", query, DELIVERIES)


def attempts(delivery_ids: Sequence[int]) -> tuple[list[LogEntry], bool]:
    """The newest attempts at some deliveries, in their order, and whether there are older ones."""
    if not delivery_ids:
        return [], False
    query = LogEntry.select().where(LogEntry.delivery_id.in_(list(delivery_ids)))
    newest = list(query.order_by(LogEntry.id.desc()).limit(ATTEMPTS + 1))
    return newest[:ATTEMPTS][::-1], len(newest) > ATTEMPTS


def dead(tenant_id: str, *, channel: int | None, reason: str, hours: int | None, cursor: str | None) -> Rows:
    """Deliveries that failed or expired, each with its `job_row` and `device_name`."""
    before = cursors.decode("dead", cursor, width=1)
    query = (
        Delivery.select(
            Delivery, Job.alert_id.alias("alert_id"), Job.deliver_on_event.alias("event"),
            Job.channel_name.alias("channel_name"), Job.severity.alias("severity"), Device.name.alias("device_name"),
        )
        .join(Job, on=Delivery.job_id == Job.id)
        .join(Device, JOIN.LEFT_OUTER, on=addressed())
        .where(
            (Job.tenant_id == tenant_id)
            & in_states(tenant_id, _WITH_DEAD)
            & ((Job.failed > 0) | (Job.expired > 0))
            & Delivery.state.in_(list(DEAD))
        )
        .order_by(Delivery.id.desc())
        .objects()
    )  # fmt: skip
    if channel is not None:
        query = query.where(Delivery.channel_id == channel)
    if reason:
        query = query.where(Delivery.reason == reason)
    if hours is not None:
        query = query.where(Delivery.finished_at >= utcnow() - timedelta(hours=hours))
    if before is not None:
        query = query.where(Delivery.id < before[0])
    return _page("dead", query)


def channel_choices(tenant_id: str) -> list[tuple[int, str]]:
    """Id and name of the tenant's channels, by name."""
    query = Channel.select(Channel.id, Channel.name).where(Channel.tenant == tenant_id).order_by(Channel.name)
    return [(row[0], row[1]) for row in tuples(query)]


def channel_jobs(tenant_id: str, channel_id: int) -> list[Job]:
    """A channel's newest jobs."""
    mine = (Job.tenant_id == tenant_id) & (Job.channel_id == channel_id)
    return list(with_alert().where(mine).order_by(Job.id.desc()).limit(10))


@dataclass(frozen=True, slots=True)
class User:
    """Somebody with devices or preferences.

    Attributes:
        devices: how many, and how many of them are disabled.
    """

    user_id: str
    devices: tuple[int, int]
    preferences: Preference


def users(tenant_id: str, *, text: str, after: str) -> tuple[list[User], str | None]:
    """Users by their id, and the last id of the page if there are more."""
    devices = Device.select(Device.user_id.alias("user_id")).where(Device.tenant == tenant_id)
    known = PreferenceRow.select(PreferenceRow.user_id.alias("user_id")).where(
        PreferenceRow.tenant == tenant_id
    )
    if text:
        devices, known = (
            devices.where(Device.user_id.contains(text)),
            known.where(PreferenceRow.user_id.contains(text)),
        )
    if after:
        devices, known = devices.where(Device.user_id > after), known.where(PreferenceRow.user_id > after)
    both = devices | known
    ids = [row[0] for row in tuples(both.order_by(SQL("user_id")).limit(ROWS + 1))]
    shown = ids[:ROWS]
    counts: dict[str, tuple[int, int]] = {
        row[0]: (row[1], row[2])
        for row in tuples(
            Device.select(Device.user_id, fn.COUNT(Device.id), fn.COUNT(Device.disabled_at))
            .where((Device.tenant == tenant_id) & Device.user_id.in_(shown))
            .group_by(Device.user_id)
        )
    }
    preferences = preferences_of(tenant_id, shown)
    found = [User(each, counts.get(each, (0, 0)), preferences[each]) for each in shown]
    return found, shown[-1] if len(ids) > ROWS else None
