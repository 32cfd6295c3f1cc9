"""Teams: one card in the envelope, within 28 KB, and what Power Automate's answers mean."""

from __future__ import annotations

import re
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from senders.outcomes import Misconfigured, Receipt, Rejected, SendError, Transient
from senders.teams import MAX_BODY, TeamsConfig, TeamsSender, _message
from senders.text import facts
from tests.unit.senders.support import CANARY, client, loopback_settings, notification, outcome, receiving

CONFIG = TeamsConfig.model_validate({"webhook_url": "https://prod-1.westeurope.logic.azure.com/x?sig=y"})


def card(content: bytes) -> Any:
    """The card of a message."""
    return orjson.loads(content)["attachments"][0]["content"]


def shown(content: bytes) -> str:
    """The paragraphs of a card's message."""
    blocks = [block for block in card(content)["body"][1:-1] if block["type"] == "RichTextBlock"]
    return "\n".join(run["text"] for block in blocks for run in block["inlines"])


async def test_a_message_is_one_card_in_the_envelope() -> None:
    async with receiving(status=202, body=b"") as receiver, client() as http:
        config = TeamsConfig.model_validate({"webhook_url": f"{receiver.url}/workflows/1?sig=x"})
        receipt = await TeamsSender(loopback_settings(), http).send(notification(config))
        assert receipt == Receipt("202 Accepted")
        message = receiver.requests[0].json
        assert message["type"] == "message"
        [attachment] = message["attachments"]
        assert attachment["contentType"] == "application/vnd.microsoft.card.adaptive"
        assert attachment["contentUrl"] is None
        content = attachment["content"]
        assert (content["type"], content["version"], content["msteams"]) == (
            "AdaptiveCard",
            "1.4",
            {"width": "Full"},
        )
        assert (
            content["body"][0]["items"][0]["inlines"][0]["text"]
            == "🟠 Error: smoke detected at cam-3, berlin"
        )
        assert shown(receiver.requests[0].body) == "Smoke in the hall"
        assert {"title": "Device", "value": "cam-3"} in content["body"][2]["facts"]


def test_events_and_levels_differ_in_colour_and_words() -> None:
    def head(event: str, severity: int) -> tuple[str, str]:
        container = card(_message(notification(CONFIG, event, severity=severity))[0])["body"][0]
        return container["style"], container["items"][0]["inlines"][0]["text"]

    heads = [head(event, 4) for event in ("OPEN", "ACKNOWLEDGED", "ESCALATED", "CLOSED")]
    assert [style for style, _ in heads] == ["attention", "emphasis", "attention", "good"]
    assert len({text for _, text in heads}) == 4
    assert [head("OPEN", severity)[0] for severity in range(5)] == [
        "accent",
        "accent",
        "warning",
        "warning",
        "attention",
    ]


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (200, Receipt),
        (202, Receipt),
        (302, Misconfigured),
        (400, Rejected),
        (401, Misconfigured),
        (403, Misconfigured),
        (404, Misconfigured),
        (408, Transient),
        (410, Misconfigured),
        (413, Rejected),
        (429, Transient),
        (500, Transient),
        (502, Transient),
        (503, Transient),
    ],
)
async def test_answers(status: int, expected: type[Any]) -> None:
    headers = {"Retry-After": "3"}
    body = b'{"error": {"code": "TriggerIsOff", "message": "The flow is off."}}'
    async with receiving(status=status, body=body, headers=headers) as receiver, client() as http:
        config = TeamsConfig.model_validate({"webhook_url": receiver.url})
        got = await outcome(TeamsSender(loopback_settings(), http), notification(config))
        assert type(got) is expected
        if isinstance(got, SendError):
            assert got.code == f"{status} TriggerIsOff"
        if isinstance(got, Transient):
            assert got.retry_after == 3
        if status == 404:
            assert "The flow is off." in str(got)


