"""A producer in a process of its own: accepts a load of alerts at a steady pace, and keeps its own book of it.

`python -m tests.faults.producer --tenant T --book FILE --alerts N --pairs N --seconds S`

Every answer that `dispatch_alerts` gave is a line of JSON in the book: what was accepted, and when. While the database
is away it calls again with the same alerts, as its documentation says one may.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from dramatiq import Worker

import actors
from actors.broker import broker
from actors.rabbitmq import ConfirmingRabbitmqBroker
from model.database import DATABASE_AWAY, connection
from model.tables import Alert, Job

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Alerts of one call.
CALL = 25

#: Seconds between an alert's OPEN and its CLOSED.
PAIR_GAP = 0.5

#: The exit status of a producer that was told to die between commit and enqueue.
DIED = 99


class DyingBroker(ConfirmingRabbitmqBroker):
    """Where the process ends when it is asked to enqueue: the commit is done, the message is not."""

    def enqueue(self, message: Any, *, delay: int | None = None) -> NoReturn:  # noqa: ARG002  # Dramatiq's signature
        os._exit(DIED)


def load(alerts: int, pairs: int) -> Iterator[list[dict[str, Any]]]:
    """The calls to make, each a list of alerts. Pairs: OPEN, and two calls later CLOSED."""
    calls = max(1, alerts // CALL)
    pairs_of_call = -(-pairs // calls)
    opened: list[list[int]] = []
    number = 0
    for call in range(calls):
        batch = [
            {"alert_id": f"a{call * CALL + i}", "alert_type": "abc"[i % 3], "severity": 2, "message": "load"}
            for i in range(CALL)
        ]
        mine = list(range(number, min(pairs, number + pairs_of_call)))
        number += len(mine)
        opened.append(mine)
        batch += [_paired(each, "OPEN") for each in mine]
        batch += [_paired(each, "CLOSED") for each in (opened[call - 2] if call > 1 else ())]
        yield batch
    yield [_paired(each, "CLOSED") for mine in opened[-2:] for each in mine]


def _paired(number: int, event: str) -> dict[str, Any]:
    return {"alert_id": f"p{number}", "alert_type": "paired", "event_type": event, "severity": 3}


def accept(alerts: list[dict[str, Any]], tenant: str) -> tuple[int, int]:
    """Hand alerts in until the database takes them; how many were new, and how often it was tried."""
    tries = 0
    while True:
        tries += 1
        try:
            return actors.dispatch_alerts(alerts, tenant_id=tenant).accepted, tries
        except DATABASE_AWAY:
            time.sleep(0.2)


def is_idle(tenant: str) -> bool:
    """Whether nothing of a tenant's is in progress."""
    try:
        with connection():
            return not (
                Alert.select().where((Alert.tenant == tenant) & Alert.matched_at.is_null()).exists()
                or Job.select().where((Job.tenant_id == tenant) & Job.finished_at.is_null()).exists()
            )
    except DATABASE_AWAY:
        return False


def main() -> None:
    """Produce."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tenant", required=True)
    parser.add_argument("--book", type=Path, required=True)
    parser.add_argument("--alerts", type=int, required=True)
    parser.add_argument("--pairs", type=int, default=0)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument(
        "--die-at", type=int, help="end between commit and enqueue of this call, the first being 0"
    )
    parser.add_argument("--resume-at", type=int, default=0, help="begin with this call")
    parser.add_argument("--work", action="store_true", help="deliver as well, and end when all has ended")
    options = parser.parse_args()
    worker = Worker(broker, worker_threads=4, worker_timeout=100) if options.work else None
    if worker is not None:
        worker.start()
    calls = [call for call in load(options.alerts, options.pairs) if call]
    with options.book.open("a", buffering=1) as book:
        began = time.monotonic()
        for number, alerts in enumerate(calls):
            if number < options.resume_at:
                began -= options.seconds / len(calls)
                continue
            time.sleep(max(0.0, began + number * options.seconds / len(calls) - time.monotonic()))
            if number == options.die_at:
                url = actors.runtime.settings.broker_url.get_secret_value()
                actors.match_rules.broker = DyingBroker(url, queue_type="classic", middleware=[])
            asked = time.time()
            accepted, tries = accept(alerts, options.tenant)
            ids = [(each["alert_id"], each.get("event_type", "OPEN")) for each in alerts]
            line = {
                "call": number,
                "asked": asked,
                "at": time.time(),
                "accepted": accepted,
                "tries": tries,
                "ids": ids,
            }
            book.write(json.dumps(line) + "\n")
    if worker is not None:
        while not is_idle(options.tenant):
            time.sleep(0.1)
        worker.stop(timeout=10_000)
    broker.close()


if __name__ == "__main__":
    main()
