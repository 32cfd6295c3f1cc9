"""How a page is made: templates, the headers that go with it, and errors as pages."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import orjson
from anyio import to_thread
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, RedirectResponse, Response

from api.console import words
from api.console.session import SignInNeeded, renew
from api.problems import MEDIA_TYPE, RETRY_AFTER, ProblemError, methods_of, stray
from config.logging import get_logger
from model.database import DATABASE_AWAY
from model.problems import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from starlette.requests import Request

HERE = Path(__file__).parent
STATIC = HERE / "static"

#: Scripts, styles and images from here alone, nothing inline, nobody's frame.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "worker-src 'self'; manifest-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=()",
}

#: What stands where a value would.
NOTHING = "-"

#: Characters of a message that a list shows.
EXCERPT = 160

#: Addresses that are tried to find a form's page: its own, and those above it.
STEPS = 4

#: Characters that turn round what follows them (UAX #9, section 2; the property Bidi_Control).
_DIRECTIONS = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")

#: What is said of an address that no route serves.
_STRAY = {
    404: "there is nothing at this address",
    405: "this address cannot be opened like this",
}

#: The weight of a media range in an Accept header (RFC 9110, section 12.4.2).
_WEIGHT = re.compile(r";\s*q=([01](?:\.\d{0,3})?)\s*(?:;|$)")

log = get_logger(__name__)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "clock": clock,
        "day": lambda moment: clock(moment, "%Y-%m-%d"),
        "excerpt": excerpt,
        "bdi": bdi,
        "json": json_text,
        "digits": digits,
        "ms": milliseconds,
        "age": age,
        "state": words.state,
        "reason": words.reason,
        "outcome": words.outcome,
        "severity": words.severity,
        "query": lambda parameters: urlencode([(name, value) for name, value in parameters if value]),
    }
    environment.globals |= {"static": static, "states": words}
    return environment


@cache
def static(name: str) -> str:
    """The address of a file of ours, which changes with its content, so that browsers may keep it."""
    digest = hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:12]
    return f"/static/{name}?{digest}"


def clock(moment: datetime | str | None, form: str = "%Y-%m-%d %H:%M:%S UTC") -> Markup | str:
    """A moment as a <time>: in UTC, until the script has put it into the zone of whoever reads it."""
    if moment is None:
        return NOTHING
    if isinstance(moment, str):
        moment = datetime.fromisoformat(moment)
    utc = moment.astimezone(UTC)
    return Markup('<time datetime="{}">{}</time>').format(
        utc.isoformat(timespec="milliseconds").replace("+00:00", "Z"), f"{utc:{form}}"
    )


def milliseconds(value: float | None) -> str:
    """A latency in three digits: "4.2 ms", "812 ms", "3.1 s"."""
    if value is None:
        return NOTHING
    if value == 0:
        return "0 ms"
    if value >= 1000:  # noqa: PLR2004  # a second
        return age(value / 1000)
    return f"{value:.1f} ms" if value < 10 else f"{value:.0f} ms"  # noqa: PLR2004  # from two digits on


def age(seconds: float | None) -> str:
    """A time span in words: "3.1 s", "42 s", "5 min", "3 h"."""
    if seconds is None:
        return NOTHING
    if seconds < 0.05:  # noqa: PLR2004  # rounds to nothing
        return "0 s"
    for limit, size, unit in ((10, 1, "s"), (120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / size:.1f} {unit}" if limit == 10 else f"{seconds / size:.0f} {unit}"  # noqa: PLR2004  # short ones
    return f"{seconds / 86_400:.0f} days"


def digits(value: float) -> str:
    """A number in three digits, or whole where it has more: "0.033", "12.5", "1,234"."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"  # noqa: PLR2004  # from three digits on


