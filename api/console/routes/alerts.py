"""Alerts, jobs, and what became of each delivery."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response  # noqa: TC002  # FastAPI reads it at run time

from admin.replay import Filter, Replayed, replaying
from api.console import lists
from api.console.message import message_of
from api.console.page import Page, render, see
from api.console.session import Admin, Posted, Viewer  # noqa: TC001  # FastAPI reads it at run time
from api.cursors import Cursor  # noqa: TC001  # as above
from api.parameters import LongId, QueryLongId  # noqa: TC001  # as above
from api.work import publishing_in_turns
from model.alert import MAX_INTEGER
from model.database import connection
from model.results import totals
from model.states import EventType, JobState, Reason
from model.tables import Delivery

if TYPE_CHECKING:
    from collections.abc import Iterator

router = APIRouter(route_class=Page, include_in_schema=False)

Text = Annotated[str, Query(max_length=255)]


def storable(text: str) -> str:
    """An id that any database takes; nothing else of it is touched, since space at an end makes it another one."""
    return text.replace("\0", "")


def sought(text: str) -> str:
    """What a search is for: space at its ends was not meant."""
    return storable(text).strip()


def number(text: str) -> int | None:
    """A number from a form or a query; None for what is none, such as the choice of all."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None  # noqa: PLR2004  # 32 bit


@router.get("/alerts")
def list_alerts(
    request: Request,
    session: Viewer,
    *,
    q: Text = "",
    event: Text = "",
    outcome: Text = "",
    cursor: Cursor = None,
) -> Response:
    """Alerts, newest first."""
    chosen = {
        "q": sought(q),
        "event": event if event in set(EventType) else "",
        "outcome": outcome if outcome in {"none", "error"} else "",
    }
    with connection():
        rows = lists.alerts(
            session.tenant_id,
            text=chosen["q"],
            event=chosen["event"],
            outcome=chosen["outcome"],
            cursor=cursor,
        )
    return render(
        request, "alerts.html", rows=rows, chosen=chosen, events=list(EventType), searched=lists.SEARCHED,
        is_first=cursor is None,
    )  # fmt: skip


@router.get("/alert")
def alert(
    request: Request, session: Viewer, alert_id: Annotated[str, Query(alias="id", max_length=255)]
) -> Response:
    """One alert: its events, and the jobs that they caused."""
    with connection():
        events, jobs = lists.alert(session.tenant_id, storable(alert_id))
    return render(request, "alert.html", events=events, jobs=jobs, totals=totals)


@router.get("/jobs")
def list_jobs(
    request: Request,
    session: Viewer,
    *,
    q: Text = "",
    state: Annotated[list[str], Query(max_length=8)] = [],  # noqa: B006  # FastAPI copies it
    channel: Text = "",
    cursor: Cursor = None,
) -> Response:
    """Jobs, newest first."""
    chosen: dict[str, Any] = {
        "q": sought(q),
        "state": [each for each in state if each in set(JobState)],
        "channel": number(channel),
    }
    with connection():
        rows = lists.jobs(
            session.tenant_id,
            text=chosen["q"],
            states=chosen["state"],
            channel=chosen["channel"],
            cursor=cursor,
        )
        channels = lists.channel_choices(session.tenant_id)
    return render(
        request, "jobs.html", rows=rows, chosen=chosen, channels=channels, job_states=list(JobState), totals=totals,
        searched=lists.SEARCHED, is_first=cursor is None,
    )  # fmt: skip


def _skipped(given: list[str]) -> list[tuple[str, int]]:
    """Reasons with numbers of deliveries, from what `replay_job` put into the address."""
    parts = (each.partition(":") for each in given)
    return [(why, how_many) for why, _, text in parts if why in set(Reason) and (how_many := number(text))]


@router.get("/jobs/{job_id}")
def job(
    request: Request,
    session: Viewer,
    *,
    job_id: LongId,
    delivery: QueryLongId = None,
    cursor: Cursor = None,
    replayed: Annotated[int | None, Query(ge=0, le=MAX_INTEGER)] = None,
    skipped: Annotated[list[str], Query(max_length=len(Reason))] = [],  # noqa: B006  # FastAPI copies it
    more: bool = False,
) -> Response:
    """One job: deliveries, attempts, and one delivery's message."""
    with connection():
        found = lists.job(session.tenant_id, job_id)
        rows = lists.deliveries(found, cursor)
        tried, is_cut = lists.attempts([each.id for each in rows.items])
        shown: Delivery | None = rows.items[0] if rows.items else None
        if delivery is not None:
            shown = Delivery.get_or_none((Delivery.job_id == found.id) & (Delivery.id == delivery))
            if shown is None:
                raise LookupError(f"job {job_id} has no delivery {delivery}")
        message = message_of(request.app.state.settings, found, shown) if shown else None
    return render(
        request, "job.html", job=found, rows=rows, tried=tried, shown=shown, message=message, totals=totals(found),
        replayed=replayed, skipped=_skipped(skipped), more=more, cursor=cursor, is_cut=is_cut,
    )  # fmt: skip


@router.post("/jobs/{job_id}/replay")
async def replay_job(request: Request, session: Admin, _form: Posted, job_id: LongId) -> Response:
    """Send what failed or expired again, and say what stays as it is, and why."""

    def steps() -> Iterator[Replayed]:
        with connection():
            lists.job(session.tenant_id, job_id)
        yield from replaying(session.tenant_id, Filter(job_id=job_id), settings=request.app.state.settings)

    done = await publishing_in_turns(request, steps())
    skipped = [f"{why}:{how_many}" for why, how_many in done.skipped.items()]
    return see(f"/jobs/{job_id}", replayed=done.deliveries, skipped=skipped, more=done.more or None)
