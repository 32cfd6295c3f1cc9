"""Second step, of push jobs: each meets its users' devices.

The target of any other job is its channel, which needs no looking for: match_rules makes that delivery with the job.
"""

from __future__ import annotations

import time
from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING, Any

import dramatiq

from actors import record
from actors.broker import runtime
from actors.onward import Inserted, claim_own, deliver_own, hand_on_deliveries, supersede_earlier
from actors.roads import CRITICAL, FANOUT, FRONT, URGENT
from config.metrics import metrics
from model import bulk, ledger
from model.audience import audience, users_of
from model.database import among, connection, is_sqlite, transaction, tuples, utcnow
from model.jobs import delivery_row, time_to_live
from model.states import DeliveryState, EventType, JobState, Reason
from model.tables import Channel, Delivery, Device, Job
from senders.registry import PLATFORMS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from model.audience import Target

#: Deliveries of one statement. Ten thousand devices are ten statements, and no statement is a hundred megabytes.
CHUNK = 1000

#: Targets of one transaction, about, but for a single job that has more: its rows are in memory, and its jobs locked.
TARGETS = 20_000

#: Devices of one user, by a guess.
DEVICES = 10


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
            tuples(Job.select(Job.id, Job.tenant, Job.channel_id, Job.user_id).where(among(Job.id, job_ids)))
        )
        configs = _configs({job[2] for job in jobs})
        parts: list[list[int]] = []
        room = 0
        devices: dict[str, int] = {}
        for number, tenant, channel_id, user_id in jobs:
            users = users_of(configs.get(channel_id, {}), user_id)
            if users is None and tenant not in devices:
                # No more of them are counted than make a difference.
                devices[tenant] = Device.select().where(Device.tenant == tenant).limit(TARGETS).count()
            targets = devices[tenant] if users is None else DEVICES * len(users)
            if not parts or room < targets:
                parts.append([])
                room = TARGETS
            parts[-1].append(number)
            room -= targets
    return parts


def _fan_out_together(job_ids: Sequence[int], *, may_claim: bool) -> None:
    now, began = utcnow(), time.monotonic()
    suppressed: Counter[tuple[int, str, str]] = Counter()
    deliveries: list[Inserted] = []
    with transaction():
        jobs = _new_jobs(job_ids)
        audiences = audience(jobs, _configs({job.channel_id for job in jobs}), now=now)
        # As in match_rules: what ends an alert ends what is not claimed.
        is_each_alone = len({(job.tenant_id, job.alert_id, job.channel_id) for job in jobs}) == len(jobs)
        claims = may_claim and is_each_alone and sum(map(len, audiences.values())) <= CHUNK
        # Made as they are inserted: PostgreSQL ends a transaction that says nothing for long.
        rows = (_delivery_row(job, target, now) for job in jobs for target in audiences[job.id])
        while chunk := list(islice(rows, CHUNK)):
            suppressed.update(
                (row["job_id"], row["sender"], row["reason"])
                for row in chunk
                if row["state"] == DeliveryState.SUPPRESSED
            )
            inserted = bulk.insert(
                Delivery, claim_own(chunk, now) if claims else chunk,
                ignore_conflicts=True, returning=Inserted._fields,
            )  # fmt: skip
            deliveries += [Inserted(*row) for row in inserted]
        finished = [_fanned_out(job, len(audiences[job.id]), suppressed, now) for job in jobs]
        bulk.update(Job, finished)
    supersede_earlier([job.id for job in jobs if job.deliver_on_event != EventType.OPEN], now)
    _observe(suppressed)
    record.jobs_ended(_ended_at_once(jobs, finished), runtime.settings, now=now)
    hand_on_deliveries(deliveries)
    deliver_own(deliveries, now, began)


fanout_devices = dramatiq.actor(actor_name="fanout_devices", queue_name=FANOUT, priority=FRONT)(_fan_out)
fanout_critical = dramatiq.actor(actor_name="fanout_critical", queue_name=CRITICAL, priority=URGENT)(_fan_out)


def _new_jobs(job_ids: Sequence[int]) -> list[Job]:
    query = Job.select().where(among(Job.id, job_ids) & (Job.state == JobState.PENDING)).order_by(Job.id)
    return list(query if is_sqlite() else query.for_update())


def _configs(channel_ids: Iterable[int]) -> dict[int, dict[str, Any]]:
    ids = sorted(channel_ids)
    query: Any = Channel.select(Channel.id, Channel.config).where(Channel.id.in_(ids)).tuples()
    return dict(query) if ids else {}


def _delivery_row(job: Job, target: Target, now: datetime) -> bulk.Row:
    state, reason, due, expires_at = DeliveryState.PENDING, None, None, job.expires_at
    if target.verdict.action == "suppress":
        state, reason = DeliveryState.SUPPRESSED, target.verdict.reason
    elif target.verdict.action == "defer" and target.verdict.until is not None:
        state, reason, due = DeliveryState.DEFERRED, target.verdict.reason, target.verdict.until
        # The user asked for it in the morning: its time to live begins then.
        expires_at = max(expires_at, due + time_to_live(runtime.settings, job.payload))
    return delivery_row(
        runtime.settings, job_id=job.id, tenant_id=job.tenant_id, channel_id=job.channel_id,
        sender=PLATFORMS.get(target.sender, target.sender), device_id=target.device_id, user_id=target.user_id,
        expires_at=expires_at, is_critical=job.is_critical, state=state, reason=reason, due=due, now=now,
    )  # fmt: skip


def _fanned_out(
    job: Job, targets: int, suppressed: Mapping[tuple[int, str, str], int], now: datetime
) -> bulk.Row:
    """The job's row after its fan-out: PROCESSING, or ended at once where nothing is to be sent."""
    counts = Counter({"suppressed": sum(number for (of, *_), number in suppressed.items() if of == job.id)})
    state = ledger.job_state(targets, counts)
    return {
        "id": job.id,
        "targets": targets,
        "suppressed": counts["suppressed"],
        "state": state,
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


def _observe(suppressed: Mapping[tuple[int, str, str], int]) -> None:
    """Count what ended here: every suppression is a delivery that was not made, with a reason."""
    for (_, sender, reason), number in suppressed.items():
        metrics().deliveries.labels(sender, DeliveryState.SUPPRESSED, reason).inc(number)
