"""PagerDuty: what arrives keeps the limits that PagerDuty publishes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from senders.outcomes import Receipt
from senders.pagerduty import PagerDutyConfig, PagerDutySender
from tests.conformance.alerts import ALERTS, EVENTS
from tests.unit.senders.push_support import trust
from tests.unit.senders.support import client, loopback_settings, notification, receiving

MAX_EVENT = 512 * 1000
VALIDATOR = jsonschema.Draft202012Validator(
    json.loads(Path(__file__).with_name("pagerduty.schema.json").read_text(encoding="utf-8"))
)
HUGE = {"details": {f"k{n}": "v" * 1000 for n in range(600)}}


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("alert", [*ALERTS, "huge"])
async def test_every_event_keeps_the_published_limits(alert: str, event: str) -> None:
    async with receiving(status=202, body=b"{}") as receiver, client(ssl_context=trust()) as http:
        config = PagerDutyConfig.model_validate({"integration_key": "0" * 32, "endpoint": receiver.url})
        sent = notification(config, event, alert=ALERTS.get(alert, HUGE))
        assert isinstance(await PagerDutySender(loopback_settings(), http).send(sent), Receipt)
        [request] = receiver.requests
    VALIDATOR.validate(request.json)
    assert len(request.body) <= MAX_EVENT
    assert request.json["dedup_key"] == sent.thread


@pytest.mark.parametrize(
    "wrong",
    [
        {"event_action": "trigger"},
        {"event_action": "resolve"},
        {"event_action": "close", "dedup_key": "x"},
        {"event_action": "resolve", "dedup_key": "x" * 256},
        {"event_action": "trigger", "payload": {"summary": "x" * 1025, "source": "x", "severity": "info"}},
        {"event_action": "trigger", "payload": {"summary": "x", "source": "x", "severity": "fatal"}},
    ],
)
def test_the_limits_are_noticed(wrong: dict[str, Any]) -> None:
    assert not VALIDATOR.is_valid({"routing_key": "0" * 32, **wrong})
