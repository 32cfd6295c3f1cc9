"""(h) Many deferred deliveries fall due at the same moment: none twice, and fresh alerts go on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.results import Check, Rate, Scenario, spread
from bench.scenarios.trickle import latencies
from bench.stack import Installation
from model.database import connection, database, transaction

if TYPE_CHECKING:
    from bench.sizes import Sizes
    from bench.stack import Stack

#: Fresh alerts a second, and the milliseconds within which 99 of 100 of them are to arrive all the same.
RATE, NEARLY_ALL = 10.0, 1000.0

#: Seconds between the making of the deliveries and the moment at which they fall due.
AHEAD = 20

_ALERTS = """
INSERT INTO alerts (tenant_id, alert_id, event_type, payload, accepted_at, matched_at, jobs, sweeps)
SELECT 'bench', 'd-' || n, 'OPEN', '{"alert_id": "d-' || n || '", "severity": 2}', now(), now(), 1, 0
FROM generate_series(1, %s) AS n
"""

_JOBS = """
INSERT INTO notification_jobs (tenant_id, alert_id, deliver_on_event, sequence, channel_id, channel_name, channel_type,
    severity, is_critical, accepted_at, expires_at, state, targets, delivered, failed, suppressed, superseded,
    expired, created_at, sweeps)
SELECT 'bench', alert_id, 'OPEN', id, %s, 'deferred', 'webhook', 2,
    false, now(), now() + interval '1 day', 'PROCESSING', 1, 0, 0, 0, 0, 0, now(), 0
FROM alerts WHERE starts_with(alert_id, 'd-')
"""

_DELIVERIES = """
INSERT INTO deliveries (job_id, tenant_id, channel_id, device_id, sender, is_critical, state, reason, attempts,
    next_attempt_at, expires_at, created_at, sweeps, sweep_at)
SELECT id, tenant_id, channel_id, 0, 'webhook', false, 'DEFERRED', 'quiet_hours', 0, now() + %s * interval '1 second',
    expires_at, now(), 0, now() + %s * interval '1 second'
FROM notification_jobs WHERE starts_with(alert_id, 'd-')
"""


def deferred(stack: Stack, sizes: Sizes) -> Scenario:
    """Let them fall due while fresh alerts trickle in."""
    stack.far.clear()
    stack.nginx.restart_count()
    count = sizes.deferred
    with Installation(stack) as tocsin:
        channel_id = tocsin.channel("deferred", "webhook", {"url": stack.nginx.url}, alert_type="never")
        tocsin.hook("fresh", stack.far.hook("fresh"))
        with transaction():
            database.execute_sql(_ALERTS, (count,))
            database.execute_sql(_JOBS, (channel_id,))
            database.execute_sql(_DELIVERIES, (AHEAD, AHEAD))
        with connection():
            database.execute_sql("VACUUM ANALYZE deliveries")
            database.execute_sql("VACUUM ANALYZE notification_jobs")
        tocsin.start_workers()
        book = stack.directory / "fresh.json"
        rate = ("--call", "1", "--rate", str(RATE))
        # From a few seconds before they fall due until they are gone, or nearly.
        fresh = tocsin.producer(
            *("--alerts", str(int(RATE * (AHEAD + max(10, count / 4000)))), "--book", str(book), *rate)
        )
        fresh.say("go")
        tocsin.wait(lambda: stack.nginx.count() > 0, "the first deferred delivery")
        due = float(
            tocsin.ask(
                "SELECT extract(epoch FROM min(next_attempt_at)) FROM deliveries WHERE reason IS NOT NULL"
            )
        )
        ended = tocsin.wait(lambda: stack.nginx.count() >= count, "the deferred deliveries")
        fresh.hear()
        tocsin.wait(lambda: tocsin.unfinished() == 0, "the record")
        fresh.stop()
    arrived = stack.nginx.arrivals(count)
    repeats = len(arrived) - len({name for _, name in arrived})
    samples = spread("Fresh alerts meanwhile", latencies(stack.far, "fresh", book))
    return Scenario(
        key="h",
        title=f"{count:,} deferred deliveries fall due at once",
        rates=[
            Rate(what="Tocsin, deferred", kind="tocsin", count=count, seconds=max(ended - due, LEAST), cpu={})
        ],
        spreads=[samples],
        checks=[
            Check(claim="deliveries that arrived twice", value=repeats, limit=0, at_most=True),
            Check(
                claim="99 of 100 fresh alerts arrive within",
                value=samples.p99,
                limit=NEARLY_ALL,
                at_most=True,
                unit="ms",
            ),
        ],
        notes=["Time runs from the moment at which they are due; the sweep looks every few seconds."],
    )


#: Seconds: so that a clock that disagrees by a moment makes no rate infinite.
LEAST = 0.001
