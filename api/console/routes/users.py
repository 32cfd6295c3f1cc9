"""Users: devices, and what they want to hear and when."""

from __future__ import annotations

import itertools
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Query, Request
from starlette.responses import Response  # noqa: TC002  # FastAPI reads it at run time

from actors import dispatch_to_user
from admin.users import (
    UnreadablePreferencesError,
    check_preferences,
    delete_device,
    get_preferences,
    list_devices,
    put_preferences,
)
from api.console import cameras, lists, quiet
from api.console.page import Page, render, see
from api.console.routes.alerts import Text, sought, storable
from api.console.session import Admin, Form, Posted, Viewer  # noqa: TC001  # FastAPI reads it at run time
from api.console.zones import zone_names
from api.parameters import LongId  # noqa: TC001  # as above
from api.work import publishing
from model.database import connection, utcnow
from model.preferences import DAYS, Preference
from model.problems import InvalidInput
from model.tables import Device, PreferenceRow

router = APIRouter(route_class=Page, include_in_schema=False)

UserId = Annotated[str, Query(alias="id", min_length=1, max_length=255)]

#: Empty lines at the end of the form's cameras.
SPARE = 2


@router.get("/users")
def users(request: Request, session: Viewer, q: Text = "", after: Text = "") -> Response:
    """Users by their id."""
    with connection():
        found, following = lists.users(session.tenant_id, text=sought(q), after=storable(after))
    return render(request, "users.html", users=found, next=following, q=sought(q), after=after)


@router.get("/user")
def user(request: Request, session: Viewer, user_id: UserId, saved: str = "") -> Response:
    """One user."""
    user_id = storable(user_id)
    _require(session.tenant_id, user_id)
    return _page(request, session.tenant_id, user_id, saved=saved == "1")


def _require(tenant_id: str, user_id: str) -> None:
    """Refuse a user of whom nothing is known.

    Raises:
        LookupError: this tenant has none; another tenant's gets the same words.
    """
    with connection():
        is_known = any(
            table.select().where((table.tenant == tenant_id) & (table.user_id == user_id)).exists()
            for table in (Device, PreferenceRow)
        )
    if not is_known:
        raise LookupError(f"there is no user {user_id!r} in tenant {tenant_id!r}")


def _page(
    request: Request,
    tenant_id: str,
    user_id: str,
    *,
    given: dict[str, Any] | None = None,
    problems: tuple[Any, ...] = (),
    saved: bool = False,
) -> Response:
    unreadable = None
    try:
        stored = get_preferences(tenant_id, user_id)
    except UnreadablePreferencesError as error:
        unreadable, stored = error, Preference().model_dump(mode="json")
    preference = Preference.model_validate(stored)
    shown = given or stored
    may = request.state.session.is_admin
    return render(
        request, "user.html", status=422 if problems else 200, user_id=user_id, saved=saved, problems=problems,
        unreadable=unreadable, devices=list_devices(tenant_id, user_id), preferences=shown, days=DAYS,
        week=quiet.week(preference), drawn=quiet.drawn(preference, at=utcnow()), names=quiet.NAMES,
        is_quiet=preference.is_quiet(utcnow()), zones=zone_names(), zone=preference.quiet_hours_timezone,
        lines=cameras.lines(shown["cameras"], spare=SPARE if may else 0),
    )  # fmt: skip


@router.post("/user/preferences")
def save(request: Request, session: Admin, form: Posted, user_id: UserId) -> Response:
    """Replace a user's preferences by those of the form."""
    user_id = storable(user_id)
    _require(session.tenant_id, user_id)
    given = preferences_of(form)
    try:
        check_preferences(given)
        put_preferences(session.tenant_id, user_id, given)
    except InvalidInput as error:
        return _page(request, session.tenant_id, user_id, given=given, problems=error.problems)
    return see("/user", id=user_id, saved="1")


def preferences_of(form: Form) -> dict[str, Any]:
    """A form's preferences, unchecked."""
    names = ("camera", "camera_wants", "camera_kinds", "camera_was")
    lines = itertools.starmap(cameras.Line, itertools.zip_longest(*map(form.all, names), fillvalue=""))
    return {
        "quiet_hours_enabled": form.get("quiet_hours_enabled") == "on",
        "quiet_hours_start": form.get("quiet_hours_start"),
        "quiet_hours_end": form.get("quiet_hours_end"),
        "quiet_hours_timezone": form.get("quiet_hours_timezone"),
        "quiet_hours_days": [day for day in DAYS if day in form.all("quiet_hours_days")],
        "quiet_hours_action": form.get("quiet_hours_action"),
        "critical_overrides_quiet_hours": form.get("critical_overrides_quiet_hours") == "on",
        "cameras": cameras.cameras_of(lines),
    }


@router.post("/user/devices/{device_id}/delete")
def delete(session: Admin, _form: Posted, device_id: LongId, user_id: UserId) -> Response:
    """Delete a device."""
    delete_device(session.tenant_id, storable(user_id), device_id)
    return see("/users" if not list_devices(session.tenant_id, storable(user_id)) else "/user", id=user_id)


@router.post("/user/notify")
async def notify(request: Request, session: Admin, form: Posted, user_id: UserId) -> Response:
    """Send a message to all of a user's devices, and show the job."""
    await to_thread.run_sync(_require, session.tenant_id, storable(user_id))
    alert = {"message": form.get("message") or "A message from Tocsin's console", "severity": 1}
    job_id = await publishing(
        request, dispatch_to_user, storable(user_id), alert, tenant_id=session.tenant_id
    )
    return see(f"/jobs/{job_id}")
