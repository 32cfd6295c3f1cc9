"""Slack: blocks within every limit, escapes, and Slack's own words for what went wrong."""

from __future__ import annotations

import html
from typing import Any

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from slack_sdk.models.blocks import Block

from senders.outcomes import Misconfigured, Receipt, Rejected, SendError, Transient
from senders.slack import SlackConfig, SlackSender, _link, _message
from tests.unit.senders.support import CANARY, client, loopback_settings, notification, outcome, receiving

CONFIG = SlackConfig.model_validate({"webhook_url": "https://hooks.slack.com/services/T0/B0/x"})


def _texts(value: Any) -> list[dict[str, Any]]:
    """Every text object in a payload."""
    if isinstance(value, list):
        return [text for one in value for text in _texts(one)]
    if isinstance(value, dict):
        own = [value] if value.get("type") in {"mrkdwn", "plain_text"} else []
        return own + [text for one in value.values() for text in _texts(one)]
    return []


async def test_a_message_has_a_header_the_text_the_facts_and_a_fallback() -> None:
    async with receiving() as receiver, client() as http:
        config = SlackConfig.model_validate({"webhook_url": f"{receiver.url}/services/T0/B0/x"})
        receipt = await SlackSender(loopback_settings(), http).send(notification(config))
        assert receipt == Receipt("200 ok")
        message = receiver.requests[0].json
        assert receiver.requests[0].path == "/services/T0/B0/x"
        assert [block["type"] for block in message["blocks"]] == ["header", "section", "section", "context"]
        assert message["blocks"][0]["text"]["text"] == "🟠 Error: smoke detected at cam-3, berlin"
        assert message["blocks"][1]["text"]["text"] == "Smoke in the hall"
        assert {"type": "mrkdwn", "text": "*Device*\ncam-3", "verbatim": True} in message["blocks"][2][
            "fields"
        ]
        assert "note*\n&lt;b&gt;R&amp;D&lt;/b&gt;" in str(message["blocks"][2]["fields"]).replace("\\n", "\n")
        assert message["text"] == "🟠 Error: smoke detected at cam-3, berlin: Smoke in the hall"


def test_a_closed_alert_looks_different() -> None:
    heads = [
        _message(notification(CONFIG, event))[0]["blocks"][0]["text"]["text"]
        for event in ("OPEN", "ACKNOWLEDGED", "ESCALATED", "CLOSED")
    ]
    assert len(set(heads)) == 4
    assert heads[-1].startswith("✅ Resolved")


@pytest.mark.parametrize(
    ("status", "word", "expected"),
    [
        (200, "ok", Receipt),
        (400, "invalid_payload", Rejected),
        (400, "no_text", Rejected),
        (400, "no_service", Misconfigured),
        (403, "action_prohibited", Misconfigured),
        (403, "invalid_token", Misconfigured),
        (404, "channel_not_found", Misconfigured),
        (404, "no_service", Misconfigured),
        (404, "no_team", Misconfigured),
        (410, "channel_is_archived", Misconfigured),
        (413, "request_too_large", Rejected),
        (429, "rate_limited", Transient),
        (500, "rollup_error", Transient),
        (503, "no_service", Transient),
        (302, "", Misconfigured),
    ],
)
async def test_answers(status: int, word: str, expected: type[Any]) -> None:
    headers = {"Retry-After": "1"}
    async with receiving(status=status, body=word.encode(), headers=headers) as receiver, client() as http:
        config = SlackConfig.model_validate({"webhook_url": receiver.url})
        got = await outcome(SlackSender(loopback_settings(), http), notification(config))
        assert type(got) is expected
        assert got.code == (f"{status} {word}" if word else "302 Found")
        if isinstance(got, Transient):
            assert got.retry_after == 1


@pytest.mark.parametrize("status", [400, 403, 500])
async def test_the_url_is_in_no_record(status: int) -> None:
    async with receiving(status=status, echo=True) as receiver, client() as http:
        config = SlackConfig.model_validate({"webhook_url": f"{receiver.url}/services/T0/B0/{CANARY}"})
        got = await outcome(SlackSender(loopback_settings(), http), notification(config))
        assert isinstance(got, SendError)
        assert CANARY not in f"{got!r} {got} {config!r} {notification(config)!r} {config.model_dump()}"


