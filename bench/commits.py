"""The database's ceiling: `python -m bench.commits --notifications N`.

The rows of notifications, inserted and committed: for each batch of a hundred the four inserts that they cannot do
without, a commit each, as the chain commits them: alerts, jobs, deliveries, log. No update, lock, message or request.
"""

from __future__ import annotations

import argparse
import threading
import time
import uuid
from datetime import UTC, datetime
from typing import Any

from bench import talk
from bench.load import alert
from config import get_settings
from model import bulk
from model.database import open_database, transaction
from model.tables import Alert, Delivery, Job, LogEntry, Tenant

BATCH = 100


def insert(name: str, number: int) -> None:
    """Write the rows of `number` notifications."""
    now = datetime.now(UTC)
    common: dict[str, Any] = {"tenant_id": "bench"}
    payloads = [alert(f"{name}-{each}") for each in range(number)]
    with transaction():
        rows = [
            {
                **common,
                "alert_id": each["alert_id"],
                "event_type": "OPEN",
                "payload": each,
                "accepted_at": now,
            }
            for each in payloads
        ]
        alerts = bulk.insert(Alert, rows, returning=["id"])
    with transaction():
        rows = [
            {
                **common, "alert_id": each["alert_id"], "deliver_on_event": "OPEN", "sequence": row[0],
                "channel_id": 1, "channel_name": "hook", "channel_type": "webhook",
                "accepted_at": now, "expires_at": now,
            }
            for row, each in zip(alerts, payloads, strict=True)
        ]  # fmt: skip
        jobs = bulk.insert(Job, rows, returning=["id"])
    with transaction():
        rows = [
            {**common, "job_id": row[0], "channel_id": 1, "sender": "webhook", "expires_at": now}
            for row in jobs
        ]
        deliveries = bulk.insert(Delivery, rows, returning=["id", "job_id"])
    with transaction():
        rows = [
            {
                **common, "job_id": job, "delivery_id": delivery, "channel_id": 1, "sender": "webhook",
                "attempt": 1, "outcome": "ok", "code": "204 No Content", "latency_ms": 1.0, "at": now,
            }
            for delivery, job in deliveries
        ]  # fmt: skip
        bulk.insert(LogEntry, rows)


def main() -> None:
    """Insert, in four threads."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--notifications", type=int, required=True)
    parser.add_argument("--threads", type=int, default=4)
    options = parser.parse_args()
    open_database(get_settings())
    with transaction():
        Tenant.insert(tenant_id="bench").on_conflict_ignore().execute()
    talk.ready()
    batches = iter(range(options.notifications // BATCH))
    lock = threading.Lock()

    def work() -> None:
        while True:
            with lock:
                if next(batches, None) is None:
                    return
            insert(uuid.uuid4().hex, BATCH)

    began = time.time()
    threads = [threading.Thread(target=work) for _ in range(options.threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    talk.done(began=began, ended=time.time())


if __name__ == "__main__":
    main()
