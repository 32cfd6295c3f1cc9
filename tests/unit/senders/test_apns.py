"""APNs: Apple's table of outcomes, what is sent, and with whose credentials."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from receivers.keys import pem
from senders.apns import MAX_PAYLOAD, payload
from senders.apns_answers import REASONS
from senders.base import Device
from senders.outcomes import Misconfigured, NotConfigured, Receipt, Rejected, SendError, TargetGone, Transient
from senders.push import PushConfig
from tests.unit.senders.apns_support import KEY, alert_push
from tests.unit.senders.push_support import (
    IOS_TOKEN,
    LINKS,
    TOPIC,
    apns_credentials,
    apns_sender,
    faulty_apns,
    push,
    well_fitted,
)
from tests.unit.senders.support import outcome

if TYPE_CHECKING:
    from pathlib import Path

# Apple's table, row by row.
ROWS: list[tuple[int, str, type[SendError]]] = [
    (400, "BadCollapseId", Rejected),
    (400, "BadDeviceToken", TargetGone),
    (400, "BadExpirationDate", Rejected),
    (400, "BadMessageId", Rejected),
    (400, "BadPriority", Rejected),
    (400, "BadTopic", Misconfigured),
    (400, "DeviceTokenNotForTopic", TargetGone),
    (400, "DuplicateHeaders", Rejected),
    (400, "IdleTimeout", Transient),
    (400, "InvalidPushType", Rejected),
    (400, "MissingDeviceToken", Rejected),
    (400, "MissingTopic", Misconfigured),
    (400, "PayloadEmpty", Rejected),
    (400, "TopicDisallowed", Misconfigured),
    (403, "BadCertificate", Misconfigured),
    (403, "BadCertificateEnvironment", Misconfigured),
    (403, "BadEnvironmentKeyIdInToken", Misconfigured),
    (403, "ExpiredProviderToken", Transient),
    (403, "Forbidden", Misconfigured),
    (403, "InvalidProviderToken", Misconfigured),
    (403, "InvalidSigningKey", Misconfigured),
    (403, "MissingProviderToken", Misconfigured),
    (403, "UnrelatedKeyIdInToken", Misconfigured),
    (404, "BadPath", Rejected),
    (405, "MethodNotAllowed", Rejected),
    (410, "ExpiredToken", TargetGone),
    (410, "Unregistered", TargetGone),
    (413, "PayloadTooLarge", Rejected),
    (429, "TooManyProviderTokenUpdates", Transient),
    (429, "TooManyRequests", Transient),
    (500, "InternalServerError", Transient),
    (503, "ServiceUnavailable", Transient),
    (503, "Shutdown", Transient),
]

# What no table of Apple's has: the status decides.
UNKNOWN: list[tuple[int, str, type[SendError]]] = [
    (301, "", Misconfigured),
    (400, "SomethingNew", Rejected),
    (403, "", Misconfigured),
    (408, "", Transient),
    (410, "", TargetGone),
    (429, "", Transient),
    (502, "", Transient),
    (503, "", Transient),
]


def parse(body: bytes) -> Any:
    return json.loads(body)


@pytest.mark.parametrize(("status", "reason", "kind"), [*ROWS, *UNKNOWN])
async def test_outcome_table(tmp_path: Path, status: int, reason: str, kind: type[SendError]) -> None:
    async with (
        faulty_apns(tmp_path, on_request=lambda r: r.answer(status, reason)) as apns,
        apns_sender(apns) as sender,
    ):
        with pytest.raises(SendError) as caught:
            await sender.send(alert_push())
    assert type(caught.value) is kind
    assert caught.value.code == f"{status} {reason}".strip()


def test_the_table_names_every_reason_that_the_sender_knows() -> None:
    assert {reason: kind for _, reason, kind in ROWS} == REASONS


async def test_what_is_sent(tmp_path: Path) -> None:
    # Given an alert with an image and a link
    details = {"url": "https://example.org/alerts/1", "image_url": "https://example.org/1.jpg"}
    it = alert_push(alert={"details": details}, severity=4, is_critical=True)
    async with faulty_apns(tmp_path) as apns, apns_sender(apns) as sender:
        # When it is sent
        receipt = await sender.send(it)
    # Then APNs was asked as Apple documents it
    headers = dict(apns.requests[0].headers)
    token = headers.pop("authorization").removeprefix("bearer ")
    claims = jwt.decode(token, KEY.public_key(), algorithms=["ES256"])
    assert jwt.get_unverified_header(token) == {"alg": "ES256", "kid": "KEY1234567", "typ": "JWT"}
    assert claims["iss"] == "TEAM123456"
    assert abs(claims["iat"] - time.time()) < 5
    assert headers[":path"] == f"/3/device/{IOS_TOKEN}"
    assert headers["apns-topic"] == TOPIC
    assert headers["apns-push-type"] == "alert"
    assert headers["apns-id"] == str(it.id)
    assert headers["apns-collapse-id"] == it.thread
    assert headers["apns-expiration"] == str(int(it.expires_at.timestamp()))
    assert headers["apns-priority"] == "10"
    # And the device shows title and body, rings, and knows which alert it is
    body = parse(apns.requests[0].body)
    assert body["aps"] == {
        "alert": {"title": "Critical: smoke detected at cam-3, berlin", "body": "Smoke in the hall"},
        "thread-id": it.thread,
        "interruption-level": "critical",
        "sound": {"critical": 1, "name": "default", "volume": 1.0},
        "mutable-content": 1,
    }
    assert {key: body[key] for key in body if key != "aps"} == {
        "alert_id": 4711, "event": "OPEN", "severity": 4, "job_id": 12, **details,
    }  # fmt: skip  # reads as one row
    assert receipt == Receipt("200", str(it.id), None)


@pytest.mark.parametrize(
    ("severity", "is_critical", "event", "level", "priority"),
    [
        (0, False, "OPEN", "active", "5"),
        (2, False, "OPEN", "time-sensitive", "10"),
        (4, True, "OPEN", "critical", "10"),
        (4, True, "ESCALATED", "critical", "10"),
        (4, True, "CLOSED", "time-sensitive", "10"),
    ],
)
async def test_how_loud_it_is(
    tmp_path: Path, *, severity: int, is_critical: bool, event: str, level: str, priority: str
) -> None:
    async with faulty_apns(tmp_path) as apns, apns_sender(apns) as sender:
        await sender.send(alert_push(severity=severity, is_critical=is_critical, event=event))
    aps = parse(apns.requests[0].body)["aps"]
    assert aps["interruption-level"] == level
    assert isinstance(aps["sound"], dict) == (level == "critical")
    assert apns.requests[0].headers["apns-priority"] == priority


@given(
    message=st.text(max_size=6000) | st.text('🔥\\"\x00é', min_size=1000, max_size=3000),
    device=st.text(max_size=500),
    alert_id=st.integers() | st.text(max_size=5000),
    url=st.sampled_from(["", "javascript:alert(1)"]) | LINKS,
)
def test_the_payload_is_json_and_fits_whatever_the_alert_says(
    message: str, device: str, alert_id: int | str, url: str
) -> None:
    alert = {
        "message": message,
        "device_id": device,
        "alert_id": alert_id,
        "details": {"url": url, "image_url": url},
    }
    it = alert_push(alert=alert)
    body, _ = well_fitted(it, lambda *parts: payload(it, *parts), MAX_PAYLOAD)
    said = json.loads(body)
    assert said["aps"]["alert"]["title"]
    assert "javascript" not in str(said.get("url"))


async def test_a_shortened_body_is_said_in_the_receipt(tmp_path: Path) -> None:
    async with faulty_apns(tmp_path) as apns, apns_sender(apns) as sender:
        receipt = await sender.send(alert_push(alert={"message": "🔥" * 3000}))
    assert receipt.detail == "clipped: message"
    assert 4080 < len(apns.requests[0].body) <= MAX_PAYLOAD
    assert parse(apns.requests[0].body)["aps"]["alert"]["body"].endswith("🔥…")


@pytest.mark.parametrize(
    "token", ["", "../../x", "abc?y=1", "0f" * 31, "0f" * 101, "0" * 65, "0g" * 32, "0f" * 32 + "\n"]
)
async def test_a_token_that_is_no_hex_never_reaches_a_path(tmp_path: Path, token: str) -> None:
    async with faulty_apns(tmp_path) as apns, apns_sender(apns) as sender:
        with pytest.raises(TargetGone, match="bad device token"):
            await sender.send(alert_push(device=Device(1, "u", "ios", token)))
    assert apns.connections == []


async def test_gone_since(tmp_path: Path) -> None:
    since = datetime(2026, 11, 1, 12, tzinfo=UTC)
    stamp = int(since.timestamp() * 1000)
    async with (
        faulty_apns(tmp_path, on_request=lambda r: r.answer(410, "Unregistered", timestamp=stamp)) as apns,
        apns_sender(apns) as sender,
    ):
        with pytest.raises(TargetGone) as caught:
            await sender.send(alert_push())
    assert caught.value.since == since


@pytest.mark.parametrize("timestamp", ["x", None, 1e300, [], float("nan")])
async def test_a_senseless_timestamp_is_none(tmp_path: Path, timestamp: Any) -> None:
    async with (
        faulty_apns(
            tmp_path, on_request=lambda r: r.answer(410, "Unregistered", timestamp=timestamp)
        ) as apns,
        apns_sender(apns) as sender,
    ):
        with pytest.raises(TargetGone) as caught:
            await sender.send(alert_push())
    assert caught.value.since is None


@pytest.mark.parametrize("reason", ["BadDeviceToken", "DeviceTokenNotForTopic"])
async def test_many_tokens_of_another_app_or_environment_are_the_settings_fault(
    tmp_path: Path, reason: str
) -> None:
    async with (
        faulty_apns(tmp_path, on_request=lambda r: r.answer(400, reason)) as apns,
        apns_sender(apns) as sender,
    ):
        outcomes = [await outcome(sender, alert_push()) for _ in range(8)]
    assert list(map(type, outcomes)) == [TargetGone] * 5 + [Misconfigured] * 3


async def test_without_credentials(tmp_path: Path) -> None:
    async with faulty_apns(tmp_path) as apns, apns_sender(apns) as sender:
        with pytest.raises(NotConfigured, match="TOCSIN_APNS_KEY_FILE"):
            await sender.send(push())


async def test_credentials_of_the_settings(tmp_path: Path) -> None:
    key_file = tmp_path / "key.p8"
    key_file.write_bytes(pem(KEY))
    async with (
        faulty_apns(tmp_path) as apns,
        apns_sender(
            apns,
            apns_key_file=key_file,
            apns_key_id="KEY7654321",
            apns_team_id="TEAM654321",
            apns_topic="org.own",
        ) as sender,
    ):
        await sender.send(push())
    assert apns.requests[0].headers["apns-topic"] == "org.own"


@pytest.mark.parametrize(
    "topic", ["", "org.example.app\r\nx: y", "org.example.app\n", " org.example.app", "é", "a" * 256]
)
def test_a_topic_that_is_no_bundle_id_is_refused_when_it_is_saved(topic: str) -> None:
    with pytest.raises(ValidationError, match=r"topic\n  String should match pattern"):
        apns_credentials(topic=topic)


@pytest.mark.parametrize(
    "key", ["canary-secret", "-----BEGIN PRIVATE KEY-----\ncanary-secret\n-----END PRIVATE KEY-----"]
)
async def test_a_bad_key_is_the_channels_fault_and_not_quoted(tmp_path: Path, key: str) -> None:
    credentials = apns_credentials().model_copy(update={"key": type(apns_credentials().key)(key)})
    config = PushConfig(all_users=True, apns=credentials)
    async with faulty_apns(tmp_path) as apns, apns_sender(apns) as sender:
        with pytest.raises(Misconfigured, match="bad credentials") as caught:
            await sender.send(push(config=config))
    assert "canary" not in repr(caught.value) + str(caught.value) + repr(caught.value.__cause__) + repr(
        config
    )


async def test_a_tenant_that_names_anothers_team_does_not_get_its_token(tmp_path: Path) -> None:
    thief = PushConfig(all_users=True, apns=apns_credentials())
    async with faulty_apns(tmp_path) as apns, apns_sender(apns) as sender:
        await sender.send(alert_push())
        await sender.send(push(config=thief))
    assert len({r.headers["authorization"] for r in apns.requests}) == 2
    assert len(apns.connections) == 2
