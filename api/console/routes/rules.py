"""Rules in the order in which they are asked, and what they would do with an alert."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Request
from starlette.responses import Response  # noqa: TC002  # FastAPI reads it at run time

from admin.explain import explain
from admin.rules import list_rules
from api import examples
from api.body import strict_json
from api.console.page import Page, render
from api.console.session import Posted, Viewer  # noqa: TC001  # FastAPI reads it at run time
from api.console.zones import zone_names
from api.problems import ProblemError
from api.routes.alerts import refuse_crowded
from model.database import utcnow
from model.moments import within_bounds
from model.problems import InvalidInput, Problem

router = APIRouter(route_class=Page, include_in_schema=False)


@router.get("/rules")
def rules(request: Request, session: Viewer) -> Response:
    """The rules, and the box."""
    return _page(request, session.tenant_id, {"alert": "", "at": "", "zone": ""})


def _page(request: Request, tenant_id: str, given: dict[str, str], **found: Any) -> Response:
    problems = found.get("problems", ())
    return render(
        request, "rules.html", status=422 if problems else 200, rules=list_rules(tenant_id), given=given,
        example=examples.ALERT, answer=found.get("answer"), problems=problems, moment=found.get("moment"),
    )  # fmt: skip


@router.post("/rules")
def explain_alert(request: Request, session: Viewer, form: Posted) -> Response:
    """What would become of an alert. Nothing is sent or stored."""
    given = {name: form.get(name) for name in ("alert", "at", "zone")}
    try:
        moment = _moment(given["at"], given["zone"])
        answer = explain(
            _alert(given["alert"]),
            tenant_id=session.tenant_id,
            settings=request.app.state.settings,
            at=moment,
        )
    except InvalidInput as error:
        return _page(request, session.tenant_id, given, problems=error.problems)
    except ProblemError as error:
        return _page(request, session.tenant_id, given, problems=[error.detail])
    return _page(request, session.tenant_id, given, answer=answer, moment=moment)


def _alert(text: str) -> dict[str, Any]:
    """One alert.

    Raises:
        InvalidInput, ProblemError: it is none.
    """
    alert = strict_json(text.encode())
    if not isinstance(alert, dict):
        raise InvalidInput([Problem("", "an alert is one JSON object")])
    refuse_crowded([alert])
    return alert


def _moment(at: str, zone: str) -> datetime:
    """A wall-clock time in a zone; now if there is none.

    Raises:
        InvalidInput: it is neither.
    """
    if not at:
        return utcnow()
    if zone and zone not in zone_names():
        raise InvalidInput([Problem("zone", "must be an IANA time zone such as Europe/Berlin")])
    try:
        wall = datetime.fromisoformat(at)
    except ValueError:
        raise InvalidInput([Problem("at", "must be a date and time, such as 2026-03-29T22:30")]) from None
    try:
        return within_bounds(
            wall.replace(tzinfo=ZoneInfo(zone) if zone else UTC) if wall.tzinfo is None else wall
        )
    except ValueError as error:
        raise InvalidInput([Problem("at", str(error))]) from None
