"""FCM: what arrives is valid by Google's own description of the API, in which nothing unknown is let through."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from senders.base import Device
from senders.fcm import FcmSender
from senders.outcomes import Receipt
from senders.push import FcmCredentials, PushConfig
from tests.conformance.alerts import ALERTS, EVENTS
from tests.unit.senders.push_support import ANDROID_TOKEN, local_fcm, push, trust
from tests.unit.senders.support import client, loopback_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import ModuleType

_FORMATS = {
    "google-duration": r"^-?[0-9]+(\.[0-9]{1,9})?s$",
    "google-datetime": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z$",
    "int64": r"^-?[0-9]+$",
}


def snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


def strict(description: Mapping[str, Any]) -> dict[str, Any]:
    """A schema of a discovery document (JSON Schema, draft 3, with names as references) as a closed one of today."""
    if "$ref" in description:
        return {"$ref": f"#/$defs/{description['$ref']}"}
    schema: dict[str, Any] = {key: description[key] for key in ("type", "enum") if key in description}
    if schema.get("type") == "any":
        return {}
    if description.get("format") in _FORMATS and schema.get("type") == "string":
        schema["pattern"] = _FORMATS[description["format"]]
    if "items" in description:
        schema["items"] = strict(description["items"])
    if schema.get("type") == "object":
        # The mapping of Protocol Buffers to JSON: "parsers accept both the lowerCamelCase name [...] and the
        # original proto field name" (https://protobuf.dev/programming-guides/json/).
        named = description.get("properties", {}).items()
        schema["properties"] = {
            spelling: strict(value) for name, value in named for spelling in (name, snake_case(name))
        }
        extra = description.get("additionalProperties")
        schema["additionalProperties"] = strict(extra) if extra else False
    return schema


@pytest.fixture(scope="module")
def validator(library: Callable[[str, str], ModuleType]) -> jsonschema.Draft202012Validator:
    """Validates a SendMessageRequest."""
    cache = library("googleapiclient.discovery_cache", "google-api-python-client")
    document = json.loads(cache.get_static_doc("fcm", "v1"))
    definitions = {name: strict(schema) for name, schema in document["schemas"].items()}
    # Google's own libraries and examples write this one enum in lower case.
    definitions["AndroidConfig"]["properties"]["priority"]["enum"] += ["normal", "high"]
    return jsonschema.Draft202012Validator({"$ref": "#/$defs/SendMessageRequest", "$defs": definitions})


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("alert", ALERTS)
async def test_every_request_is_a_send_message_request(
    validator: jsonschema.Draft202012Validator, alert: str, event: str
) -> None:
    async with local_fcm() as fcm, client(ssl_context=trust()) as http:
        config = PushConfig(
            all_users=True, fcm=FcmCredentials.model_validate({"service_account": fcm.document()})
        )
        sender = FcmSender(loopback_settings(fcm_url=fcm.url), http)
        for critical in (True, False):
            sent = push(
                Device(7, "alice", "android", ANDROID_TOKEN),
                config,
                event=event,
                alert=ALERTS[alert],
                is_critical=critical,
            )
            assert isinstance(await sender.send(sent), Receipt)
        await sender.aclose()
        for message in fcm.messages:
            validator.validate({"message": message})
        assert all(size <= 4096 for size in fcm.sizes)


@pytest.mark.parametrize(
    "wrong",
    [
        {"tokn": "x"},
        {"token": 7},
        {"token": "x", "data": {"n": 1}},
        {"token": "x", "android": {"ttl": "60"}},
        {"token": "x", "android": {"priority": "urgent"}},
        {"token": "x", "android": {"notification": {"notification_priority": "PRIORITY_MOST"}}},
    ],
)
def test_the_judge_notices_what_is_wrong(
    validator: jsonschema.Draft202012Validator, wrong: dict[str, Any]
) -> None:
    assert not validator.is_valid({"message": wrong})
