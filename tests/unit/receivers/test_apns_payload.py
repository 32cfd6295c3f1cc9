from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receivers.apns_payload import payload_problems


@pytest.mark.parametrize(
    "aps",
    [
        {"alert": 5},
        {"alert": {"titel": "x"}},
        {"alert": {"title": 5}},
        {"alert": {"loc-args": "x"}},
        {"alert": "x", "badge": -1},
        {"alert": "x", "badge": True},
        {"alert": "x", "sound": {"name": "a", "volume": 2}},
        {"alert": "x", "sound": {"critical": 1}},
        {"alert": "x", "sound": {"critical": "yes", "name": "a"}},
        {"alert": "x", "interruption-level": "urgent"},
        {"alert": "x", "relevance-score": 1.5},
        {"alert": "x", "mutable-content": "1"},
        {"alert": "x", "thread-id": 3},
        {"alert": "x", "unknown": 3},
        "text",
    ],
)
def test_an_aps_that_a_device_would_ignore_is_found(aps: Any) -> None:
    assert payload_problems({"aps": aps})


def test_a_rich_aps_is_right() -> None:
    aps = {
        "alert": {"title": "t", "subtitle": "s", "body": "b", "title-loc-args": ["x"]},
        "badge": 0,
        "sound": {"critical": 1, "name": "siren.caf", "volume": 0.8},
        "thread-id": "a",
        "category": "ALERT",
        "mutable-content": 1,
        "interruption-level": "time-sensitive",
        "relevance-score": 1,
    }
    assert payload_problems({"aps": aps, "url": "https://example.org"}) == []


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)
aps_keys = st.sampled_from(
    ["alert", "badge", "sound", "thread-id", "interruption-level", "content-available", "x"]
)


@given(st.fixed_dictionaries({"aps": json_values | st.dictionaries(aps_keys, json_values)}))
def test_no_payload_upsets_the_checks(payload: dict[str, Any]) -> None:
    for problem in payload_problems(payload):
        assert problem.startswith("aps")
