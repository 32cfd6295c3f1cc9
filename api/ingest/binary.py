"""CloudEvents in binary mode: the attributes are headers, and the body is the data. Knative sends so by default.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md section 3.1
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from fastapi import Request  # noqa: TC002  # FastAPI reads it at run time

from api.body import JSON, Body, TypedBody
from model.problems import InvalidInput, Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.datastructures import Headers

#: An event in structured mode, and a batch.
EVENT, BATCH = "application/cloudevents+json", "application/cloudevents-batch+json"

PREFIX = "ce-"

#: These are the body and its Content-Type, and no headers (section 3.1.3).
_NOT_HEADERS = frozenset({"data", "data_base64", "datacontenttype"})


class EventBody(TypedBody):
    """The dependency that reads an event. Data in binary mode may be of any type in JSON, or not there at all."""

    def __init__(self) -> None:
        super().__init__(EVENT, BATCH, JSON)

    def takes(self, media_type: str, headers: Headers) -> bool:
        """The types above and, in binary mode, those that end in +json (RFC 6839 section 3.1) or none."""
        if super().takes(media_type, headers):
            return True
        return is_binary(headers) and (not media_type or media_type.endswith("+json"))

    async def __call__(self, request: Request) -> Body:
        """Read it.

        Raises:
            ProblemError: 400, 408, 413, or 415, also for data that do not say what they are.
        """
        given = await super().__call__(request)
        if given.content and not given.media_type:
            raise self.refusal()
        return given


def is_binary(headers: Mapping[str, str]) -> bool:
    """Whether a call that is no structured one by its media type is one in binary mode."""
    return f"{PREFIX}specversion" in headers


def from_headers(headers: Mapping[str, str], data: Any) -> dict[str, Any]:
    """The event as structured mode would have it.

    Args:
        headers: all of the call's, as latin-1; their names are in lower case.
        data: the decoded body, None where there is none.

    Raises:
        InvalidInput: names each header that cannot be read.
    """
    event: dict[str, Any] = {}
    problems: list[Problem] = []
    for name, value in headers.items():
        attribute = name.removeprefix(PREFIX)
        if attribute == name or attribute in _NOT_HEADERS:
            continue
        if attribute in event:
            problems.append(Problem(name, "must not be given twice"))
        try:
            event[attribute] = _decoded(value)
        except UnicodeDecodeError:
            problems.append(Problem(name, "must be UTF-8 once it is percent-decoded"))
    if problems:
        raise InvalidInput(problems)
    if "content-type" in headers:
        event["datacontenttype"] = headers["content-type"]
    return event if data is None else event | {"data": data}


def _decoded(value: str) -> str:
    """A header's value: out of its quotes, if it has some, and then percent-decoded, once (section 3.1.3.2)."""
    if len(value) > 1 and value[0] == value[-1] == '"':
        value = re.sub(r"\\(.)", r"\1", value[1:-1])
    return unquote_to_bytes(value.encode("latin-1")).decode()
