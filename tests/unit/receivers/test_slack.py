from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from slack_sdk.models.blocks import (
    ActionsBlock,
    ButtonElement,
    ContextBlock,
    DividerBlock,
    HeaderBlock,
    ImageBlock,
    MarkdownTextObject,
    SectionBlock,
)
from slack_sdk.webhook import WebhookClient

from receivers.slack import message_problems

if TYPE_CHECKING:
    import httpx

    from receivers import FarSide


def test_slacks_own_client_and_blocks_are_taken(far: FarSide) -> None:
    blocks = [
        HeaderBlock(text="x" * 150),
        SectionBlock(text=MarkdownTextObject(text="x" * 3000), fields=[MarkdownTextObject(text="*a*")] * 10),
        DividerBlock(),
        ImageBlock(image_url="https://example.org/a.png", alt_text="a"),
        ContextBlock(elements=[MarkdownTextObject(text="site")]),
        ActionsBlock(elements=[ButtonElement(text="Open", url="https://example.org", action_id="open")]),
    ]
    response = WebhookClient(far.slack.url("ops")).send(text="Door", blocks=blocks)
    assert (response.status_code, response.body) == (200, "ok")
    (received,) = far.slack.received_for("ops")
    assert received.problems == []
    assert received.content["text"] == "Door"


def test_a_form_payload_is_read_too(far: FarSide, http: httpx.Client) -> None:
    assert http.post(far.slack.url("ops"), data={"payload": json.dumps({"text": "hi"})}).text == "ok"
    assert far.slack.received[0].content == {"text": "hi"}


def section(**fields: Any) -> dict[str, Any]:
    return {"type": "section", **fields}


def mrkdwn(text: Any) -> dict[str, Any]:
    return {"type": "mrkdwn", "text": text}


@pytest.mark.parametrize(
    ("message", "word"),
    [
        ([], "invalid_payload"),
        ({}, "no_text"),
        ({"text": ""}, "no_text"),
        ({"text": 5}, "invalid_payload"),
        ({"text": "x" * 40_001}, "invalid_payload"),
        ({"attachments": [{}] * 101}, "too_many_attachments"),
        ({"blocks": [{"type": "divider"}] * 51}, "invalid_blocks"),
        ({"blocks": {"type": "divider"}}, "invalid_blocks"),
        ({"blocks": [{"type": "banner"}]}, "invalid_blocks"),
        ({"blocks": [{"type": ["header"]}]}, "invalid_blocks"),
        (
            {"blocks": [{"type": "header", "text": {"type": "plain_text", "text": "x" * 151}}]},
            "invalid_blocks",
        ),
        ({"blocks": [{"type": "header", "text": mrkdwn("x")}]}, "invalid_blocks"),
        ({"blocks": [section()]}, "invalid_blocks"),
        ({"blocks": [section(text=mrkdwn("x" * 3001))]}, "invalid_blocks"),
        ({"blocks": [section(text=mrkdwn(""))]}, "invalid_blocks"),
        ({"blocks": [section(fields=[mrkdwn("x")] * 11)]}, "invalid_blocks"),
        ({"blocks": [section(fields=[mrkdwn("x" * 2001)])]}, "invalid_blocks"),
        ({"blocks": [section(text=mrkdwn("x"), block_id="a")] * 2}, "invalid_blocks"),
        ({"blocks": [{"type": "context", "elements": [mrkdwn("x")] * 11}]}, "invalid_blocks"),
        ({"blocks": [{"type": "image", "image_url": "https://example.org/a.png"}]}, "invalid_blocks"),
        ({"blocks": [{"type": "actions", "elements": [{"type": "button"}]}]}, "invalid_blocks"),
        ({"attachments": [{"blocks": [section()]}]}, "invalid_blocks"),
    ],
)
def test_what_slack_refuses(far: FarSide, http: httpx.Client, message: Any, word: str) -> None:
    response = http.post(far.slack.url("ops"), json=message)
    assert (response.status_code, response.text) == (400, word)
    (received,) = far.slack.received
    assert not received.valid
    assert received.reason == word


def test_a_body_that_is_no_json_is_an_invalid_payload(far: FarSide, http: httpx.Client) -> None:
    assert http.post(far.slack.url("ops"), content=b'{"text": NaN}').text == "invalid_payload"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)
blocks = st.fixed_dictionaries(
    {"type": st.sampled_from(["header", "section", "context", "actions", "image", "divider"])},
    optional={"text": json_values, "fields": json_values, "elements": json_values, "block_id": json_values},
)


@given(
    st.dictionaries(
        st.sampled_from(["text", "blocks", "attachments"]), json_values | st.lists(blocks, max_size=3)
    )
)
def test_no_message_upsets_the_checks(message: dict[str, Any]) -> None:
    word, problems = message_problems(message)
    assert bool(word) == bool(problems)
