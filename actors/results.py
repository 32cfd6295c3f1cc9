"""Waiting for what came of a job."""

from __future__ import annotations

import time
from typing import Any

from model.database import connection
from model.results import dispatch_result
from model.tables import Job


def wait_for_result(job_id: int, *, timeout: float) -> dict[str, Any] | None:
    """The DispatchResult of a job once it has ended, or None if it has not within so many seconds.

    Of more than a thousand targets its `results` are those that failed or expired first; its counts are of all.

    It asks the database, at growing intervals from 10 ms to half a second: the answer is there whoever delivered.

    Raises:
        LookupError: there is no such job.
    """
    deadline = time.monotonic() + timeout
    pause = 0.01
    while True:
        with connection():
            job = Job.select().where(Job.id == job_id).first()
            if job is None:
                raise LookupError(f"there is no job {job_id}")
            if job.finished_at is not None:
                return dispatch_result(job)
        if time.monotonic() + pause > deadline:
            return None
        time.sleep(pause)
        pause = min(pause * 1.5, 0.5)
