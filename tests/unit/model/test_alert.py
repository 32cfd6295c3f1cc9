"""What a producer hands in: what is right is kept as it is, and what is wrong is named by field and rule."""

from __future__ import annotations

import json
import string
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.alert import MAX_ALERT_BYTES, MAX_DEPTH, MAX_INTEGER, AlertEvent, parse_alert
from model.problems import InvalidInput, Problem
from model.states import EventType

WHOLE = {
    "alert_id": "door-7",
    "event_type": "ESCALATED",
    "alert_type": "person",
    "severity": 4,
    "device_id": "cam-3",
    "site_id": "berlin",
    "message": "Person at the door \U0001f6aa",
    "details": {
        "device_tags": {"floor": 2, "indoor": True},
        "camera_id": 7,
        "is_critical": None,
        "x": [1.5, None],
    },
    "triggered_at": "2026-03-29T01:30:00.25+01:00",
}


#: Python itself refuses to print it.
HUGE = 10**5000


def _problems(data: Any, prefix: str = "") -> list[tuple[str, str]]:
    with pytest.raises(InvalidInput) as caught:
        parse_alert(data, prefix=prefix)
    return [(problem.field, problem.rule) for problem in caught.value.problems]


def test_a_whole_alert_is_kept_as_it_was_given() -> None:
    alert = parse_alert(WHOLE)

    assert alert.event_type is EventType.ESCALATED
    assert alert.snapshot == {
        name: value for name, value in WHOLE.items() if name not in {"event_type", "triggered_at"}
    } | {"triggered_at": "2026-03-29T01:30:00.250000+01:00"}


def test_what_was_not_given_is_not_in_the_snapshot() -> None:
    alert = parse_alert({"alert_id": 7})

    assert alert.event_type is EventType.OPEN
    assert alert.snapshot == {"alert_id": 7}


def test_seven_as_a_number_and_as_text_are_one_alert_and_stay_what_they_were() -> None:
    number, text = parse_alert({"alert_id": 7}), parse_alert({"alert_id": "7"})

    assert number.key == text.key == "7"
    assert number.snapshot["alert_id"] == 7
    assert text.snapshot["alert_id"] == "7"


def test_an_alert_that_was_parsed_is_taken_as_it_is() -> None:
    alert = parse_alert(WHOLE)

    assert parse_alert(alert) is alert


@pytest.mark.parametrize(
    ("changes", "field", "rule"),
    [
        ({"alert_id": None}, "alert_id", "must be an integer or a string of 1 to 255 characters"),
        ({"alert_id": ""}, "alert_id", "must be an integer or a string of 1 to 255 characters"),
        ({"alert_id": "x" * 256}, "alert_id", "must be an integer or a string of 1 to 255 characters"),
        ({"alert_id": True}, "alert_id", "must be an integer or a string of 1 to 255 characters"),
        ({"alert_id": 7.0}, "alert_id", "must be an integer or a string of 1 to 255 characters"),
        ({"alert_id": ["7"]}, "alert_id", "must be an integer or a string of 1 to 255 characters"),
        ({"event_type": "open"}, "event_type", "'OPEN', 'ACKNOWLEDGED', 'ESCALATED' or 'CLOSED'"),
        ({"event_type": None}, "event_type", "'OPEN', 'ACKNOWLEDGED', 'ESCALATED' or 'CLOSED'"),
        ({"alert_type": 5}, "alert_type", "string"),
        ({"alert_type": "x" * 256}, "alert_type", "at most 255"),
        ({"severity": "3"}, "severity", "integer"),
        ({"severity": 3.0}, "severity", "integer"),
        ({"severity": True}, "severity", "integer"),
        ({"severity": -1}, "severity", "greater than or equal to 0"),
        ({"severity": 1_000_001}, "severity", "less than or equal to 1000000"),
        ({"device_id": 5}, "device_id", "string"),
        ({"device_id": "x" * 256}, "device_id", "at most 255"),
        ({"site_id": {}}, "site_id", "string"),
        ({"site_id": "x" * 256}, "site_id", "at most 255"),
        ({"message": 5}, "message", "string"),
        ({"message": "x" * (64 * 1024 + 1)}, "message", "at most 65536"),
        ({"details": []}, "details", "dictionary"),
        ({"details": {"device_tags": ["a"]}}, "details", "device_tags must be an object"),
        ({"details": {"is_critical": "yes"}}, "details", "is_critical must be true or false"),
        ({"details": {"is_critical": 1}}, "details", "is_critical must be true or false"),
        ({"details": {"camera_id": ["a"]}}, "details", "camera_id must be a string or an integer"),
        ({"details": {"camera_id": True}}, "details", "camera_id must be a string or an integer"),
        (
            {"details": {"smart_detection_type": 1.5}},
            "details",
            "smart_detection_type must be a string or an integer",
        ),
        ({"triggered_at": "yesterday"}, "triggered_at", "RFC 3339"),
        ({"triggered_at": "2026-03-29"}, "triggered_at", "RFC 3339"),
        ({"triggered_at": "1774747800"}, "triggered_at", "RFC 3339"),
        ({"triggered_at": 1774747800}, "triggered_at", "RFC 3339"),
        ({"triggered_at": "2026-03-29T01:30:00"}, "triggered_at", "timezone"),
        ({"triggered_at": "2026-13-29T01:30:00Z"}, "triggered_at", "month"),
        ({"severty": 5}, "severty", "no such field; did you mean severity?"),
        ({"zzz": 5}, "zzz", "no such field"),
    ],
)
def test_a_wrong_field_is_named_with_its_rule(changes: dict[str, Any], field: str, rule: str) -> None:
    ((found, text),) = _problems({"alert_id": 7, **changes})

    assert found == field
    assert rule in text


