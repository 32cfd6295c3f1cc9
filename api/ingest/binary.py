"""CloudEvents in binary mode: the attributes are headers, and the body is the data. Knative sends so by default.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md section 3.1
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from model.problems import InvalidInput, Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

PREFIX = "ce-"

#: These are the body and its Content-Type, and no headers (section 3.1.3).
_NOT_HEADERS = frozenset({"data", "data_base64", "datacontenttype"})


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