@pytest.mark.parametrize("status", [400, 401, 500])
async def test_the_signature_is_in_no_record(status: int) -> None:
    async with receiving(status=status, echo=True) as receiver, client() as http:
        config = TeamsConfig.model_validate(
            {"webhook_url": f"{receiver.url}/workflows/1?sp=%2Fr&sig={CANARY}%2F-x"}
        )
        got = await outcome(TeamsSender(loopback_settings(), http), notification(config))
        assert isinstance(got, SendError)
        assert CANARY not in f"{got!r} {got} {config!r} {notification(config)!r} {config.model_dump()}"


NASTY = st.text(alphabet=st.sampled_from('"\\&<[a👩‍🔬é\n\x00\ud800'), max_size=60)


@given(message=NASTY, repeat=st.integers(1, 1500), names=st.lists(NASTY, max_size=60, unique=True))
def test_any_alert_fits(message: str, repeat: int, names: list[str]) -> None:
    alert = {
        "message": message * repeat,
        "alert_type": message * 10,
        "details": dict.fromkeys(names, message * 10),
    }
    content, note = _message(notification(CONFIG, alert=alert))
    assert len(content) <= MAX_BODY <= 28 * 1024
    assert note or "…" not in shown(content)
    assert card(content)["body"][-2]["type"] == "FactSet"


def test_a_long_message_fills_the_card_and_says_that_it_was_clipped() -> None:
    content, note = _message(notification(CONFIG, alert={"message": "👩‍🔬" * 9000}))
    assert MAX_BODY - 20 <= len(content) <= MAX_BODY
    assert shown(content).removesuffix("…").replace("👩‍🔬", "") == ""
    assert note == "clipped: message"
    assert _message(notification(CONFIG))[1] is None


def test_lines_are_paragraphs_and_markdown_stays_text() -> None:
    hostile = "first\n\n# [pay](http://evil.example)"
    content, _ = _message(
        notification(CONFIG, alert={"message": hostile, "details": {"link": "[a](http://b)"}})
    )
    assert shown(content) == "first\n# [pay](http://evil.example)"
    rows = card(content)["body"][-2]["facts"]
    assert rows[-1] == {"title": "link", "value": "\\[a\\](http://b)"}
    assert "TextBlock" not in {block["type"] for block in card(content)["body"]}


MARKDOWN = st.text(alphabet=st.sampled_from("\\`*_[]()a <!"), min_size=1, max_size=40)


@given(name=MARKDOWN, value=MARKDOWN)
@example(name="[Restart it here](https://evil.example)", value="\\[Runbook](https://evil.example)")
@example(name="__init__.py", value="*.log and *.txt")
def test_markdown_in_a_fact_stays_text_in_its_title_too(name: str, value: str) -> None:
    details = {name: value, "device_tags": {name: value}}
    sent = notification(CONFIG, alert={"details": details})
    shown = [pair for fact in card(_message(sent)[0])["body"][-2]["facts"] for pair in fact.values()]
    # Read as CommonMark reads escapes (0.31.2, 2.4), it is what the alert says
    assert [re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", text) for text in shown] == [
        text for fact in facts(sent) for text in fact
    ]
    # and nothing is left that could begin or end a link, code or emphasis
    assert not re.search(r"[\\`*_\[\]]", "".join(re.sub(r"\\.", "", text) for text in shown))


def test_many_details_are_left_out_and_counted() -> None:
    details = {f"k{i}": "v" * 300 for i in range(100)}
    content, note = _message(notification(CONFIG, alert={"details": details}))
    rows = card(content)["body"][-2]["facts"]
    assert note == f"{6 + 100 - len(rows)} details left out"


@pytest.mark.parametrize("url", ["", f"https://x:{CANARY}@y", f"ftp://{CANARY}", f"https://{CANARY}:0/"])
def test_a_bad_config_is_refused_and_never_quoted(url: str) -> None:
    with pytest.raises(ValidationError, match="webhook_url") as caught:
        TeamsConfig.model_validate({"webhook_url": url})
    assert CANARY not in str(caught.value)
