"""How much of everything: the short form shows the shape, the long form is what the claims are about."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sizes:
    """Numbers of one form. A tuple that is empty, or a 0, leaves that part out.

    Attributes:
        rounds: how often (a) and (b) measure what they compare, in turn; the median counts.
        platforms, devices: of (a); each platform has so many devices.
        alerts: of (b); slow_peer: notifications for the peers that need a second for a few hundred.
        trickle_rate, trickle: of (c), alerts a second and in all.
        backlog, critical: of (d): bulk pushes, and critical alerts sent meanwhile.
        sick_rate, sick_seconds: of (e), alerts a second over all channels.
        rules, matched: of (f): numbers of rules, and alerts matched with each.
        log_rows, log_alerts: of (g).
        deferred: of (h).
        memory_seconds: of (i).
        single: of (j), alerts of each way in.
    """

    rounds: int
    platforms: tuple[str, ...]
    devices: int
    alerts: int
    slow_peer: int
    trickle_rate: float
    trickle: int
    backlog: int
    critical: int
    sick_rate: float
    sick_seconds: int
    rules: tuple[int, ...]
    matched: int
    log_rows: int
    log_alerts: int
    deferred: int
    memory_seconds: int
    single: int


SHORT = Sizes(
    rounds=1,
    platforms=("ios",),
    devices=2000,
    alerts=4000,
    slow_peer=400,
    trickle_rate=10,
    trickle=150,
    backlog=10_000,
    critical=40,
    sick_rate=50,
    sick_seconds=10,
    rules=(10, 100, 1000),
    matched=500,
    log_rows=200_000,
    log_alerts=2000,
    deferred=5000,
    memory_seconds=30,
    single=1000,
)

LONG = Sizes(
    rounds=3,
    platforms=("ios", "android", "web"),
    devices=10_000,
    alerts=20_000,
    slow_peer=1500,
    trickle_rate=10,
    trickle=600,
    backlog=100_000,
    critical=120,
    sick_rate=50,
    sick_seconds=60,
    rules=(10, 100, 1000, 10_000),
    matched=2000,
    log_rows=5_000_000,
    log_alerts=10_000,
    deferred=100_000,
    memory_seconds=240,
    single=5000,
)

#: For work on the benchmarks themselves: minutes are too long to wait for a typing error.
TINY = Sizes(
    rounds=1,
    platforms=("ios", "android", "web"),
    devices=100,
    alerts=300,
    slow_peer=30,
    trickle_rate=20,
    trickle=20,
    backlog=300,
    critical=5,
    sick_rate=30,
    sick_seconds=4,
    rules=(10, 100),
    matched=100,
    log_rows=1000,
    log_alerts=200,
    deferred=200,
    memory_seconds=6,
    single=100,
)
