"""Alerts that requests hand in: committed together where they come together (api.gather)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from actors.accepting import HandedIn
from api.responses import Json
from api.work import turn

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request

    from api.auth import Caller
    from api.body import Body
    from model.alert import AlertEvent


async def hand_in(
    request: Request, caller: Caller, given: Body, read: Callable[[], list[AlertEvent]]
) -> Json:
    """The answer to a request that brings alerts, once they are committed.

    Raises:
        Exception: what `read` raises; and peewee.OperationalError: the database is away. Of more than a thousand alerts
            some may have been accepted (PartlyAcceptedError): if the caller repeats the request, these are duplicates.
    """
    async with turn():
        brought = HandedIn(caller.tenant_id, read)
        done = await request.app.state.intake(brought, len(given.content), caller.tenant_id)
    return Json({"accepted": done.accepted, "duplicates": done.duplicates}, status_code=202)
