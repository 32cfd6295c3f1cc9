"""How deliveries and jobs change: claimed, settled and counted, in a fixed number of statements each.

A claim is a guarded UPDATE, so two live workers never hold the same delivery; `attempts` is its fencing
token, so a worker that lost its lease settles nothing. Totals and the state of a job change in the
transaction that ends its deliveries: targets = delivered + failed + suppressed + superseded + expired + in
progress, always.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from peewee import JOIN, Value, fn

from model import bulk
from model.database import database, is_sqlite, transaction, tuples
from model.states import FINAL_STATES, DeliveryState, JobState, Reason
from model.tables import Delivery, Device, Job

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime, timedelta

#: The counters of a job, in the order of FINAL_STATES.
COUNTERS = tuple(state.value.lower() for state in FINAL_STATES)

_SUM = " + ".join(f"t.{name} + r.{name}" for name in COUNTERS)

#: A job's state from its counters. PROCESSING until nothing is in progress; then the most telling word.
_STATE = f"""CASE
    WHEN t.targets > {_SUM} THEN 'PROCESSING'
    WHEN t.delivered + r.delivered > 0 AND t.failed + r.failed + t.expired + r.expired > 0 THEN 'PARTIAL'
    WHEN t.delivered + r.delivered > 0 THEN 'COMPLETED'
    WHEN t.failed + r.failed > 0 THEN 'FAILED'
    WHEN t.expired + r.expired > 0 THEN 'EXPIRED'
    WHEN t.superseded + r.superseded > 0 THEN 'SUPERSEDED'
    ELSE 'SUPPRESSED'
