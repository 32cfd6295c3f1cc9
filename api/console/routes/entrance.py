"""Signing in and out."""

from __future__ import annotations

import secrets
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Query, Request
from starlette.responses import FileResponse, Response  # FastAPI reads it at run time

from api.console.page import STATIC, Page, render, see
from api.console.session import (
    COOKIE,
    FORM_COOKIE,
    Form,
    FormBody,
    Posted,
    form_of,
    refuse_other_sites,
    same_token,
    set_cookie,
    sign_in,
)
from api.problems import ProblemError

router = APIRouter(route_class=Page, include_in_schema=False)


def inside(address: str) -> str:
    """An address of ours to go on to, or the overview for any other: nobody is sent elsewhere from here."""
    is_ours = address.startswith("/") and not address.startswith(("//", "/\\"))
    return address if is_ours and address.isprintable() else "/"


@router.get("/sign-in")
def form(request: Request, wanted: Annotated[str, Query(alias="next", max_length=2000)] = "") -> Response:
    """The form."""
    return _form(request, inside(wanted))


def _form(request: Request, wanted: str, *, status: int = 200, problem: str = "") -> Response:
    token = request.cookies.get(FORM_COOKIE, "")
    fresh = not 20 <= len(token) <= 100  # noqa: PLR2004  # ours have 32 characters
    token = secrets.token_urlsafe(24) if fresh else token
    page = render(request, "sign_in.html", status=status, token=token, wanted=wanted, problem=problem)
    if fresh:
        set_cookie(request, page, FORM_COOKIE, token)
    return page


@router.post("/sign-in")
async def enter(request: Request, body: FormBody) -> Response:
    """Look at the key; a session, or the form with what is wrong."""
    refuse_other_sites(request)
    given = Form(form_of(body))
    wanted = inside(given.get("next"))
    if not same_token(given.get("csrf"), request.cookies.get(FORM_COOKIE, "")):
        return _form(request, wanted, status=403, problem="the form was too old; try again")
    try:
        cookie = await to_thread.run_sync(sign_in, request, given.get("key"))
    except ProblemError as error:
        page = _form(request, wanted, status=error.status, problem=error.detail)
        page.headers.update(error.headers)
        return page
    page = see(wanted)
    set_cookie(request, page, COOKIE, cookie)
    page.delete_cookie(FORM_COOKIE, path="/", httponly=True, samesite="strict")
    return page


@router.get("/favicon.ico")
def favicon() -> Response:
    """What browsers ask for where they are shown no page."""
    return FileResponse(STATIC / "icon.svg", headers={"Cache-Control": "public, max-age=86400"})


@router.post("/sign-out")
def leave(_form: Posted) -> Response:
    """Forget the session in this browser. What ends it everywhere is `tocsin key revoke`."""
    page = see("/sign-in")
    page.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
    return page
