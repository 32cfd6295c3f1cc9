"""Short ways to say in a route what OpenAPI should say of it. Shapes are components, which api.openapi adds."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from api.problems import MEDIA_TYPE

if TYPE_CHECKING:
    from collections.abc import Iterable

Responses = dict[int | str, dict[str, Any]]

_RETRY_AFTER = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}


def ref(name: str) -> dict[str, str]:
    """A component's schema."""
    return {"$ref": f"#/components/schemas/{name}"}


def answer(status: int, text: str, schema: str | dict[str, Any], example: Any = None) -> Responses:
    """A successful answer in JSON."""
    shape: dict[str, Any] = {"schema": ref(schema) if isinstance(schema, str) else schema}
    if example is not None:
        shape["example"] = example
    return {status: {"description": text, "content": {"application/json": shape}}}


def nothing(text: str) -> Responses:
    """204."""
    return {204: {"description": text}}


def problems(*statuses: int) -> Responses:
    """Answers that are problem documents."""
    found: Responses = {}
    for status in statuses:
        found[status] = {
            "description": HTTPStatus(status).phrase,
            "content": {MEDIA_TYPE: {"schema": ref("Problem")}},
        }
        if status in {429, 503}:
            found[status]["headers"] = _RETRY_AFTER
    return found


#: What any call with a key may be answered, and what any call with a body besides.
KEYED = problems(401, 403, 422, 429, 500, 503)
WITH_BODY = KEYED | problems(400, 408, 413, 415)


def body(
    schema: str | dict[str, Any], examples: dict[str, Any], media_types: Iterable[str] = ("application/json",)
) -> dict[str, Any]:
    """A route's `openapi_extra`: what its body is, with examples by title."""
    shape = {
        "schema": ref(schema) if isinstance(schema, str) else schema,
        "examples": {title: {"value": value} for title, value in examples.items()},
    }
    return {"requestBody": {"required": True, "content": dict.fromkeys(media_types, shape)}}
