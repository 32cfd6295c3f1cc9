"""The numbers of the overview: bounded in time and in rows, whatever the tables hold.

Each query reads a tenant's newest rows by their index, at most SCANNED of them, and counts those of the range. How many
jobs were under way at a moment is not sampled but follows from the record: those of now, less those made since, and
those that ended since.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from peewee import SQL, fn

from model.database import connection, is_sqlite, iso, tuples, utcnow
from model.jobs import in_states
from model.ledger import COUNTERS
from model.states import JobState
from model.status import Stage, backlog
from model.tables import Alert, Job, LogEntry
from model.tallies import tallies

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

#: What can be chosen: seconds of the range, and of one bucket of it.
RANGES: Final[dict[str, tuple[int, int]]] = {
    "1h": (3600, 60),
    "6h": (6 * 3600, 300),
    "24h": (24 * 3600, 1200),
}

#: Rows of one table that one look reads at most.
SCANNED = 50_000

#: Seconds for which an answer is good, and how many answers are kept.
FRESH = 2.0
KEPT = 1000

PERCENTILES = (50, 95, 99)


@dataclass(slots=True)
class ChannelSums:
    """What became of a channel's targets in the range."""

    channel_id: int
    name: str
    kind: str
    jobs: int
    counts: dict[str, int]

    @property
    def arrived(self) -> float | None:
        """The share of what was to arrive that did; None where nothing was."""
        tried = self.counts["delivered"] + self.counts["failed"] + self.counts["expired"]
        return self.counts["delivered"] / tried if tried else None


@dataclass(slots=True)
class Figures:
    """An overview.

    Attributes:
        times: the beginning of each bucket.
        minutes: of one bucket.
        alerts: accepted in each bucket.
        attempts: outcome -> attempts in each bucket.
        under_way: jobs that had not ended at the end of each bucket.
        latency: percentile -> milliseconds from acceptance to delivery in each bucket; None where nothing arrived.
        whole: the same percentiles over the range, and of the providers' answers.
        channels: busiest first.
        stages: the backlog.
        recovery: what was mended since ever; see model.tallies.
        is_cut: more happened in the range than was read.
    """

    range: str
    times: list[datetime]
    minutes: float
    alerts: list[int]
    attempts: dict[str, list[int]]
    under_way: list[int]
    latency: dict[int, list[float | None]]
    whole: dict[str, list[float | None]]
    channels: list[ChannelSums]
    stages: list[Stage]
    recovery: dict[str, int]
    is_cut: bool = False
    at: datetime = field(default_factory=utcnow)

    @property
    def delivered(self) -> int:
        """Attempts that delivered."""
        return sum(self.attempts.get("ok", ()))

    @property
    def failed(self) -> int:
        """Attempts that did not."""
        return sum(sum(values) for name, values in self.attempts.items() if name != "ok")

    @property
    def oldest(self) -> float:
        """Seconds that the oldest work has been due."""
        return max((stage.oldest_seconds for stage in self.stages), default=0.0)


class Overview:
    """Computes overviews, each at most once in FRESH seconds, however many look."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[str, str], tuple[float, Figures]] = OrderedDict()
        self._busy: dict[tuple[str, str], threading.Lock] = {}

    def of(self, tenant_id: str, chosen: str) -> Figures:
        """A tenant's overview of a range."""
        key = (tenant_id, chosen)
        with self._lock:
            busy = self._busy.setdefault(key, threading.Lock())
        with busy:
            at, found = self._known.get(key, (float("-inf"), None))
            if found is None or self._clock() - at > FRESH:
                found = figures(tenant_id, chosen, now=utcnow())
            else:
                return found
            with self._lock:
                self._known[key] = (self._clock(), found)
                if len(self._known) > KEPT:
                    oldest, _ = self._known.popitem(last=False)
                    self._busy.pop(oldest, None)
            return found


