from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.body import DEEPEST, Body, strict_json
from api.problems import ProblemError
from model.problems import InvalidInput

scalars = (
    st.none() | st.booleans() | st.integers(-(2**63) + 1, 2**63 - 1) | st.text() | st.floats(allow_nan=False)
)
documents = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(documents)
def test_what_is_json_is_read_as_everybody_reads_it(document: Any) -> None:
    try:
        content = orjson.dumps(document)
    except TypeError:  # a lone surrogate, which is no JSON
        return
    assert strict_json(content) == json.loads(content)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"nul",
        b"NaN",
        b"[Infinity]",
        b"1e999",
        b'{"a": 1, "a": 2}',
        b'[{"x": {"a": 1, "b": 2, "a": 1}}]',
        b'{"a": 1, "\\u0061": 2}',
        b"9223372036854775808",
        b"-9223372036854775808",
        b"[" + b"1" * 5000 + b"]",
        b"[" * 100_000,
        b"[" * 1000 + b"]" * 1000,
        b'{"a":' * 1000 + b"1" + b"}" * 1000,
        b'"\\ud800"',
        b'"\xff"',
        b'"\x00"',
        b"\xef\xbb\xbf{}",
        b"{}{}",
        "{}".encode("utf-16"),
    ],
    ids=lambda content: repr(content[:12]),
)
def test_what_readers_take_differently_is_refused(content: bytes) -> None:
    with pytest.raises(ProblemError) as raised:
        strict_json(content)
    assert raised.value.status == 400


@given(st.binary(max_size=200))
def test_any_bytes_are_a_document_or_a_400(content: bytes) -> None:
    try:
        orjson.loads(content)
    except orjson.JSONDecodeError:
        with pytest.raises(ProblemError) as raised:
            strict_json(content)
        assert raised.value.status == 400


@given(st.integers(-(10**25), 10**25))
def test_integers_keep_their_value_or_are_refused(number: int) -> None:
    content = str(number).encode()
    if abs(number) <= 2**63 - 1:
        assert strict_json(content) == number
    else:
        with pytest.raises(ProblemError):
            strict_json(content)


def nested(depth: int) -> bytes:
    return b'{"a":' * depth + b"1" + b"}" * depth


def test_an_object_may_be_so_deep_and_no_deeper() -> None:
    assert Body(nested(DEEPEST - 1), "application/json").object()
    with pytest.raises(InvalidInput):
        Body(nested(DEEPEST), "application/json").object()


@pytest.mark.parametrize("content", [b"[]", b"1", b"null", b'"a"'])
def test_what_must_be_an_object_is_one(content: bytes) -> None:
    with pytest.raises(InvalidInput):
        Body(content, "application/json").object()
