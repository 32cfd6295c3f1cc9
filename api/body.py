"""A request's body: bounded in size and time, then JSON in its strictest reading.

orjson decides on syntax: no NaN, no Infinity, valid UTF-8, no lone surrogates. What it lets pass and receivers read
differently is refused in a second look: a name twice in one object (RFC 8259 section 4 leaves open which one counts),
and an integer beyond 64 bits, which orjson would turn into another number.
"""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import orjson
from fastapi import Depends, Request
from starlette.requests import ClientDisconnect

from api.problems import ProblemError
from api.work import take_turns
from model.alert import MAX_INTEGER
from model.problems import InvalidInput, Problem, no_name_twice

if TYPE_CHECKING:
    from starlette.datastructures import Headers

JSON = "application/json"

#: A parameter of a media type, its value quoted or not (RFC 9110 section 5.6.6).
_PARAMETER = re.compile(r""";\s*([^\s;="]+)=("(?:[^"\\]|\\.)*"|[^;]*)""")

#: Nesting of an object that is no alert (those have a limit of their own). The deepest that we know has four levels.
DEEPEST = 32


@dataclass(frozen=True, slots=True)
class Body:
    """A body as it came.

    Attributes:
        media_type: without parameters, in lower case.
    """

    content: bytes
    media_type: str

    def json(self) -> Any:
        """Decode it. Not on the event loop: it may be megabytes.

        Raises:
            ProblemError: 400, it is no JSON as we take it.
        """
        return strict_json(self.content)

    def object(self) -> dict[str, Any]:
        """Decode it where it must be an object.

        Raises:
            ProblemError: as above.
            InvalidInput: it is something else.
        """
        document = self.json()
        if not isinstance(document, dict):
            raise InvalidInput([Problem("", "must be an object")])
        if _is_deeper(document, DEEPEST):
            raise InvalidInput([Problem("", f"must not be nested more than {DEEPEST} deep")])
        return document


def strict_json(content: bytes) -> Any:
    """Decode JSON.

    Raises:
        ProblemError: 400, with line and column where orjson knows them.
    """
    try:
        document = orjson.loads(content)
        json.loads(content, object_pairs_hook=no_name_twice, parse_int=_bounded)
    except orjson.JSONDecodeError as error:  # which is a ValueError: its place is here
        raise ProblemError(400, f"the body is no JSON: {error}") from None
    except RecursionError:
        raise ProblemError(400, "the body is nested too deep") from None
    except ValueError as error:
        raise ProblemError(400, f"the body is JSON that readers take differently: {error}") from None
    return document


def _is_deeper(document: Any, limit: int) -> bool:
    level = [document]
    for _ in range(limit):
        containers = [each for each in level if isinstance(each, (dict, list))]
        level = [item for each in containers for item in (each.values() if isinstance(each, dict) else each)]
        if not level:
            return False
    return True


def _bounded(digits: str) -> None:
    if len(digits) > 18 and (len(digits) > 20 or abs(int(digits)) > MAX_INTEGER):  # noqa: PLR2004  # 19 digits and a sign
        raise ValueError("an integer does not fit into 64 bits")


async def read_bytes(request: Request) -> bytes:
    """The body, as long as it is not too large and not too slow.

    Raises:
        ProblemError: 400, 408 or 413.
    """
    limits = request.app.state.limits
    too_large = ProblemError(413, f"a body must not exceed {limits.body_bytes:,} bytes")
    length = request.headers.get("content-length", "0")
    # More digits than any limit has are not read as a number: int() of thousands of them raises.
    if len(length) > 15 or (length.isdigit() and int(length) > limits.body_bytes):  # noqa: PLR2004  # a petabyte
        raise too_large
    parts, size = [], 0
    try:
        async with asyncio.timeout(limits.body_seconds):
            async for part in request.stream():
                size += len(part)
                if size > limits.body_bytes:
                    raise too_large
                parts.append(part)
    except TimeoutError:
        raise ProblemError(408, f"the body did not come within {limits.body_seconds:g} s") from None
    except ClientDisconnect:
        raise ProblemError(400, "the connection ended within the body") from None
    return b"".join(parts)


def _charsets(content_type: str) -> set[str]:
    """The character sets that a Content-Type names. Other parameters are nothing to us."""
    return {
        value.strip().strip('"').lower()
        for name, value in _PARAMETER.findall(content_type)
        if name.lower() == "charset"
    }


class TypedBody:
    """The dependency that reads a body of certain media types.

    Args:
        media_types: those that are taken. Others are answered 415, with these in Accept.
    """

    def __init__(self, *media_types: str) -> None:
        self.media_types = media_types

    def takes(self, media_type: str, headers: Headers) -> bool:  # noqa: ARG002  # what others look at
        """Whether a body of this media type is taken, "" where none is said."""
        return media_type in self.media_types

    def refusal(self) -> ProblemError:
        """415."""
        accepts = ", ".join(self.media_types)
        return ProblemError(415, f"give Content-Type: {accepts} (in UTF-8)", headers={"Accept": accepts})

    async def __call__(self, request: Request) -> Body:
        """Read it.

        Raises:
            ProblemError: 400, 408, 413 or 415.
        """
        content_type = request.headers.get("content-type", "")
        media_type = content_type.partition(";")[0].strip().lower()
        if not self.takes(media_type, request.headers) or not _charsets(content_type) <= {"utf-8", "utf8"}:
            raise self.refusal()
        if request.headers.get("content-encoding", "identity").lower() != "identity":
            raise ProblemError(415, "no Content-Encoding is taken", headers={"Accept-Encoding": "identity"})
        content = await read_bytes(request)
        take_turns(request, len(content))
        return Body(content, media_type)


JsonBody = Annotated[Body, Depends(TypedBody(JSON))]
PatchBody = Annotated[Body, Depends(TypedBody(JSON, "application/merge-patch+json"))]
