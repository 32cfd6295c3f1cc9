"""Jobs and their attempts, and sending again what failed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from admin.replay import Filter, Replayed, replaying
from api import examples, pages
from api.auth import Administrator, Reader  # noqa: TC001  # FastAPI reads it at run time
from api.body import JsonBody  # noqa: TC001  # as above
from api.cursors import Cursor, Limit  # noqa: TC001  # as above
from api.describe import KEYED, WITH_BODY, answer, body, problems
from api.parameters import LongId, QueryLongId, QueryShortId, QueryWord  # noqa: TC001  # as above
from api.responses import Json
from api.work import Call, publishing_in_turns
from model.database import connection
from model.jobs import with_alert
from model.moments import Moment
from model.problems import InvalidInput, Problem, problems_of
from model.results import dispatch_result, job_document
from model.states import DeliveryState, JobState, Reason  # as above
from model.tables import Job

if TYPE_CHECKING:
    from collections.abc import Iterator

    from api.body import Body

router = APIRouter(tags=["jobs"], route_class=Call)

_REPLAYED = answer(
    200, "They go out again.", "Replayed",
    {"deliveries": 3, "jobs": 2, "skipped": {"device_deleted": 1}, "more": False},
)  # fmt: skip


@router.get(
    "/v1/jobs",
    summary="List jobs",
    responses=answer(200, "A page, newest first.", "JobPage") | KEYED | problems(404),
)
def list_jobs(
    *,
    caller: Reader,
    state: Annotated[list[JobState], Query(description="Any of these.", max_length=8)] = [],  # noqa: B006  # FastAPI copies it
    channel: QueryWord = None,
    alert_id: QueryWord = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Json:
    """Jobs with their totals. `channel` is a name or an id. Role: read."""
    with connection():
        found = pages.jobs(
            caller.tenant_id, states=state, channel=channel, alert_id=alert_id, limit=limit, cursor=cursor
        )
        return Json(found)


def _job(tenant_id: str, job_id: int) -> Job:
    job: Job | None = with_alert().where((Job.tenant_id == tenant_id) & (Job.id == job_id)).first()
    if job is None:
        raise LookupError(f"there is no job {job_id} in tenant {tenant_id!r}")
    return job


@router.get(
    "/v1/jobs/{job_id}",
    summary="One job",
    responses=answer(200, "With its alert and its result.", "WholeJob") | KEYED | problems(404),
)
def get_job(caller: Reader, job_id: LongId) -> Json:
    """A job with its alert and what became of each target, of many targets the first thousand. Role: read."""
    with connection():
        job = _job(caller.tenant_id, job_id)
        return Json(job_document(job, dispatch_result(job)))


@router.get(
    "/v1/jobs/{job_id}/deliveries",
    summary="A job's deliveries",
    responses=answer(200, "A page, in the order of their devices.", "DeliveryPage") | KEYED | problems(404),
)
def list_deliveries(
    *,
    caller: Reader,
    job_id: LongId,
    state: Annotated[list[DeliveryState], Query(description="Any of these.", max_length=9)] = [],  # noqa: B006  # FastAPI copies it
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Json:
    """What became of each target, however many there are. Role: read."""
    with connection():
        job = _job(caller.tenant_id, job_id)
        return Json(pages.deliveries(job.id, states=state, limit=limit, cursor=cursor))


@router.post(
    "/v1/jobs/{job_id}/replay",
    summary="Replay a job",
    responses=_REPLAYED | KEYED | problems(404),
)
async def replay_job(request: Request, caller: Administrator, job_id: LongId) -> Json:
    """Send a job's failed and expired deliveries again, 10,000 at once; `more` says of others. Role: admin."""

    def steps() -> Iterator[Replayed]:
        with connection():
            job = _job(caller.tenant_id, job_id)
        yield from replaying(caller.tenant_id, Filter(job_id=job.id), settings=request.app.state.settings)

    return Json((await publishing_in_turns(request, steps())).document())


def _channel(value: Any) -> Any:
    """A channel's name or id. Checked as one: of a union pydantic names each branch, as if it were a field."""
    is_name = isinstance(value, str) and 1 <= len(value) <= 255  # noqa: PLR2004  # the column's width, said in the text
    is_id = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    if not (value is None or is_name or is_id):
        raise ValueError("must be a channel's name (1 to 255 characters) or its id")
    if "\0" in str(value):
        raise ValueError("must not contain NUL characters")
    return value


class _Wanted(BaseModel):
    """Which deliveries; what is None does not matter."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    channel: Annotated[str | int | None, BeforeValidator(_channel)] = None
    reason: Reason | None = None
    since: Moment | None = None
    until: Moment | None = None


@router.post(
    "/v1/replay",
    summary="Replay by filter",
    responses=_REPLAYED | WITH_BODY | problems(404),
    openapi_extra=body("ReplayInput", {"after an outage": examples.REPLAY}),
)
async def replay_by_filter(request: Request, caller: Administrator, given: JsonBody) -> Json:
    """Send again what failed or expired: of a channel, for a reason, in a time. At least one of them. Role: admin.

    At most 10,000 deliveries at once; while the answer says `more`, call it again.
    """

    def steps() -> Iterator[Replayed]:
        yield from replaying(caller.tenant_id, _wanted(given), settings=request.app.state.settings)

    return Json((await publishing_in_turns(request, steps())).document())


def _wanted(given: Body) -> Filter:
    try:
        wanted = _Wanted.model_validate(given.object())
    except ValidationError as error:
        raise InvalidInput(problems_of(error, known=_Wanted.model_fields)) from None
    chosen = wanted.model_dump(exclude_none=True)
    if not chosen:
        raise InvalidInput([Problem("", f"say which: at least one of {', '.join(_Wanted.model_fields)}")])
    return Filter(**chosen)


@router.get(
    "/v1/log",
    summary="List attempts",
    responses=answer(200, "A page, newest first.", "LogPage") | KEYED,
)
def list_log(
    *,
    caller: Reader,
    job_id: QueryLongId = None,
    delivery_id: QueryLongId = None,
    channel_id: QueryShortId = None,
    outcome: QueryWord = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Json:
    """Attempts at deliveries, with the provider's answers. Role: read."""
    with connection():
        found = pages.log(
            caller.tenant_id, job_id=job_id, delivery_id=delivery_id, channel_id=channel_id, outcome=outcome,
            limit=limit, cursor=cursor,
        )  # fmt: skip
        return Json(found)
