"""This browser as a device: its subscription becomes a web device of a user, as any app's would (W3C Push API)."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from starlette.responses import FileResponse, Response

from admin.users import device_document, register_device
from api.console import keys, lists
from api.console.page import STATIC, Page, render
from api.console.session import Admin, PostedJson, Viewer  # noqa: TC001  # FastAPI reads it at run time
from api.responses import Json
from model.database import connection
from model.problems import InvalidInput, Problem
from model.states import Platform
from model.tables import Device

if TYPE_CHECKING:
    from collections.abc import Mapping

router = APIRouter(route_class=Page, include_in_schema=False)


@router.get("/device")
def device(request: Request, session: Viewer) -> Response:
    """The page."""
    with connection():
        offered = keys.offered(request.app.state.settings, session.tenant_id)
        known, _ = lists.users(session.tenant_id, text="", after="")
    return render(request, "device.html", offered=offered, users=known)


@router.get("/service-worker.js")
def service_worker() -> Response:
    """At the root, since a worker rules what lies below its own address. It is asked for anew at each registration."""
    return FileResponse(
        Path(STATIC, "service-worker.js"), media_type="text/javascript", headers={"Cache-Control": "no-cache"}
    )


def _known(tenant_id: str, given: Mapping[str, Any]) -> Device | None:
    """The device of an endpoint."""
    endpoint = given.get("endpoint")
    if not isinstance(endpoint, str) or not endpoint:
        raise InvalidInput([Problem("endpoint", "must be the subscription's endpoint")])
    digest = hashlib.sha256(endpoint.encode(errors="replace")).hexdigest()
    found: Device | None = (
        Device.select()
        .where(
            (Device.tenant == tenant_id) & (Device.platform == Platform.WEB) & (Device.address_hash == digest)
        )
        .first()
    )
    return found


@router.post("/device/known")
def known(session: Viewer, given: PostedJson) -> Response:
    """The device that this browser is, or null."""
    with connection():
        found = _known(session.tenant_id, given)
    return Json({"device": device_document(found) if found else None})


@router.post("/device/subscribe")
def subscribe(request: Request, session: Admin, given: PostedJson) -> Response:
    """Store the browser's subscription as a device of a user."""
    fields = {name: given[name] for name in ("subscription", "name") if name in given}
    registered = register_device(
        session.tenant_id,
        given.get("user_id", ""),
        {"platform": Platform.WEB, **fields},
        allowed_networks=request.app.state.settings.allowed_networks,
    )
    return Json({"device": device_document(registered)})


@router.post("/device/forget")
def forget(session: Admin, given: PostedJson) -> Response:
    """Delete the device that this browser was."""
    with connection():
        found = _known(session.tenant_id, given)
        if found is not None:
            found.delete_instance()
    return Json({"device": None})
