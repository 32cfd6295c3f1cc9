"""Second step: a job meets its targets. A push job's are its users' devices, any other's is the channel itself."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import dramatiq

from actors import record
from actors.broker import FANOUT, runtime
from actors.deliver import deliver
from actors.handing import hand_on
from actors.record import PUSH
from config.metrics import metrics
from model import bulk, ledger
from model.audience import Target, audience
from model.database import connection, is_sqlite, transaction, utcnow
from model.jobs import time_to_live
from model.states import DeliveryState, JobState, Reason
from model.tables import NO_DEVICE, Channel, Delivery, Job
from senders.registry import ALIASES, PLATFORMS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

#: Deliveries of one statement. Ten thousand devices are ten statements, and no statement is a hundred megabytes.
CHUNK = 1000


@dramatiq.actor(queue_name=FANOUT)
def fanout_devices(job_ids: list[int]) -> None:
    """Turn jobs into deliveries, and send on what is to be sent now, each lane by itself."""
    now = utcnow()
    lanes: dict[tuple[str, int], list[int]] = {}
    with transaction():
        jobs = _new_jobs(job_ids)
        pushes = [job for job in jobs if job.channel_type == PUSH]
        audiences = audience(pushes, _push_configs(pushes), now=now)
        finished = []
        rows: list[bulk.Row] = []
        for job in jobs:
            targets = (
                audiences[job.id]
                if job.channel_type == PUSH
                else [Target(NO_DEVICE, None, ALIASES.get(job.channel_type, job.channel_type))]
            )
            mine = [_delivery_row(job, target, now) for target in targets]
            rows += mine
            finished.append(_fanned_out(job, mine, now))
        for start in range(0, len(rows), CHUNK):
            chunk = rows[start : start + CHUNK]
            inserted = bulk.insert(
                Delivery, chunk, ignore_conflicts=True, returning=["id", "sender", "channel_id", "state"]
            )
            for delivery_id, sender, channel_id, state in inserted:
                if state == DeliveryState.PENDING:
                    lanes.setdefault(lane(sender, channel_id), []).append(delivery_id)
        bulk.update(Job, finished)
    with connection():
        ended = ledger.supersede_earlier([job.id for job in jobs], now=now)
    _observe(rows)
    record.jobs_ended(ended + _ended_at_once(jobs, finished), runtime.settings, now=now)
    for ids in lanes.values():
        hand_on(deliver, ids)


def lane(sender: str, channel_id: int) -> tuple[str, int]:
    """What one message speaks of: one channel, or one push service. So destinations do not wait for each other."""
    return (sender, NO_DEVICE if sender in PLATFORMS.values() else channel_id)


def _new_jobs(job_ids: Sequence[int]) -> list[Job]:
    query = Job.select().where(Job.id.in_(list(job_ids)) & (Job.state == JobState.PENDING)).order_by(Job.id)
    return list(query if is_sqlite() else query.for_update())


def _push_configs(jobs: Iterable[Job]) -> dict[int, dict[str, Any]]:
    ids = sorted({job.channel_id for job in jobs})
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
    grace = timedelta(seconds=runtime.settings.sweep_grace)
    return {
        "job_id": job.id,
        "tenant_id": job.tenant_id,
        "channel_id": job.channel_id,
        "device_id": target.device_id,
        "user_id": target.user_id,
        "sender": PLATFORMS.get(target.sender, target.sender),
        "state": state,
        "reason": reason,
        "next_attempt_at": due,
        "expires_at": expires_at,
        "created_at": now,
        "finished_at": now if state.is_final else None,
        "sweep_at": None if state.is_final else due or now + grace,
    }


def _fanned_out(job: Job, rows: Sequence[bulk.Row], now: datetime) -> bulk.Row:
    """The job's row after its fan-out: PROCESSING, or ended at once where nothing is to be sent."""
    counts = Counter({"suppressed": sum(row["state"] == DeliveryState.SUPPRESSED for row in rows)})
    state = ledger.job_state(len(rows), counts)
    return {
        "id": job.id,
        "targets": len(rows),
        "suppressed": counts["suppressed"],
        "state": state,
        "reason": None if rows else Reason.NO_DEVICES,
        "finished_at": now if state.is_final else None,
        "sweep_at": None,
    }


def _ended_at_once(jobs: Sequence[Job], finished: Sequence[bulk.Row]) -> list[ledger.Ended]:
    return [
        ledger.Ended(job.id, row["state"], job.channel_type, job.user_id, job.accepted_at)
        for job, row in zip(jobs, finished, strict=True)
        if row["finished_at"] is not None
    ]


def _observe(rows: Iterable[bulk.Row]) -> None:
    """Count what ended here: every suppression is a delivery that was not made, with a reason."""
    for row in rows:
        if row["state"] == DeliveryState.SUPPRESSED:
            metrics().deliveries.labels(row["sender"], row["state"], row["reason"]).inc()
