"""Webhooks: what arrives is verified by the reference library and by Svix's, which others use to receive."""

from __future__ import annotations

import base64
import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from senders.webhook import WebhookConfig, WebhookSender
from tests.conformance.alerts import ALERTS, EVENTS
from tests.unit.senders.push_support import trust
from tests.unit.senders.support import client, loopback_settings, notification, receiving

if TYPE_CHECKING:
    from tests.conformance.conftest import Judge


def new_secret(length: int = 32) -> str:
    return f"whsec_{base64.b64encode(os.urandom(length)).decode()}"


async def sent(config_secret: str, event: str = "OPEN", **overrides: Any) -> tuple[dict[str, str], str]:
    """Headers and body of a webhook, from the wire."""
    async with receiving(status=204, body=b"") as receiver, client(ssl_context=trust()) as http:
        config = WebhookConfig.model_validate({"url": receiver.url, "secret": config_secret})
        await WebhookSender(loopback_settings(), http).send(notification(config, event, **overrides))
        [request] = receiver.requests
        return {name.lower(): value for name, value in request.headers.items()}, request.body.decode()


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("alert", ALERTS)
async def test_both_libraries_verify_every_body(webhook_judge: Judge, alert: str, event: str) -> None:
    secret = new_secret()
    headers, body = await sent(secret, event, alert=ALERTS[alert])
    verdict = webhook_judge.ask(secret=secret, headers=headers, body=body)
    assert verdict["standardwebhooks"] == verdict["svix"]
    assert verdict["svix"]["type"] == f"alert.{event.lower()}"
    assert verdict["svix"]["data"]["job_id"] == json.loads(body)["data"]["job_id"]


@pytest.mark.parametrize("length", [24, 32, 64])
async def test_secrets_of_every_length(webhook_judge: Judge, length: int) -> None:
    secret = new_secret(length)
    headers, body = await sent(secret)
    assert webhook_judge.ask(secret=secret, headers=headers, body=body)["svix"]


async def test_while_a_secret_rotates_each_of_the_two_verifies(webhook_judge: Judge) -> None:
    new, old = new_secret(), new_secret()
    headers, body = await sent(f"{new} {old}")
    for secret in (new, old):
        assert webhook_judge.ask(secret=secret, headers=headers, body=body)["standardwebhooks"]


@pytest.mark.parametrize("change", ["body", "webhook-id", "webhook-timestamp", "secret"])
async def test_the_judges_notice_any_change(webhook_judge: Judge, change: str) -> None:
    secret = new_secret()
    headers, body = await sent(secret)
    question = {"secret": secret, "headers": headers, "body": body}
    if change == "body":
        question["body"] = body.replace("4711", "4712")
    elif change == "secret":
        question["secret"] = new_secret()
    else:
        headers[change] = headers[change][:-1] + ("0" if headers[change][-1] != "0" else "1")
    with pytest.raises(ValueError, match="WebhookVerificationError"):
        webhook_judge.ask(**question)
