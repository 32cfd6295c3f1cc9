"""Deliveries that failed or came too late, once more: the far side was mended, a credential set right.

They become PENDING with all attempts before them and a new deadline, and leave their jobs' totals in the same
transaction, so that the totals add up at every moment. What a later event superseded stays: it would undo
that event. A push asks its user's preferences as they are now: what failed by day must not ring at night.
A push job that could not look for devices looks for them once its channel says whose.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from peewee import JOIN

from actors.fanout_devices import fanout_critical, fanout_devices
from actors.handing import batches, hand_on
from actors.onward import Inserted, hand_on_deliveries
from actors.record import PUSH
from admin.lookup import find_channel
from model import bulk
from model.audience import addressed, preferences_of
from model.channels import channels_of
from model.database import Unreadable, among, is_sqlite, transaction, tuples, utcnow
from model.jobs import time_to_live, with_alert
from model.ledger import lock_jobs
from model.preferences import DELIVER, Verdict
from model.states import DeliveryState, JobState, Reason
from model.tables import NO_DEVICE, Alert, Channel, Delivery, Device, Job
from senders.registry import sender_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from config import Settings

#: Deliveries of one transaction.
BATCH = 1000

#: What may be replayed, and the counter of its job that it leaves.
COUNTER = {DeliveryState.FAILED: "failed", DeliveryState.EXPIRED: "expired"}


@dataclass(frozen=True, slots=True)
class Filter:
    """Which deliveries are meant. What is None does not matter.

    Attributes:
        channel: a channel's name or id.
        reason: a Reason, such as exhausted.
        since, until: when they ended.
    """

    job_id: int | None = None
    channel: str | int | None = None
    reason: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(slots=True)
class Replayed:
    """What was replayed.

    Attributes:
        jobs: their ids.
        skipped: reason -> number of deliveries that cannot succeed, or that their users do not want now, and that stay
            as they are.
        more: others could go as well, but for the limit.
    """

    deliveries: int = 0
    jobs: set[int] = field(default_factory=set)
    skipped: Counter[str] = field(default_factory=Counter)
    more: bool = False

    def document(self) -> dict[str, Any]:
        """The same as JSON."""
        return {
            "deliveries": self.deliveries,
            "jobs": len(self.jobs),
            "skipped": {str(why): number for why, number in self.skipped.items()},
            "more": self.more,
        }


def replay(tenant_id: str, wanted: Filter, *, settings: Settings, limit: int = 10_000) -> Replayed:
    """Send FAILED and EXPIRED deliveries again, oldest first: all of `replaying`, at once."""
    *_, done = replaying(tenant_id, wanted, settings=settings, limit=limit)
    return done


def replaying(
    tenant_id: str, wanted: Filter, *, settings: Settings, limit: int = 10_000
) -> Iterator[Replayed]:
    """The same in steps, each a transaction of its own: who shares a thread with others lets them go in between.

    Args:
        tenant_id: whose.
        wanted: which of them.
        settings: for the new deadlines.
        limit: how many to send, at most. Those that cannot go are passed over, however many they are: each is looked at
            once, in the order of ids.

    Yields:
        What has been replayed so far: after each step the same object.

    Raises:
        LookupError: there is no such channel or reason.
    """
    if wanted.reason is not None and wanted.reason not in set(Reason):
        raise LookupError(f"there is no reason {wanted.reason!r}; there are {', '.join(Reason)}")
    done = Replayed()
    after: int | None = 0
    while after is not None and not done.more:
        began, now = time.monotonic(), utcnow()
        with transaction():
            rows, after = _select(tenant_id, wanted, after=after)
            alerts = _alerts({row.job_id for row in rows})
            verdicts = _verdicts(tenant_id, rows, alerts, now)
            again = _reopen(
                rows, verdicts, alerts, done, settings=settings, now=now, room=limit - done.deliveries
            )
        took = time.monotonic() - began
        hand_on_deliveries(again.deliveries)
        hand_on(fanout_critical, [row.job_id for row in again.fan_outs if row.is_critical])
        hand_on(fanout_devices, [row.job_id for row in again.fan_outs if not row.is_critical])
        if after is not None and is_sqlite():
            # As in admin.prune: who waits for the lock would find it taken again each time.
            time.sleep(took)
        yield done


def _select(tenant_id: str, wanted: Filter, *, after: int) -> tuple[list[Any], int | None]:
    """A batch of candidates by id, with what decides on them, and their jobs locked.

    Returns:
        And the id after which to go on; None: there are no more.
    """
    condition = (
        (Delivery.tenant_id == tenant_id)
        & (Delivery.id > after)
        & Delivery.state.in_([state.value for state in COUNTER])
    )
    if wanted.job_id is not None:
        condition &= Delivery.job_id == wanted.job_id
    if wanted.channel is not None:
        condition &= Delivery.channel_id == find_channel(tenant_id, wanted.channel).id
    if wanted.reason is not None:
        condition &= Delivery.reason == wanted.reason
    if wanted.since is not None:
        condition &= Delivery.finished_at >= wanted.since
    if wanted.until is not None:
        condition &= Delivery.finished_at < wanted.until
    found = Delivery.select(Delivery.id, Delivery.job_id).where(condition).order_by(Delivery.id).limit(BATCH)
    candidates = dict(tuples(found))
    ids = sorted(candidates)
    if not ids:
        return [], None
    lock_jobs(set(candidates.values()))
    # Read only now: whoever replayed the same meanwhile has ended, and what he took is not ours.
    query = (
        Delivery.select(
            Delivery.id,
            Delivery.job_id,
            Delivery.state,
            Delivery.channel_id,
            Delivery.device_id,
            Delivery.user_id,
            Delivery.sender,
            Delivery.is_critical,
            Channel.is_enabled.alias("channel_enabled"),
            Channel.channel_type.alias("channel_type"),
            Device.id.alias("known_device"),
            Device.platform.alias("platform"),
            Device.disabled_at.alias("device_disabled_at"),
        )
        .join(Job, on=Delivery.job_id == Job.id)
        .join(
            Channel,
            JOIN.LEFT_OUTER,
            on=(Delivery.channel_id == Channel.id) & (Delivery.tenant_id == Channel.tenant),
        )
        .join(Device, JOIN.LEFT_OUTER, on=addressed())
        .where(condition & Delivery.id.in_(ids))
        .order_by(Delivery.id)
        .namedtuples()
    )
    return list(query), ids[-1] if len(ids) == BATCH else None


def _readable(rows: list[Any]) -> set[int]:
    """The push channels that can tell by now whom they are for, of those that could not in a job's fan-out."""
    ids = {row.channel_id for row in rows if row.sender == row.channel_type == PUSH}
    channels = channels_of(ids).values() if ids else ()
    return {each.channel_id for each in channels if not isinstance(each.config, Unreadable)}


