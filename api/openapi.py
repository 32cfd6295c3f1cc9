"""The OpenAPI document: FastAPI's, with the shapes of bodies and answers, of which FastAPI knows nothing.

Bodies are checked by `admin` and `model`, whose words name every wrong field; so routes take bytes, and say here what
those should be.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from api.describe import ref
from api.schemas import MODELS, PAGES
from senders.registry import ALIASES, CHANNEL_TYPES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastapi import FastAPI
    from pydantic import BaseModel

DESCRIPTION = """
Alerts in, every channel and device of everybody concerned out, and a record of what happened.

**Keys.** `Authorization: Bearer KEY`. A key fixes the tenant; another tenant's ids answer 404. Its role is ingest,
read or admin, each of which may what the one before it may; each call names the role that it needs. `tocsin key
create` makes a key, `tocsin key revoke` ends it at once.

**Errors** are problem documents (RFC 9457): `detail` says what to do, `errors` names each wrong field. Every answer has
an `X-Request-Id`, the caller's own if it sent one; the log has it too.

**Lists** page by cursor: give `next` of a page as `cursor` of the following one, until it is null. Rows that are added
meanwhile neither hide nor repeat others.

**Limits.** A body's size, and requests a second for each key: 413, and 429 with Retry-After.

**JSON** is read strictly: UTF-8, no name twice in an object, no NaN, integers of at most 64 bits.
""".strip()

TAGS = [
    {"name": "alerts", "description": "Handing in alerts, and what became of them."},
    {"name": "ingest", "description": "Other systems' alerts, in their own formats."},
    {"name": "channels", "description": "Where notifications go."},
    {"name": "rules", "description": "Which channel hears of which alert."},
    {"name": "users", "description": "Devices, preferences, and notifications without a rule."},
    {"name": "jobs", "description": "Jobs, attempts, and sending again what failed."},
    {"name": "operation", "description": "Probes and metrics; these need no key."},
]


def document(app: FastAPI) -> dict[str, Any]:
    """The document, made once."""
    if app.openapi_schema is None:
        made = get_openapi(
            title=app.title, version=app.version, description=DESCRIPTION, tags=TAGS, routes=app.routes
        )
        made.setdefault("components", {}).setdefault("schemas", {}).update(_components())
        app.openapi_schema = made
    return app.openapi_schema


def _components() -> dict[str, Any]:
    models: Sequence[type[BaseModel]] = [*MODELS, *dict.fromkeys(CHANNEL_TYPES.values())]
    references, found = models_json_schema(
        [(model, "validation") for model in models], ref_template="#/components/schemas/{model}"
    )
    schemas: dict[str, Any] = found["$defs"]
    schemas |= {
        name: {
            "type": "object",
            "description": "A page of a list.",
            "required": ["items", "next"],
            "additionalProperties": False,
            "properties": {
                "items": {"type": "array", "items": ref(item.__name__)},
                "next": {
                    "type": ["string", "null"],
                    "description": "The cursor of the next page; null: this is the last.",
                },
            },
        }
        for name, item in PAGES.items()
    }
    schemas["ChannelInput"] = {
        "description": "A channel of one of the types.",
        "oneOf": [_channel(kind, references[config, "validation"]) for kind, config in CHANNEL_TYPES.items()],
    }
    return schemas


def _channel(kind: str, config: dict[str, Any]) -> dict[str, Any]:
    names = [kind, *(alias for alias, meant in ALIASES.items() if meant == kind)]
    return {
        "title": kind,
        "type": "object",
        "required": ["name", "channel_type", "config"],
        "additionalProperties": False,
        "properties": {
            "name": {"type": "string", "minLength": 1, "maxLength": 255},
            "channel_type": {"enum": names},
            "config": config,
            "is_enabled": {"type": "boolean", "default": True},
        },
    }
