"""Who looks at a page: a session, which is an API key that was shown once and is a cookie from then on.

The cookie is encrypted and authenticated by the vault (TOCSIN_SECRET_KEYS), so that every process of an installation
reads it and nobody else does. It names the key's row and a part of its hash, never the key, and the row is looked up at
each request: a key that is revoked ends its sessions with it.

CSRF: the cookie is SameSite=Strict; every form carries a token that only the cookie's content has; and a browser that
says that a form came from another site (Sec-Fetch-Site, https://w3c.github.io/webappsec-fetch-metadata/) is refused.
"""

from __future__ import annotations

import hmac
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import parse_qsl

import orjson
from fastapi import Depends, Request

from admin.keys import verify_key
from api.auth import LONGEST, Caller
from api.body import Body, TypedBody
from api.problems import ProblemError, too_often
from config import SettingsError
from model.database import connection
from model.tables import ApiKey
from model.vault import vault

if TYPE_CHECKING:
    from starlette.responses import Response

    from admin.keys import ValidKey

COOKIE = "tocsin_session"
#: The token of the sign-in form, for which there is no session yet.
FORM_COOKIE = "tocsin_sign_in"

#: Seconds after its last use from which a session is over, and after which a cookie is written anew.
LIFETIME = 12 * 3600
RENEWED = 3600

#: Fields of a form; ours have about thirty, and a user with many cameras some hundreds.
FIELDS = 5000

_PURPOSE = "console session"
#: Characters of a key's hash in the cookie: it tells keys apart if an id is ever given twice.
_MARK = 16

FORM = "application/x-www-form-urlencoded"
JSON = "application/json"


class SignInNeeded(Exception):  # noqa: N818  # no error but an answer: the sign-in page
    """There is no session, or it is over."""


@dataclass(frozen=True, slots=True)
class Session:
    """Somebody who signed in.

    Attributes:
        caller: whose key it is, and what it may do.
        csrf: what every form of this session must carry.
        key_name: what the operator called the key, or its first characters.
        at: Unix seconds at which the cookie was written.
    """

    caller: Caller
    csrf: str
    key_name: str
    at: float

    @property
    def tenant_id(self) -> str:
        """Whose console this is."""
        return self.caller.tenant_id

    @property
    def is_admin(self) -> bool:
        """Whether it may change, test and replay."""
        return self.caller.may("admin")


def sign_in(request: Request, key: str) -> str:
    """The cookie for a key, or why it opens nothing. Runs in a thread: it asks the database.

    Raises:
        ProblemError: 401 for an unknown key, 403 for one of role ingest, 429 for too many wrong ones.
    """
    row = None
    if len(key) <= LONGEST:
        with connection():
            row = verify_key(key)
    if row is None:
        address = request.client.host if request.client else ""
        if wait := request.app.state.failures.take(address):
            raise too_often(wait, "too many wrong keys from this address; wait a moment")
        raise ProblemError(401, "there is no such key, or it was revoked")
    if not Caller(row.tenant_id, row.role, row.id).may("read"):
        raise ProblemError(
            403, f"this key has role {row.role}, which hands in alerts; the console needs read"
        )
    return cookie_of(row, secrets.token_urlsafe(24), time.time())


def cookie_of(row: ApiKey | ValidKey, csrf: str, now: float) -> str:
    """The value of the session's cookie."""
    content = {"purpose": _PURPOSE, "key": row.id, "mark": row.key_hash[:_MARK], "csrf": csrf, "at": now}
    return vault.encrypt(orjson.dumps(content))


def session_of(cookie: str | None, now: float) -> Session | None:
    """The session that a cookie says, if it is one of ours, not too old, and its key is still valid."""
    content = _content(cookie or "")
    if content is None or not 0 <= now - content["at"] + 60 <= LIFETIME + 60:  # clocks of two machines differ
        return None
    with connection():
        row = ApiKey.get_or_none((ApiKey.id == content["key"]) & ApiKey.revoked_at.is_null())
    if row is None or not hmac.compare_digest(row.key_hash[:_MARK], content["mark"]):
        return None
    caller = Caller(row.tenant_id, row.role, row.id)
    if not caller.may("read"):
        return None
    return Session(caller, content["csrf"], row.name or f"{row.prefix}…", content["at"])