def _why_not(row: Any, readable: set[int]) -> Reason | None:
    """Why another attempt is pointless now, or None: it is not."""
    if row.channel_enabled is None:
        return Reason.CHANNEL_DELETED
    if not row.channel_enabled:
        return Reason.CHANNEL_DISABLED
    if row.device_id != NO_DEVICE and row.known_device is None:
        return Reason.DEVICE_DELETED
    if row.device_disabled_at is not None:
        return Reason.DEVICE_DISABLED
    if sender_of(row.channel_type, row.platform) is None and not _is_of_fan_out(row, readable):
        return Reason.MISCONFIGURED  # a push channel has become another one, or the other way round
    return None


def _is_of_fan_out(row: Any, readable: set[int]) -> bool:
    """Whether it stands for a whole push job, which has found no devices, and can look for them now."""
    return row.device_id == NO_DEVICE and row.sender == PUSH and row.channel_id in readable


#: What preferences and deadlines go by in an alert's details.
_DETAILS = ("camera_id", "smart_detection_type", "is_critical")


def _alerts(job_ids: set[int]) -> dict[int, dict[str, Any]]:
    """What decides on an alert, by job. It may have a quarter of a megabyte, and a job thousands of deliveries."""
    found: dict[int, dict[str, Any]] = {}
    for batch in batches(sorted(job_ids)):
        for number, alert in tuples(with_alert(Job.id, Alert.payload).where(among(Job.id, batch))):
            details = alert.get("details") or {}
            known = {name: details[name] for name in _DETAILS if name in details}
            found[number] = {"severity": alert.get("severity"), "details": known}
    return found


