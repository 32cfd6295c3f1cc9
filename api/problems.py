"""Errors as RFC 9457 problem documents, one shape for all of them.

`type` is about:blank throughout (section 4.2.1): the status says what kind of problem it is, `detail` what to do, and
`errors` which field breaks which rule. Nothing of an error of ours is shown but the request's id, under which the log
has it whole.
"""

from __future__ import annotations

import math
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import orjson
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match

from actors.accepting import PartlyAcceptedError
from config.logging import get_logger
from model.database import DATABASE_AWAY
from model.problems import InvalidInput, Problem, path, rule_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from fastapi import FastAPI
    from starlette.requests import Request
    from starlette.types import Scope

MEDIA_TYPE = "application/problem+json"

#: Problems that one answer lists, and characters of a field's path: both may be the caller's own making.
LISTED = 1000
FIELD = 200
#: Methods that routes of ours may have.
METHODS = ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")
#: Seconds after which a caller may try again when the database is away.
RETRY_AFTER = 5

log = get_logger(__name__)


class ProblemError(Exception):
    """Ends a request with a problem document.

    Attributes:
        extra: further members of the document.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(status, detail)
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})
        self.extra = dict(extra or {})


def problem(
    scope: Scope,
    status: int,
    detail: str,
    *,
    headers: Mapping[str, str] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Response:
    """A problem document as an answer."""
    document = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "request_id": scope.get("state", {}).get("request_id"),
        **(extra or {}),
    }
    return Response(orjson.dumps(document), status, headers=dict(headers or {}), media_type=MEDIA_TYPE)


def too_often(seconds: float, detail: str) -> ProblemError:
    """429, with the whole seconds after which it makes sense to try again."""
    return ProblemError(429, detail, headers={"Retry-After": str(max(1, math.ceil(seconds)))})


def shown(problems: Sequence[Problem]) -> list[dict[str, str]]:
    """Problems as `errors` lists them: all or, of very many, at least the first of each bad item."""
    chosen: Iterable[Problem] = problems
    if len(problems) > LISTED:
        first: dict[str, Problem] = {}
        for each in problems:
            first.setdefault(each.field.partition("]")[0] if each.field.startswith("[") else each.field, each)
        chosen = list(first.values())[:LISTED]
    return [{"field": _clip(each.field), "rule": each.rule} for each in chosen]


def _clip(text: str) -> str:
    return text if len(text) <= FIELD else text[: FIELD - 1] + "…"


def add_handlers(app: FastAPI) -> None:
    """Translate what the layers below raise. What is missing here is an error of ours: see api.middleware."""
    app.add_exception_handler(ProblemError, _own)
    app.add_exception_handler(InvalidInput, _invalid)
    app.add_exception_handler(RequestValidationError, _parameters)
    app.add_exception_handler(LookupError, _missing)
    app.add_exception_handler(HTTPException, stray)
    for kind in DATABASE_AWAY:
        app.add_exception_handler(kind, _away)
    app.add_exception_handler(PartlyAcceptedError, _partly)


def _own(request: Request, error: Exception) -> Response:
    if not isinstance(error, ProblemError):
        raise error
    return problem(request.scope, error.status, error.detail, headers=error.headers, extra=error.extra)


def _invalid(request: Request, error: Exception) -> Response:
    if not isinstance(error, InvalidInput):
        raise error
    number = len(error.problems)
    detail = f"{number} problem{'s' * (number != 1)} with the input; nothing was stored"
    return problem(request.scope, 422, detail, extra={"errors": shown(error.problems)})


def _parameters(request: Request, error: Exception) -> Response:
    """FastAPI's own, about the parameters of path and query. The offending value is not quoted."""
    if not isinstance(error, RequestValidationError):
        raise error
    # loc begins with where it stands: path, query.
    problems = [Problem(path(each["loc"][1:]), rule_of(each)) for each in error.errors()]
    detail = "a parameter of the path or the query is not what it must be"
    return problem(request.scope, 422, detail, extra={"errors": shown(problems)})


def _missing(request: Request, error: Exception) -> Response:
    if type(error) is not LookupError:
        raise error  # a KeyError or IndexError is no answer of ours but a bug
    return problem(request.scope, 404, str(error))


def stray(request: Request, error: Exception) -> Response:
    """What no route serves: an unknown path, or one without this method."""
    if not isinstance(error, HTTPException):
        raise error
    details = {
        404: "there is nothing at this path; /docs lists what there is",
        405: "this path has no such method; the Allow header lists those that it has",
    }
    headers = dict(error.headers or {})
    if "Allow" in headers:
        headers["Allow"] = ", ".join(methods_of(request, request.scope["path"]))
    return problem(
        request.scope, error.status_code, details.get(error.status_code, error.detail), headers=headers
    )


def methods_of(request: Request, path: str) -> list[str]:
    """The methods that a path has. Starlette names those of the first route alone, and each of ours has one."""
    scope = {"type": "http", "path": path, "root_path": request.scope.get("root_path", "")}
    return [
        method
        for method in METHODS
        if any(
            route.matches(scope | {"method": method})[0] is Match.FULL for route in request.app.router.routes
        )
    ]


def _away(request: Request, error: Exception) -> Response:
    log.warning("database_away", why=str(error).strip() or type(error).__name__)
    detail = "the database is away; nothing was stored, and the request may be repeated as it is"
    return problem(request.scope, 503, detail, headers={"Retry-After": str(RETRY_AFTER)})


def _partly(request: Request, error: Exception) -> Response:
    """More than a thousand alerts, of which each thousand is committed by itself."""
    if not isinstance(error, PartlyAcceptedError):
        raise error
    log.warning("database_away", why=str(error))
    done = error.done
    detail = (
        f"the database is away; the first {done.accepted + done.duplicates:,} alerts are stored and the others are "
        "not; the request may be repeated as it is, and those are duplicates then"
    )
    extra = {"accepted": done.accepted, "duplicates": done.duplicates}
    return problem(request.scope, 503, detail, headers={"Retry-After": str(RETRY_AFTER)}, extra=extra)
