"""Where alerts come in: checked, committed, and only then sent on. The commit is the acceptance."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from peewee import IntegrityError

from actors.boot import require_schema
from actors.broker import runtime
from actors.fanout_devices import fanout_critical, fanout_devices
from actors.handing import hand_on
from actors.match_rules import match_critical, match_rules
from config.metrics import metrics
from model import bulk
from model.alert import AlertEvent, parse_alert
from model.database import is_sqlite, transaction, utcnow
from model.jobs import is_critical, job_row
from model.problems import InvalidInput, Problem
from model.states import EventType
from model.tables import Alert, Channel, Job, Tenant

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

#: Alerts that one call may bring (docs/api.md).
MAX_ALERTS = 1000

#: What an alert has and a notification has not.
_NO_FIELDS = {
    "alert_id": "a notification has none; give notification_id to make it unique",
    "event_type": "a notification has none: it is one event, and nothing follows it",
}

#: The channel in whose name users are notified without a rule. Made at its first use; it may carry credentials.
DIRECT = "direct"


@dataclass(frozen=True, slots=True)
class Accepted:
    """What became of a call.

    Attributes:
        accepted: alerts that are new and committed.
        duplicates: alerts whose event was accepted before, or stands twice in the call.
        ids: the rows of the new ones, in their order.
    """

    accepted: int
    duplicates: int
    ids: tuple[int, ...]


class Call(NamedTuple):
    """What one caller hands in at once: up to 1,000 alerts."""

    tenant_id: str
    alerts: Sequence[AlertEvent]


class _New(NamedTuple):
    """An alert event that was accepted, and which call brought it."""

    id: int
    call: int
    is_critical: bool


def dispatch_alerts(
    alerts: Mapping[str, Any] | AlertEvent | Iterable[Mapping[str, Any] | AlertEvent],
    *,
    tenant_id: str = "default",
) -> Accepted:
    """Accept alerts: all of them or, if one is wrong, none.

    Args:
        alerts: one alert as in docs/api.md, or up to 1,000.
        tenant_id: whose rules decide about them.

    Returns:
        Once they are committed. From then on each delivery that they cause ends in one state, whatever crashes.

    Raises:
        InvalidInput: names each field of each bad alert, and what it must be.
        peewee.OperationalError: the database is away, or its schema is not up to date (SchemaError); nothing was
            accepted, and the call may be repeated as it is.
    """
    _require_unicode("tenant_id", tenant_id)
    given = [alerts] if isinstance(alerts, (Mapping, AlertEvent)) else list(alerts)
    return accept([Call(tenant_id, parse_alerts(given))])[0]


def accept(calls: Sequence[Call]) -> list[Accepted]:
    """Commit the alerts of calls that came at the same time, all of them or none, and send them on.

    A commit, a statement and a message cost a hundred calls little more than one.

    Returns:
        What became of each call: an alert that two have in common is new in the first of them.

    Raises:
        InvalidInput: there is no such tenant.
        peewee.OperationalError: as with `dispatch_alerts`.
    """
    require_schema()
    try:
        inserted = _insert(calls)
    except IntegrityError:
        # The foreign key: who looked for the tenant before would pay for it at each call.
        with transaction():
            for tenant_id in {call.tenant_id for call in calls}:
                require_tenant(tenant_id)
        inserted = _insert(calls)
    hand_on(match_critical, [new.id for new in inserted if new.is_critical])
    hand_on(match_rules, [new.id for new in inserted if not new.is_critical])
    accepted: list[list[int]] = [[] for _ in calls]
    for new in inserted:
        accepted[new.call].append(new.id)
    metrics().alerts.labels("accepted").inc(len(inserted))
    metrics().alerts.labels("duplicate").inc(sum(len(call.alerts) for call in calls) - len(inserted))
    return [
        Accepted(len(ids), len(call.alerts) - len(ids), tuple(ids))
        for call, ids in zip(calls, accepted, strict=True)
    ]


def _insert(calls: Sequence[Call]) -> list[_New]:
    entries = [(number, call.tenant_id, alert) for number, call in enumerate(calls) for alert in call.alerts]
    # In one order, whatever the callers': two that have alerts in common would wait for each other. One alert's events
    # stay as they are, and have the database find that order for them.
    entries.sort(key=lambda entry: (entry[1], entry[2].key))
    has_several = len({(tenant_id, alert.key) for _, tenant_id, alert in entries}) < len(entries)
    with transaction():
        for call in calls:
            if not call.alerts:  # nothing else would find that there is no such tenant
                require_tenant(call.tenant_id)
        now = utcnow()  # only here: the first connection of a process asks the server for the time
        rows: list[bulk.Row] = [
            {
                "tenant_id": tenant_id,
                "alert_id": alert.key,
                "event_type": alert.event_type,
                "payload": alert.snapshot,
                "accepted_at": now,
                "sweep_at": now + timedelta(seconds=runtime.settings.sweep_grace),
            }
            for _, tenant_id, alert in entries
        ]
        names = ("tenant_id", "alert_id", "event_type")
        inserted = bulk.insert(
            Alert,
            rows,
            ignore_conflicts=True,
            returning=["id", *names],
            locking_by=names if has_several else (),
        )
    first: dict[tuple[Any, ...], tuple[int, dict[str, Any]]] = {}
    for (number, _, _), row in zip(entries, rows, strict=True):
        first.setdefault(tuple(row[name] for name in names), (number, row["payload"]))
    found = [(row[0], *first[tuple(row[1:])]) for row in sorted(inserted)]
    return [_New(id_, number, is_critical(runtime.settings, payload)) for id_, number, payload in found]


def parse_alerts(given: Sequence[Mapping[str, Any] | AlertEvent]) -> list[AlertEvent]:
    """The alerts of one call.

    Raises:
        InvalidInput: names each field of each bad alert, and what it must be. They are counted as rejected.
    """
    try:
        return _parse(given)
    except InvalidInput:
        metrics().alerts.labels("rejected").inc(len(given))
        raise


def _parse(given: Sequence[Mapping[str, Any] | AlertEvent]) -> list[AlertEvent]:
    problems: list[Problem] = []
    parsed: list[AlertEvent] = []
    if len(given) > MAX_ALERTS:
        raise InvalidInput([Problem("", f"at most {MAX_ALERTS:,} alerts at once; there are {len(given):,}")])
    for index, data in enumerate(given):
        try:
            parsed.append(parse_alert(data, prefix=f"[{index}]" if len(given) > 1 else ""))
        except InvalidInput as error:
            problems.extend(error.problems)
    if problems:
        raise InvalidInput(problems)
    return parsed


def require_tenant(tenant_id: str) -> None:
    """Refuse alerts for a tenant that nobody set up: they would be accepted, and go nowhere.

    Raises:
        InvalidInput: says how to set one up. The tenant `default` is made when it is first used.
    """
    if Tenant.select().where(Tenant.tenant_id == tenant_id).exists():
        return
    if tenant_id != "default":
        raise InvalidInput([Problem("tenant", f"there is no tenant {tenant_id!r}; `tocsin apply` makes one")])
    Tenant.insert(tenant_id=tenant_id).on_conflict_ignore().execute()


def dispatch_to_user(
    user_id: str,
    notification: Mapping[str, Any],
    *,
    tenant_id: str = "default",
    notification_id: str | None = None,
) -> int:
    """Notify all of a user's devices, no rule needed. The user's preferences decide as ever.

    Args:
        notification: an alert's fields without alert_id and event_type: `message`, `severity`, `details` (with `title`,
            `camera_id`, `is_critical`, ...).
        notification_id: makes the call repeatable: a second call with the same id returns the first one's job.

    Returns:
        The job's id; `wait_for_result` waits for its DispatchResult.

    Raises:
        InvalidInput: names the field and what it must be.
        peewee.OperationalError: as with `dispatch_alerts`.
    """
    unique = notification_id or str(uuid.uuid4())
    if not user_id or len(user_id) > 255 or "\0" in user_id:  # noqa: PLR2004  # the column's width
        raise InvalidInput([Problem("user_id", "must be a string of 1 to 255 characters")])
    for name, text in (("tenant_id", tenant_id), ("user_id", user_id), ("notification_id", str(unique))):
        _require_unicode(name, text)
    if foreign := [Problem(name, rule) for name, rule in _NO_FIELDS.items() if name in notification]:
        raise InvalidInput(foreign)
    # The user is part of the id: one notification_id may go to many users.
    alert = parse_alert(
        {
            "alert_type": "notification",
            **notification,
            "alert_id": f"notify:{uuid.uuid5(_NOTIFY, f'{user_id}/{unique}')}",
        }
    )
    require_schema()
    with transaction():
        now = utcnow()  # as above
        require_tenant(tenant_id)
        event = {
            "tenant_id": tenant_id,
            "alert_id": alert.key,
            "event_type": EventType.OPEN,
            "payload": alert.snapshot,
            "accepted_at": now,
            "matched_at": now,
            "jobs": 1,
        }
        sequence = None
        while sequence is None:  # again where prune deleted it after it was found to be there
            inserted = bulk.insert(Alert, [event], ignore_conflicts=True, returning=["id"])
            sequence = inserted[0][0] if inserted else _lock_event(tenant_id, alert.key)
        # By whichever channel it went: the one of now may have been made since. None where it was pruned, and its alert
        # is about to be: then this one is new.
        mine = (Job.tenant_id == tenant_id) & (Job.alert_id == alert.key) & (Job.user_id == user_id)
        known = None if inserted else Job.select(Job.id).where(mine).first()
        if known is not None:
            return int(known.id)
        if not inserted:
            # Prune, which waits for the lock, does not look for jobs again; but it looks at what has changed.
            Alert.update(accepted_at=now, payload=alert.snapshot).where(Alert.id == sequence).execute()
        channel = _direct_channel(tenant_id)
        job = job_row(
            runtime.settings, tenant_id=tenant_id, sequence=sequence, event=EventType.OPEN,
            payload=alert.snapshot, accepted_at=now, channel=(channel.id, channel.name, channel.channel_type),
            user_id=user_id, now=now, targets=None,
        )  # fmt: skip
        job_id = int(bulk.insert(Job, [job], returning=["id"])[0][0])
    hand_on(fanout_critical if job["is_critical"] else fanout_devices, [job_id])
    metrics().alerts.labels("accepted").inc()
    return job_id


def _require_unicode(name: str, text: str) -> None:
    """Refuse half of a character, of which no driver makes bytes: JSON of others, and names of files, may have one.

    Raises:
        InvalidInput: names the parameter.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidInput([Problem(name, "must be valid Unicode, without lone surrogates")]) from None


_NOTIFY = uuid.UUID("5f3cb1ce-6d0e-4c29-9d5a-0d8be2a0b6c7")


def _lock_event(tenant_id: str, alert_id: str) -> int | None:
    """The row of an OPEN that was accepted before; of two calls that repeat it the second waits for the first."""
    query = Alert.select(Alert.id).where(
        (Alert.tenant == tenant_id) & (Alert.alert_id == alert_id) & (Alert.event_type == EventType.OPEN)
    )
    found = (query if is_sqlite() else query.for_update()).first()
    return None if found is None else int(found.id)


def _direct_channel(tenant_id: str) -> Channel:
    found = Channel.get_or_none((Channel.tenant == tenant_id) & (Channel.name == DIRECT))
    if found is not None:
        return found
    Channel.insert(
        tenant=tenant_id, name=DIRECT, channel_type="push", config={"all_users": True}
    ).on_conflict_ignore().execute()
    return Channel.get((Channel.tenant == tenant_id) & (Channel.name == DIRECT))