def excerpt(text: object, limit: int = EXCERPT) -> str:
    """The beginning of a text, in one line."""
    line = " ".join(str(text or "").split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def bdi(text: object, limit: int = EXCERPT) -> Markup:
    """An excerpt of what others wrote: whatever its direction, what stands beside it keeps its own. "" for nothing."""
    line = excerpt(text, limit)
    return Markup("<bdi>{}</bdi>").format(line) if line else Markup()


def json_text(value: Any) -> str:
    """JSON in lines, in which characters that change the direction of writing are seen, as escapes."""
    text = orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
    return _DIRECTIONS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def render(request: Request, template: str, *, status: int = 200, **values: Any) -> Response:
    """A page. Runs in a thread, or is short."""
    session = getattr(request.state, "session", None)
    content = _environment().get_template(template).render(session=session, path=request.url.path, **values)
    return HTMLResponse(content, status)


def see(address: str, **parameters: Any) -> Response:
    """Go on to another page, by GET. A list is a parameter for each of its values."""
    given = {name: value for name, value in parameters.items() if value not in (None, "")}
    query = urlencode(given, doseq=True)
    return RedirectResponse(f"{address}?{query}" if query else address, 303)


class Page(APIRoute):
    """A route whose errors are pages, and whose answers carry the console's headers."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler, wrapped."""
        inner = super().get_route_handler()

        async def handle(request: Request) -> Response:
            try:
                response = await inner(request)
                await to_thread.run_sync(renew, request, response)
            except SignInNeeded:
                response = _to_sign_in(request)
            except (
                ProblemError,
                InvalidInput,
                LookupError,
                RequestValidationError,
                HTTPException,
                *DATABASE_AWAY,
            ) as error:
                response = _error(request, error)
            return _kept(response)

        return handle


def _kept(response: Response) -> Response:
    """A page with the headers that keep it safe."""
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    return response


def _to_sign_in(request: Request) -> Response:
    if request.headers.get("sec-fetch-site") == "cross-site" and request.method == "GET":
        # A link in a chat: the browser keeps a Strict cookie back for this one request, and sends it with the next.
        return render(request, "again.html", address=page_of(request))
    if not wants_html(request):
        return Response("sign in first", 401, media_type="text/plain")
    wanted = page_of(request)
    return see("/sign-in", next=None if wanted == "/" else wanted)


def page_of(request: Request) -> str:
    """Where one stood when one asked: a page's own address or, for a form, the nearest above its own that is a page.

    So what was sent to /user/preferences?id=7 belongs to /user?id=7. It is always an address of ours.
    """
    path = request.scope["path"]
    for _ in range(STEPS):
        if "GET" in methods_of(request, path):
            query = request.url.query
            return quote(path, safe="/") + (f"?{query}" if query else "")
        path = path.rpartition("/")[0]
    return "/"


def wants_html(request: Request) -> bool:
    """Whether a person looks, rather than a script of ours."""
    accept = request.headers.get("accept", "")
    return not accept.startswith(("application/json", "text/event-stream"))


def prefers_html(accept: str) -> bool:
    """Whether an Accept header names text/html above JSON, as browsers do where an address is entered."""
    weights = {}
    for part in accept.lower().split(","):
        name, *_ = part.split(";")
        found = _WEIGHT.search(part)
        weights[name.strip()] = float(found[1]) if found else 1.0
    return weights.get("text/html", 0.0) > max(
        weights.get(each, 0.0) for each in ("application/json", MEDIA_TYPE)
    )


def stray_page(request: Request, error: Exception) -> Response:
    """What no route serves, as a page for whoever came with a browser, but for the API's addresses."""
    path = request.scope["path"]
    if f"{path}/".startswith("/v1/") or not prefers_html(request.headers.get("accept", "")):
        return stray(request, error)
    page = _error_page(request, error)
    if "Allow" in page.headers:
        page.headers["Allow"] = ", ".join(methods_of(request, path))
    return _kept(page)


def _error(request: Request, error: Exception) -> Response:
    if wants_html(request):
        return _error_page(request, error)
    status, what, problems, headers = _explained(error)
    document = {"detail": what, "errors": [str(each) for each in problems]}
    return Response(orjson.dumps(document), status, headers=headers, media_type="application/json")


def _error_page(request: Request, error: Exception) -> Response:
    status, what, problems, headers = _explained(error)
    title = HTTPStatus(status).phrase
    is_form = request.method == "POST" or status == HTTPStatus.METHOD_NOT_ALLOWED
    page = render(
        request, "error.html", status=status, title=title, what=what, problems=problems, code=status,
        form=page_of(request) if is_form else "/",
    )  # fmt: skip
    page.headers.update(headers)
    return page


def _explained(error: Exception) -> tuple[int, str, tuple[Any, ...], Mapping[str, str]]:
    if isinstance(error, ProblemError):
        return error.status, error.detail, (), error.headers
    if isinstance(error, InvalidInput):
        return 422, "something is not what it must be; nothing was changed", error.problems, {}
    if isinstance(error, RequestValidationError):
        return 404, _STRAY[404], (), {}
    if isinstance(error, HTTPException):
        return error.status_code, _STRAY.get(error.status_code, error.detail), (), error.headers or {}
    if isinstance(error, DATABASE_AWAY):
        log.warning("database_away", why=str(error).strip() or type(error).__name__)
        return 503, "the database is away; try again in a moment", (), {"Retry-After": str(RETRY_AFTER)}
    if type(error) is LookupError:
        return 404, str(error), (), {}
    raise error  # a KeyError or IndexError is no answer of ours but a bug
