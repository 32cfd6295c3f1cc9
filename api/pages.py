"""Lists, a page at a time, by the keys that their order has: what is added meanwhile neither hides nor repeats a row.

Within a connection of the caller's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from peewee import fn

from admin.channels import channel_document
from admin.jobs import list_jobs
from admin.rules import rule_document
from api import cursors
from model.database import among, is_sqlite, tuples
from model.results import job_document, listed_jobs, target_document, targets_of
from model.tables import Alert, Channel, Job, LogEntry, RoutingRule

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: Bytes of alerts as JSON, after which a page ends, whatever its limit is: five hundred as large as they may be would
#: take gigabytes once they are decoded.
PAGE_BYTES = 4 * 1024 * 1024

#: Jobs of one alert that its history shows.
JOBS = 1000

#: Jobs of one event that a list of alerts shows.
LISTED_JOBS = 100

Page = dict[str, Any]


def _page(
    name: str,
    rows: Sequence[Any],
    limit: int,
    document: Callable[[Any], Any],
    position: Callable[[Any], tuple[int, ...]],
) -> Page:
    """A page of rows, of which one more than the limit was asked for."""
    shown = rows[:limit]
    following = cursors.encode(name, position(shown[-1])) if len(rows) > limit else None
    return {"items": [document(row) for row in shown], "next": following}


def _by_id(row: Any) -> tuple[int, ...]:
    return (row.id,)


def alerts(
    tenant_id: str, *, alert_id: str | None, event_type: str | None, limit: int, cursor: str | None
) -> Page:
    """Alert events, newest first, with their jobs. The page ends early where the alerts are large."""
    before = cursors.decode("alerts", cursor, width=1)
    # PostgreSQL knows the bytes of a text without reading it; SQLite counts characters.
    length = fn.LENGTH if is_sqlite() else fn.OCTET_LENGTH
    query = (
        Alert.select(Alert.id, length(Alert.payload).coerce(False))  # no JSON to decode
        .where(Alert.tenant == tenant_id)
        .order_by(Alert.id.desc())
        .limit(limit + 1)
    )
    if alert_id is not None:
        query = query.where(Alert.alert_id == alert_id)
    if event_type is not None:
        query = query.where(Alert.event_type == event_type)
    if before is not None:
        query = query.where(Alert.id < before[0])
    sizes = list(tuples(query))
    fitting = _fitting(sizes[:limit])
    rows = list(Alert.select().where(among(Alert.id, fitting)).order_by(Alert.id.desc()))
    jobs = _jobs_of(tenant_id, rows)
    return {
        "items": [{**alert_document(row), "jobs": jobs[row.id]} for row in rows],
        "next": cursors.encode("alerts", (fitting[-1],)) if len(fitting) < len(sizes) else None,
    }


def _fitting(sizes: Sequence[tuple[int, int]]) -> list[int]:
    """The first ids, of ids and bytes, that one page has room for: at least one."""
    found: list[int] = []
    room = PAGE_BYTES
    for row_id, size in sizes:
        room -= size
        if found and room < 0:
            break
        found.append(row_id)
    return found


def _jobs_of(tenant_id: str, events: Sequence[Alert]) -> dict[int, list[dict[str, Any]]]:
    """The first jobs of each event, by its id, in one query."""
    found: dict[int, list[dict[str, Any]]] = {event.id: [] for event in events}
    mine = (Job.tenant_id == tenant_id) & Job.alert_id.in_({event.alert_id for event in events})
    place = fn.ROW_NUMBER().over(partition_by=[Job.sequence], order_by=[Job.id])
    numbered = Job.select(Job.id, place.alias("place")).where(mine & Job.sequence.in_(list(found)))
    query = (
        listed_jobs()
        .join(numbered, on=(Job.id == numbered.c.id))
        .where(numbered.c.place <= LISTED_JOBS)
        .order_by(Job.id)
    )
    for job in query if events else ():
        found[job.sequence].append(job_document(job))
    return found


def alert_history(tenant_id: str, alert_id: str) -> Page:
    """An alert as its newest event has it, with all events and the jobs that they caused.

    Raises:
        LookupError: this tenant has no such alert.
    """
    mine = (Alert.tenant == tenant_id) & (Alert.alert_id == alert_id)
    events = list(Alert.select().where(mine).order_by(Alert.id))
    if not events:
        raise LookupError(f"there is no alert {alert_id!r} in tenant {tenant_id!r}")
    jobs = (
        listed_jobs()
        .where((Job.tenant_id == tenant_id) & (Job.alert_id == alert_id))
        .order_by(Job.id)
        .limit(JOBS)
    )
    return {
        **events[-1].payload,
        "event_type": events[-1].event_type,
        "events": [alert_document(event) for event in events],
        "jobs": [job_document(job) for job in jobs],
    }


def alert_document(row: Alert) -> dict[str, Any]:
    """One event of an alert."""
    return {
        **row.payload,
        "event_type": row.event_type,
        "accepted_at": row.accepted_at.isoformat(),
        "matched_at": row.matched_at.isoformat() if row.matched_at else None,
        "job_count": row.jobs,
        "error": row.error,
    }


def channels(tenant_id: str, *, limit: int, cursor: str | None) -> Page:
    """Channels, oldest first."""
    after = cursors.decode("channels", cursor, width=1)
    query = Channel.select().where(Channel.tenant == tenant_id).order_by(Channel.id).limit(limit + 1)
    if after is not None:
        query = query.where(Channel.id > after[0])
    return _page("channels", list(query), limit, channel_document, _by_id)


def rules(tenant_id: str, *, limit: int, cursor: str | None) -> Page:
    """Rules in the order in which they are asked."""
    after = cursors.decode("rules", cursor, width=2)
    query = (
        RoutingRule.select(RoutingRule, Channel.id, Channel.name)
        .join(Channel)
        .where(RoutingRule.tenant == tenant_id)
        .order_by(RoutingRule.priority, RoutingRule.id)
        .limit(limit + 1)
    )
    if after is not None:
        priority, rule_id = after
        same = (RoutingRule.priority == priority) & (RoutingRule.id > rule_id)
        query = query.where((RoutingRule.priority > priority) | same)
    return _page("rules", list(query), limit, rule_document, lambda row: (row.priority, row.id))


def jobs(
    tenant_id: str,
    *,
    states: Sequence[str],
    channel: str | None,
    alert_id: str | None,
    limit: int,
    cursor: str | None,
) -> Page:
    """Jobs, newest first, without their results.

    Raises:
        LookupError: there is no such channel.
    """
    before = cursors.decode("jobs", cursor, width=1)
    found = list_jobs(
        tenant_id,
        states=states,
        channel=channel,
        alert_id=alert_id,
        before=before[0] if before else None,
        limit=limit + 1,
    )
    return _page("jobs", found, limit, lambda job: job, lambda job: (job["job_id"],))


def deliveries(job_id: int, *, states: Sequence[str], limit: int, cursor: str | None) -> Page:
    """What became of a job's targets, in the order of their devices."""
    after = cursors.decode("targets", cursor, width=1)
    rows = targets_of(job_id, states=states, after=after[0] if after else None, limit=limit + 1)
    return _page("targets", rows, limit, target_document, lambda row: (row.device_id,))


def log(
    tenant_id: str,
    *,
    job_id: int | None,
    delivery_id: int | None,
    channel_id: int | None,
    outcome: str | None,
    limit: int,
    cursor: str | None,
) -> Page:
    """Attempts, newest first."""
    before = cursors.decode("log", cursor, width=1)
    query = (
        LogEntry.select().where(LogEntry.tenant_id == tenant_id).order_by(LogEntry.id.desc()).limit(limit + 1)
    )
    for column, wanted in (
        (LogEntry.job_id, job_id),
        (LogEntry.delivery_id, delivery_id),
        (LogEntry.channel_id, channel_id),
        (LogEntry.outcome, outcome),
    ):
        if wanted is not None:
            query = query.where(column == wanted)
    if before is not None:
        query = query.where(LogEntry.id < before[0])
    return _page("log", list(query), limit, _log_document, _by_id)


def _log_document(row: LogEntry) -> dict[str, Any]:
    names = (
        "id", "job_id", "delivery_id", "channel_id", "sender", "attempt", "outcome", "code", "provider_id",
        "latency_ms", "detail",
    )  # fmt: skip
    return {**{name: getattr(row, name) for name in names}, "at": row.at.isoformat()}