def test_an_alert_without_id_says_so() -> None:
    assert _problems({"severity": 3}) == [("alert_id", "required")]


def test_all_wrong_fields_are_named_at_once_with_their_place_in_the_input() -> None:
    found = _problems({"severity": "high", "sit_id": "b"}, prefix="[3]")

    assert [field for field, _ in found] == ["[3].alert_id", "[3].severity", "[3].sit_id"]


def test_the_error_never_quotes_the_value() -> None:
    canary = "c4nary"

    with pytest.raises(InvalidInput) as caught:
        parse_alert({"alert_id": 7, "severity": canary, "event_type": canary, "triggered_at": canary})

    assert canary not in str(caught.value)


@pytest.mark.parametrize("data", [None, 5, "text", [], [{"alert_id": 7}], b"{}"])
def test_what_is_no_object_is_no_alert(data: Any) -> None:
    assert _problems(data, prefix="[1]") == [("[1]", "an alert must be an object")]


@pytest.mark.parametrize("text", ["a\0b", "\ud800", "\udfff tail"])
@pytest.mark.parametrize("field", ["alert_id", "alert_type", "device_id", "site_id", "message"])
def test_text_that_postgresql_or_json_cannot_hold(field: str, text: str) -> None:
    ((found, rule),) = _problems({"alert_id": 7, field: text})

    assert found == field
    assert "NUL" in rule or "surrogates" in rule


