"""How deliveries go on from the step that makes their rows: one lane's in its own thread, the others' by messages."""

from __future__ import annotations

from collections import Counter
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from actors import record
from actors.broker import runtime
from actors.deliver import deliver, deliver_claimed, deliver_critical
from actors.handing import BATCH, Lane, hand_on, lane_of
from config.logging import get_logger
from model import ledger, superseding
from model.database import DATABASE_AWAY, connection
from model.jobs import claimed_row, lease_end
from model.states import DeliveryState, Reason
from model.tables import NO_DEVICE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from model.bulk import Row

#: What one message may speak of: a lane, and before it whether what goes there is critical.
Group = tuple[bool, Lane]

log = get_logger(__name__)


class Inserted(NamedTuple):
    """A delivery's row, as far as this module cares. The fields are columns of `deliveries`."""

    id: int
    job_id: int
    sender: str
    channel_id: int
    is_critical: bool
    state: str


def claim_own(rows: Sequence[Row], now: datetime) -> list[Row]:
    """Claim, before they are inserted, those deliveries that the step that makes their rows makes itself.

    They need no message, no place in a queue and no claim of their own. A critical group goes before others, and then
    the largest that one message could speak of.

    Returns:
        The rows, in their order, those of one group claimed.
    """
    own = _own_group(rows) if runtime.is_alive else None
    return [
        claimed_row(runtime.settings, row, now) if own is not None and _group_of_row(row) == own else row
        for row in rows
    ]


def _own_group(rows: Iterable[Row]) -> Group | None:
    numbers = Counter(_group_of_row(row) for row in rows)
    fitting = [group for group, number in numbers.items() if group is not None and number <= BATCH]
    return max(fitting, key=lambda group: (group[0], numbers[group]), default=None)


def _group_of_row(row: Row) -> Group | None:
    """None: it is not to be sent now."""
    if row["state"] != DeliveryState.PENDING:
        return None
    return _group_of(row["sender"], row["channel_id"], row["is_critical"])


def supersede_earlier(job_ids: Sequence[int], now: datetime) -> None:
    """End what waits for earlier events of these jobs' alerts. Without it their own claims would, only later."""
    if not job_ids:
        return
    try:
        with connection():
            ended = superseding.supersede_earlier(job_ids, now=now)
    except DATABASE_AWAY as error:
        log.warning("not_superseded_at_once", jobs=len(job_ids), why=type(error).__name__)
        return
    how = DeliveryState.SUPERSEDED, Reason.LATER_EVENT
    record.deliveries_ended({(sender, *how): number for sender, number in ended.deliveries.items()})
    record.jobs_ended(ended.jobs, runtime.settings, now=now)


def hand_on_deliveries(deliveries: Iterable[Inserted]) -> None:
    """Hand on what nobody has claimed, each group by itself, critical ones first."""
    groups: dict[Group, list[int]] = {}
    for each in deliveries:
        if each.state == DeliveryState.PENDING:
            group = _group_of(each.sender, each.channel_id, each.is_critical)
            groups.setdefault(group, []).append(each.id)
    for is_critical, lane in sorted(groups, key=itemgetter(0), reverse=True):
        hand_on(deliver_critical if is_critical else deliver, groups[is_critical, lane], lane=lane)


def deliver_own(
    deliveries: Iterable[Inserted],
    now: datetime,
    began: float,
    *,
    jobs: Mapping[int, tuple[Row, dict[str, Any]]] | None = None,
) -> None:
    """Make what `claim_own` claimed, after its commit.

    Args:
        deliveries: what was inserted, claimed or not.
        now: when it was claimed, by the wall clock.
        began: the same, by the monotonic one.
        jobs: their jobs' rows and what the alerts say, by job id, where all deliveries go to the channels themselves.
    """
    own = [each for each in deliveries if each.state == DeliveryState.SENDING]
    if not own:
        return

    def read() -> list[ledger.Claim]:
        if jobs is None:
            return ledger.load({each.id: 1 for each in own}, now=now)
        return ledger.recheck([_claim(each, *jobs[each.job_id], now) for each in own], now=now)

    deliver_claimed([each.id for each in own], read, now, began, is_critical=bool(own[0].is_critical))


def _claim(delivery: Inserted, job: Row, payload: dict[str, Any], now: datetime) -> ledger.Claim:
    """A channel's delivery that was inserted claimed with its job, as `ledger.load` would read it."""
    return ledger.Claim(
        delivery_id=delivery.id, job_id=delivery.job_id, tenant_id=job["tenant_id"],
        channel_id=delivery.channel_id, device_id=NO_DEVICE, user_id=job["user_id"], sender=delivery.sender,
        attempts=1, lease_until=lease_end(runtime.settings, now), expires_at=job["expires_at"],
        alert_id=job["alert_id"], event=job["deliver_on_event"], payload=payload,
        severity=job["severity"], is_critical=job["is_critical"], accepted_at=job["accepted_at"],
        claimed_at=now, later=False, earlier_under_way=False, platform=None, token=None, subscription=None,
        device_disabled=False,
    )  # fmt: skip


def _group_of(sender: str, channel_id: int, is_critical: bool) -> Group:  # noqa: FBT001  # columns of a row
    return bool(is_critical), lane_of(sender, channel_id)
