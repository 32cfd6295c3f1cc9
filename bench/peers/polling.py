"""The polling worker that most teams write: a table of jobs, one worker that takes, sends and settles one by one.

`python -m bench.peers.polling --database URL --url URL --count N`. A job is claimed by FOR UPDATE SKIP LOCKED from a
partial index, as PostgreSQL's documentation has it for queue-like tables, and committed before it is sent; the session
keeps its connection; a failure comes back later with a doubled pause, eight times at most. It ends when no job is left.
https://www.postgresql.org/docs/current/sql-select.html#SQL-FOR-UPDATE-SHARE
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import psycopg2
import psycopg2.extras
import requests

from bench import talk
from bench.load import alert

_SCHEMA = """
CREATE TABLE jobs (
    id bigserial PRIMARY KEY, payload jsonb NOT NULL, state text NOT NULL DEFAULT 'pending',
    attempts int NOT NULL DEFAULT 0, run_at timestamptz NOT NULL DEFAULT now(), error text
);
CREATE INDEX jobs_due ON jobs (run_at, id) WHERE state = 'pending';
"""

_CLAIM = """
UPDATE jobs SET state = 'sending', attempts = attempts + 1
WHERE id = (
    SELECT id FROM jobs WHERE state = 'pending' AND run_at <= now()
    ORDER BY run_at, id LIMIT 1 FOR UPDATE SKIP LOCKED
)
RETURNING id, payload, attempts
"""

_DONE = "UPDATE jobs SET state = 'done' WHERE id = %s"
_AGAIN = """
UPDATE jobs SET state = CASE WHEN attempts < 8 THEN 'pending' ELSE 'failed' END,
    run_at = now() + interval '1 second' * 2 ^ attempts, error = %s
WHERE id = %s
"""

#: Seconds that a worker which found nothing waits.
PAUSE = 0.1


def main() -> None:
    """Enqueue, then work until all is done."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--database", required=True)
    parser.add_argument("--url", required=True)
    parser.add_argument("--count", type=int, required=True)
    options = parser.parse_args()
    connection = psycopg2.connect(options.database)
    connection.autocommit = True
    cursor = connection.cursor()
    cursor.execute(_SCHEMA)
    session = requests.Session()
    talk.ready()
    began = time.time()
    rows = [(psycopg2.extras.Json(alert(f"p-{number}")),) for number in range(options.count)]
    psycopg2.extras.execute_values(cursor, "INSERT INTO jobs (payload) VALUES %s", rows)
    while True:
        cursor.execute(_CLAIM)
        job = cursor.fetchone()
        if job is not None:
            _send(cursor, session, options.url, job)
            continue
        cursor.execute("SELECT count(*) FROM jobs WHERE state IN ('pending', 'sending')")
        if (cursor.fetchone() or (0,))[0] == 0:
            break
        time.sleep(PAUSE)
    cursor.execute("SELECT count(*) FROM jobs WHERE state = 'failed'")
    failed = (cursor.fetchone() or (0,))[0]
    talk.done(began=began, ended=time.time(), refused=failed)


def _send(cursor: Any, session: requests.Session, url: str, job: tuple[Any, ...]) -> None:
    number, payload, _ = job
    try:
        session.post(url, json=payload, timeout=15).raise_for_status()
    except requests.RequestException as error:
        cursor.execute(_AGAIN, (str(error), number))
    else:
        cursor.execute(_DONE, (number,))


if __name__ == "__main__":
    main()
