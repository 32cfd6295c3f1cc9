"""The design, bare: `python -m bench.prototype produce --count N`, and as many of `python -m bench.prototype work`.

The same commits, messages and requests for a batch of a hundred alerts, and nothing that makes a product of them: no
validation, rules, preferences, guard, lanes, retries, metrics or log lines, and of rows and indexes what the steps
cannot do without. An alert is accepted (commit, confirmed publish); its job and delivery are inserted claimed (commit);
the webhook is sent; delivery, job and alert are settled and the attempt is logged (commit); the message is
acknowledged. So it says what the design can carry here. BENCH_DATABASE, BENCH_BROKER_URL and BENCH_URL say where.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import aiohttp
import orjson
import pika
import psycopg2
import psycopg2.extras
import uvloop

from bench import talk
from bench.load import alert

if TYPE_CHECKING:
    from collections.abc import Iterable

QUEUE = "prototype"

BATCH = 100

_SCHEMA = """
CREATE TABLE alerts (
    id bigserial PRIMARY KEY, alert_id text UNIQUE, payload jsonb NOT NULL, matched_at timestamptz,
    due timestamptz DEFAULT now() + interval '1 minute'
);
CREATE INDEX ON alerts (due) WHERE due IS NOT NULL;
CREATE TABLE jobs (
    id bigserial PRIMARY KEY, alert bigint UNIQUE, payload jsonb NOT NULL, state text DEFAULT 'PROCESSING'
);
CREATE TABLE deliveries (
    id bigserial PRIMARY KEY, job bigint UNIQUE, state text NOT NULL DEFAULT 'SENDING',
    due timestamptz DEFAULT now() + interval '1 minute'
);
CREATE INDEX ON deliveries (due) WHERE due IS NOT NULL;
CREATE TABLE log (id bigserial PRIMARY KEY, delivery bigint, status int, at timestamptz DEFAULT now());
CREATE INDEX ON log (delivery);
"""

_ACCEPT = """
INSERT INTO alerts (alert_id, payload)
SELECT given ->> 'alert_id', given FROM jsonb_array_elements(%s::jsonb) AS given
ON CONFLICT DO NOTHING RETURNING id
"""

_CLAIM = """
BEGIN;
UPDATE alerts SET matched_at = now(), due = NULL WHERE id = ANY(%(ids)s) AND matched_at IS NULL;
WITH made AS (
    INSERT INTO jobs (alert, payload) SELECT id, payload FROM alerts WHERE id = ANY(%(ids)s) ORDER BY id
    ON CONFLICT DO NOTHING RETURNING id, payload
), claimed AS (INSERT INTO deliveries (job) SELECT id FROM made ORDER BY id RETURNING id, job)
SELECT claimed.id, made.id, made.payload FROM claimed JOIN made ON made.id = claimed.job
"""

_SETTLE = """
BEGIN;
UPDATE deliveries SET state = 'DELIVERED', due = NULL WHERE id = ANY(%(deliveries)s) AND state = 'SENDING';
UPDATE jobs SET state = 'COMPLETED' WHERE id = ANY(%(jobs)s);
INSERT INTO log (delivery, status) SELECT * FROM unnest(%(deliveries)s, %(statuses)s);
COMMIT
"""


def connect() -> Any:
    """A cursor, each of whose statements is a transaction unless it says otherwise."""
    connection = psycopg2.connect(os.environ["BENCH_DATABASE"])
    connection.autocommit = True
    psycopg2.extras.register_default_jsonb(connection, loads=orjson.loads)
    return connection.cursor()


def channel() -> Any:
    """A channel of a connection of its own."""
    return pika.BlockingConnection(pika.URLParameters(os.environ["BENCH_BROKER_URL"])).channel()


def produce(count: int) -> None:
    """Accept so many alerts, a batch a call."""
    cursor, broker = connect(), channel()
    cursor.execute(_SCHEMA)
    broker.queue_declare(QUEUE, durable=True)
    broker.confirm_delivery()
    talk.ready()
    began = time.time()
    for start in range(0, count, BATCH):
        batch = [alert(f"d-{number}") for number in range(start, min(start + BATCH, count))]
        cursor.execute(_ACCEPT, (orjson.dumps(batch).decode(),))
        ids = orjson.dumps([row[0] for row in cursor.fetchall()])
        broker.basic_publish("", QUEUE, ids, pika.BasicProperties(delivery_mode=2))
    talk.done(began=began, ended=time.time())


async def send(session: aiohttp.ClientSession, url: str, claims: Iterable[tuple[int, int, Any]]) -> list[int]:
    """POST one webhook for each claim; their statuses."""

    async def one(delivery: int, job: int, payload: dict[str, Any]) -> int:
        data = {**payload, "event_type": "OPEN", "tenant_id": "bench", "job_id": job}
        body = orjson.dumps({"type": "alert.open", "timestamp": payload["triggered_at"], "data": data})
        headers = {"content-type": "application/json", "webhook-id": str(delivery)}
        async with session.post(url, data=body, headers=headers) as answer:
            await answer.read()
            return answer.status

    return await asyncio.gather(*(one(*claim) for claim in claims))


async def open_session() -> aiohttp.ClientSession:
    """A session for all threads of this process."""
    connector = aiohttp.TCPConnector(limit=BATCH)
    return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())


def work(loop: asyncio.AbstractEventLoop, session: aiohttp.ClientSession) -> None:
    """Take messages, one after the other: claim, send, settle."""
    cursor, broker = connect(), channel()
    broker.basic_qos(prefetch_count=1)
    for message, _, body in broker.consume(QUEUE):
        cursor.execute(_CLAIM, {"ids": orjson.loads(body)})
        claims = cursor.fetchall()
        cursor.execute("COMMIT")
        sending = asyncio.run_coroutine_threadsafe(send(session, os.environ["BENCH_URL"], claims), loop)
        statuses = sending.result()
        deliveries, jobs = ([claim[column] for claim in claims] for column in (0, 1))
        cursor.execute(_SETTLE, {"deliveries": deliveries, "jobs": jobs, "statuses": statuses})
        broker.basic_ack(message.delivery_tag)


def main() -> None:
    """Produce, or work until standard input ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("part", choices=["produce", "work"])
    parser.add_argument("--count", type=int, default=BATCH)
    parser.add_argument("--threads", type=int, default=4)
    options = parser.parse_args()
    if options.part == "produce":
        produce(options.count)
        return
    loop = uvloop.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    session = asyncio.run_coroutine_threadsafe(open_session(), loop).result()
    for _ in range(options.threads):
        threading.Thread(target=work, args=(loop, session), daemon=True).start()
    talk.ready()
    sys.stdin.readline()


if __name__ == "__main__":
    main()
