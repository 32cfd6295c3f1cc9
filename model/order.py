"""Which of an alert's events goes before which at one target: what a later one ends, and what it waits for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from model import bulk
from model.database import database, is_sqlite
from model.tables import NO_DEVICE, Delivery

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

#: The condition that two jobs, `o` and `j`, are for events of one alert on one channel, which is one tenant's. Of the
#: tenant it says nothing: several indexes begin with it, and without statistics PostgreSQL took any of them.
SAME = "o.alert_id = j.alert_id AND o.channel_id = j.channel_id"


def ended_by_later(devices: Mapping[int, int]) -> set[int]:
    """Those of some deliveries that a later event of their alert ends.

    CLOSED ends all. Any other ends what goes to a device if it goes there as well: whom its push does not reach, or not
    before the morning while the earlier one is critical, would hear of neither. What has itself been superseded says
    nothing, as the event that did it is asked, too.

    PostgreSQL makes no join of an EXISTS among the columns, and thus looks one row after the other up in the unique
    indexes; see `earlier_jobs`.

    Args:
        devices: device_id by delivery, of deliveries whose alert has a later event on the same channel.
    """
    to_devices = [number for number, device_id in devices.items() if device_id != NO_DEVICE]
    ended = set(devices).difference(to_devices)
    if to_devices:
        sql = (
            "SELECT d.id, EXISTS (SELECT 1 FROM notification_jobs j JOIN notification_jobs o "  # noqa: S608  # names are ours
            f"ON {SAME} AND o.sequence > j.sequence WHERE j.id = d.job_id AND (o.deliver_on_event = 'CLOSED' "
            "OR EXISTS (SELECT 1 FROM deliveries s WHERE s.job_id = o.id AND s.device_id = d.device_id "
            "AND s.state NOT IN ('SUPPRESSED', 'SUPERSEDED') "
            "AND NOT (d.is_critical AND s.state = 'DEFERRED')))) "
            f"FROM deliveries d WHERE {bulk.among('d.id')}"
        )
        rows = database.execute_sql(sql, (bulk.id_list(to_devices),)).fetchall()
        ended.update(number for number, is_ended in rows if is_ended)
    return ended


def behind_another(delivery_ids: Sequence[int], *, now: datetime) -> set[int]:
    """Those to whose target an earlier event of their alert is being sent at this moment."""
    if not delivery_ids:
        return set()
    rows = database.execute_sql(
        "SELECT d.id, EXISTS (SELECT 1 FROM notification_jobs o JOIN deliveries s ON s.job_id = o.id "  # noqa: S608  # names are ours
        f"WHERE {SAME} AND o.sequence < j.sequence AND s.device_id = d.device_id "
        f"AND s.state = 'SENDING' AND s.lease_until > {bulk.placeholder()}) "
        f"FROM deliveries d JOIN notification_jobs j ON j.id = d.job_id WHERE {bulk.among('d.id')}",
        (Delivery.lease_until.db_value(now), bulk.id_list(delivery_ids)),
    ).fetchall()
    return {number for number, is_behind in rows if is_behind}


def earlier_jobs(job_ids: Sequence[int]) -> dict[int, bool]:
    """The unfinished jobs for earlier events of these jobs' alerts on the same channels.

    PostgreSQL is held to the unique index, one look-up a job: where it has no statistics yet, or old ones, a plain
    join reads all unfinished jobs instead, which is most of them in a storm (measured: 84 us a notification, then 9).

    Returns:
        By id, whether all of its deliveries end: not where it is a push that is not closed, see `ended_by_later`.
    """
    earlier = f"{SAME} AND o.sequence < j.sequence AND o.finished_at IS NULL"
    source = (
        f"notification_jobs o ON {earlier}"
        if is_sqlite()
        else f"LATERAL (SELECT o.id, o.channel_type FROM notification_jobs o WHERE {earlier} OFFSET 0) o ON true"  # noqa: S608  # as above
    )
    sql = (
        "SELECT o.id, o.channel_type <> 'push' OR j.deliver_on_event = 'CLOSED' "  # noqa: S608  # as above
        f"FROM notification_jobs j JOIN {source} WHERE {bulk.among('j.id')} ORDER BY o.id"
    )
    found: dict[int, bool] = {}
    for job_id, ends in database.execute_sql(sql, (bulk.id_list(job_ids),)).fetchall():
        found[job_id] = bool(ends) or found.get(job_id, False)
    return found