END"""


def job_state(targets: int, counts: Counter[str]) -> JobState:
    """The same decision in Python, for a job that is being fanned out."""
    if targets > sum(counts.values()):
        return JobState.PROCESSING
    if counts["delivered"]:
        return JobState.PARTIAL if counts["failed"] or counts["expired"] else JobState.COMPLETED
    for name in ("failed", "expired", "superseded"):
        if counts[name]:
            return JobState(name.upper())
    return JobState.SUPPRESSED


@dataclass(frozen=True, slots=True)
class Claim:
    """A delivery that is ours until its lease ends, with what is needed to make it.

    Attributes:
        attempts: this attempt's number, from 1.
        later: a later event of the same alert goes to the same channel.
        earlier_under_way: an earlier event of it is being sent to the same target at this moment.
    """

    delivery_id: int
    job_id: int
    tenant_id: str
    channel_id: int
    device_id: int
    user_id: str | None
    sender: str
    attempts: int
    expires_at: datetime
    alert_id: str
    event: str
    payload: dict[str, Any]
    severity: int
    is_critical: bool
    accepted_at: datetime
    claimed_at: datetime
    later: bool
    earlier_under_way: bool
    platform: str | None
    token: str | None
    subscription: dict[str, Any] | None
    device_disabled: bool


def claim(delivery_ids: Sequence[int], *, now: datetime, lease: timedelta) -> list[int]:
    """Take what may be sent now: never sent, due, or left behind by a worker whose lease ended.

    Within a transaction of the caller's, which commits before anything is sent.

    Returns:
        The ids that are now ours, in SENDING, with one attempt counted.
    """
    states = DeliveryState
    _lock(Delivery, Delivery.id.in_(list(delivery_ids)))
    query = (
        Delivery.update(
            state=states.SENDING,
            attempts=Delivery.attempts + 1,
            lease_until=now + lease,
            # Whatever becomes of its worker: from the end of its lease on it is due.
            sweep_at=now + lease,
        )
        .where(
            Delivery.id.in_(list(delivery_ids))
            & (
                (Delivery.state == states.PENDING)
                | (Delivery.state.in_([states.RETRYING, states.DEFERRED]) & (Delivery.next_attempt_at <= now))
                | ((Delivery.state == states.SENDING) & (Delivery.lease_until < now))
            )
        )
        .returning(Delivery.id)
    )
    return [row.id for row in query.execute()]


def load(delivery_ids: Sequence[int], *, now: datetime) -> list[Claim]:
    """Read what was claimed. Call it after the claim's commit.

    Whether a later event exists, or an earlier one is under way, is asked only now: of two workers that claim
    two events of one alert at the same time, each has committed its claim before it looks for the other's, so
    at least one of them sees it. (Dekker's argument: raise the flag, then look.)
    """
    if not delivery_ids:
        return []
    other, sibling = Job.alias(), Delivery.alias()
    same = (
        (other.tenant == Job.tenant) & (other.alert_id == Job.alert_id) & (other.channel_id == Job.channel_id)
    )
    later = other.select(Value(1)).where(same & (other.sequence > Job.sequence))
    earlier = (
        other.select(Value(1))
        .join(sibling, on=sibling.job == other.id)
        .where(
            same
            & (other.sequence < Job.sequence)
            & (sibling.device_id == Delivery.device_id)
            & (sibling.state == DeliveryState.SENDING)
            & (sibling.lease_until > now)
        )
    )
    query = (
        Delivery.select(
            Delivery.id, Delivery.job, Delivery.tenant_id, Delivery.channel_id, Delivery.device_id,
            Delivery.user_id, Delivery.sender, Delivery.attempts, Delivery.expires_at, Job.alert_id,
            Job.deliver_on_event, Job.payload, Job.severity, Job.is_critical, Job.accepted_at,
            fn.EXISTS(later), fn.EXISTS(earlier), Device.platform, Device.token, Device.subscription,
            Device.disabled_at.is_null(is_null=False),
        )
        .join(Job, on=Delivery.job == Job.id)
        .join(Device, JOIN.LEFT_OUTER, on=Delivery.device_id == Device.id)
        .where(Delivery.id.in_(list(delivery_ids)))
        .order_by(Delivery.id)
    )  # fmt: skip
    return [
        Claim(*(*row[:15], now, bool(row[15]), bool(row[16]), *row[17:20], bool(row[20])))
        for row in tuples(query)
    ]


@dataclass(frozen=True, slots=True)
class Settlement:
    """What became of a claim. `next_attempt_at` goes with RETRYING, and with it only.

    Attributes:
        counts_attempt: False where nothing was sent, and the attempt is given back.
    """

    claim: Claim
    state: DeliveryState
    reason: Reason | None = None
    code: str | None = None
    provider_id: str | None = None
    latency_ms: float | None = None
    next_attempt_at: datetime | None = None
    counts_attempt: bool = True


@dataclass(frozen=True, slots=True)
class Ended:
    """A job whose last delivery ended in this transaction."""

    job_id: int
    state: JobState
    channel_type: str
    user_id: str | None
    accepted_at: datetime


def settle(
    settlements: Sequence[Settlement], *, now: datetime, grace: timedelta
) -> tuple[set[int], list[Ended]]:
    """Write what became of claims, and count what ended. Within a transaction of the caller's.

    Args:
        settlements: at most one for each claim.
        now: when what ends has ended.
        grace: how long after its due time a retry's message may be under way before the sweep sends another.

    Returns:
        The deliveries that were still ours (the others' leases ended, and somebody else holds them now), and
        the jobs that ended with them.
    """
    lock_jobs({settlement.claim.job_id for settlement in settlements})
    _lock(Delivery, Delivery.id.in_([settlement.claim.delivery_id for settlement in settlements]))
    rows = [
        {
            "id": s.claim.delivery_id,
            "_attempts": s.claim.attempts,
            "attempts": s.claim.attempts - (0 if s.counts_attempt else 1),
            "state": s.state,
            "reason": s.reason,
            "code": clip(s.code),
            "provider_id": clip(s.provider_id),
            "latency_ms": s.latency_ms,
            "lease_until": None,
            "next_attempt_at": s.next_attempt_at,
            "finished_at": now if s.state.is_final else None,
            "sweep_at": s.next_attempt_at + grace if s.next_attempt_at else None,
            "sweeps": 0,
        }
        for s in settlements
    ]
    kept = {
        row[0]
        for row in bulk.update(
            Delivery, rows, where="t.state = 'SENDING' AND t.attempts = r._attempts", returning=["id"]
        )
    }
    ended = Counter(
        (s.claim.job_id, s.state) for s in settlements if s.state.is_final and s.claim.delivery_id in kept
    )
    return kept, count(ended, now=now)


def clip(text: str | None, limit: int = 255) -> str | None:
    """A provider's words, short enough for their column and free of what PostgreSQL cannot store."""
    return None if text is None else text.replace("\0", "").encode(errors="replace").decode()[:limit]


def count(ended: Counter[tuple[int, DeliveryState]], *, now: datetime) -> list[Ended]:
    """Add deliveries that ended to their jobs' totals, and end the jobs with nothing left in progress.

    Args:
        ended: how many deliveries of a job ended in a state, by (job id, state).
        now: when they did.

    Returns:
        The jobs that ended by it.
    """
    per_job: dict[int, Counter[str]] = {}
    for (job_id, state), number in ended.items():
        per_job.setdefault(job_id, Counter())[state.value.lower()] += number
    if not per_job:
        return []
    rows = [
        {"id": job_id, **{name: counts[name] for name in COUNTERS}}
        for job_id, counts in sorted(per_job.items())
    ]
    sums = ", ".join(f"{name} = t.{name} + r.{name}" for name in COUNTERS)
    own = "" if is_sqlite() else "t."
    cursor = database.execute_sql(
        f"UPDATE notification_jobs AS t SET {sums}, state = {_STATE}, "  # noqa: S608  # names are ours
        f"finished_at = CASE WHEN t.targets > {_SUM} THEN NULL ELSE {bulk.placeholder()} END "
        f"FROM {bulk.rows_source(bulk.column_types(Job, rows[0]))} WHERE t.id = r.id "
        f"RETURNING {own}id, {own}state, {own}channel_type, {own}user_id, {own}accepted_at",
        (Job.finished_at.db_value(now), bulk.encode(Job, rows)),
    )
    moment = Job.accepted_at.python_value
    return [
        Ended(job_id, JobState(state), channel_type, user_id, moment(accepted_at))
        for job_id, state, channel_type, user_id, accepted_at in cursor.fetchall()
        if state != JobState.PROCESSING
    ]


def lock_jobs(job_ids: Iterable[int]) -> None:
    """Lock jobs until the end of the transaction. Everybody locks jobs first, and deliveries after them."""
    _lock(Job, Job.id.in_(list(job_ids)))


def _lock(table: type[Job | Delivery], condition: Any) -> None:
    """Lock rows in the order of their ids, so that no two workers with rows in common wait for each other.

    An UPDATE alone takes them as its plan happens to find them. SQLite's writers are alone anyway.
    """
    if not is_sqlite():
        list(tuples(table.select(table.id).where(condition).order_by(table.id).for_update()))


def supersede_earlier(job_ids: Sequence[int], *, now: datetime) -> list[Ended]:
    """End what still waits to be sent for earlier events of these jobs' alerts on the same channels.

    What is being sent at this moment is left to its worker, which finds the later job when it claims the
    retry. So would the worker of anything else: this only ends it sooner, in a transaction of its own, so that
    two fan-outs whose alerts cross hold no jobs that the other one wants.
    """
    older = Job.alias()
    query = (
        older.select(older.id)
        .join(
            Job,
            on=(older.tenant == Job.tenant)
            & (older.alert_id == Job.alert_id)
            & (older.channel_id == Job.channel_id)
            & (older.sequence < Job.sequence),
        )
        .where(Job.id.in_(list(job_ids)) & older.finished_at.is_null())
        .order_by(older.id)
    )
    waiting = [row[0] for row in tuples(query)]
    if not waiting:
        return []
    states = [DeliveryState.PENDING, DeliveryState.RETRYING, DeliveryState.DEFERRED]
    with transaction():
        lock_jobs(waiting)
        _lock(Delivery, Delivery.job.in_(waiting) & Delivery.state.in_(states))
        ended = tuples(
            Delivery.update(
                state=DeliveryState.SUPERSEDED, reason=Reason.LATER_EVENT, finished_at=now, sweep_at=None
            )
            .where(Delivery.job.in_(waiting) & Delivery.state.in_(states))
            .returning(Delivery.job)
        )
        return count(Counter((row[0], DeliveryState.SUPERSEDED) for row in ended), now=now)


def conservation(tenant_id: str | None = None) -> dict[str, int]:
    """The equation of the promise, checked: targets, what ended in each final state, and in_progress.

    Raises:
        AssertionError: it does not hold; the text gives both sides.
    """
    mine = f"WHERE tenant_id = {bulk.placeholder()}" if tenant_id is not None else ""
    sums = ", ".join(f"COALESCE(SUM({name}), 0)" for name in ("targets", *COUNTERS))
    counts = ", ".join(f"COUNT(CASE WHEN state = '{state}' THEN 1 END)" for state in DeliveryState)
    # One statement is one snapshot, also while everything moves.
    row = database.execute_sql(
        f"SELECT * FROM (SELECT {sums} FROM notification_jobs {mine}) AS j, "  # noqa: S608  # names are ours
        f"(SELECT {counts} "
        f"FROM deliveries {mine}) AS d",
        (tenant_id, tenant_id) if tenant_id is not None else (),
    ).fetchone()
    width = 1 + len(COUNTERS)
    totals = dict(zip(("targets", *COUNTERS), map(int, row[:width]), strict=True))
    totals["in_progress"] = totals["targets"] - sum(totals[name] for name in COUNTERS)
    states = dict(zip(DeliveryState, row[width:], strict=True))
    counted = {state.value.lower(): states[state] for state in FINAL_STATES}
    counted["in_progress"] = sum(number for state, number in states.items() if not state.is_final)
    expected = {"targets": sum(counted.values()), **counted}
    if totals != expected:
        raise AssertionError(f"jobs say {totals}, deliveries say {expected}")
    return totals
