from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from api import examples
from api.ingest.cloudevents import from_cloudevents
from api.ingest.mapping import Mapping
from model.alert import parse_alert
from model.problems import InvalidInput

MAPPING = Mapping()

words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
values = st.none() | st.booleans() | st.integers(-(2**63) + 1, 2**63 - 1) | words
data = st.recursive(
    values, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3)
)
names = st.sampled_from(["message", "summary", "severity", "alert_id", "site_id", "device_id"])
events = st.fixed_dictionaries(
    {
        "specversion": st.just("1.0"),
        "id": words.filter(bool),
        "source": words.filter(bool),
        "type": words.filter(bool),
    },
    optional={
        "subject": words,
        "time": st.datetimes().map(lambda moment: f"{moment.isoformat()}Z"),
        "data": data.filter(lambda value: not isinstance(value, dict) or "event_type" not in value)
        | st.dictionaries(names, values | data | st.floats(allow_nan=False, allow_infinity=False)),
        "data_base64": st.just("AAEC"),
        "alertid": values,
        "severity": values,
        "site": values,
    },
)


def event(**changes: Any) -> dict[str, Any]:
    return examples.CLOUDEVENT | changes


@given(events)
def test_any_event_becomes_a_valid_alert(given_event: dict[str, Any]) -> None:
    for each in from_cloudevents(given_event, MAPPING) + from_cloudevents([given_event], MAPPING):
        parse_alert(each)


def test_an_event() -> None:
    [alert] = from_cloudevents(examples.CLOUDEVENT, MAPPING)
    assert alert == {
        "alert_id": "water-cellar-2",
        "event_type": "OPEN",
        "alert_type": "com.example.water.detected",
        "severity": 4,
        "device_id": "cellar-2",
        "site_id": "berlin",
        "message": "Water in the cellar",
        "triggered_at": "2026-03-29T01:30:00.000000Z",
        "details": {
            "source": "cloudevents",
            "event": {
                "id": "7d1f", "source": "/sensors/cellar", "type": "com.example.water.detected", "subject": "cellar-2",
            },
            "labels": {"alertid": "water-cellar-2", "severity": "critical"},
            "device_tags": {"alertid": "water-cellar-2", "severity": "critical"},
            "data": examples.CLOUDEVENT["data"],
        },
    }  # fmt: skip


def test_a_redelivery_is_the_same_alert_and_another_source_s_event_is_not() -> None:
    plain = {name: value for name, value in examples.CLOUDEVENT.items() if name != "alertid"}
    ids = [
        alert["alert_id"]
        for alert in from_cloudevents(
            [plain, plain, plain | {"source": "/sensors/roof"}, plain | {"id": "2"}], MAPPING
        )
    ]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 3


parts = st.text("#%2350/a", min_size=1, max_size=4)


@given(st.lists(st.tuples(parts, parts), min_size=2, max_size=2, unique=True))
@example([("/s#a", "b"), ("/s", "a#b")])
@example([("/s", "a#"), ("/s", "a%23")])
def test_two_events_are_two_alerts(pairs: list[tuple[str, str]]) -> None:
    plain = {name: value for name, value in examples.CLOUDEVENT.items() if name != "alertid"}
    alerts = from_cloudevents(
        [plain | {"source": source, "id": given_id} for source, given_id in pairs], MAPPING
    )
    assert len({alert["alert_id"] for alert in alerts}) == 2


def test_an_id_of_usual_characters_stays_as_it_is() -> None:
    plain = {name: value for name, value in examples.CLOUDEVENT.items() if name != "alertid"}
    [alert] = from_cloudevents(plain | {"source": "/s?a=%20#f", "id": "7d1f/ü 1"}, MAPPING)
    assert alert["alert_id"] == "/s?a=%20#f#7d1f/ü 1"


@pytest.mark.parametrize("number", [0, 1, 7])
def test_a_number_may_be_an_alert_s_id(number: int) -> None:
    plain = {name: value for name, value in examples.CLOUDEVENT.items() if name != "alertid"}
    [alert] = from_cloudevents(plain | {"data": {"alert_id": number}}, MAPPING)
    assert alert["alert_id"] == str(number)


