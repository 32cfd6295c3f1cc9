"""How far some alerts, or jobs, have come: what still moves, what waits, what became of the rest."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from peewee import fn

from model.database import tuples
from model.ledger import COUNTERS
from model.states import IN_PROGRESS, DeliveryState, JobState
from model.tables import Alert, Delivery, Job

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

#: Ids of one query.
GROUP = 1000


@dataclass(frozen=True, slots=True)
class Group:
    """Alerts (rows of `alerts`, by id) or jobs that are watched together; at most GROUP of them."""

    ids: tuple[int, ...]
    are_alerts: bool

    @property
    def jobs(self) -> Any:
        """A subquery: the ids of its jobs."""
        if not self.are_alerts:
            return list(self.ids)
        same = (
            (Job.tenant_id == Alert.tenant)
            & (Job.alert_id == Alert.alert_id)
            & (Job.deliver_on_event == Alert.event_type)
        )
        return Alert.select(Job.id).join(Job, on=same).where(Alert.id.in_(self.ids))


def groups(ids: Sequence[int], *, are_alerts: bool) -> list[Group]:
    """Cut ids into groups."""
    return [Group(tuple(ids[start : start + GROUP]), are_alerts) for start in range(0, len(ids), GROUP)]


@dataclass(frozen=True, slots=True)
class Pending:
    """What has not ended.

    Attributes:
        active: alerts, jobs and deliveries that move by themselves within the patience.
        later: deliveries by state that are due only after it.
        due: the earliest of those moments.
    """

    active: int
    later: Counter[str]
    due: datetime | None


def pending(group: Group, *, until: datetime) -> Pending:
    """What of a group has not ended.

    Args:
        group: which.
        until: the end of the patience; what is due after it is not waited for.
    """
    active = 0
    if group.are_alerts:
        active += Alert.select().where(Alert.id.in_(group.ids) & Alert.matched_at.is_null()).count()
    active += Job.select().where(Job.id.in_(group.jobs) & (Job.state == JobState.PENDING)).count()
    query = Delivery.select(Delivery.state, Delivery.next_attempt_at).where(
        Delivery.job_id.in_(group.jobs) & Delivery.state.in_(list(IN_PROGRESS))
    )
    later: Counter[str] = Counter()
    due: datetime | None = None
    for state, next_attempt_at in tuples(query):
        if state in (DeliveryState.RETRYING, DeliveryState.DEFERRED) and next_attempt_at > until:
            later[state] += 1
            due = next_attempt_at if due is None else min(due, next_attempt_at)
        else:
            active += 1
    return Pending(active, later, due)


@dataclass(slots=True)
class Summary:
    """What became of groups, channel by channel.

    Attributes:
        channels: (name, type) -> `jobs`, `targets`, the counters of final states, and `in_progress`.
    """

    channels: dict[tuple[str, str], Counter[str]] = field(default_factory=dict)

    @property
    def totals(self) -> dict[str, int]:
        """The sums over all channels."""
        names = ("jobs", "targets", *COUNTERS, "in_progress")
        return {name: sum(counts[name] for counts in self.channels.values()) for name in names}

    @property
    def undelivered(self) -> int:
        """Deliveries that ended without arriving, though they should have."""
        return self.totals["failed"] + self.totals["expired"]


def summary(watched: Iterable[Group]) -> Summary:
    """Sum up the jobs of groups, in one query a group."""
    found = Summary()
    sums = [fn.SUM(getattr(Job, name)) for name in ("targets", *COUNTERS)]
    for group in watched:
        query = (
            Job.select(Job.channel_name, Job.channel_type, fn.COUNT(Job.id), *sums)
            .where(Job.id.in_(group.jobs))
            .group_by(Job.channel_name, Job.channel_type)
        )
        for name, kind, *numbers in tuples(query):
            counts = dict(zip(("jobs", "targets", *COUNTERS), map(int, numbers), strict=True))
            counts["in_progress"] = counts["targets"] - sum(counts[counter] for counter in COUNTERS)
            found.channels.setdefault((name, kind), Counter()).update(counts)
    return found
