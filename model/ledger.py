"""How deliveries and jobs change: claimed, settled and counted, in a fixed number of statements each.

A claim is a guarded UPDATE, so two live workers never hold the same delivery. `attempts` and the end of the lease
are its fencing token (a replay counts attempts anew), so a worker that lost its lease settles nothing. Totals and the
state of a job change in the transaction that ends its deliveries: targets = delivered + failed + suppressed +
superseded + expired + in progress, always.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from model import bulk
from model.database import database, execute, execute_later, is_sqlite, reading_all
from model.order import SAME, behind_another, ended_by_later
from model.states import FINAL_STATES, DeliveryState, JobState, Reason
from model.tables import Alert, Delivery, Job

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
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
        lease_until: when the lease ends.
        later: a later event of the same alert ends it (model.order).
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
    lease_until: datetime
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


def claim(delivery_ids: Sequence[int], *, now: datetime, lease: timedelta) -> dict[int, int]:
    """Take what may be sent now: never sent, due, or left behind by a worker whose lease ended.

    Within a transaction of the caller's, which commits before anything is sent.

    Returns:
        The deliveries that are now ours, in SENDING, and of each the number of its attempt: our fencing token.
    """
    p, own = bulk.placeholder(), "" if is_sqlite() else "t."
    until, moment = _stored(now + lease), _stored(now)
    # Whatever becomes of its worker: from the end of its lease on it is due. Hence sweep_at.
    rows = execute(
        f"UPDATE deliveries AS t SET state = 'SENDING', attempts = t.attempts + 1, lease_until = {p}, "  # noqa: S608  # names are ours
        f"sweep_at = {p} FROM (SELECT id FROM deliveries WHERE {bulk.among('id')} AND (state = 'PENDING' "
        f"OR (state IN ('RETRYING', 'DEFERRED') AND next_attempt_at <= {p}) "
        f"OR (state = 'SENDING' AND lease_until < {p})) {_locked()}) AS mine WHERE t.id = mine.id "
        f"RETURNING {own}id, {own}attempts",
        (until, until, bulk.id_list(delivery_ids), moment, moment),
    ).fetchall()
    return dict(rows)


def load(claimed: Mapping[int, int], *, now: datetime) -> list[Claim]:
    """Read what was claimed, but for what another worker has claimed since. Call it after the claim's commit.

    Whether a later event ends it, or an earlier one is under way, is asked only now: of two workers that claim
    two events of one alert at the same time, each has committed its claim before it looks for the other's, so
    at least one of them sees it. (Dekker's argument: raise the flag, then look.)

    A device that is another user's now is as good as deleted; see audience.addressed.

    Args:
        claimed: attempts by delivery.
        now: when they were claimed.
    """
    if not claimed:
        return []
    # One look-up a row, by its id. PostgreSQL would rather read all devices, or all of a user's, by their number or for
    # lack of statistics: 12 ms for a hundred of ten thousand, and 0.8 so.
    device = "devices" if is_sqlite() else "LATERAL (SELECT * FROM devices WHERE id = d.device_id OFFSET 0)"
    rows = execute(
        "SELECT d.id, d.job_id, d.tenant_id, d.channel_id, d.device_id, d.user_id, d.sender, d.attempts, "  # noqa: S608  # names are ours
        "d.lease_until, d.expires_at, v.platform, v.token, v.subscription, v.disabled_at IS NOT NULL "
        f"FROM deliveries d LEFT JOIN {device} v ON v.id = d.device_id "
        f"AND v.tenant_id = d.tenant_id AND v.user_id = d.user_id WHERE {bulk.among('d.id')} ORDER BY d.id",
        (bulk.id_list(claimed),),
    ).fetchall()
    events = _events({row[1] for row in rows})
    # A job may have been deleted meanwhile, with its tenant: it takes no other's claims with it.
    mine = [row for row in rows if row[7] == claimed[row[0]] and row[1] in events]
    behind = behind_another([row[0] for row in mine if events[row[1]].has_earlier], now=now)
    late = ended_by_later({row[0]: row[4] for row in mine if events[row[1]].has_later})
    moment, document = Job.accepted_at.python_value, Alert.payload.python_value
    return [
        Claim(*(
            *row[:8], moment(row[8]), moment(row[9]), *event.content, now, row[0] in late, row[0] in behind,
            *row[10:12], document(row[12]), bool(row[13]),
        ))
        for row, event in ((row, events[row[1]]) for row in mine)
    ]  # fmt: skip


def recheck(claims: Sequence[Claim], *, now: datetime) -> list[Claim]:
    """Claims as whoever inserted their rows knows them, but for what `load` would see of other events.

    Call it after the claim's commit, as `load`; it costs one look-up a claim where the alert has no other event.
    """
    # Among the columns, as in model.order: as a condition, and without statistics, PostgreSQL reads all jobs for it.
    others = f"EXISTS (SELECT 1 FROM notification_jobs o WHERE {SAME} AND o.id <> j.id)"  # noqa: S608  # names are ours
    sql = f"SELECT j.id, {others} FROM notification_jobs j WHERE {bulk.among('j.id')}"  # noqa: S608  # as above
    rows = execute(sql, (bulk.id_list({claim.job_id for claim in claims}),)).fetchall()
    with_others = {job_id for job_id, has_others in rows if has_others}
    read = load(
        {claim.delivery_id: claim.attempts for claim in claims if claim.job_id in with_others}, now=now
    )
    return [*(claim for claim in claims if claim.job_id not in with_others), *read]


class _Event(NamedTuple):
    """What all claims of a job have in common: an alert's event, on one channel.

    Attributes:
        content: alert_id, event, payload, severity, is_critical and accepted_at of a Claim.
        has_earlier: earlier events of the alert went to the channel, at any time.
        has_later: later ones.
    """

    content: tuple[str, str, dict[str, Any], int, bool, datetime]
    has_earlier: bool
    has_later: bool


def _events(job_ids: set[int]) -> dict[int, _Event]:
    """By job. An alert of a quarter of a megabyte to ten thousand phones is read once a message, not once a phone."""
    other = f"EXISTS (SELECT 1 FROM notification_jobs o WHERE {SAME} AND o.sequence"  # noqa: S608  # names are ours
    rows = execute(
        "SELECT j.id, j.alert_id, j.deliver_on_event, COALESCE(a.payload, '{}'), j.severity, j.is_critical, "  # noqa: S608  # as above
        f"j.accepted_at, {other} < j.sequence), {other} > j.sequence) FROM notification_jobs j "
        f"LEFT JOIN alerts a ON a.id = j.sequence WHERE {bulk.among('j.id')}",
        (bulk.id_list(job_ids),),
    ).fetchall()
    moment, document = Job.accepted_at.python_value, Alert.payload.python_value
    return {
        row[0]: _Event(
            (row[1], row[2], document(row[3]), row[4], bool(row[5]), moment(row[6])),
            bool(row[7]),
            bool(row[8]),
        )
        for row in rows
    }


def _stored(moment: datetime) -> Any:
    """A moment as a parameter."""
    return Job.accepted_at.db_value(moment)


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


#: How many deliveries of a job ended in a state, by (job id, state).
Endings = Counter[tuple[int, DeliveryState]]


def settle(settlements: Sequence[Settlement], *, now: datetime, grace: timedelta) -> tuple[set[int], Endings]:
    """Write what became of claims. Within a transaction of the caller's, which counts what ended (`count`).

    Args:
        settlements: at most one for each claim.
        now: when what ends has ended.
        grace: how long after its due time a retry's message may be under way before the sweep sends another.

    Returns:
        The deliveries that were still ours (the others' leases ended, and somebody else holds them now), and
        those of them that ended.
    """
    claimed = f"{bulk.among('id')} AND state = 'SENDING'"  # others' rows are others' to lock
    lock_rows("deliveries", claimed, [settlement.claim.delivery_id for settlement in settlements])
    rows = [
        {
            "id": s.claim.delivery_id,
            "_state": DeliveryState.SENDING,
            "_attempts": s.claim.attempts,
            "_lease_until": s.claim.lease_until,
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
            Delivery,
            rows,
            returning=["id"],
            where="t.state = r._state AND t.attempts = r._attempts AND t.lease_until = r._lease_until",
        )
    }
    ended = Counter(
        (s.claim.job_id, s.state) for s in settlements if s.state.is_final and s.claim.delivery_id in kept
    )
    return kept, ended


def clip(text: str | None, limit: int = 255) -> str | None:
    """A provider's words, short enough for their column and free of what PostgreSQL cannot store."""
    return None if text is None else text.replace("\0", "").encode(errors="replace").decode()[:limit]


def count(ended: Endings, *, now: datetime) -> list[Ended]:
    """Add deliveries that ended to their jobs' totals, and end the jobs with nothing left in progress.

    It belongs at the end of a transaction: a push to ten thousand devices is one job, and a hundred batches that are
    settled at the same time wait for each other from here to the commit.

    Args:
        ended: how many.
        now: when they did.

    Returns:
        The jobs that ended by it.
    """
    per_job: dict[int, Counter[str]] = {}
    for (job_id, state), number in ended.items():
        per_job.setdefault(job_id, Counter())[state.value.lower()] += number
    if not per_job:
        return []
    if len(per_job) > 1:
        lock_jobs(per_job)
    rows = [
        {"id": job_id, **{name: counts[name] for name in COUNTERS}}
        for job_id, counts in sorted(per_job.items())
    ]
    sums = ", ".join(f"{name} = t.{name} + r.{name}" for name in COUNTERS)
    own, at = ("", "?") if is_sqlite() else ("t.", "%s::timestamptz")
    same, given = bulk.same_row(per_job)
    source, params = bulk.rows_source(Job, rows)
    cursor = execute(
        f"UPDATE notification_jobs AS t SET {sums}, state = {_STATE}, "  # noqa: S608  # names are ours
        f"ended_as = NULLIF(NULLIF({_STATE}, 'PROCESSING'), 'COMPLETED'), "
        f"finished_at = CASE WHEN t.targets > {_SUM} THEN NULL ELSE {at} END "
        f"FROM {source} WHERE {same} "
        f"RETURNING {own}id, {own}state, {own}channel_type, {own}user_id, {own}accepted_at",
        (_stored(now), *params, *given),
    )
    moment = Job.accepted_at.python_value
    return [
        Ended(job_id, JobState(state), channel_type, user_id, moment(accepted_at))
        for job_id, state, channel_type, user_id, accepted_at in cursor.fetchall()
        if state != JobState.PROCESSING
    ]


def lock_jobs(job_ids: Iterable[int]) -> None:
    """Lock jobs until the end of the transaction.

    Deliveries that are being sent are locked before their jobs, which nobody else does to such; all others after them.
    """
    lock_rows("notification_jobs", bulk.among("id"), job_ids)


def lock_rows(table: str, condition: str, ids: Iterable[int]) -> None:
    """Lock rows in the order of their ids, so that no two workers with rows in common wait for each other.

    An UPDATE alone takes them as its plan happens to find them. SQLite's writers are alone anyway.
    """
    if not is_sqlite():
        sql = f"SELECT count(*) FROM (SELECT id FROM {table} WHERE {condition} {_locked()}) AS locked"  # noqa: S608  # as above
        execute_later(sql, (bulk.id_list(ids),))


def _locked() -> str:
    return "" if is_sqlite() else "ORDER BY id FOR UPDATE"


def conservation(tenant_id: str | None = None) -> dict[str, int]:
    """The equation of the promise, checked: targets, what ended in each final state, and in_progress.

    Raises:
        AssertionError: it does not hold; the text gives both sides.
    """
    mine = f"WHERE tenant_id = {bulk.placeholder()}" if tenant_id is not None else ""
    sums = ", ".join(f"COALESCE(SUM({name}), 0)" for name in ("targets", *COUNTERS))
    counts = ", ".join(f"COUNT(CASE WHEN state = '{state}' THEN 1 END)" for state in DeliveryState)
    # One statement is one snapshot, also while everything moves.
    with reading_all():
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
