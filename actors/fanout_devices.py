"""Second step, of push jobs: each meets its users' devices.

The target of any other job is its channel, which needs no looking for: match_rules makes that delivery with the job.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from datetime import timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import dramatiq

from actors import record
from actors.broker import runtime
from actors.handing import BROKER_AWAY
from actors.onward import Inserted, claim_own, deliver_own, hand_on_deliveries, supersede_earlier
from actors.record import PUSH
from actors.roads import CRITICAL, FANOUT, FRONT, URGENT
from config.logging import get_logger
from model import bulk, ledger
from model.audience import audience, users_of
from model.database import Unreadable, among, connection, is_sqlite, transaction, tuples, utcnow
from model.jobs import delivery_row, time_to_live, with_alert
from model.states import DeliveryState, EventType, JobState, Reason
from model.tables import Channel, Delivery, Device, Job
from senders.registry import PLATFORMS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from model.audience import Target

#: Deliveries of one statement. Ten thousand devices are ten statements, and no statement is a hundred megabytes.
CHUNK = 1000

#: Targets of one transaction, about, but for a single job that has more: its rows are in memory, and its jobs locked.
TARGETS = 20_000

#: Devices of one user, by a guess.
DEVICES = 10

log = get_logger(__name__)

#: Whose turn it is to fan out to more than TARGETS. All at once they would share an interpreter and each take as long
#: as all together, which is longer than a message may; one by one each of them ends.
_turn = threading.Lock()

#: When a message whose turn it is not comes again. It does not wait in its thread, which others have use for.
NEXT_TURN = timedelta(seconds=1)

#: What ended in its fan-out, a delivery that was not made: job id, sender, state, reason.
_Ended = tuple[int, str, str, str]


class _Channel(NamedTuple):
    """What a fan-out asks of a job's channel."""

    id: int
    channel_type: str
    config: dict[str, Any]


def _fan_out(job_ids: list[int]) -> None:
    """Turn push jobs into deliveries, and send on what is to be sent now, each lane by itself."""
    parts = _parts(job_ids)
    for part in parts:
        # Whoever makes deliveries himself waits for them; what comes in parts has enough of them without that.
        _fan_out_together(part, may_claim=len(parts) == 1)


def _parts(job_ids: Sequence[int]) -> list[list[int]]:
    """Jobs, a transaction's together: as many as have TARGETS of them by a guess, and at least one."""
    if len(job_ids) == 1:
        return [list(job_ids)]
    with connection():
        jobs = list(
            Job.select(Job.id, Job.tenant_id, Job.channel_id, Job.user_id).where(among(Job.id, job_ids))
        )
        sizes = _sizes(jobs, _channels(jobs), TARGETS)
    parts: list[list[int]] = []
    room = 0
    for job, size in zip(jobs, sizes, strict=True):
        if not parts or room < size:
            parts.append([])
            room = TARGETS
        parts[-1].append(job.id)
        room -= size
    return parts


def _sizes(jobs: Iterable[Job], channels: Mapping[int, _Channel], most: int) -> list[int]:
    """How many targets each job has, by a guess. Where it is all of a tenant's, no more than `most` are counted."""
    devices: dict[str, int] = {}
    sizes = []
    for job in jobs:
        users = users_of(_config(channels, job), job.user_id)
        if users is None and job.tenant_id not in devices:
            devices[job.tenant_id] = Device.select().where(Device.tenant == job.tenant_id).limit(most).count()
        sizes.append(devices[job.tenant_id] if users is None else DEVICES * len(users))
    return sizes


def _fan_out_together(job_ids: Sequence[int], *, may_claim: bool) -> None:
    with connection():
        channels, jobs = _ready(_waiting(job_ids))
        is_urgent = any(job.is_critical for job in jobs)
        is_large = not is_urgent and sum(_sizes(jobs, channels, TARGETS + 1)) > TARGETS
    if not is_large:
        _find_and_make(jobs, channels, may_claim=may_claim)
    elif _turn.acquire(blocking=False):
        try:
            _find_and_make(jobs, channels, may_claim=may_claim)
        finally:
            _turn.release()
    else:
        with contextlib.suppress(*BROKER_AWAY):  # then it is the sweep's
            fanout_devices.send_with_options(args=(list(job_ids),), delay=NEXT_TURN)


