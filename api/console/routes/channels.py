"""Channels: their health, and a test that shows what the provider says."""

from __future__ import annotations

from typing import Any

from anyio import to_thread
from fastapi import APIRouter, Request
from starlette.responses import Response  # noqa: TC002  # FastAPI reads it at run time

from admin.channels import channel_document, list_channels
from admin.lookup import find_channel
from api.console import lists
from api.console.page import Page, render
from api.console.session import Admin, Posted, Viewer  # noqa: TC001  # FastAPI reads it at run time
from api.parameters import ShortId  # noqa: TC001  # as above
from model.database import connection
from model.results import totals
from model.tables import RoutingRule

router = APIRouter(route_class=Page, include_in_schema=False)


@router.get("/channels")
def channels(request: Request, session: Viewer) -> Response:
    """All of them, by name."""
    return render(request, "channels.html", channels=list_channels(session.tenant_id))


@router.get("/channels/{channel_id}")
def channel(request: Request, session: Viewer, channel_id: ShortId) -> Response:
    """One channel."""
    return _page(request, session.tenant_id, channel_id)


def _page(request: Request, tenant_id: str, channel_id: int, test: dict[str, Any] | None = None) -> Response:
    with connection():
        found = channel_document(find_channel(tenant_id, channel_id))
        rules = list(
            RoutingRule.select()
            .where((RoutingRule.tenant == tenant_id) & (RoutingRule.channel == channel_id))
            .order_by(RoutingRule.priority, RoutingRule.id)
        )
        jobs = lists.channel_jobs(tenant_id, channel_id)
    return render(request, "channel.html", channel=found, rules=rules, jobs=jobs, totals=totals, test=test)


@router.post("/channels/{channel_id}/test")
async def post_test(request: Request, session: Admin, _form: Posted, channel_id: ShortId) -> Response:
    """Send a marked test at once, past the queue, and show what the provider said."""
    answer = await request.app.state.tests.run(request, session.tenant_id, channel_id)
    return await to_thread.run_sync(_page, request, session.tenant_id, channel_id, answer)
