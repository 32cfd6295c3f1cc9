"""Alerts: handed in, listed, explained."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003  # FastAPI reads it at run time
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from actors.intake import parse_alerts
from admin.explain import explain as explain_alert
from api import examples, pages
from api.auth import Ingester, Reader  # noqa: TC001  # as above
from api.body import Body, JsonBody  # noqa: TC001  # as above
from api.cursors import Cursor, Limit  # noqa: TC001  # as above
from api.describe import KEYED, WITH_BODY, answer, body, problems, ref
from api.handing_in import hand_in
from api.parameters import AlertId, QueryWord  # noqa: TC001  # as above
from api.responses import Json
from api.work import Call
from model.alert import AlertEvent
from model.database import connection, utcnow
from model.moments import Moment  # noqa: TC001  # as above
from model.problems import InvalidInput, Problem
from model.states import EventType  # noqa: TC001  # as above

router = APIRouter(tags=["alerts"], route_class=Call)

#: Members that an object may have to be looked at as an alert, which has nine: each further one would be told apart
#: from all of these, at the caller's pleasure.
MEMBERS = 50

_ONE_OR_MANY: dict[str, Any] = {
    "oneOf": [ref("AlertEvent"), {"type": "array", "items": ref("AlertEvent"), "maxItems": 1000}]
}


def refuse_crowded(alerts: list[Any]) -> None:
    """Refuse what is no alert by the mere number of its members.

    Raises:
        InvalidInput: names each such item.
    """
    crowded = [
        Problem(
            f"[{index}]" if len(alerts) > 1 else "",
            f"an alert has {len(AlertEvent.model_fields)} fields; see /docs",
        )
        for index, each in enumerate(alerts)
        if isinstance(each, dict) and len(each) > MEMBERS
    ]
    if crowded:
        raise InvalidInput(crowded)


@router.post(
    "/v1/alerts",
    status_code=202,
    summary="Hand in alerts",
    responses=answer(
        202, "They are committed. From here on nothing is lost.", "Accepted", {"accepted": 1, "duplicates": 0}
    )
    | WITH_BODY,
    openapi_extra=body(_ONE_OR_MANY, {"one": examples.ALERT, "several": [examples.ALERT, examples.CLOSED]}),
)
async def post_alerts(request: Request, caller: Ingester, given: JsonBody) -> Json:
    """One alert, or an array of up to 1,000: all of them are accepted or, if one is wrong, none.

    An event of an alert that was accepted before is a duplicate and changes nothing, so that a call may be repeated
    until it is answered. The answer comes after the commit, also while the broker is down. Role: ingest.
    """
    return await hand_in(request, caller, given, partial(_read, given))


def _read(given: Body) -> list[AlertEvent]:
    document = given.json()
    alerts = document if isinstance(document, list) else [document]
    refuse_crowded(alerts)
    return parse_alerts(alerts)


@router.get(
    "/v1/alerts",
    summary="List alerts",
    responses=answer(200, "A page, newest first.", "AlertPage") | KEYED,
)
def list_alerts(
    caller: Reader,
    alert_id: QueryWord = None,
    event_type: EventType | None = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Json:
    """Events of alerts with their jobs, newest first. A page also ends after 4 MiB of alerts. Role: read."""
    with connection():
        return Json(
            pages.alerts(
                caller.tenant_id, alert_id=alert_id, event_type=event_type, limit=limit, cursor=cursor
            )
        )


@router.get(
    "/v1/alerts/{alert_id:rest}",
    summary="One alert with its jobs",
    responses=answer(200, "Its events and jobs.", "AlertHistory") | KEYED | problems(404),
)
def get_alert(caller: Reader, alert_id: AlertId) -> Json:
    """An alert as its newest event has it, all of its events, and the jobs that they caused. Role: read."""
    with connection():
        return Json(pages.alert_history(caller.tenant_id, alert_id))


@router.post(
    "/v1/explain",
    summary="Explain an alert",
    responses=answer(200, "Rules with reasons, targets with verdicts.", "Explanation") | WITH_BODY,
    openapi_extra=body("AlertEvent", {"one": examples.ALERT}),
)
def explain(
    request: Request,
    caller: Reader,
    given: JsonBody,
    at: Annotated[Moment | None, Query(description="Answer for this moment; by default now.")] = None,
    user_id: QueryWord = None,
) -> Json:
    """Which rules match an alert and why the others don't; who would be reached and why others wouldn't.

    Nothing is sent or stored. Of more than a thousand targets the first are listed; with `user_id` push channels have
    those of this user alone. Role: read.
    """
    moment: datetime = at or utcnow()
    alert = given.object()
    refuse_crowded([alert])
    return Json(
        explain_alert(
            alert,
            tenant_id=caller.tenant_id,
            settings=request.app.state.settings,
            at=moment,
            user_id=user_id,
        )
    )
