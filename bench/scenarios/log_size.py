"""(g) The same storm with an empty log and with one of millions of rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.results import Check, Rate, Scenario
from bench.scenarios.storm import warm
from bench.stack import Installation
from model.database import connection, database, transaction

if TYPE_CHECKING:
    from bench.sizes import Sizes
    from bench.stack import Stack

#: How much longer it may take.
FACTOR = 1.2

#: Attempts as they would have been logged, spread over a year.
_FILL = """
INSERT INTO notification_log
    (tenant_id, job_id, delivery_id, channel_id, sender, attempt, outcome, code, latency_ms, at)
SELECT 'bench', -n, -n, 1, 'webhook', 1, 'ok', '204 No Content', 1.5, now() - n * interval '6 seconds'
FROM generate_series(1, %s) AS n
"""


def log_size(stack: Stack, sizes: Sizes) -> Scenario:
    """Storm, fill, storm again on the same installation."""
    with Installation(stack) as tocsin:
        tocsin.hook("hook", stack.nginx.url)
        tocsin.start_workers()
        warm(tocsin, stack, 1000)
        empty = _storm(tocsin, stack, "empty", sizes.log_alerts)
        with transaction():
            database.execute_sql("SET LOCAL synchronous_commit = off")
            database.execute_sql(_FILL, (sizes.log_rows,))
        with connection():
            # Both storms begin on tables that are vacuumed, and with a checkpoint behind them.
            database.execute_sql("VACUUM ANALYZE notification_log")
            database.execute_sql("CHECKPOINT")
        warm_again = tocsin.producer("--alerts", "1000", "--prefix", "again")
        stack.nginx.restart_count()
        tocsin.measure("warm-up", 1000, stack.nginx.count, warm_again)
        full = _storm(tocsin, stack, "full", sizes.log_alerts)
    rates = [
        empty.model_copy(update={"what": "Tocsin, empty log"}),
        full.model_copy(update={"what": f"Tocsin, {sizes.log_rows:,} rows in the log"}),
    ]
    return Scenario(
        key="g",
        title=f"An empty log, and one of {sizes.log_rows:,} rows",
        rates=rates,
        checks=[
            Check(
                claim="time with the full log, as a multiple of that with the empty one",
                value=full.seconds / empty.seconds,
                limit=FACTOR,
                at_most=True,
            )
        ],
    )


def _storm(tocsin: Installation, stack: Stack, prefix: str, count: int) -> Rate:
    stack.nginx.restart_count()
    producer = tocsin.producer("--alerts", str(count), "--prefix", prefix)
    return tocsin.measure(prefix, count, stack.nginx.count, producer)
