"""Web Push: a push service and an encryption library that others wrote take, verify and decrypt our messages."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from receivers.keys import b64url, new_p256, pem, raw_public_key
from senders.base import Device
from senders.outcomes import Misconfigured, Receipt, Rejected, TargetGone
from senders.push import PushConfig
from senders.webpush import WebPushSender
from tests.conformance.alerts import ALERTS, EVENTS
from tests.unit.senders.push_support import push, trust
from tests.unit.senders.support import client, loopback_settings, outcome, receiving
from tests.unit.senders.test_webpush import Browser

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec

    from tests.conformance.conftest import Judge


def channel(key: ec.EllipticCurvePrivateKey) -> PushConfig:
    """A push channel with a VAPID key of its own."""
    return PushConfig.model_validate(
        {
            "all_users": True,
            "webpush": {"private_key": pem(key).decode(), "subject": "mailto:ops@example.org"},
        }
    )


def ask(service: str, path: str, **fields: str) -> Any:
    """What the push service answers a page, or the test."""
    answer = httpx.post(f"{service}/{path}", json=fields, timeout=5)
    answer.raise_for_status()
    return answer.json() if answer.headers.get("content-type", "").startswith("application/json") else None


def subscribe(service: str, key: ec.EllipticCurvePrivateKey) -> tuple[Device, str]:
    """A browser that subscribes with the public half of a VAPID key; and its name at the service."""
    said = ask(service, "subscribe", applicationServerKey=b64url(raw_public_key(key.public_key())))["data"]
    subscription = {"endpoint": said["endpoint"], "keys": said["keys"]}
    return Device(9, "alice", "web", subscription=subscription), str(said["clientHash"])


async def send(sent: Any) -> Any:
    async with client(ssl_context=trust()) as http:
        return await outcome(WebPushSender(loopback_settings(), http), sent)


@pytest.mark.parametrize("alert", ALERTS)
async def test_the_push_service_verifies_and_decrypts(push_service: str, alert: str) -> None:
    key = new_p256()
    device, name = subscribe(push_service, key)
    for event in EVENTS:
        receipt = await send(push(device, channel(key), event=event, alert=ALERTS[alert]))
        assert isinstance(receipt, Receipt), receipt
        assert receipt.code == "201 Created"
    messages = ask(push_service, "get-notifications", clientHash=name)["data"]["messages"]
    assert [json.loads(message)["data"]["event"] for message in messages] == list(EVENTS)
    assert len({json.loads(message)["tag"] for message in messages}) == 1


async def test_a_foreign_vapid_key_and_an_ended_subscription_are_what_they_are(push_service: str) -> None:
    # Given a browser that subscribed with another key, the service objects
    key = new_p256()
    device, name = subscribe(push_service, new_p256())
    got = await send(push(device, channel(key)))
    assert isinstance(got, Rejected | Misconfigured)
    # And given one whose subscription has ended, it is gone
    device, name = subscribe(push_service, key)
    ask(push_service, f"expire-subscription/{name}")
    assert isinstance(await send(push(device, channel(key))), TargetGone)


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("alert", ALERTS)
async def test_http_ece_decrypts_what_is_on_the_wire(ece_judge: Judge, alert: str, event: str) -> None:
    browser = Browser()
    private = browser.key.private_numbers().private_value.to_bytes(32, "big")
    async with receiving(status=201, body=b"") as service:
        await send(push(browser.device(service.url), channel(new_p256()), event=event, alert=ALERTS[alert]))
        [request] = service.requests
    question = {
        "body": base64.b64encode(request.body).decode(),
        "private_key": base64.b64encode(private).decode(),
        "auth_secret": b64url(browser.auth),
    }
    shown = json.loads(ece_judge.ask(**question)["plaintext"])
    assert shown["data"]["event"] == event
    assert shown["title"]
    # And a bit that flipped on the way does not pass
    flipped = bytearray(request.body)
    flipped[-1] ^= 1
    with pytest.raises(ValueError, match="Error"):
        ece_judge.ask(**{**question, "body": base64.b64encode(flipped).decode()})
