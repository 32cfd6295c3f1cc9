from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receivers.teams import CARD_TYPE, message_problems

if TYPE_CHECKING:
    import httpx

    from receivers import FarSide


def card(**changed: Any) -> dict[str, Any]:
    right: dict[str, Any] = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "msteams": {"width": "full"},
        "body": [
            {"type": "TextBlock", "text": "Door", "weight": "Bolder"},
            {"type": "FactSet", "facts": [{"title": "Site", "value": "north"}]},
            {
                "type": "ColumnSet",
                "columns": [{"type": "Column", "items": [{"type": "TextBlock", "text": "x"}]}],
            },
            {"type": "Container", "items": [{"type": "Image", "url": "https://example.org/a.png"}]},
        ],
        "actions": [{"type": "Action.OpenUrl", "title": "Open", "url": "https://example.org"}],
    }
    return {**right, **changed}


def message(content: Any = None, **changed: Any) -> dict[str, Any]:
    attachment = {"contentType": CARD_TYPE, "contentUrl": None, "content": content or card()}
    return {"type": "message", "attachments": [{**attachment, **changed}]}


def test_a_card_in_its_envelope_is_taken(far: FarSide, http: httpx.Client) -> None:
    response = http.post(far.teams.url("ops"), json=message())
    assert (response.status_code, response.content) == (202, b"")
    (received,) = far.teams.received_for("ops")
    assert received.problems == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"text": "hello"},
        {"type": "message"},
        {"type": "message", "attachments": []},
        {"type": "message", "attachments": [5]},
        {**message(), "type": "text"},
        message(contentType="text/html"),
        message(contentUrl="https://example.org"),
        message(content=card(type="Card")),
        message(content=card(version="1.9")),
        message(content=card(version=None)),
        message(content=card(body=[{"type": "Banner"}])),
        message(content=card(body=[{"type": "TextBlock"}])),
        message(content=card(body=[{"type": "TextBlock", "text": ""}])),
        message(content=card(body=[{"type": "FactSet", "facts": [{"title": "a"}]}])),
        message(content=card(body=[{"type": "Image"}])),
        message(content=card(body=[{"type": "Container", "items": [{"type": "TextBlock"}]}])),
        message(content=card(body=[{"type": "ColumnSet", "columns": [{"items": [{"type": "TextBlock"}]}]}])),
        message(content=card(actions=[{"type": "Action.OpenUrl", "title": "a"}])),
        message(content=card(actions=[{"type": "Action.OpenUrl", "title": "a", "url": "https://x"}] * 7)),
    ],
)
def test_what_would_post_no_card_is_refused(far: FarSide, http: httpx.Client, wrong: dict[str, Any]) -> None:
    response = http.post(far.teams.url("ops"), json=wrong)
    assert (response.status_code, response.json()["error"]["code"]) == (400, "InvalidRequestContent")
    assert not far.teams.received[0].valid


def test_28_kilobytes_are_the_most(far: FarSide, http: httpx.Client) -> None:
    empty = len(
        http.build_request("POST", far.teams.url("x"), json=message(content=card(fallbackText=""))).content
    )
    for size, status in ((28 * 1024, 202), (28 * 1024 + 1, 413)):
        body = message(content=card(fallbackText="x" * (size - empty)))
        assert http.post(far.teams.url("ops"), json=body).status_code == status


def test_the_signature_in_the_url_is_the_secret(far: FarSide, http: httpx.Client) -> None:
    url = far.teams.url("ops")
    for wrong in (url.partition("?")[0], url + "x"):
        assert http.post(wrong, json=message()).status_code == 401


def test_the_content_type_must_be_json(far: FarSide, http: httpx.Client) -> None:
    assert (
        http.post(far.teams.url("ops"), content=b"{}", headers={"Content-Type": "text/plain"}).status_code
        == 400
    )


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "body", "items", "facts", "columns", "actions"]), inner, max_size=3
        )
    ),
    max_leaves=12,
)


@given(json_values)
def test_no_card_upsets_the_checks(content: Any) -> None:
    attachment = {"contentType": CARD_TYPE, "contentUrl": None, "content": content}
    assert message_problems({"type": "message", "attachments": [attachment]})