def figures(tenant_id: str, chosen: str, *, now: datetime) -> Figures:
    """Compute an overview."""
    seconds, width = RANGES[chosen]
    until = datetime.fromtimestamp((int(now.timestamp()) // width + 1) * width, tz=now.tzinfo)
    times = [until - timedelta(seconds=seconds - index * width) for index in range(seconds // width)]
    grid = _Grid(times[0], width, len(times))
    with connection():
        accepted, cut_alerts = _counts(Alert, Alert.accepted_at, tenant_id, grid)
        tried, cut_log = _counts(LogEntry, LogEntry.at, tenant_id, grid, LogEntry.outcome)
        made, cut_jobs = _counts(Job, Job.created_at, tenant_id, grid)
        ended, _ = _counts(Job, Job.finished_at, tenant_id, grid)
        unfinished = in_states(tenant_id, [JobState.PENDING, JobState.PROCESSING])
        under_way = Job.select(fn.COUNT(Job.id)).where((Job.tenant_id == tenant_id) & unfinished).scalar()
        timed = _timed(tenant_id, grid)
        channels = _channels(tenant_id, grid)
        stages = backlog(tenant_id, now=now)
        recovery = tallies(tenant_id)
    buckets: list[list[float]] = [[] for _ in times]
    for index, since_acceptance, _ in timed:
        buckets[index].append(since_acceptance)
    return Figures(
        range=chosen,
        times=times,
        minutes=width / 60,
        alerts=accepted.get("", grid.zeros()),
        attempts=tried,
        under_way=_depth(under_way, made.get("", grid.zeros()), ended.get("", grid.zeros())),
        latency={each: [percentile(bucket, each) for bucket in buckets] for each in PERCENTILES},
        whole={
            "accepted to delivered": [percentile([row[1] for row in timed], each) for each in PERCENTILES],
            "the provider's answer": [percentile([row[2] for row in timed], each) for each in PERCENTILES],
        },
        channels=channels,
        stages=stages,
        recovery=recovery,
        is_cut=cut_alerts or cut_log or cut_jobs,
        at=now,
    )


def percentile(values: Sequence[float], wanted: int) -> float | None:
    """The smallest value that so many percent of the values do not exceed (nearest rank); None for none."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * wanted // 100) - 1)]


def _depth(now: int, made: Sequence[int], ended: Sequence[int]) -> list[int]:
    """How many were under way at the end of each bucket, backwards from now."""
    depth, found = now, []
    for begun, over in zip(reversed(made), reversed(ended), strict=True):
        found.append(max(0, depth))
        depth += over - begun
    return found[::-1]


@dataclass(frozen=True, slots=True)
class _Grid:
    """Buckets of equal width."""

    since: datetime
    width: int
    number: int

    def index(self, moment: datetime) -> int | None:
        """The bucket of a moment, or None."""
        index = int((moment - self.since).total_seconds() // self.width)
        return index if 0 <= index < self.number else None

    def zeros(self) -> list[int]:
        """A count of nothing."""
        return [0] * self.number


def _stored(moment: datetime) -> Any:
    """A moment as the column has it, where Peewee does not know the column."""
    return iso(moment) if is_sqlite() else moment


def _minute(column: Any) -> Any:
    """A moment cut to its minute, as text: "2026-03-29T01:30". PostgreSQL's sessions are in UTC."""
    return fn.SUBSTR(column, 1, 16) if is_sqlite() else fn.TO_CHAR(column, 'YYYY-MM-DD"T"HH24:MI')


def _counts(
    table: Any, moment: Any, tenant_id: str, grid: _Grid, kind: Any = None
) -> tuple[dict[str, list[int]], bool]:
    """Rows by kind and bucket, and whether there are more than were read."""
    columns = [moment.alias("moment"), *([kind.alias("kind")] if kind is not None else [])]
    newest = (
        table.select(*columns).where(table.tenant_id == tenant_id).order_by(table.id.desc()).limit(SCANNED)
    )
    minute = _minute(newest.c.moment)
    kinds = [newest.c.kind] if kind is not None else []
    query = (
        newest.select_from(minute, *kinds, fn.COUNT(SQL("1")))
        .where(newest.c.moment >= _stored(grid.since))
        .group_by(minute, *kinds)
    )
    found: dict[str, list[int]] = {}
    total = 0
    for text, *rest in tuples(query):
        number = rest[-1]
        total += number
        index = grid.index(datetime.fromisoformat(f"{text}:00+00:00"))
        if index is not None:
            found.setdefault(rest[0] if kind is not None else "", grid.zeros())[index] += number
    return found, total >= SCANNED


def _timed(tenant_id: str, grid: _Grid) -> list[tuple[int, float, float]]:
    """Of the deliveries in the range: bucket, milliseconds since acceptance, and of the provider's answer."""
    newest = (
        LogEntry.select(LogEntry.job_id, LogEntry.at, LogEntry.latency_ms, LogEntry.outcome)
        .where(LogEntry.tenant_id == tenant_id)
        .order_by(LogEntry.id.desc())
        .limit(SCANNED)
        .alias("newest")
    )
    query = (
        Job.select(newest.c.at.converter(Job.accepted_at.python_value), Job.accepted_at, newest.c.latency_ms)
        .join(newest, on=newest.c.job_id == Job.id)
        .where((newest.c.outcome == "ok") & (newest.c.at >= _stored(grid.since)))
    )
    found = []
    for at, accepted_at, latency in tuples(query):
        index = grid.index(at)
        if index is not None:
            found.append((index, (at - accepted_at).total_seconds() * 1000, latency or 0.0))
    return found


def _channels(tenant_id: str, grid: _Grid) -> list[ChannelSums]:
    names = ("targets", *COUNTERS)
    newest = (
        Job.select(
            Job.channel_id, Job.channel_name, Job.channel_type, Job.created_at,
            *(getattr(Job, name) for name in names),
        )
        .where(Job.tenant_id == tenant_id)
        .order_by(Job.id.desc())
        .limit(SCANNED)
    )  # fmt: skip
    columns = newest.c
    key = (columns.channel_id, columns.channel_name, columns.channel_type)
    query = (
        newest.select_from(*key, fn.COUNT(SQL("1")), *(fn.SUM(getattr(columns, name)) for name in names))
        .where(columns.created_at >= _stored(grid.since))
        .group_by(*key)
    )
    return _busiest(tuples(query), names)


def _busiest(rows: Iterable[tuple[Any, ...]], names: Sequence[str]) -> list[ChannelSums]:
    found = []
    for channel_id, name, kind, jobs, *sums in rows:
        counts = Counter(dict(zip(names, map(int, sums), strict=True)))
        counts["in_progress"] = counts["targets"] - sum(counts[each] for each in COUNTERS)
        found.append(ChannelSums(channel_id, name, kind, jobs, dict(counts)))
    return sorted(found, key=lambda each: (-each.counts["targets"], each.name))
