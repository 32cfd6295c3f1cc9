"""Webhooks: the contract's body, Standard Webhooks signatures, and what every answer means."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from standardwebhooks import Webhook

from senders.notes import Notes
from senders.outcomes import Misconfigured, Receipt, Rejected, SendError, Transient
from senders.redaction import redact
from senders.webhook import MAX_BODY, WebhookConfig, WebhookSender, _fit, _secrets
from tests.unit.senders.support import (
    ALERT,
    CANARY,
    client,
    loopback_settings,
    notification,
    outcome,
    receiving,
)

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
OLD_SECRET = "whsec_" + base64.b64encode(bytes(range(24))).decode().rstrip("=")


async def test_the_body_is_the_contracts_and_the_signature_verifies() -> None:
    async with receiving() as receiver, client() as http:
        config = WebhookConfig.model_validate({"url": f"{receiver.url}/in", "secret": SECRET})
        sent = notification(config)
        receipt = await WebhookSender(loopback_settings(), http).send(sent)

        assert receipt == Receipt("200 OK")
        request = receiver.requests[0]
        assert request.method == "POST"
        assert request.headers["content-type"] == "application/json"
        assert request.headers["webhook-id"] == str(sent.id)
        assert "." not in request.headers["webhook-id"]
        assert Webhook(SECRET).verify(request.body, dict(request.headers)) == {
            "type": "alert.open",
            "timestamp": "2026-11-03T20:26:10.344Z",
            "data": {**ALERT, "event_type": "OPEN", "tenant_id": "acme", "job_id": 12},
        }


async def test_while_a_secret_rotates_both_verify() -> None:
    async with receiving() as receiver, client() as http:
        config = WebhookConfig.model_validate({"url": receiver.url, "secret": f"{SECRET} {OLD_SECRET}"})
        await WebhookSender(loopback_settings(), http).send(notification(config))
        request = receiver.requests[0]
        assert len(request.headers["webhook-signature"].split()) == 2
        for secret in (SECRET, OLD_SECRET):
            assert Webhook(secret).verify(request.body, dict(request.headers))


async def test_an_unsigned_webhook_still_carries_the_id_and_the_channels_own_headers() -> None:
    async with receiving() as receiver, client() as http:
        config = WebhookConfig.model_validate(
            {
                "url": receiver.url,
                "method": "PUT",
                "headers": {"Authorization": "Bearer x", "Content-Type": "application/vnd.alert+json"},
            }
        )
        await WebhookSender(loopback_settings(), http).send(notification(config))
        request = receiver.requests[0]
        assert request.method == "PUT"
        assert request.headers["webhook-id"]
        assert "webhook-signature" not in request.headers
        assert request.headers["authorization"] == "Bearer x"
        assert request.headers.getall("content-type") == ["application/vnd.alert+json"]


@pytest.mark.parametrize("event", ["OPEN", "ACKNOWLEDGED", "ESCALATED", "CLOSED"])
async def test_events(event: str) -> None:
    async with receiving() as receiver, client() as http:
        config = WebhookConfig.model_validate({"url": receiver.url})
        await WebhookSender(loopback_settings(), http).send(notification(config, event))
        assert receiver.requests[0].json["type"] == f"alert.{event.lower()}"
        assert receiver.requests[0].json["data"]["event_type"] == event


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        *((status, Receipt) for status in (200, 201, 202, 204)),
        *((status, Misconfigured) for status in (301, 302, 307, 308, 410)),
        *((status, Transient) for status in (408, 425, 429, 500, 502, 503, 504)),
        *((status, Rejected) for status in (400, 401, 403, 404, 405, 413, 415, 422)),
    ],
)
async def test_answers(status: int, expected: type[Any]) -> None:
    async with receiving(status=status, headers={"Retry-After": "9"}, body=b"") as receiver, client() as http:
        config = WebhookConfig.model_validate({"url": receiver.url})
        got = await outcome(WebhookSender(loopback_settings(), http), notification(config))
        assert type(got) is expected
        assert got.code.startswith(str(status))
        if isinstance(got, Transient):
            assert got.retry_after == 9


@pytest.mark.parametrize("status", [400, 410, 503])
async def test_a_receiver_that_echoes_everything_puts_no_secret_into_the_record(status: int) -> None:
    async with receiving(status=status, echo=True) as receiver, client() as http:
        config = WebhookConfig.model_validate(
            {
                "url": f"{receiver.url}/{CANARY}/x?token=a%2Fb{CANARY}#{CANARY}",
                "headers": {"x-key": CANARY, "authorization": f"Bearer {CANARY}x"},
                "secret": "whsec_" + base64.b64encode(CANARY.encode() * 2).decode(),
            }
        )
        got = await outcome(WebhookSender(loopback_settings(), http), notification(config))
        assert isinstance(got, SendError)
        assert (
            CANARY not in f"{got!r} {got} {config!r} {config} {notification(config)!r} {config.model_dump()}"
        )


@pytest.mark.parametrize(
    "value",
    [
        f'Token token="{CANARY}"',
        f'Digest username="u", response="{CANARY}", uri="/in"',
        f'Digest realm="a b", response="x {CANARY}\\"y"',
        f'SE"CR\\ET{CANARY}',
        f"it's\\{CANARY}",
    ],
)
def test_a_header_with_quotes_is_masked_however_the_answer_quotes_it(value: str) -> None:
    config = WebhookConfig.model_validate(
        {"url": "https://example.org/in", "headers": {"Authorization": value}}
    )
    headers = {"authorization": value}
    for said in (json.dumps(headers), str(headers), *value.split('"')):
        assert CANARY not in redact(said, _secrets(config))


# Size.


async def test_the_largest_details_go_first_and_the_receipt_says_so() -> None:
    details = {"snapshot": "x" * 30_000, "trace": "y" * 15_000, "zone": "hall"}
    async with receiving() as receiver, client() as http:
        config = WebhookConfig.model_validate({"url": receiver.url, "secret": SECRET})
        sent = notification(config, alert={"details": details})
        receipt = await WebhookSender(loopback_settings(), http).send(sent)
        request = receiver.requests[0]
        assert len(request.body) <= MAX_BODY
        assert Webhook(SECRET).verify(request.body, dict(request.headers))
        assert request.json["data"]["details"] == {"trace": "y" * 15_000, "zone": "hall"}
        assert request.json["data"]["truncated"] is True
        assert request.json["data"]["message"] == ALERT["message"]
        assert "snapshot" in (receipt.detail or "")
        assert "trace" not in (receipt.detail or "")


def fitted(payload: dict[str, Any]) -> tuple[bytes, str | None]:
    """The body for a payload, and what is said of it."""
    notes = Notes(notification(WebhookConfig.model_validate({"url": "https://example.org"})))
    return _fit(payload, notes), notes.detail


@pytest.mark.parametrize("excess", [0, 1])
def test_the_limit_is_exact(excess: int) -> None:
    payload = {"type": "alert.open", "data": {"message": "m", "details": {"a": "", "b": 1}}}
    payload["data"]["details"]["a"] = "x" * (MAX_BODY - len(fitted(payload)[0]) + excess)  # type: ignore[index]  # a plain dict
    content, note = fitted(payload)
    assert (len(content) == MAX_BODY, note is None) == (excess == 0, excess == 0)


@given(
    details=st.dictionaries(
        st.text(max_size=30), st.text(max_size=50) | st.integers() | st.none(), max_size=20
    ),
    repeat=st.integers(0, 4_000),
    message=st.text(max_size=30),
)
def test_any_alert_fits_and_keeps_its_identity(details: dict[str, Any], repeat: int, message: str) -> None:
    data = {"alert_id": 1, "message": message * repeat, "details": {**details, "long": "é" * repeat}}
    content, _ = fitted({"type": "alert.open", "data": data})
    assert len(content) <= MAX_BODY
    assert b'"alert_id":1' in content


def test_a_very_wide_alert_is_shortened_in_no_time() -> None:
    details = {f"key{i}": i for i in range(100_000)}
    content, note = fitted({"type": "alert.open", "data": {"message": "m", "details": details}})
    assert MAX_BODY - 100 < len(content) <= MAX_BODY
    assert len(note or "") < 400


# Saving a channel.


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"url": "ftp://example.org"}, "https://"),
        ({"url": f"https://user:{CANARY}@example.org"}, "user name"),
        ({"method": "GET"}, "POST"),
        ({"secret": CANARY}, "whsec_"),
        ({"secret": "whsec_" + base64.b64encode(b"x" * 23).decode()}, "24 to 64"),
        ({"secret": "whsec_" + base64.b64encode(b"x" * 65).decode()}, "24 to 64"),
        ({"secret": "whsec_not*base64" + CANARY}, "whsec_"),
        ({"secret": " "}, "whsec_"),
        ({"headers": {"X-A": f"{CANARY}\r\nX-B: 1"}}, "line breaks"),
        ({"headers": {"X-A": f"{CANARY}\n"}}, "line breaks"),
        ({"headers": {"X-A": f"{CANARY}\x00"}}, "NUL"),
        ({"headers": {"X-A": f"{CANARY}é"}}, "ASCII"),
        ({"headers": {"X-A": f" {CANARY}"}}, "space"),
        ({"headers": {"X-A": ""}}, "1 to 4096"),
        ({"headers": {"X-A": "x" * 4097}}, "1 to 4096"),
        ({"headers": {"X A": "b"}}, "names"),
        ({"headers": {"X-A:": "b"}}, "names"),
        ({"headers": {"": "b"}}, "names"),
        ({"headers": {"Webhook-Id": "b"}}, "ours"),
        ({"headers": {"webhook-signature": "b"}}, "ours"),
        ({"headers": {"Host": "b"}}, "ours"),
        ({"headers": {"Content-Length": "1"}}, "ours"),
        ({"headers": {"Transfer-Encoding": "chunked"}}, "ours"),
        ({"headers": {f"x-{i}": "1" for i in range(51)}}, "at most 50"),
        ({"headers": {f"x-{i}": "a " * 2047 + "a" for i in range(2)}}, "at most 8192 characters, names and"),
        ({"secret": " ".join([SECRET] * 11)}, "at most 10 secrets"),
        ({"typo": 1}, "Extra"),
        ({"url": None}, "string"),
    ],
)
def test_a_bad_config_is_refused_by_rule_and_never_quoted(change: dict[str, Any], rule: str) -> None:
    with pytest.raises(ValidationError, match=rule) as caught:
        WebhookConfig.model_validate({"url": "https://example.org/in", **change})
    assert CANARY not in str(caught.value)
