"""What a run found, as it is kept in JSON and told in docs/performance.md."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from collections.abc import Sequence

Kind = Literal["tocsin", "ceiling", "peer"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Rate(_Frozen):
    """So many notifications in so many seconds, and what they cost.

    Attributes:
        what: a name for the tables.
        kind: what was measured, what bounds it, or what it is compared with.
        count: notifications that arrived, each once.
        seconds: from the first call to the last arrival.
        cpu: CPU seconds by the processes' role, until all of it was done.
    """

    what: str
    kind: Kind
    count: int
    seconds: float
    cpu: dict[str, float]

    @property
    def per_second(self) -> float:
        """Notifications a second."""
        return self.count / self.seconds

    def cpu_per_thousand(self) -> dict[str, float]:
        """CPU seconds for a thousand notifications, by role."""
        return {role: seconds * 1000 / self.count for role, seconds in self.cpu.items()}


def middle(rates: Sequence[Rate]) -> Rate:
    """Of the rates of several rounds the median; the higher of the two in the middle.

    Raises:
        IndexError: there are none.
    """
    return sorted(rates, key=lambda rate: rate.per_second)[len(rates) // 2]


def ratios(ours: Sequence[Rate], theirs: Sequence[Rate]) -> list[float]:
    """Of each round: what was measured side by side had the same minutes of the machine.

    Raises:
        ValueError: there is not one of theirs for each of ours.
    """
    return [one.per_second / other.per_second for one, other in zip(ours, theirs, strict=True)]


def told(found: Sequence[float]) -> str:
    """Ratios as a text: "0.41, 0.45 and 0.47"."""
    *first, last = [f"{each:.2f}" for each in found]
    return f"{', '.join(first)} and {last}" if first else last


class Spread(_Frozen):
    """How a measure is spread: percentiles of `count` samples, in `unit`."""

    what: str
    count: int
    p50: float
    p90: float
    p99: float
    largest: float
    unit: str = "ms"


class Check(_Frozen):
    """A claim with its figure and its limit.

    Attributes:
        at_most: whether the limit is a highest value; else it is a lowest.
    """

    claim: str
    value: float
    limit: float
    at_most: bool
    unit: str = ""

    @property
    def holds(self) -> bool:
        """Whether the claim is true."""
        return self.value <= self.limit if self.at_most else self.value >= self.limit


class Series(_Frozen):
    """A line of a plot: (x, y) points."""

    what: str
    x: str
    y: str
    points: list[tuple[float, float]]


class Scenario(_Frozen):
    """What one scenario found.

    Attributes:
        key: its letter in the list of scenarios.
        notes: sentences for the reader: how it was set up, what went wrong.
    """

    key: str
    title: str
    rates: list[Rate] = []
    spreads: list[Spread] = []
    checks: list[Check] = []
    series: list[Series] = []
    notes: list[str] = []


class Machine(_Frozen):
    """Where it ran."""

    processor: str
    cores: int
    memory_gib: float
    system: str
    versions: dict[str, str]
    commit: str


class Run(_Frozen):
    """One run of the program."""

    form: Literal["short", "long"]
    began: str
    machine: Machine
    workers: str
    scenarios: list[Scenario]


def percentile(samples: list[float], rank: float) -> float:
    """The smallest sample that is not exceeded by `rank` per cent of them (nearest rank).

    Raises:
        ValueError: there are no samples, or the rank is not within 0 and 100.
    """
    if not samples:
        raise ValueError("no samples")
    if not 0 <= rank <= 100:  # noqa: PLR2004  # per cent
        raise ValueError(f"a rank is 0 to 100 per cent, not {rank}")
    ordered = sorted(samples)
    position = -(-len(ordered) * rank // 100)  # rounded up
    return ordered[max(int(position) - 1, 0)]


def spread(what: str, samples: list[float], unit: str = "ms") -> Spread:
    """Percentiles of samples.

    Raises:
        ValueError: there are none.
    """
    return Spread(
        what=what,
        count=len(samples),
        p50=percentile(samples, 50),
        p90=percentile(samples, 90),
        p99=percentile(samples, 99),
        largest=max(samples),
        unit=unit,
    )


def slope(points: list[tuple[float, float]]) -> float:
    """The least-squares slope of y over x; 0 where all x are the same.

    Raises:
        ValueError: fewer than two points.
    """
    if len(points) < 2:  # noqa: PLR2004  # a line
        raise ValueError("a slope needs two points")
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    width = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / width if width else 0.0
