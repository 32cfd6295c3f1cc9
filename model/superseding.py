"""How a later event of an alert ends what still waits to be sent for the earlier ones."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from model import bulk
from model.database import database, transaction
from model.ledger import Ended, count, lock_jobs, lock_rows
from model.order import earlier_jobs, ended_by_later
from model.states import DeliveryState, Reason
from model.tables import Delivery

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime


class Superseded(NamedTuple):
    """What a later event ended.

    Attributes:
        deliveries: how many, by sender.
        jobs: those with nothing left in progress.
    """

    deliveries: Counter[str]
    jobs: list[Ended]


#: What waits to be sent.
_WAITS = "state IN ('PENDING', 'RETRYING', 'DEFERRED')"


def supersede_earlier(job_ids: Sequence[int], *, now: datetime) -> Superseded:
    """End what still waits to be sent for earlier events of these jobs' alerts on the same channels.

    What is being sent at this moment is left to its worker, which finds the later job when it claims the
    retry. So would the worker of anything else: this only ends it sooner, in a transaction of its own, so that
    two fan-outs whose alerts cross hold no jobs that the other one wants.
    """
    waiting = earlier_jobs(job_ids) if job_ids else {}
    if not waiting:
        return Superseded(Counter(), [])
    untouched = f"{bulk.among('job_id')} AND {_WAITS}"
    with transaction():
        lock_jobs(waiting)
        lock_rows("deliveries", untouched, waiting)
        ended = _end(untouched, [job_id for job_id, ends in waiting.items() if ends], now)
        if partly := [job_id for job_id, ends in waiting.items() if not ends]:
            sql = f"SELECT id, device_id FROM deliveries WHERE {untouched}"  # noqa: S608  # names are ours
            devices = dict(database.execute_sql(sql, (bulk.id_list(partly),)).fetchall())
            ended += _end(f"{bulk.among('id')} AND {_WAITS}", ended_by_later(devices), now)
        jobs = count(Counter((job_id, DeliveryState.SUPERSEDED) for job_id, _ in ended), now=now)
    return Superseded(Counter(sender for _, sender in ended), jobs)


def _end(condition: str, ids: Collection[int], now: datetime) -> list[tuple[int, str]]:
    """End deliveries; the job id and the sender of each."""
    if not ids:
        return []
    sql = (
        f"UPDATE deliveries SET state = 'SUPERSEDED', reason = '{Reason.LATER_EVENT}', next_attempt_at = NULL, "  # noqa: S608  # names are ours
        f"sweep_at = NULL, finished_at = {bulk.placeholder()} WHERE {condition} RETURNING job_id, sender"
    )
    params = (Delivery.finished_at.db_value(now), bulk.id_list(ids))
    return list(database.execute_sql(sql, params).fetchall())
