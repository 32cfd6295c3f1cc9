"""A producer in a process of its own: `python -m bench.producer --help`. Waits for a line on its standard input.

It says when the first call began and when the last alert was accepted, in Unix time, and writes a book on demand: for
each alert its id and the moment at which its acceptance was asked for.
"""

from __future__ import annotations

import argparse
import random
import time
from pathlib import Path

import orjson

import actors
from actors.broker import broker
from bench import talk
from bench.load import alert
from model.database import transaction
from model.tables import Tenant


def main() -> None:
    """Produce."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tenant", default="bench")
    parser.add_argument("--prefix", default="a", help="of the alerts' ids")
    parser.add_argument("--alerts", type=int, required=True)
    parser.add_argument("--call", type=int, default=100, help="alerts of one call")
    parser.add_argument(
        "--rate", type=float, default=0, help="alerts a second, at random moments; 0: no pause"
    )
    parser.add_argument("--types", type=int, default=1, help="different alert types, type-0, type-1, ...")
    parser.add_argument("--severity", type=int, default=2)
    parser.add_argument("--bulk", action="store_true", help="alerts of the type `bulk`")
    parser.add_argument("--book", type=Path)
    options = parser.parse_args()
    with transaction():
        Tenant.insert(tenant_id=options.tenant).on_conflict_ignore().execute()
    alerts = [
        alert(
            f"{options.prefix}-{n}",
            alert_type="bulk" if options.bulk else f"type-{n % options.types}",
            severity=options.severity,
        )
        for n in range(options.alerts)
    ]
    dice = random.Random(options.alerts)
    book: list[tuple[str, float]] = []
    talk.ready()
    began = due = time.time()
    for start in range(0, len(alerts), options.call):
        batch = alerts[start : start + options.call]
        if options.rate:
            due += dice.expovariate(options.rate / options.call)
            time.sleep(max(0.0, due - time.time()))
        asked = time.time()
        actors.dispatch_alerts(batch, tenant_id=options.tenant)
        book += [(str(each["alert_id"]), asked) for each in batch]
    ended = time.time()
    if options.book:
        options.book.write_bytes(orjson.dumps(book))
    talk.done(began=began, ended=ended)
    broker.close()


if __name__ == "__main__":
    main()
