"""Dead deliveries: what failed or came too late, and sending it again."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response  # noqa: TC002  # FastAPI reads it at run time

from admin.replay import Filter, Replayed, replaying
from api.console import lists
from api.console.page import Page, render, see
from api.console.routes.alerts import number
from api.console.session import Admin, Posted, Viewer  # noqa: TC001  # FastAPI reads it at run time
from api.cursors import Cursor  # noqa: TC001  # as above
from api.parameters import QueryLongId  # noqa: TC001  # as above
from api.work import publishing_in_turns
from model.database import connection, utcnow
from model.states import Reason

if TYPE_CHECKING:
    from collections.abc import Iterator

router = APIRouter(route_class=Page, include_in_schema=False)

#: Choices of how far back to look, in hours.
ANY = "any"
HOURS = {
    "1": "in the last hour",
    "24": "in the last day",
    "168": "in the last week",
    "720": "in the last 30 days",
} | {ANY: "at any time"}

#: Reasons for which a delivery is FAILED or EXPIRED.
REASONS = (
    Reason.EXHAUSTED, Reason.MISCONFIGURED, Reason.PROVIDER_NOT_CONFIGURED, Reason.REJECTED, Reason.TARGET_GONE,
    Reason.CHANNEL_DELETED, Reason.DEVICE_DELETED, Reason.INTERNAL, Reason.TOO_LATE,
)  # fmt: skip

Word = Annotated[str, Query(max_length=64)]


def _chosen(channel: str, reason: str, hours: str) -> dict[str, Any]:
    return {
        "channel": number(channel),
        "reason": reason if reason in REASONS else "",
        "hours": hours if hours in HOURS else "24",
    }


def _hours(chosen: dict[str, Any]) -> int | None:
    return None if chosen["hours"] == ANY else int(chosen["hours"])


@router.get("/dead")
def dead(
    request: Request,
    session: Viewer,
    *,
    channel: Word = "",
    reason: Word = "",
    hours: Word = "24",
    cursor: Cursor = None,
    replayed: QueryLongId = None,
    skipped: QueryLongId = None,
    more: bool = False,
) -> Response:
    """Dead deliveries, newest first."""
    chosen = _chosen(channel, reason, hours)
    with connection():
        rows = lists.dead(
            session.tenant_id, channel=chosen["channel"], reason=chosen["reason"], hours=_hours(chosen),
            cursor=cursor,
        )  # fmt: skip
        channels = lists.channel_choices(session.tenant_id)
    return render(
        request, "dead.html", rows=rows, chosen=chosen, channels=channels, reasons=REASONS, hours=HOURS,
        replayed=replayed, skipped=skipped, more=more, is_first=cursor is None,
        is_filtered=bool(chosen["channel"] or chosen["reason"] or _hours(chosen)),
    )  # fmt: skip


@router.post("/dead/replay")
async def replay_dead(request: Request, session: Admin, form: Posted) -> Response:
    """Send again what the filters choose."""
    chosen = _chosen(form.get("channel"), form.get("reason"), form.get("hours"))

    def steps() -> Iterator[Replayed]:
        hours = _hours(chosen)
        wanted = Filter(
            channel=chosen["channel"],
            reason=chosen["reason"] or None,
            since=None if hours is None else utcnow() - timedelta(hours=hours),
        )
        yield from replaying(session.tenant_id, wanted, settings=request.app.state.settings)

    done = await publishing_in_turns(request, steps())
    # Zero is no id, and the query takes ids: what was not there is not told.
    return see(
        "/dead", channel=chosen["channel"], reason=chosen["reason"], hours=chosen["hours"],
        replayed=done.deliveries or None, skipped=sum(done.skipped.values()) or None, more=done.more or None,
    )  # fmt: skip
