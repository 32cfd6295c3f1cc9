"""Second step, of push jobs: each meets its users' devices.

The target of any other job is its channel, which needs no looking for: match_rules makes that delivery with the job.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import dramatiq

from actors import record
from actors.broker import runtime
from actors.onward import Inserted, claim_own, deliver_own, hand_on_deliveries, supersede_earlier
from actors.roads import CRITICAL, FANOUT, FRONT, URGENT
from config.metrics import metrics
from model import bulk, ledger
from model.audience import audience
from model.database import among, is_sqlite, transaction, utcnow
from model.jobs import delivery_row, time_to_live
from model.states import DeliveryState, EventType, JobState, Reason
from model.tables import Channel, Delivery, Job
from senders.registry import PLATFORMS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from model.audience import Target

#: Deliveries of one statement. Ten thousand devices are ten statements, and no statement is a hundred megabytes.
CHUNK = 1000


def _fan_out(job_ids: list[int]) -> None:
    """Turn push jobs into deliveries, and send on what is to be sent now, each lane by itself."""
    now, began = utcnow(), time.monotonic()
    with transaction():
        jobs = _new_jobs(job_ids)
        audiences = audience(jobs, _configs(jobs), now=now)
        finished = []
        rows: list[bulk.Row] = []
        for job in jobs:
            mine = [_delivery_row(job, target, now) for target in audiences[job.id]]
            rows += mine
            finished.append(_fanned_out(job, mine, now))
        if len({(job.tenant_id, job.alert_id, job.channel_id) for job in jobs}) == len(jobs):
            # As in match_rules: what ends an alert ends what is not claimed.
            rows = claim_own(rows, now)
        deliveries = []
        for start in range(0, len(rows), CHUNK):
            chunk = rows[start : start + CHUNK]
            inserted = bulk.insert(Delivery, chunk, ignore_conflicts=True, returning=Inserted._fields)
            deliveries += [Inserted(*row) for row in inserted]
        bulk.update(Job, finished)
    supersede_earlier([job.id for job in jobs if job.deliver_on_event != EventType.OPEN], now)
    _observe(rows)
    record.jobs_ended(_ended_at_once(jobs, finished), runtime.settings, now=now)
    hand_on_deliveries(deliveries)
    deliver_own(deliveries, now, began)


fanout_devices = dramatiq.actor(actor_name="fanout_devices", queue_name=FANOUT, priority=FRONT)(_fan_out)
fanout_critical = dramatiq.actor(actor_name="fanout_critical", queue_name=CRITICAL, priority=URGENT)(_fan_out)


def _new_jobs(job_ids: Sequence[int]) -> list[Job]:
    query = Job.select().where(among(Job.id, job_ids) & (Job.state == JobState.PENDING)).order_by(Job.id)
    return list(query if is_sqlite() else query.for_update())


def _configs(jobs: Iterable[Job]) -> dict[int, dict[str, Any]]:
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
    return delivery_row(
        runtime.settings, job_id=job.id, tenant_id=job.tenant_id, channel_id=job.channel_id,
        sender=PLATFORMS.get(target.sender, target.sender), device_id=target.device_id, user_id=target.user_id,
        expires_at=expires_at, is_critical=job.is_critical, state=state, reason=reason, due=due, now=now,
    )  # fmt: skip


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