def _find_and_make(jobs: Sequence[Job], channels: Mapping[int, _Channel], *, may_claim: bool) -> None:
    with connection():
        began, now = time.monotonic(), utcnow()
        # Not within the transaction: PostgreSQL ends one that says nothing for long.
        found = audience(jobs, {number: channel.config for number, channel in channels.items()}, now=now)
        made = _make(jobs, channels, found, may_claim=may_claim, now=now)
    supersede_earlier([job.id for job in made.jobs if job.deliver_on_event != EventType.OPEN], now)
    record.deliveries_ended(_numbers(made.ended))
    record.jobs_ended(_ended_at_once(made.jobs, made.finished), runtime.settings, now=now)
    hand_on_deliveries(made.deliveries)
    deliver_own(made.deliveries, now, began)


class _Outcome(NamedTuple):
    """What a fan-out wrote: the jobs that were still to be fanned out, their rows, their deliveries."""

    jobs: list[Job]
    finished: list[bulk.Row]
    deliveries: list[Inserted]
    ended: Counter[_Ended]


def _make(
    jobs: Sequence[Job],
    channels: Mapping[int, _Channel],
    found: Mapping[int, Sequence[Target]],
    *,
    may_claim: bool,
    now: datetime,
) -> _Outcome:
    """Write deliveries and jobs, in one transaction."""
    ended: Counter[_Ended] = Counter()
    deliveries: list[Inserted] = []
    with transaction():
        # Meanwhile another message may have come for some of them.
        mine = {job.id for job in _waiting([job.id for job in jobs], locks=True)}
        jobs = [job for job in jobs if job.id in mine]
        # As in match_rules: what ends an alert ends what is not claimed.
        is_each_alone = len({(job.tenant_id, job.alert_id, job.channel_id) for job in jobs}) == len(jobs)
        claims = may_claim and is_each_alone and sum(len(found[job.id]) for job in jobs) <= CHUNK
        # Made as they are inserted, for the same reason as above.
        rows = (row for job in jobs for row in _rows(job, channels, found[job.id], now))
        while chunk := list(islice(rows, CHUNK)):
            ended.update(
                (row["job_id"], row["sender"], row["state"], row["reason"])
                for row in chunk
                if row["state"].is_final
            )
            inserted = bulk.insert(
                Delivery, claim_own(chunk, now) if claims else chunk,
                ignore_conflicts=True, returning=Inserted._fields,
            )  # fmt: skip
            deliveries += [Inserted(*row) for row in inserted]
        finished = [_fanned_out(job, len(found[job.id]), ended, now) for job in jobs]
        bulk.update(Job, finished)
    return _Outcome(jobs, finished, deliveries, ended)


fanout_devices = dramatiq.actor(actor_name="fanout_devices", queue_name=FANOUT, priority=FRONT)(_fan_out)
fanout_critical = dramatiq.actor(actor_name="fanout_critical", queue_name=CRITICAL, priority=URGENT)(_fan_out)


def _waiting(job_ids: Sequence[int], *, locks: bool = False) -> Iterable[Job]:
    """Those of these jobs that are still to be fanned out; their ids alone where they are locked."""
    query: Any = Job.select(Job.id) if locks else with_alert()
    query = query.where(among(Job.id, job_ids) & (Job.state == JobState.PENDING)).order_by(Job.id)
    found: Iterable[Job] = query.for_update() if locks and not is_sqlite() else query
    return found


def _ready(jobs: Iterable[Job]) -> tuple[dict[int, _Channel], list[Job]]:
    """The jobs that can be fanned out now, and their channels.

    Whom a channel names that cannot be read nobody knows until it is saved anew, or this worker gets the key: its jobs
    remain as they are for as long as they are worth sending, and the sweep brings them again.
    """
    given, now = list(jobs), utcnow()
    channels = _channels(given)
    ready = [job for job in given if not _is_unreadable(job, channels) or job.expires_at <= now]
    if len(ready) < len(given):
        lost = {job.channel_id for job in given if _is_unreadable(job, channels)}
        log.warning("unreadable_channel", channels=sorted(lost), jobs=len(given) - len(ready))
    return channels, ready