def _content(cookie: str) -> dict[str, Any] | None:
    if not cookie or len(cookie) > 2000 or not cookie.isascii():  # noqa: PLR2004  # ours has about 300
        return None
    try:
        content = orjson.loads(vault.decrypt(cookie))
    except (SettingsError, orjson.JSONDecodeError):
        return None
    shape = {"purpose": str, "key": int, "mark": str, "csrf": str, "at": float}
    if not isinstance(content, dict) or content.keys() != shape.keys():
        return None
    if not all(type(content[name]) is kind for name, kind in shape.items()) or content["purpose"] != _PURPOSE:
        return None
    return content


def renew(request: Request, response: Response) -> None:
    """Write the cookie anew where it is an hour old, with the same CSRF token: forms in other tabs stay valid.

    Not where the answer writes it already: whoever signs out has it deleted, and the last Set-Cookie would win.
    """
    session: Session | None = getattr(request.state, "session", None)
    is_written = any(each.startswith(f"{COOKIE}=") for each in response.headers.getlist("set-cookie"))
    if session is not None and not is_written and time.time() - session.at > RENEWED:
        with connection():
            row = ApiKey.get_or_none(ApiKey.id == session.caller.key_id)
        if row is not None:
            set_cookie(request, response, COOKIE, cookie_of(row, session.csrf, time.time()))


def set_cookie(request: Request, response: Response, name: str, value: str) -> None:
    """Set a cookie that no script and no other site sees, and over TLS no plain connection."""
    response.set_cookie(
        name,
        value,
        max_age=LIFETIME,
        path="/",
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )


def signed_in(request: Request) -> Session:
    """The dependency of a page. Runs in a thread.

    Raises:
        SignInNeeded: there is no session.
        ProblemError: 429.
    """
    session = session_of(request.cookies.get(COOKIE), time.time())
    if session is None:
        raise SignInNeeded
    request.state.session = session
    request.state.caller = session.caller
    if wait := request.app.state.buckets.take(session.caller.key_id):
        raise too_often(wait, "too many requests with this key; wait a moment")
    return session


Viewer = Annotated[Session, Depends(signed_in)]


def administers(session: Viewer) -> Session:
    """The dependency of a page that only a key of role admin may open.

    Raises:
        ProblemError: 403.
    """
    if not session.is_admin:
        raise ProblemError(
            403, f"this needs a key of role admin; you signed in with one of role {session.caller.role}"
        )
    return session


def refuse_other_sites(request: Request) -> None:
    """Refuse a POST that a browser says came from another site.

    Raises:
        ProblemError: 403.
    """
    if request.headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
        raise ProblemError(403, "this form was sent from another site")


def same_token(given: str, expected: str) -> bool:
    """Compare in constant time; an empty token is never right."""
    return bool(expected) and hmac.compare_digest(given.encode(), expected.encode())


def form_of(body: Body) -> list[tuple[str, str]]:
    """A form's fields in their order.

    Raises:
        ProblemError: 400, it is none.
    """
    try:
        return parse_qsl(
            body.content.decode(), keep_blank_values=True, max_num_fields=FIELDS, errors="strict"
        )
    except (UnicodeDecodeError, ValueError):
        raise ProblemError(400, "the form cannot be read") from None


class Form:
    """A form that was sent, with its token checked.

    Attributes:
        fields: names and values in their order.
    """

    def __init__(self, fields: list[tuple[str, str]]) -> None:
        self.fields = fields

    def get(self, name: str) -> str:
        """The first value of a field, without space at its ends, or ""."""
        return next((value.strip() for field, value in self.fields if field == name), "")

    def all(self, name: str) -> list[str]:
        """Every value of a field."""
        return [value for field, value in self.fields if field == name]


FormBody = Annotated[Body, Depends(TypedBody(FORM))]


def posted(request: Request, session: Viewer, body: FormBody) -> Form:
    """The dependency of what a form is sent to.

    Raises:
        SignInNeeded, ProblemError: as above; 403 where the token is not this session's.
    """
    refuse_other_sites(request)
    form = Form(form_of(body))
    if not same_token(form.get("csrf"), session.csrf):
        raise ProblemError(
            403,
            "this form is not of the session that you are signed in with now, and nothing was done; open its page again"
            " and send it from there",
        )
    return form


def posted_json(
    request: Request, session: Viewer, body: Annotated[Body, Depends(TypedBody(JSON))]
) -> dict[str, Any]:
    """The same for a script's request, whose token is in a header."""
    refuse_other_sites(request)
    if not same_token(request.headers.get("x-csrf-token", ""), session.csrf):
        raise ProblemError(403, "this request is not from your session; reload the page and try again")
    return body.object()


Admin = Annotated[Session, Depends(administers)]
Posted = Annotated[Form, Depends(posted)]
PostedJson = Annotated[dict[str, Any], Depends(posted_json)]
