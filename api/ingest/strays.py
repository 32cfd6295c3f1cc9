"""Ends that name a beginning which nobody told us: they close the alert that their fingerprint has open.

Grafana often sends `resolved` with startsAt moved to endsAt (its issues 106065 and 117113), and Alertmanager after a
restart may have forgotten when an alert began. An id of fingerprint and beginning then closes an alert that never was,
and the one that did fire stays open for ever.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING

from actors.handing import batches
from api.ingest.mapping import canonical
from model.alert import AlertEvent, parse_alert
from model.database import connection, tuples
from model.states import EventType
from model.tables import Alert

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

#: An id that api.ingest.prometheus makes. One of a fingerprint that is too long for it is a hash, and stays as it is.
_ID = re.compile(r"(.+)@([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z)", re.DOTALL)

#: The earliest that an id can name.
_FIRST = "0001-01-01T00:00:00.000000Z"

#: Events of one fingerprint that are looked through, newest first.
DEEPEST = 200
#: Alerts that have ended whose ends are compared with one that comes, newest first: it may be a repeat.
REPEATS = 10
#: Ends of one call that are looked up, each by a query of its own. The others keep their ids.
MOST = 1000

_ENDS = (EventType.OPEN, EventType.CLOSED)


def adopt(alerts: Sequence[AlertEvent], *, tenant_id: str) -> list[AlertEvent]:
    """The same alerts, where each CLOSED without an OPEN has the id of its fingerprint's newest alert that is open.

    The OPEN may be among them. An end that finds none keeps its id, and so does one that was accepted under it before.
    """
    found = list(alerts)
    events = {(alert.key, alert.event_type) for alert in alerts}
    strays = [
        index
        for index, alert in enumerate(alerts)
        if alert.event_type is EventType.CLOSED
        and (alert.key, EventType.OPEN) not in events
        and _ID.fullmatch(alert.key)
    ]
    if not strays:
        return found
    ended: dict[str, datetime | None] = {}
    with connection():
        known = _known((alerts[index].key for index in strays), tenant_id)
        for index in [each for each in strays if alerts[each].key not in known][:MOST]:
            stray = alerts[index]
            key = _open_alert(stray, events, ended, tenant_id)
            if key is not None:
                events.add((key, EventType.CLOSED))
                ended[key] = stray.triggered_at
                found[index] = parse_alert(
                    stray.snapshot | {"alert_id": key, "event_type": stray.event_type.value}
                )
    return found


def _known(keys: Iterable[str], tenant_id: str) -> set[str]:
    """Those of the ids that are an alert's already."""
    found: set[str] = set()
    for some in batches(sorted(set(keys)), 500):
        query = Alert.select(Alert.alert_id).where(
            (Alert.tenant == tenant_id) & Alert.alert_id.in_(some) & Alert.event_type.in_(_ENDS)
        )
        found.update(row[0] for row in tuples(query))
    return found


def _open_alert(
    stray: AlertEvent, events: set[tuple[str, EventType]], ended: dict[str, datetime | None], tenant_id: str
) -> str | None:
    """The id of the alert that an end is for.

    Args:
        stray: the end.
        events: those of this call.
        ended: when the alerts ended that this call's strays close.
    """
    fingerprint, _, began = stray.key.rpartition("@")
    # What began after this end is not over by it: the end may have come late.
    last = max(began, canonical(stray.triggered_at)) if stray.triggered_at else began
    low, high = f"{fingerprint}@{_FIRST}", f"{fingerprint}@{last}"
    # Ids of one fingerprint differ in nothing but digits, so every collation has all of them between these two. What
    # else it has there is left out below.
    query = (
        Alert.select(Alert.alert_id, Alert.event_type)
        .where((Alert.tenant == tenant_id) & Alert.alert_id.between(low, high) & Alert.event_type.in_(_ENDS))
        .order_by(Alert.alert_id.desc())
        .limit(DEEPEST)
    )
    seen = {(key, EventType(kind)) for key, kind in tuples(query)} | events
    began_as = {key for key, kind in seen if kind is EventType.OPEN and _is_between(key, low, high)}
    closed = {key for key in began_as if (key, EventType.CLOSED) in seen}
    # A repeat of an end that closed an alert already is for that one, and so a duplicate.
    newest = sorted(closed, reverse=True)[:REPEATS]
    moments = _ended_at([key for key in newest if key not in ended], tenant_id) | ended
    if (same := next((key for key in newest if moments.get(key) == stray.triggered_at), None)) is not None:
        return same
    return max(began_as - closed, default=None)


def _is_between(key: str, low: str, high: str) -> bool:
    """Whether an id is of the same fingerprint, and not after the end."""
    return len(key) == len(low) and low <= key <= high and _ID.fullmatch(key) is not None


def _ended_at(keys: list[str], tenant_id: str) -> dict[str, datetime | None]:
    """When each of these alerts ended, as its CLOSED says."""
    query = Alert.select(Alert.alert_id, Alert.payload).where(
        (Alert.tenant == tenant_id) & Alert.alert_id.in_(keys) & (Alert.event_type == EventType.CLOSED)
    )
    moments = {key: payload.get("triggered_at") for key, payload in tuples(query)} if keys else {}
    return {key: datetime.fromisoformat(said) if said else None for key, said in moments.items()}