def _is_unreadable(job: Job, channels: Mapping[int, _Channel]) -> bool:
    return job.user_id is None and isinstance(_config(channels, job), Unreadable)


def _channels(jobs: Iterable[Job]) -> dict[int, _Channel]:
    ids = sorted({job.channel_id for job in jobs})
    query = Channel.select(Channel.id, Channel.channel_type, Channel.config).where(Channel.id.in_(ids))
    return {row[0]: _Channel(*row) for row in tuples(query)} if ids else {}


def _config(channels: Mapping[int, _Channel], job: Job) -> dict[str, Any]:
    return channels[job.channel_id].config if job.channel_id in channels else {}


def _why_not(job: Job, channels: Mapping[int, _Channel]) -> Reason | None:
    """Why a job's channel is no way to devices any more."""
    channel = channels.get(job.channel_id)
    if channel is None:
        return Reason.CHANNEL_DELETED
    return Reason.MISCONFIGURED if channel.channel_type != PUSH or _is_unreadable(job, channels) else None


def _rows(
    job: Job, channels: Mapping[int, _Channel], targets: Sequence[Target], now: datetime
) -> Iterator[bulk.Row]:
    """A job's deliveries; of a channel that is no way to devices the one that says so."""
    reason = _why_not(job, channels)
    if reason is None:
        for target in targets:
            yield _delivery_row(job, target, now)
    else:
        yield delivery_row(
            runtime.settings, job_id=job.id, tenant_id=job.tenant_id, channel_id=job.channel_id, sender=PUSH,
            user_id=job.user_id, expires_at=job.expires_at, is_critical=job.is_critical,
            state=DeliveryState.FAILED, reason=reason, now=now,
        )  # fmt: skip


def _delivery_row(job: Job, target: Target, now: datetime) -> bulk.Row:
    state, reason, due, expires_at = DeliveryState.PENDING, None, None, job.expires_at
    if target.verdict.action == "suppress":
        state, reason = DeliveryState.SUPPRESSED, target.verdict.reason
    elif target.verdict.action == "defer" and target.verdict.until is not None and job.expires_at > now:
        state, reason, due = DeliveryState.DEFERRED, target.verdict.reason, target.verdict.until
        # The user asked for it in the morning: its time to live begins then.
        expires_at = max(expires_at, due + time_to_live(runtime.settings, job.payload))
    return delivery_row(
        runtime.settings, job_id=job.id, tenant_id=job.tenant_id, channel_id=job.channel_id,
        sender=PLATFORMS.get(target.sender, target.sender), device_id=target.device_id, user_id=target.user_id,
        expires_at=expires_at, is_critical=job.is_critical, state=state, reason=reason, due=due, now=now,
    )  # fmt: skip


def _fanned_out(job: Job, targets: int, ended: Mapping[_Ended, int], now: datetime) -> bulk.Row:
    """The job's row after its fan-out: PROCESSING, or ended at once where nothing is to be sent."""
    counts: Counter[str] = Counter()
    for (of, _, ended_as, _), number in ended.items():
        if of == job.id:
            counts[DeliveryState(ended_as).lower()] += number
    # Of a channel that is no way to devices there is one that says so.
    targets = counts["failed"] or targets
    state = ledger.job_state(targets, counts)
    return {
        "id": job.id,
        "targets": targets,
        "suppressed": counts["suppressed"],
        "failed": counts["failed"],
        "state": state,
        "ended_as": state.otherwise,
        "reason": None if targets else Reason.NO_DEVICES,
        "finished_at": now if state.is_final else None,
        "sweep_at": None,
    }


def _ended_at_once(jobs: Sequence[Job], finished: Sequence[bulk.Row]) -> list[ledger.Ended]:
    return [
        ledger.Ended(job.id, row["state"], job.channel_type, job.user_id, job.accepted_at)
        for job, row in zip(jobs, finished, strict=True)
        if row["finished_at"] is not None
    ]


def _numbers(ended: Mapping[_Ended, int]) -> Counter[tuple[str, str, str]]:
    numbers: Counter[tuple[str, str, str]] = Counter()
    for (_, sender, state, reason), number in ended.items():
        numbers[sender, state, reason] += number
    return numbers
