"""A delivery's message, made once more: as it would be sent, without what is secret, or why it cannot be shown."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import orjson
import pytest
import structlog

from admin.channels import check_channel
from api.console import message
from api.console.message import message_of
from config import load_settings
from model.database import connection, utcnow
from model.jobs import with_alert
from model.tables import Channel, Delivery, Device, Job
from senders.registry import CHANNEL_TYPES
from tests.support.database import make_deliveries, make_job, make_tenant

CANARY = "canary0123456789abcdef"
HEX = "c0ffee00" * 4

CONFIGS: dict[str, dict[str, Any]] = {
    "webhook": {
        "url": f"https://hook.example.org/in/{CANARY}?token={CANARY}",
        "headers": {"Authorization": f"Bearer {CANARY}"},
        "secret": "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
        "body_template": "{{ alert.message }}",
    },
    "slack": {"webhook_url": f"https://hooks.slack.example.org/services/T/B/{CANARY}"},
    "teams": {"webhook_url": f"https://flows.example.org/{CANARY}"},
    "pagerduty": {"integration_key": HEX},
    "email": {
        "to": ["ops@example.org"],
        "smtp_url": f"smtps://u:{CANARY}@mail.example.org",
        "mail_from": "a@b.example",
    },
    "mqtt": {"host": "mqtt.example.org", "topic": "alerts", "username": "u", "password": CANARY, "tls": True},
    "snmp": {"host": "192.0.2.1", "community": CANARY},
    "apprise": {"url": f"join://{CANARY}"},
}
ALERT = {
    "alert_id": "door-7",
    "alert_type": "door",
    "severity": 3,
    "details": {"device_tags": {"floor": "2"}},
}


def _delivery(kind: str, config: dict[str, Any], platform: str | None = None) -> tuple[Job, Delivery]:
    make_tenant()
    spec = check_channel({"name": "one", "channel_type": kind, "config": config})
    channel = Channel.create(tenant="acme", name="one", channel_type=spec.channel_type, config=spec.config)
    job_id = make_job(
        channel_id=channel.id,
        channel_type=kind,
        payload={**ALERT, "message": f"Door <open> {HEX if kind == 'pagerduty' else CANARY}"},
        severity=3,
        alert_id="door-7",
    )
    device = 0
    if platform is not None:
        device = Device.create(
            tenant="acme", user_id="alice", platform=platform, token=CANARY, address_hash="h", subscription={}
        ).id
    sender = {"ios": "apns", "android": "fcm", "web": "webpush"}.get(platform or "", kind)
    (delivery,) = make_deliveries(job_id, channel_id=channel.id, sender=sender)
    Delivery.update(device_id=device, user_id="alice").where(Delivery.id == delivery).execute()
    return with_alert().where(Job.id == job_id).get(), Delivery.get_by_id(delivery)


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize("kind", CONFIGS)
def test_a_message_is_shown_without_what_is_secret(kind: str) -> None:
    with connection():
        shown = message_of(load_settings(), *_delivery(kind, CONFIGS[kind]))
    assert shown.why_not is None
    assert "Door" in shown.text
    assert "canary" not in repr(shown)
    assert "c0ffee00" not in repr(shown)
    assert not re.search(r"v1,[A-Za-z0-9+/]", repr(shown))


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize("platform", ["ios", "android", "web"])
def test_a_push_is_shown_without_its_address(platform: str) -> None:
    with connection():
        shown = message_of(load_settings(), *_delivery("push", {"user_ids": ["alice"]}, platform))
    assert shown.why_not is None
    assert "Door <open>" in orjson.dumps(orjson.loads(shown.text)).decode()
    assert f'"{CANARY}"' not in shown.text


@pytest.mark.usefixtures("database")
def test_a_message_that_cannot_be_made_says_why() -> None:
    settings = load_settings()
    with connection():
        job, delivery = _delivery("slack", CONFIGS["slack"])
        Channel.update(updated_at=utcnow() + timedelta(days=1)).execute()
        assert message_of(settings, job, delivery).changed_since
        delivery.device_id = 999
        assert (
            message_of(settings, job, delivery).why_not == "the device was deleted, or is another user's now"
        )
        Channel.delete().execute()
        assert "the channel was deleted" in (message_of(settings, job, delivery).why_not or "")


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize("kind", [*CONFIGS, "push"])
def test_a_channel_that_became_one_of_another_type_is_why_a_message_is_not_shown(kind: str) -> None:
    settings = load_settings()
    configs = CONFIGS | {"push": {"user_ids": ["alice"]}}
    with connection():
        job, delivery = _delivery(kind, configs[kind], "ios" if kind == "push" else None)
        for other in CHANNEL_TYPES.keys() - {kind}:
            config = check_channel({"name": "one", "channel_type": other, "config": configs[other]}).config
            later = utcnow() + timedelta(days=1)
            Channel.update(channel_type=other, config=config, updated_at=later).execute()
            assert message_of(settings, job, delivery).why_not == "the channel has become one of another type"


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize("wrong", ["Tocsin", "Tocsin <>", None])
def test_a_sender_that_is_no_address_is_why_a_mail_is_not_shown(wrong: str | None) -> None:
    with connection():
        settings = load_settings(mail_from=wrong)
        shown = message_of(settings, *_delivery("email", {"to": ["ops@example.org"]}))
    why = "set TOCSIN_MAIL_FROM" if wrong is None else "TOCSIN_MAIL_FROM must be an address"
    assert why in (shown.why_not or "")


@pytest.mark.usefixtures("database")
def test_what_no_sender_foresaw_leaves_the_page_and_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AttributeError("a fault")

    monkeypatch.setitem(message._MAKERS, "apprise", fail)
    with connection(), structlog.testing.capture_logs() as logs:
        shown = message_of(load_settings(), *_delivery("apprise", CONFIGS["apprise"]))
    assert shown.why_not == "the sender cannot make it, and the server's log says why"
    assert [line["event"] for line in logs] == ["message_not_made"]
