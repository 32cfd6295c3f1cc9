"""PagerDuty: one incident an alert, within the API's limits, and what its answers mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from senders.notes import Notes
from senders.outcomes import Misconfigured, Receipt, Rejected, SendError, Transient
from senders.pagerduty import MAX_EVENT, PagerDutyConfig, PagerDutySender, _event
from tests.unit.senders.support import ALERT, client, loopback_settings, notification, outcome, receiving

if TYPE_CHECKING:
    from senders.base import Notification

KEY = "0123456789abcdef0123456789ABCDEF"
CANARY = "CANARY9f8e7dCANARY9f8e7dCANARY9f"
CONFIG = PagerDutyConfig.model_validate({"integration_key": KEY})
ACCEPTED = b'{"status": "success", "message": "Event processed", "dedup_key": "abc"}'


def event_of(sent: Notification[Any]) -> dict[str, Any]:
    """The event that is sent for a notification."""
    return _event(sent, Notes(sent))


async def test_an_open_alert_triggers_with_everything_a_responder_needs() -> None:
    async with receiving(status=202, body=ACCEPTED) as receiver, client() as http:
        config = PagerDutyConfig.model_validate({"integration_key": KEY, "endpoint": receiver.url})
        sent = notification(config)
        receipt = await PagerDutySender(loopback_settings(), http).send(sent)
        assert receipt == Receipt("202 Accepted", "abc")
        assert receiver.requests[0].path == "/v2/enqueue"
        assert receiver.requests[0].json == {
            "routing_key": KEY,
            "event_action": "trigger",
            "dedup_key": sent.thread,
            "client": "Tocsin",
            "payload": {
                "summary": "Error: smoke detected at cam-3, berlin: Smoke in the hall",
                "source": "cam-3",
                "severity": "error",
                "timestamp": "2026-11-03T20:26:09Z",
                "component": "cam-3",
                "group": "berlin",
                "class": "smoke_detected",
                "custom_details": {
                    "alert_id": 4711,
                    "event": "OPEN",
                    "severity": 3,
                    "message": "Smoke in the hall",
                    "details": ALERT["details"],
                    "tenant_id": "acme",
                    "job_id": 12,
                },
            },
        }


@pytest.mark.parametrize(
    ("event", "action"),
    [("OPEN", "trigger"), ("ESCALATED", "trigger"), ("ACKNOWLEDGED", "acknowledge"), ("CLOSED", "resolve")],
)
def test_every_event_concerns_the_same_incident(event: str, action: str) -> None:
    made = event_of(notification(CONFIG, event))
    assert made["event_action"] == action
    assert made["dedup_key"] == notification(CONFIG).thread
    assert ("payload" in made) == (action == "trigger")


@pytest.mark.parametrize(
    ("severity", "word"),
    [(0, "info"), (1, "info"), (2, "warning"), (3, "error"), (4, "critical"), (9, "critical")],
)
def test_severities(severity: int, word: str) -> None:
    assert event_of(notification(CONFIG, severity=severity))["payload"]["severity"] == word


def test_a_critical_alert_is_critical_and_a_bare_one_still_has_what_is_required() -> None:
    bare = dict.fromkeys(ALERT, None) | {"alert_id": 1}
    payload = event_of(notification(CONFIG, alert=bare, severity=0, is_critical=True))["payload"]
    assert payload["severity"] == "critical"
    assert payload["source"] == "tocsin"
    assert payload["summary"] == "Critical: Alert 1: Alert 1"
    assert payload["timestamp"] == "2026-11-03T20:26:10.344Z"
    assert "component" not in payload


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (202, ACCEPTED.decode(), Receipt),
        (200, "", Receipt),
        (302, "", Misconfigured),
        (400, '{"errors": ["\'event_action\' is missing or blank"]}', Rejected),
        (400, '{"errors": ["\'routing_key\' is invalid"]}', Misconfigured),
        (400, '{"errors": ["Invalid routing key"]}', Misconfigured),
        (400, '"routing_key"', Rejected),
        (400, "no JSON", Rejected),
        (404, "", Rejected),
        (413, "", Rejected),
        (429, '{"message": "Requests are being throttled"}', Transient),
        (500, "", Transient),
        (503, "", Transient),
    ],
)
async def test_answers(status: int, body: str, expected: type[Any]) -> None:
    headers = {"Retry-After": "5"}
    async with receiving(status=status, body=body.encode(), headers=headers) as receiver, client() as http:
        config = PagerDutyConfig.model_validate({"integration_key": KEY, "endpoint": receiver.url})
        got = await outcome(PagerDutySender(loopback_settings(), http), notification(config))
        assert type(got) is expected
        assert got.code.startswith(str(status))
        if isinstance(got, Transient):
            assert got.retry_after == 5


@pytest.mark.parametrize("status", [400, 403, 500])
async def test_the_key_is_in_no_record(status: int) -> None:
    async with receiving(status=status, echo=True) as receiver, client() as http:
        config = PagerDutyConfig.model_validate(
            {"integration_key": CANARY, "endpoint": f"{receiver.url}/relay"}
        )
        got = await outcome(PagerDutySender(loopback_settings(), http), notification(config))
        assert isinstance(got, SendError)
        assert receiver.requests[0].path == "/relay"
        assert CANARY not in f"{got!r} {got} {config!r} {notification(config)!r} {config.model_dump()}"


@pytest.mark.parametrize("excess", [0, 1])
async def test_an_event_at_the_limit_and_one_byte_above(excess: int) -> None:
    async with receiving(status=202, body=ACCEPTED) as receiver, client() as http:
        config = PagerDutyConfig.model_validate({"integration_key": KEY, "endpoint": receiver.url})
        room = MAX_EVENT - len(orjson.dumps(event_of(notification(config, alert={"details": {"x": ""}}))))
        sent = notification(config, alert={"details": {"x": "y" * (room + excess)}})
        receipt = await PagerDutySender(loopback_settings(), http).send(sent)
        request = receiver.requests[0]
        assert ("custom_details" in request.json["payload"]) == (excess == 0)
        assert len(request.body) == MAX_EVENT if excess == 0 else len(request.body) < 1000
        assert ("custom_details left out" in (receipt.detail or "")) == (excess == 1)
        assert receipt.provider_id == "abc"


@given(text=st.text(max_size=3000), event=st.sampled_from(["OPEN", "ESCALATED"]))
def test_any_alert_keeps_the_limits(text: str, event: str) -> None:
    fields = dict.fromkeys(("message", "alert_type", "device_id", "site_id"), text)
    made = event_of(notification(CONFIG, event, alert=fields))
    assert 1 <= len(made["payload"]["summary"]) <= 1024
    assert 1 <= len(made["payload"]["source"]) <= 255
    assert len(made["dedup_key"]) <= 255


@pytest.mark.parametrize(
    ("config", "url"),
    [
        ({}, "https://events.pagerduty.com/v2/enqueue"),
        ({"region": "eu"}, "https://events.eu.pagerduty.com/v2/enqueue"),
        ({"endpoint": "https://relay.example.org"}, "https://relay.example.org/v2/enqueue"),
        ({"endpoint": "https://relay.example.org/"}, "https://relay.example.org/v2/enqueue"),
        ({"endpoint": "https://relay.example.org/pd"}, "https://relay.example.org/pd"),
    ],
)
def test_endpoints(config: dict[str, str], url: str) -> None:
    assert PagerDutyConfig.model_validate({"integration_key": KEY, **config}).url == url


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"integration_key": "CANARY-short"}, "32 letters and digits"),
        ({"integration_key": CANARY + "x"}, "32 letters and digits"),
        ({"integration_key": CANARY + "\n", "endpoint": "https://x.example"}, "32 letters and digits"),
        ({"region": "mars"}, "region"),
        ({"endpoint": "events.example.org"}, "https://"),
        ({"routing_key": "CANARY"}, "Extra"),
    ],
)
def test_a_bad_config_is_refused_and_never_quoted(change: dict[str, str], rule: str) -> None:
    with pytest.raises(ValidationError, match=rule) as caught:
        PagerDutyConfig.model_validate({"integration_key": KEY, **change})
    assert "CANARY" not in str(caught.value)
