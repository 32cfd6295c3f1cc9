"""The intake: all or nothing, once, committed before it is answered, and nothing that one sends makes it fail."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api import examples, pages
from api.routes import users
from model.database import connection, database, tuples
from model.tables import Alert
from tests.support.database import make_job

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.api.conftest import Api

JSON = {"Content-Type": "application/json"}


def stored() -> list[str]:
    with connection():
        query = Alert.select(Alert.alert_id).where(Alert.tenant == "acme").order_by(Alert.id)
        return [row[0] for row in tuples(query) if row[0] != "door/7"]


def test_an_array_is_committed_and_a_repeat_is_a_duplicate(api: Api) -> None:
    answer = api.call("POST", "/v1/alerts", role="ingest", json=[examples.ALERT, examples.CLOSED])
    assert (answer.status_code, answer.json()) == (202, {"accepted": 2, "duplicates": 0})
    answer = api.call(
        "POST", "/v1/alerts", role="ingest", json=[examples.ALERT, {"alert_id": 1}, {"alert_id": "1"}]
    )
    assert answer.json() == {"accepted": 1, "duplicates": 2}
    history = api.get(f"/v1/alerts/{examples.ALERT['alert_id']}")
    assert [event["event_type"] for event in history["events"]] == ["OPEN", "CLOSED"]
    assert history["events"][0]["details"] == examples.ALERT["details"]


def test_alerts_are_shown_with_their_jobs(api: Api) -> None:
    # Given an alert with two events, each of which two channels heard of, and one that nobody did
    api.call("POST", "/v1/alerts", json=[{"alert_id": 7, "severity": 2, "message": "m"}, {"alert_id": 8}])
    api.call("POST", "/v1/alerts", json={"alert_id": 7, "event_type": "CLOSED", "severity": 1})
    with connection():
        found = {
            row.event_type: row.id for row in Alert.select().where(Alert.alert_id == "7").order_by(Alert.id)
        }
        wanted = {
            event: [
                make_job(sequence=found[event], alert_id="7", deliver_on_event=event, channel_id=channel,
                         payload={"alert_id": 7})
                for channel in (1, 2)
            ]
            for event in found
        }  # fmt: skip
    # When they are listed, then each event has its own jobs
    items = api.get("/v1/alerts?limit=3")["items"]
    shown = [
        (each["alert_id"], each["event_type"], [job["job_id"] for job in each["jobs"]]) for each in items
    ]
    assert shown == [(7, "CLOSED", wanted["CLOSED"]), (8, "OPEN", []), (7, "OPEN", wanted["OPEN"])]
    assert [job["alert_id"] for job in items[0]["jobs"]] == [7, 7]
    assert set(items[0]["jobs"][0]) == set(api.get("/v1/jobs?limit=1")["items"][0])
    # And the alert itself is what its newest event says, with all of them
    whole = api.get("/v1/alerts/7")
    assert (whole["alert_id"], whole["event_type"], whole["severity"]) == (7, "CLOSED", 1)
    assert len(whole["events"]) == 2
    assert [job["job_id"] for job in whole["jobs"]] == [*wanted["OPEN"], *wanted["CLOSED"]]
    # And of another tenant's nothing
    assert api.get("/v1/alerts", tenant="other")["items"] == []


def test_a_list_of_alerts_is_bounded_by_the_jobs_of_each(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "LISTED_JOBS", 2)
    api.call("POST", "/v1/alerts", json={"alert_id": 7})
    with connection():
        sequence = Alert.get(Alert.alert_id == "7").id
        jobs = [make_job(sequence=sequence, alert_id="7", channel_id=channel) for channel in (1, 2, 3)]
    (item, *_) = api.get("/v1/alerts?limit=1")["items"]
    assert [job["job_id"] for job in item["jobs"]] == jobs[:2]


def test_a_notification_s_wait_may_be_any_and_is_bounded(
    sqlite_api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(users, "LONGEST_WAIT", 0.2)
    answer = sqlite_api.call("POST", "/v1/users/alice/notify?wait=3600", json={"message": "hello"})
    assert (answer.status_code, set(answer.json())) == (202, {"job_id"})
    for wrong in ("-1", "inf", "soon"):
        answer = sqlite_api.call("POST", f"/v1/users/alice/notify?wait={wrong}", json={"message": "hello"})
        assert answer.status_code == 422


def test_one_bad_alert_and_none_is_accepted_and_each_is_named(api: Api) -> None:
    answer = api.call(
        "POST", "/v1/alerts", json=[{"alert_id": 1}, {}, {"alert_id": 2, "severity": "high"}, 7]
    )
    assert answer.status_code == 422
    errors = answer.json()["errors"]
    assert [each["field"] for each in errors] == ["[1].alert_id", "[2].severity", "[3]"]
    assert stored() == []


def test_a_thousand_at_once_in_a_fixed_number_of_statements(api: Api) -> None:
    api.call("POST", "/v1/alerts", json={"alert_id": "finds the schema"})
    counts = []
    for number in (1, 1000):
        statements: list[str] = []
        execute = database.obj.execute_sql

        def counting(sql: str, *arguments: Any, execute: Any = execute, into: list[str] = statements) -> Any:
            into.append(sql)
            return execute(sql, *arguments)

        database.obj.execute_sql = counting
        try:
            alerts = [{"alert_id": f"{number}-{index}"} for index in range(number)]
            answer = api.call("POST", "/v1/alerts", json=alerts)
        finally:
            database.obj.execute_sql = execute
        assert answer.json() == {"accepted": number, "duplicates": 0}
        counts.append(len(statements))
    assert counts[0] == counts[1] <= 8
    assert api.call("POST", "/v1/alerts", json=[{"alert_id": 1}] * 1001).status_code == 422


def test_an_alert_with_a_crowd_of_fields_is_refused_before_they_are_looked_at(sqlite_api: Api) -> None:
    crowd = {f"field{number}": 1 for number in range(100_000)} | {"alert_id": 1}
    answer = sqlite_api.call("POST", "/v1/alerts", json=[crowd, {"alert_id": 2}])
    assert answer.status_code == 422
    assert answer.elapsed.total_seconds() < 5
    assert [each["field"] for each in answer.json()["errors"]] == ["[0]"]


@pytest.mark.parametrize("path", ["/v1/ingest/alertmanager", "/v1/ingest/grafana", "/v1/ingest/cloudevents"])
def test_other_systems_more_than_a_thousand_and_all_or_nothing(sqlite_api: Api, path: str) -> None:
    if path.endswith("cloudevents"):
        many: Any = [examples.CLOUDEVENT | {"alertid": f"a{number}"} for number in range(1500)]
        bad = [*many, {"id": 1}]
    else:
        base = examples.ALERTMANAGER["alerts"][0]
        many = examples.ALERTMANAGER | {
            "alerts": [base | {"fingerprint": f"f{number}"} for number in range(1500)]
        }
        bad = many | {"alerts": [*many["alerts"], base | {"labels": {"rack": 7}}]}
    assert sqlite_api.call("POST", path, json=bad).status_code == 422
    assert stored() == []
    assert sqlite_api.call("POST", path, json=many).json() == {"accepted": 1500, "duplicates": 0}
    assert sqlite_api.call("POST", path, json=many).json() == {"accepted": 0, "duplicates": 1500}


@pytest.mark.parametrize("system", ["alertmanager", "grafana"])
def test_one_bad_alert_costs_no_other_of_its_group(api: Api, system: str) -> None:
    base = examples.ALERTMANAGER["alerts"][0]
    group = [
        base | {"fingerprint": "healthy"},
        base | {"fingerprint": "nul", "annotations": {"summary": "a\0b", "c\0": "d"}},
        base | {"fingerprint": "n\0l"},
        base | {"fingerprint": "large", "annotations": {"description": "x" * 200_000}},
    ]
    answer = api.call("POST", f"/v1/ingest/{system}", json=examples.ALERTMANAGER | {"alerts": group})
    assert (answer.status_code, answer.json()) == (202, {"accepted": 4, "duplicates": 0})
    found = {
        each["details"]["fingerprint"]: each for each in api.get("/v1/alerts")["items"] if "details" in each
    }
    assert "truncated" not in found["healthy"]["details"]
    assert found["nul"]["message"] == "a\ufffdb"
    assert found["nul"]["details"]["annotations"] == {"summary": "a\ufffdb", "c\ufffd": "d"}
    assert found["large"]["details"]["labels"] == base["labels"]


def test_a_mapping_in_the_producer_s_url(sqlite_api: Api) -> None:
    path = "/v1/ingest/alertmanager?severities=critical=9&device_label=team&tags=alertname"
    assert sqlite_api.call("POST", path, json=examples.ALERTMANAGER).status_code == 202
    alert = sqlite_api.get("/v1/alerts")["items"][0]
    assert (alert["severity"], alert["device_id"]) == (9, "storage")
    assert alert["details"]["device_tags"] == {"alertname": "DiskFull"}
    assert sqlite_api.call("POST", f"{path}&severities=x", json=examples.ALERTMANAGER).status_code == 422


@pytest.mark.parametrize(
    ("media_type", "document", "status"),
    [
        ("application/cloudevents+json", examples.CLOUDEVENT, 202),
        ("application/cloudevents-batch+json", [examples.CLOUDEVENT], 202),
        ("application/cloudevents+json", [examples.CLOUDEVENT], 422),
        ("application/cloudevents-batch+json", examples.CLOUDEVENT, 422),
        ("application/cloudevents-batch+json", [], 202),
        ("text/plain", examples.CLOUDEVENT, 415),
        ("application/vnd.acme+json", examples.CLOUDEVENT, 415),
        ("", examples.CLOUDEVENT, 415),
    ],
)
def test_cloudevents_by_media_type(sqlite_api: Api, media_type: str, document: Any, status: int) -> None:
    answer = sqlite_api.call(
        "POST", "/v1/ingest/cloudevents", content=orjson.dumps(document), headers={"Content-Type": media_type}
    )
    assert answer.status_code == status


BINARY = {
    "Content-Type": "application/json",
    "ce-specversion": "1.0",
    "ce-id": "7d1f",
    "ce-source": "/sensors/cellar",
    "ce-type": "com.example.water.detected",
    "ce-subject": "K%C3%BCche%202",
    "ce-alertid": '"water%20\\"2"',
    "ce-severity": "critical",
    "ce-datacontenttype": "text/plain",
}


@pytest.mark.parametrize(
    ("data", "media_type"),
    [
        (b'{"message": "Water"}', "application/json"),
        (b"[1, 2]", "application/vnd.acme+json; v=2"),
        (b"", "application/json"),
        (b"", None),
    ],
)
def test_a_cloudevent_in_binary_mode(sqlite_api: Api, data: bytes, media_type: str | None) -> None:
    attributes = {name: value for name, value in BINARY.items() if name != "Content-Type"}
    headers = attributes | ({"Content-Type": media_type} if media_type else {})
    answer = sqlite_api.call("POST", "/v1/ingest/cloudevents", content=data, headers=headers)
    assert (answer.status_code, answer.json()) == (202, {"accepted": 1, "duplicates": 0})
    alert = sqlite_api.get("/v1/alerts")["items"][0]
    assert (alert["alert_id"], alert["device_id"], alert["severity"]) == ('water "2', "Küche 2", 4)
    assert alert["details"].get("data") == (orjson.loads(data) if data else None)
    assert alert["details"]["labels"] == {"alertid": 'water "2', "severity": "critical"}


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"ce-specversion": "0.3"}, 422),
        ({"ce-subject": "%FF"}, 422),
        ({"ce-id": ""}, 422),
        ({"ce-extension": "%00"}, 422),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": ""}, 415),
        ({"Content-Type": "application/vnd.acme+json; charset=latin-1"}, 415),
    ],
)
def test_what_is_no_event_in_binary_mode(sqlite_api: Api, changes: dict[str, str], status: int) -> None:
    answer = sqlite_api.call("POST", "/v1/ingest/cloudevents", content=b"{}", headers=BINARY | changes)
    assert answer.status_code == status
    assert stored() == []


def test_a_header_of_a_cloudevent_that_is_given_twice(sqlite_api: Api) -> None:
    key = ("Authorization", f"Bearer {sqlite_api.keys['acme', 'ingest']}")
    headers = [key, *BINARY.items(), ("ce-id", "another")]
    answer = sqlite_api.client.post("/v1/ingest/cloudevents", content=b"{}", headers=headers)
    assert answer.status_code == 422
    assert [each["field"] for each in answer.json()["errors"]] == ["ce-id"]


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["OPEN", "CLOSED", "\0", "2026-03-29T01:30:00Z", "x" * 300, 10**30])
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
fields = st.sampled_from([*examples.ALERT, "nothing"])
near = st.builds(lambda changes: examples.ALERT | changes, st.dictionaries(fields, values, max_size=2))
bodies = near | values | st.lists(near | st.just(examples.CLOSED), max_size=4)


def as_text(value: Any) -> bytes:
    """JSON as Python would have it: NaN, huge integers and lone surrogates included."""
    import json  # noqa: PLC0415  # its laxness is needed here alone

    return json.dumps(value).encode()


@pytest.fixture
def hostile(api: Api) -> Iterator[Api]:
    yield api
    # Whatever came, the app is as it was.
    assert api.call("POST", "/v1/alerts", json={"alert_id": "after all"}).json()["accepted"] == 1


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(content=bodies.map(as_text) | st.binary(max_size=50) | bodies.map(as_text).map(lambda text: text[:-1]))
def test_whatever_is_sent_all_of_it_is_accepted_or_none(hostile: Api, content: bytes) -> None:
    before = len(stored())
    answer = hostile.call("POST", "/v1/alerts", content=content, headers=JSON)
    added = len(stored()) - before
    if answer.status_code == 202:
        said = answer.json()
        given_alerts = orjson.loads(content)
        assert said["accepted"] + said["duplicates"] == (
            len(given_alerts) if isinstance(given_alerts, list) else 1
        )
        assert added == said["accepted"]
    else:
        assert answer.status_code in {400, 422}, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        assert added == 0


WRITES = (
    ("POST", "/v1/explain"), ("POST", "/v1/channels"), ("POST", "/v1/rules"), ("POST", "/v1/users/u/devices"),
    ("PUT", "/v1/channels/{channel}"), ("PATCH", "/v1/channels/{channel}"), ("PATCH", "/v1/rules/{rule}"),
    ("PUT", "/v1/users/u/preferences"), ("POST", "/v1/users/u/notify"), ("POST", "/v1/replay"),
    ("POST", "/v1/ingest/alertmanager"), ("POST", "/v1/ingest/cloudevents"),
)  # fmt: skip
members = st.sampled_from([
    "name", "channel", "channel_type", "config", "token", "message", "labels", "platform", "subscription", "cameras",
    "details", "reason", "alerts",
])  # fmt: skip


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(path=st.sampled_from(WRITES), content=(values | st.dictionaries(members, values)).map(as_text))
def test_nothing_that_is_sent_anywhere_is_an_error_of_ours(
    hostile: Api, path: tuple[str, str], content: bytes
) -> None:
    answer = hostile.call(*path, content=content, headers=JSON)
    assert answer.status_code < 500, (path, content, answer.text)


HOSTILE = (
    b"NaN", b'{"alert_id": NaN}', b'{"alert_id": 1e999}', b'{"alert_id": ' + b"1" * 5000 + b"}", b"[" * 100_000,
    b'{"alert_id": 1, "details": ' + b"[" * 500 + b"]" * 500 + b"}", b'{"alert_id": 1, "alert_id": 2}',
    b'{"alert_id": "\\ud800"}', b'{"alert_id": "\\u0000"}', b'{"alert_id": 1, "details": {"a\\u0000": 1}}',
    b'{"alert_id": 1, "message": "' + b"\xf0\x9f\x98\x80" * 65_537 + b'"}', b'{"alert_id": 18446744073709551616}',
    b'{"alert_id": 1, "severity": 1e3}', b'{"alert_id": 1, "triggered_at": "0000-00-00T00:00:00Z"}',
    b'{"alert_id": 1, "triggered_at": "9999-12-31T23:59:60-23:59"}',
)  # fmt: skip


def test_hostile_alerts(api: Api) -> None:
    for content in HOSTILE:
        for body in (content, b'[{"alert_id": "good"}, ' + content + b"]"):
            answer = api.call("POST", "/v1/alerts", content=body, headers=JSON)
            assert answer.status_code in {400, 422}, (content[:80], answer.text)
    assert stored() == []
