"""What is published: JSON of bounded size, shortened in order."""

from __future__ import annotations

import re
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from senders.mqtt import MAX_PAYLOAD, _payload
from tests.unit.senders.mqtt_support import config
from tests.unit.senders.support import notification

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=50) | st.just("🔥" * 9000),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=8,
)


@given(
    st.text(max_size=200) | st.just("👩‍👩‍👧" * 5000), st.dictionaries(st.text(max_size=9), JSON, max_size=5)
)
def test_a_payload_is_json_of_bounded_size_whatever_the_alert_holds(
    said: str, details: dict[str, Any]
) -> None:
    delivery = notification(config(1883), alert={"message": said, "details": details})
    content, note = _payload(delivery)
    assert len(content) <= MAX_PAYLOAD
    assert orjson.loads(content)["data"].get("truncated", False) == (note is not None)


def _data(alert: dict[str, Any], **templates: str) -> tuple[dict[str, Any], str | None]:
    content, note = _payload(notification(config(1883, **templates), alert=alert))
    assert len(content) <= MAX_PAYLOAD
    return orjson.loads(content)["data"], note


def test_what_does_not_fit_is_shortened_in_order_and_named() -> None:
    # Given details that are too large, then they alone are left out
    data, note = _data({"details": {"x": "y" * 30_000}})
    assert (data["details"], data["message"], data["truncated"]) == ({}, "Smoke in the hall", True)
    assert re.fullmatch(r"\d+ bytes shortened; details left out", note or "")
    # Given a message that is too large beside what a template says of it, then what the template says stays
    data, note = _data({"message": "m" * 30_000, "details": {}}, body_template="{{ event }} " * 9)
    assert data["body"].startswith("OPEN OPEN")
    assert data["message"].endswith("…")
    assert re.fullmatch(r"\d+ bytes shortened; clipped: message", note or "")
    # Given a template that repeats a large message, then both are clipped
    data, note = _data({"message": "é" * 30_000}, title_template="{{ body }}", body_template="{{ body }}" * 4)
    assert data["body"].endswith("é…")
    assert len(data["title"]) == 1000
    assert re.fullmatch(r"\d+ bytes shortened; details left out; clipped: title, message, body", note or "")
    # Given a template that says nothing, then that is noted
    data, note = _data({}, title_template="{{ alert.nothing }}")
    assert data["title"] == "Error: smoke detected at cam-3, berlin"
    assert note == "title_template made no text, the standard one was sent"