NASTY = st.text(alphabet=st.sampled_from("&<>a👩‍🔬é\n\x00\ud800"), max_size=60)


@given(
    message=NASTY,
    repeat=st.integers(1, 120),
    names=st.lists(NASTY, max_size=14, unique=True),
    event=st.sampled_from(["OPEN", "CLOSED"]),
)
def test_any_alert_keeps_every_limit_and_every_entity_whole(
    message: str, repeat: int, names: list[str], event: str
) -> None:
    alert = {
        "message": message * repeat,
        "alert_type": message * repeat,
        "device_id": message,
        "details": dict.fromkeys(names, message * repeat),
    }
    payload, notes = _message(notification(CONFIG, event, alert=alert))
    # slack_sdk checks the limits once more when it reads the blocks back
    assert [block.to_dict() for block in Block.parse_all(payload["blocks"])] == payload["blocks"]
    assert len(payload["blocks"][2]["fields"]) <= 10
    for text in [*_texts(payload["blocks"]), {"text": payload["text"]}]:
        assert 1 <= len(text["text"]) <= 3000
        assert "<" not in text["text"]
        # Unescaping and escaping again gives the same only if no entity was cut
        assert html.escape(html.unescape(text["text"]), quote=False) == text["text"]
    assert notes.detail or "…" not in payload["blocks"][1]["text"]["text"]


def test_what_is_left_out_is_said() -> None:
    alert = {"message": "&" * 3000, "details": {f"k{i}": i for i in range(20)}}
    payload, notes = _message(notification(CONFIG, alert=alert))
    assert notes.detail == "16 details left out; clipped: message"
    assert payload["blocks"][1]["text"]["text"].endswith("&amp;…")
    assert _message(notification(CONFIG, alert={"message": "x" * 3000}))[1].detail is None
    assert _message(notification(CONFIG, alert={"message": "x" * 3001}))[1].detail == "clipped: message"


@given(rest=st.text(alphabet="a&<>|%", max_size=2048 - len("https://x.example/?")))
@hypothesis.example(rest="")
@hypothesis.example(rest="&" * 304 + "a" * 1725)
@hypothesis.example(rest="<" * 1000 + "|" * 1029)
def test_a_link_that_does_not_fit_costs_only_itself(rest: str) -> None:
    """Slack counts an & as five characters, so that a link which is fit to be followed may be too long for it."""
    url = f"https://x.example/?{rest}"
    payload, notes = _message(notification(CONFIG, alert={"details": {"url": url}}))
    shown = [text["text"] for text in _texts(payload["blocks"]) if "|Open>" in text["text"]]
    left_out = notes.detail == "details.url left out: it is too long for Slack"
    assert len(shown) == (not left_out)
    assert all(len(text) <= 3000 for text in shown)
    if left_out:
        assert len(_link(url)) > 3000
    assert payload["blocks"][1]["text"]["text"] == "Smoke in the hall"


def test_nobody_is_mentioned_by_an_alert() -> None:
    payload, _ = _message(notification(CONFIG, alert={"message": "<!channel> <@U123> @here <http://x|y>"}))
    assert payload["blocks"][1]["text"] == {
        "type": "mrkdwn",
        "verbatim": True,
        "text": "&lt;!channel&gt; &lt;@U123&gt; @here &lt;http://x|y&gt;",
    }


@pytest.mark.parametrize(
    "url", ["", "hooks.slack.com/x", f"https://x:{CANARY}@hooks.slack.com", f"ftp://{CANARY}"]
)
def test_a_bad_config_is_refused_and_never_quoted(url: str) -> None:
    with pytest.raises(ValidationError, match="webhook_url") as caught:
        SlackConfig.model_validate({"webhook_url": url})
    assert CANARY not in str(caught.value)
