"""Alerts out of a text: three shapes told apart, names that lead to the place, memory of one piece."""

from __future__ import annotations

import io
import json
from typing import Any, BinaryIO, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.stream import PIECE, alerts
from model.problems import InvalidInput

VALUES = st.dictionaries(
    st.text(max_size=5), st.integers() | st.text(max_size=8) | st.lists(st.booleans(), max_size=3), max_size=4
)


class Slow(io.BytesIO):
    """A source that gives a few bytes at a time, as a pipe may; a piece may end within a character."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(min(3, size or 3))


def read(text: str | bytes, source: type[io.BytesIO] = io.BytesIO) -> list[tuple[str, Any]]:
    raw = text.encode() if isinstance(text, str) else text
    return list(alerts(cast("BinaryIO", source(raw))))


@given(st.lists(VALUES, min_size=2, max_size=6))
def test_lines_and_arrays_give_the_same_values_however_they_come(values: list[Any]) -> None:
    lines = "\n".join(json.dumps(value, ensure_ascii=False) for value in values)
    for source in (io.BytesIO, Slow):
        assert read(lines, source) == [(f"line {number}", value) for number, value in enumerate(values, 1)]
        array = read(json.dumps(values, indent=2, ensure_ascii=False), source)
        assert array == [(f"[{index}]", value) for index, value in enumerate(values)]


def test_one_object_over_several_lines_needs_no_name() -> None:
    assert read('\ufeff\n{\n "a": 1\n}\n') == [("", {"a": 1})]


def test_a_name_is_the_line_on_which_the_alert_begins() -> None:
    assert [name for name, _ in read('{"a":\n1}\n\n{"b": 2}')] == ["line 1", "line 4"]


def test_nothing_is_no_alert() -> None:
    assert read("") == read(" \n ") == read("[]") == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"a": 1', "line 1: is no JSON"),
        ('{"a": 1}\n{"b": }', "line 2: is no JSON"),
        ('[{"a": 1} {"b": 2}]', "[0]: a comma or ] must follow it"),
        ('[{"a": 1},]', "[1]: is no JSON"),
        ('[{"a": 1}', "[0]: a comma or ] must follow it"),
        ("[1] x", "nothing may follow the array"),
        ('{"a": NaN}', "line 1: is no JSON that others read: nan is no json number"),
        ('{"a": ' + "9" * 5000 + "}", "line 1: is no JSON that others read"),
        ('{"a": {"b": 1, "b": 1}}', "line 1: is no JSON that others read: a name stands twice in one object"),
        ('[{"a": 1}, {"a": 1, "\\u0061": 2}]', "[1]: is no JSON that others read: a name stands twice"),
        ("[" * 100_000, "[0]: is nested too deep"),
        (b'{"a": "\xff"}', "must be UTF-8"),
        ('{"a": "' + "x" * 3_000_000 + '"}', "line 1: must not have more than 1,048,576 characters"),
        ('{"a": "' + "x" * 3_000_000, "line 1: must not have more than 1,048,576 characters"),
    ],
)
def test_what_is_no_json_is_refused_where_it_stands(text: str | bytes, told: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        read(text)
    assert str(refused.value).startswith(told)


def test_a_long_file_is_read_as_it_is_used() -> None:
    source = io.BytesIO(b'{"alert_id": 1, "message": "some words"}\n' * 100_000)
    values = alerts(cast("BinaryIO", source))
    next(values)
    assert source.tell() <= 2 * PIECE
    assert sum(1 for _ in values) == 99_999
