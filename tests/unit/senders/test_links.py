"""Links, images and titles of an alert's own, in every message that can show them, and never at its cost."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from receivers import Answer, FarSide
from senders.apns import payload as apns_payload
from senders.base import ChannelConfig, Device
from senders.fcm import message as fcm_message
from senders.notes import Notes, links
from senders.outcomes import Receipt, Rejected
from senders.pagerduty import PagerDutyConfig, PagerDutySender, _event
from senders.push import PushConfig
from senders.push_content import fit
from senders.slack import SlackConfig, SlackSender, _message
from senders.teams import TeamsConfig
from senders.teams import _message as teams_message
from senders.text import facts, title
from senders.webpush import payload as webpush_payload
from tests.unit.senders.support import client, loopback_settings, notification, outcome, receiving

URL = "https://example.org/alerts/4711?a=1&b=<2>|3"
IMAGE = "https://example.org/cam-3.jpg"
BOTH = {"details": {"url": URL, "image_url": IMAGE, "title": "Smoke in the lab"}}
SLACK = SlackConfig.model_validate({"webhook_url": "https://hooks.slack.com/services/T0/B0/x"})
TEAMS = TeamsConfig.model_validate({"webhook_url": "https://prod-1.westeurope.logic.azure.com/x?sig=y"})
PAGERDUTY = PagerDutyConfig.model_validate({"integration_key": "0" * 32})
HOSTILE = [
    "javascript:alert(1)",
    "JAVASCRIPT:alert(1)",
    "data:text/html,x",
    "file:///etc/passwd",
    "https://user:pass@example.org/",
    "https://example.org/\r\nX: y",
    "https://example.org/ x",
    "https://" + "a" * 3000,
    "//example.org",
    "x",
    42,
    ["https://example.org"],
    {"href": "https://example.org"},
    True,
]


@pytest.mark.parametrize("value", HOSTILE)
def test_a_link_that_is_none_is_left_out_and_noted(value: Any) -> None:
    sent = notification(ChannelConfig(), alert={"details": {"url": value, "image_url": value}})
    notes = Notes(sent)
    assert links(sent, notes) == {}
    assert (notes.detail or "").count("left out: it must") == 2
    assert "pass" not in (notes.detail or "").replace("password", "")


@given(st.text(max_size=80) | st.text(max_size=60).map("https://example.org/".__add__))
def test_whatever_passes_can_be_opened(value: str) -> None:
    sent = notification(ChannelConfig(), alert={"details": {"url": value}})
    for url in links(sent, Notes(sent)).values():
        assert url.startswith(("http://", "https://"))
        assert url.isascii()
        assert url.isprintable()
        assert " " not in url


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        ("OPEN", "Smoke in the lab"),
        ("ACKNOWLEDGED", "Acknowledged: Smoke in the lab"),
        ("ESCALATED", "Escalated: Smoke in the lab"),
        ("CLOSED", "Resolved: Smoke in the lab"),
    ],
)
def test_an_alert_may_bring_its_own_title(event: str, expected: str) -> None:
    assert title(notification(ChannelConfig(), event, alert=BOTH)) == expected


@pytest.mark.parametrize("own", ["", "  ", None, 7, ["x"], "\x00"])
def test_a_title_that_says_nothing_is_none(own: Any) -> None:
    sent = notification(ChannelConfig(), alert={"details": {"title": own}})
    assert title(sent) == "Error: smoke detected at cam-3, berlin"


def test_what_has_a_place_of_its_own_is_no_detail() -> None:
    assert {"url", "image_url", "title"}.isdisjoint(dict(facts(notification(ChannelConfig(), alert=BOTH))))


def test_slack_shows_a_link_and_an_image() -> None:
    payload, notes = _message(notification(SLACK, alert=BOTH))
    assert payload["blocks"][1]["accessory"] == {"type": "image", "image_url": IMAGE, "alt_text": "image"}
    link = payload["blocks"][3]["text"]["text"]
    assert link == "<https://example.org/alerts/4711?a=1&amp;b=%3C2%3E%7C3|Open>"
    assert notes.detail is None


async def test_an_image_that_slack_cannot_fetch_costs_the_image_and_not_the_message() -> None:
    with FarSide() as far:
        far.slack.script("ops", [Answer(400, reason="invalid_blocks")])
        config = SlackConfig.model_validate({"webhook_url": far.slack.url("ops")})
        async with client() as http:
            receipt = await SlackSender(loopback_settings(), http).send(notification(config, alert=BOTH))
        first, second = far.slack.received
        assert "accessory" in first.content["blocks"][1]
        assert "accessory" not in second.content["blocks"][1]
        assert receipt.detail == "image left out: Slack refused the message with it (invalid_blocks)"


async def test_a_message_that_slack_refuses_without_an_image_is_refused_once() -> None:
    async with receiving(status=400, body=b"invalid_blocks") as receiver, client() as http:
        config = SlackConfig.model_validate({"webhook_url": receiver.url})
        got = await outcome(SlackSender(loopback_settings(), http), notification(config))
        assert isinstance(got, Rejected)
        assert len(receiver.requests) == 1


def test_teams_shows_a_link_and_an_image_of_https() -> None:
    content, note = teams_message(notification(TEAMS, alert=BOTH))
    card = orjson.loads(content)["attachments"][0]["content"]
    assert card["actions"] == [{"type": "Action.OpenUrl", "title": "Open", "url": URL}]
    assert {"type": "Image", "url": IMAGE, "altText": "image"} in card["body"]
    assert note is None
    plain = {"details": {"image_url": "http://example.org/cam-3.jpg"}}
    content, note = teams_message(notification(TEAMS, alert=plain))
    assert b"cam-3.jpg" not in content
    assert note == "details.image_url left out: Teams shows only https:// images"


async def test_pagerduty_gets_links_and_images_for_a_trigger() -> None:
    with FarSide() as far:
        config = PagerDutyConfig.model_validate({"integration_key": "0" * 32, "endpoint": far.pagerduty.url})
        async with client() as http:
            sender = PagerDutySender(loopback_settings(), http)
            receipt = await sender.send(notification(config, alert=BOTH))
        [received] = far.pagerduty.received
        assert received.valid, received.problems
        assert received.content["links"] == [{"href": URL, "text": "Open"}]
        assert received.content["images"] == [{"src": IMAGE, "href": URL, "alt": "image"}]
        assert isinstance(receipt, Receipt)
    sent = notification(PAGERDUTY, "CLOSED", alert=BOTH)
    assert {"links", "images"}.isdisjoint(_event(sent, Notes(sent)))


def test_phones_and_browsers_get_both() -> None:
    sent = notification(
        PushConfig(all_users=True), alert=BOTH, device=Device(1, "alice", "android", "t" * 20)
    )
    now = datetime(2026, 11, 3, 21, tzinfo=UTC)
    apns = orjson.loads(fit(sent, lambda *parts: apns_payload(sent, *parts), 4096)[0])
    assert (apns["url"], apns["image_url"], apns["aps"]["mutable-content"]) == (URL, IMAGE, 1)
    fcm = orjson.loads(fit(sent, lambda *parts: fcm_message(sent, *parts, now=now), 4096)[0])["message"]
    assert (fcm["data"]["url"], fcm["notification"]["image"]) == (URL, IMAGE)
    web = orjson.loads(fit(sent, lambda *parts: webpush_payload(sent, *parts), 2700)[0])
    assert (web["url"], web["image"]) == (URL, IMAGE)
    assert {apns["aps"]["alert"]["title"], fcm["notification"]["title"], web["title"]} == {"Smoke in the lab"}


@given(st.one_of(st.sampled_from(HOSTILE), st.text(max_size=50).map("https://example.org/?".__add__)))
def test_no_link_ever_breaks_a_message(value: Any) -> None:
    alert = {"details": {"url": value, "image_url": value, "title": value}}
    device = Device(1, "alice", "android", "t" * 20)
    now = datetime(2026, 11, 3, 21, tzinfo=UTC)
    sent: Any = notification(PushConfig(all_users=True), alert=alert, device=device)
    fit(sent, lambda *parts: fcm_message(sent, *parts, now=now), 4096)
    _message(notification(SLACK, alert=alert))
    teams_message(notification(TEAMS, alert=alert))
    it = notification(PAGERDUTY, alert=alert)
    _event(it, Notes(it))


def test_what_is_clipped_is_named_everywhere() -> None:
    long = {
        "message": "m" * 40_000,
        "details": {"title": "t" * 2000, "note": "n" * 5000},
        "device_id": "d" * 999,
    }
    _, slack = _message(notification(SLACK, alert=long))
    _, teams = teams_message(notification(TEAMS, alert=long))
    it = notification(PAGERDUTY, alert=long)
    pagerduty = Notes(it)
    _event(it, pagerduty)
    sent = notification(PushConfig(all_users=True), alert=long)
    _, push = fit(sent, lambda *parts: webpush_payload(sent, *parts), 2700)
    assert slack.detail == "clipped: details, title, message"
    assert teams == "clipped: title, details, message"
    assert pagerduty.detail == "clipped: device_id, summary"
    assert push == "clipped: title, message"