@pytest.mark.parametrize(
    ("details", "field", "rule"),
    [
        ({"a": [{"b": "x\0"}]}, "details.a[0].b", "NUL"),
        ({"a": "\ud800"}, "details.a", "surrogates"),
        ({"a": {"k\0": 1}}, "details.a", "NUL"),
        ({"a": {"\udc00": 1}}, "details.a", "surrogates"),
        ({"a": float("nan")}, "details.a", "finite"),
        ({"a": [1, json.loads("1e999")]}, "details.a[1]", "finite"),
        ({"a": HUGE}, "details.a", "64 bits"),
        ({"a": -HUGE}, "details.a", "64 bits"),
        ({"a": MAX_INTEGER + 1}, "details.a", "64 bits"),
        ({"a": {7: "x"}}, "details.a", "keys must be strings"),
        ({7: "x"}, "details", "keys must be strings"),
        ({"a": {1, 2}}, "details.a", "must be JSON, not set"),
        ({"a": b"x"}, "details.a", "must be JSON, not bytes"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_hostile_details_are_named_by_their_path(details: Any, field: str, rule: str) -> None:
    ((found, text),) = _problems({"alert_id": 7, "details": details})

    assert found == field
    assert rule in text


@pytest.mark.parametrize(
    ("name", "value"), [("alert_id", HUGE), ("severity", -HUGE)], ids=["alert_id", "severity"]
)
def test_an_integer_of_five_thousand_digits_is_refused_in_every_field(name: str, value: int) -> None:
    assert _problems({"alert_id": 7, name: value}) == [(name, "must fit into 64 bits")]


def test_a_key_of_the_alert_itself_must_be_text() -> None:
    assert _problems({"alert_id": 7, 5: "x"}) == [("", "keys must be strings")]


def _nested(depth: int) -> Any:
    value: Any = 1
    for level in range(depth):
        value = [value] if level % 2 else {"k": value}
    return value


def test_nesting_has_a_limit_however_deep_it_goes() -> None:
    # `details` itself is the alert's first level, so one less remains for what is in it.
    parse_alert({"alert_id": 7, "details": {"a": _nested(MAX_DEPTH - 2)}})

    for depth in (MAX_DEPTH - 1, 100_000):
        ((field, rule),) = _problems({"alert_id": 7, "details": {"a": _nested(depth)}})
        assert field.startswith("details.a")
        assert "32 deep" in rule


def test_an_alert_may_be_exactly_as_large_as_the_limit() -> None:
    empty = {"alert_id": 7, "details": {"text": ""}}
    room = MAX_ALERT_BYTES - len(orjson.dumps(empty))

    assert (
        len(orjson.dumps(parse_alert({"alert_id": 7, "details": {"text": "x" * room}}).snapshot))
        == MAX_ALERT_BYTES
    )
    assert _problems({"alert_id": 7, "details": {"text": "x" * (room + 1)}}) == [
        ("", "an alert must not exceed 262,144 bytes of JSON")
    ]
    # Bytes, not characters: a character beyond ASCII takes more than one.
    assert _problems({"alert_id": 7, "details": {"text": "\U0001f6aa" * (room // 4 + 1)}})


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-MAX_INTEGER, MAX_INTEGER),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30),
)
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=15,
)


@given(
    alert_id=st.integers(-MAX_INTEGER, MAX_INTEGER) | TEXT.filter(bool),
    event=st.sampled_from(EventType),
    severity=st.none() | st.integers(0, 1_000_000),
    message=st.none() | TEXT,
    extra=JSON,
)
def test_any_json_survives_the_snapshot(
    alert_id: int | str, event: EventType, severity: int | None, message: str | None, extra: Any
) -> None:
    data = {"alert_id": alert_id, "severity": severity, "message": message, "details": {"extra": extra}}

    alert = parse_alert({**data, "event_type": event.value})

    assert alert.event_type is event
    assert orjson.loads(orjson.dumps(alert.snapshot)) == data


ANYTHING = st.recursive(
    SCALARS
    | st.floats()
    | st.text()
    | st.integers()
    | st.binary(max_size=3)
    | st.datetimes()
    | st.just("\ud800"),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=4)
    ),
    max_leaves=15,
)
NAMES = st.sampled_from([*AlertEvent.model_fields, "other"])


@given(data=st.dictionaries(NAMES, ANYTHING, max_size=6) | ANYTHING)
def test_whatever_comes_is_either_storable_or_refused_in_words(data: Any) -> None:
    try:
        alert = parse_alert(data)
    except InvalidInput as error:
        assert error.problems  # noqa: PT017  # either outcome is right, and each has its own check
        str(error).encode()
    else:
        stored = orjson.dumps(alert.snapshot)
        assert len(stored) <= MAX_ALERT_BYTES
        assert b"\\u0000" not in stored.replace(b"\\\\", b"")


class Unusual(str):
    """Text that is no plain `str`, and so is never passed over."""

    __slots__ = ()


def _unusual(value: Any) -> Any:
    if isinstance(value, str):
        return Unusual(value)
    if isinstance(value, dict):
        return {_unusual(key): _unusual(item) for key, item in value.items()}
    return [_unusual(item) for item in value] if isinstance(value, list) else value


def _read(extra: Any) -> Any:
    try:
        return parse_alert({"alert_id": 7, "details": {"extra": extra}}).snapshot
    except InvalidInput as error:
        return error.problems


HOSTILE = st.text("a\0\ud800é", max_size=3)


@given(extra=ANYTHING | HOSTILE | st.dictionaries(HOSTILE, HOSTILE, max_size=2))
def test_text_that_is_passed_over_is_judged_as_text_that_is_looked_at(extra: Any) -> None:
    assert _read(extra) == _read(_unusual(extra))


@given(moment=st.datetimes(timezones=st.just(UTC)))
def test_a_time_is_kept_to_the_microsecond(moment: datetime) -> None:
    for given_as in (moment, moment.isoformat(), moment.isoformat().replace("+00:00", "Z")):
        kept = parse_alert({"alert_id": 7, "triggered_at": given_as}).snapshot["triggered_at"]
        assert datetime.fromisoformat(kept) == moment


@given(text=st.text(string.ascii_letters, min_size=1))
def test_a_problem_reads_as_field_and_rule(text: str) -> None:
    assert str(Problem(text, "must be so")) == f"{text}: must be so"
    assert str(Problem("", text)) == text
