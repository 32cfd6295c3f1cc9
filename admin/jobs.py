"""Which jobs there are, newest first, and one of them whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from admin.lookup import find_channel
from model.database import connection
from model.jobs import in_states, with_alert
from model.results import dispatch_result, job_document, listed_jobs
from model.states import JobState
from model.tables import Job

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Jobs of one alert that an error lists.
LISTED = 10


def list_jobs(
    tenant_id: str,
    *,
    states: Sequence[str] = (),
    channel: str | int | None = None,
    alert_id: str | None = None,
    before: int | None = None,
    limit: int = 50,
) -> list[dict[str, Any]]:
    """A tenant's jobs, newest first, without their results.

    Args:
        tenant_id: whose.
        states: JobState names; none for all.
        channel: a channel's name or id. The name of one that was deleted finds its jobs still.
        alert_id: only this alert's.
        before: only jobs with a smaller id: the cursor of the next page.
        limit: how many at most.

    Raises:
        LookupError: there is no such state or channel.
    """
    if wrong := sorted(set(states) - set(JobState)):
        raise LookupError(f"there is no job state {wrong[0]!r}; there are {', '.join(JobState)}")
    with connection():
        query = listed_jobs().where(Job.tenant_id == tenant_id)
        query = query.order_by(Job.id.desc()).limit(limit)
        if states:
            query = query.where(in_states(tenant_id, states))
        if channel is not None:
            query = query.where(_of_channel(tenant_id, channel))
        if alert_id is not None:
            query = query.where(Job.alert_id == alert_id)
        if before is not None:
            query = query.where(Job.id < before)
        return [job_document(job) for job in query]


def _of_channel(tenant_id: str, channel: str | int) -> Any:
    try:
        return Job.channel_id == find_channel(tenant_id, channel).id
    except LookupError:
        named = Job.channel_name == str(channel)
        if Job.select().where((Job.tenant_id == tenant_id) & named).limit(1).exists():
            return named
        raise


def find_job(tenant_id: str, reference: str | int) -> Job:
    """A job by its id or, where it is the only one of its alert, by the alert's id.

    Raises:
        LookupError: this tenant has none, or several of one alert; another tenant's id gets the same words.
    """
    mine = with_alert().where(Job.tenant_id == tenant_id)
    text = str(reference)
    if text.isascii() and text.isdigit() and len(text) <= 18:  # noqa: PLR2004  # a 64-bit column
        found: Job | None = mine.where(Job.id == int(text)).first()
        if found is not None:
            return found
    of_alert: list[Job] = list(mine.where(Job.alert_id == text).order_by(Job.id).limit(LISTED + 1))
    if len(of_alert) == 1:
        return of_alert[0]
    if of_alert:
        listed = ", ".join(
            f"{job.id} ({job.deliver_on_event} to {job.channel_name})" for job in of_alert[:LISTED]
        )
        raise LookupError(f"alert {text!r} has several jobs; give one of {listed}")
    raise LookupError(f"there is no job {reference!r} in tenant {tenant_id!r}")


def show_job(tenant_id: str, reference: str | int) -> dict[str, Any]:
    """One job with its alert and its DispatchResult.

    Raises:
        LookupError: as above.
    """
    with connection():
        job = find_job(tenant_id, reference)
        return job_document(job, dispatch_result(job))
