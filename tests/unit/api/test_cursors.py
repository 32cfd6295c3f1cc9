from __future__ import annotations

import base64

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from api.cursors import decode, encode
from model.problems import InvalidInput

numbers = st.integers(-(2**63) + 1, 2**63 - 1)


@given(st.lists(numbers, min_size=1, max_size=3))
def test_a_position_returns(position: list[int]) -> None:
    cursor = encode("jobs", tuple(position))
    assert decode("jobs", cursor, width=len(position)) == tuple(position)


def test_no_cursor_is_the_beginning() -> None:
    assert decode("jobs", None, width=1) is None


@given(st.text(max_size=250))
@example("")
@example("=" * 8)
@example("é")
@example("A")
def test_what_is_no_cursor_is_refused(text: str) -> None:
    try:
        found = decode("jobs", text, width=1)
    except InvalidInput:
        return
    # What was taken is what we would have written ourselves.
    assert found is not None
    assert encode("jobs", found) == text


@pytest.mark.parametrize(
    "content",
    [
        ["log", 1],
        ["jobs"],
        ["jobs", 1, 2],
        ["jobs", True],
        ["jobs", 1.5],
        ["jobs", "1"],
        ["jobs", 2**63],
        {},
        None,
        1,
    ],
)
def test_another_list_s_cursor_and_other_content_are_refused(content: object) -> None:
    cursor = base64.urlsafe_b64encode(orjson.dumps(content)).decode().rstrip("=")
    with pytest.raises(InvalidInput):
        decode("jobs", cursor, width=1)