@pytest.mark.parametrize(
    ("kind", "said", "expected"),
    [
        ("com.example.disk.resolved", {}, "CLOSED"),
        ("disk.Cleared", {}, "CLOSED"),
        ("disk.acknowledged", {}, "ACKNOWLEDGED"),
        ("disk.escalated", {}, "ESCALATED"),
        ("resolved", {}, "CLOSED"),
        ("disk.full", {"event_type": "CLOSED"}, "CLOSED"),
        ("disk.full", {"event_type": "closed"}, "CLOSED"),
        ("disk.full", {"event_type": "Resolved"}, "CLOSED"),
        ("disk.full", {"event_type": " acknowledged "}, "ACKNOWLEDGED"),
        ("disk.full", {"event_type": "escalated"}, "ESCALATED"),
        ("disk.resolved", {"event_type": "firing"}, "OPEN"),
        ("disk.resolved", {"event_type": None}, "CLOSED"),
    ],
)
def test_which_event_of_the_alert_it_is(kind: str, said: dict[str, Any], expected: str) -> None:
    [alert] = from_cloudevents(event(type=kind, data=said), MAPPING)
    assert alert["event_type"] == expected


@pytest.mark.parametrize(
    ("kind", "said", "expected"),
    [
        ("com.example.door", {}, "com.example.door"),
        ("com.example.door.resolved", {}, "com.example.door"),
        ("com.example.door.Closed", {}, "com.example.door"),
        ("com.example.door.opened", {}, "com.example.door"),
        ("com.example.door.firing", {}, "com.example.door"),
        ("com.example.door.escalated", {"event_type": "ESCALATED"}, "com.example.door"),
        # The word that says no event is one of the type; one that says another than the data is not.
        ("com.example.door.ajar", {}, "com.example.door.ajar"),
        ("com.example.door.ajar", {"event_type": "CLOSED"}, "com.example.door.ajar"),
        ("com.example.door.closed", {"event_type": "OPEN"}, "com.example.door"),
        ("com.example.door.triggered", {"event_type": "OPEN"}, "com.example.door"),
        ("com.example.door.triggered", {"event_type": "CLOSED"}, "com.example.door"),
        ("resolved", {}, "resolved"),
        (".resolved", {}, ".resolved"),
        ("com.example.door.resolved", {"alert_type": "door.resolved"}, "door.resolved"),
    ],
)
def test_all_events_of_an_alert_have_one_type(kind: str, said: dict[str, Any], expected: str) -> None:
    [alert] = from_cloudevents(event(type=kind, data=said), MAPPING)
    assert alert["alert_type"] == expected


@pytest.mark.parametrize(
    ("number", "expected"), [(4.0, 4), (4, 4), (0.0, 0), (3.5, 2), (float("inf"), 2), (-1.0, 2)]
)
def test_a_number_is_a_severity_however_json_writes_it(number: float, expected: int) -> None:
    plain = {name: value for name, value in examples.CLOUDEVENT.items() if name != "severity"}
    [alert] = from_cloudevents(plain | {"data": {"severity": number}}, MAPPING)
    assert alert["severity"] == expected


@pytest.mark.parametrize(
    ("document", "batched", "field"),
    [
        (event(specversion="0.3"), None, "specversion"),
        ({}, None, "id"),
        ([event(), {}], None, "[1].id"),
        (event(id=7), None, "id"),
        (event(source=""), None, "source"),
        (event(time="noon"), None, "time"),
        (event(data={"event_type": "no such"}), None, "data.event_type"),
        ([event(), event(data={"event_type": 7})], None, "[1].data.event_type"),
        (event(), True, ""),
        ([event()], False, ""),
        ("event", None, ""),
    ],
)
def test_what_is_no_event_is_refused_with_its_field(document: Any, batched: bool | None, field: str) -> None:  # noqa: FBT001  # a parameter of the table
    with pytest.raises(InvalidInput) as raised:
        from_cloudevents(document, MAPPING, batched=batched)
    assert field in [problem.field for problem in raised.value.problems]