def _verdicts(
    tenant_id: str, rows: list[Any], alerts: Mapping[int, dict[str, Any]], now: datetime
) -> dict[int, Verdict]:
    """What becomes of each delivery, by its id: as its fan-out would decide now."""
    preferences = preferences_of(tenant_id, {row.user_id for row in rows if row.known_device is not None})
    readable = _readable(rows)
    found = {}
    for row in rows:
        why_not = _why_not(row, readable)
        if why_not is not None:
            found[row.id] = Verdict("suppress", why_not)
        elif row.device_id == NO_DEVICE:
            found[row.id] = DELIVER
        else:
            preference = preferences[row.user_id]
            found[row.id] = preference.verdict(alerts[row.job_id], is_critical=row.is_critical, at=now)
    return found


class _Again(NamedTuple):
    """What goes once more: deliveries, some of them later, and rows that stand for push jobs without devices."""

    deliveries: list[Inserted]
    fan_outs: list[Any]


def _reopen(
    rows: list[Any],
    verdicts: Mapping[int, Verdict],
    alerts: Mapping[int, dict[str, Any]],
    done: Replayed,
    *,
    settings: Settings,
    now: datetime,
    room: int,
) -> _Again:
    """Write it, for as many as there is room for. Within a transaction of the caller's, their jobs locked."""
    again = _Again([], [])
    leaving: dict[int, Counter[str]] = {}
    reopened = []
    for row in rows:
        verdict = verdicts[row.id]
        if verdict.action == "suppress":
            done.skipped[str(verdict.reason)] += 1
            continue
        if len(again.deliveries) + len(again.fan_outs) == room:
            done.more = True
            break
        sender = sender_of(row.channel_type, row.platform)
        if sender is None:
            again.fan_outs.append(row)
            continue
        leaving.setdefault(row.job_id, Counter())[COUNTER[DeliveryState(row.state)]] += 1
        due = verdict.until
        state = DeliveryState.PENDING if due is None else DeliveryState.DEFERRED
        again.deliveries.append(Inserted(row.id, row.job_id, sender, row.channel_id, row.is_critical, state))
        reopened.append({
            "id": row.id,
            "sender": sender,
            "state": state,
            "reason": verdict.reason,
            "attempts": 0,
            "lease_until": None,
            "next_attempt_at": due,
            "finished_at": None,
            "sweeps": 0,
            "sweep_at": due or now + timedelta(seconds=settings.sweep_grace),
            "expires_at": (due or now) + time_to_live(settings, alerts[row.job_id]),
        })  # fmt: skip
    bulk.update(Delivery, reopened)
    jobs = Job.select(Job.id, Job.failed, Job.expired).where(Job.id.in_(sorted(leaving))) if leaving else ()
    bulk.update(
        Job,
        [
            {
                "id": job.id,
                "failed": job.failed - leaving[job.id]["failed"],
                "expired": job.expired - leaving[job.id]["expired"],
                "state": JobState.PROCESSING,
                "ended_as": None,
                "finished_at": None,
            }
            for job in jobs
        ],
    )
    _forget_fan_outs(again.fan_outs, alerts, settings, now)
    done.deliveries += len(reopened) + len(again.fan_outs)
    done.jobs |= {*leaving, *(row.job_id for row in again.fan_outs)}
    return again


def _forget_fan_outs(
    rows: list[Any], alerts: Mapping[int, dict[str, Any]], settings: Settings, now: datetime
) -> None:
    """Make jobs as they were before their fan-out, but for their time. Each has the one delivery that stands for it."""
    if rows:
        Delivery.delete().where(among(Delivery.id, [row.id for row in rows])).execute()
    bulk.update(
        Job,
        [
            {
                "id": row.job_id,
                "state": JobState.PENDING,
                "ended_as": None,
                "reason": None,
                "targets": 0,
                "failed": 0,
                "finished_at": None,
                "sweeps": 0,
                "sweep_at": now + timedelta(seconds=settings.sweep_grace),
                "expires_at": now + time_to_live(settings, alerts[row.job_id]),
            }
            for row in rows
        ],
    )
