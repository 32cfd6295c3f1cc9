"""Alertmanager's and Grafana's webhooks: whatever the labels say, what comes out is an alert of ours."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api import examples
from api.ingest.alertmanager import from_alertmanager
from api.ingest.grafana import from_grafana
from api.ingest.mapping import Mapping
from model.alert import parse_alert
from model.problems import InvalidInput

MAPPING = Mapping()

words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
labels = st.dictionaries(
    words | st.sampled_from(["severity", "instance", "alertname", "site"]), words, max_size=6
)
alerts = st.fixed_dictionaries(
    {
        "status": st.sampled_from(["firing", "resolved"]),
        "labels": labels,
        "annotations": labels,
        "startsAt": st.datetimes().map(lambda moment: f"{moment.isoformat()}Z"),
        "endsAt": st.datetimes().map(lambda moment: f"{moment.isoformat()}+05:30"),
        "generatorURL": words,
        "fingerprint": words.filter(bool),
    }
)


def group(*alerts: Any) -> dict[str, Any]:
    return {"version": "4", "receiver": "tocsin", "externalURL": "http://am", "alerts": list(alerts)}


def firing(**changes: Any) -> dict[str, Any]:
    alert: dict[str, Any] = copy.deepcopy(examples.ALERTMANAGER["alerts"][0])
    return alert | changes


@given(st.lists(alerts, max_size=3))
def test_any_group_becomes_valid_alerts(given_alerts: list[dict[str, Any]]) -> None:
    for translate in (from_alertmanager, from_grafana):
        found = translate(group(*given_alerts), MAPPING)
        assert [each["event_type"] for each in found] == [
            "OPEN" if each["status"] == "firing" else "CLOSED" for each in given_alerts
        ]
        for each in found:
            parse_alert(each)


def test_a_firing_alert() -> None:
    [alert] = from_alertmanager(examples.ALERTMANAGER, MAPPING)
    assert alert == {
        "alert_id": "c4a2f0e9d17b3586@2026-03-29T01:30:00.123456Z",
        "event_type": "OPEN",
        "alert_type": "DiskFull",
        "severity": 4,
        "device_id": "db-1:9100",
        "message": "The disk of db-1 is 97 % full",
        "triggered_at": "2026-03-29T01:30:00.123456Z",
        "details": {
            "source": "alertmanager",
            "fingerprint": "c4a2f0e9d17b3586",
            "labels": examples.ALERTMANAGER["alerts"][0]["labels"],
            "annotations": {"summary": "The disk of db-1 is 97 % full"},
            "device_tags": examples.ALERTMANAGER["alerts"][0]["labels"],
            "url": "http://prometheus.example.org:9090/graph",
            "source_url": "http://alertmanager.example.org:9093",
        },
    }


def test_its_end_closes_it_a_repeat_is_the_same_and_firing_again_is_new() -> None:
    first, repeat, end, again = from_alertmanager(
        group(
            firing(),
            firing(annotations={"summary": "98 %"}),
            firing(status="resolved", endsAt="2026-03-29T02:00:00Z"),
            firing(startsAt="2026-03-29T03:00:00Z"),
        ),
        MAPPING,
    )
    assert repeat["alert_id"] == end["alert_id"] == first["alert_id"] != again["alert_id"]
    assert (end["event_type"], end["triggered_at"]) == ("CLOSED", "2026-03-29T02:00:00.000000Z")


def test_a_mapping_of_its_own() -> None:
    mapping = Mapping(
        severity_label="prio", severities={"p1": 5}, device_label="host", site_label="dc", type_label="rule",
        tags=frozenset({"team"}),
    )  # fmt: skip
    labels = {"prio": "P1", "host": "h", "dc": "ber", "rule": "r", "team": "web"}
    [alert] = from_alertmanager(group(firing(labels=labels, annotations={})), mapping)
    assert (alert["severity"], alert["device_id"], alert["site_id"], alert["alert_type"]) == (
        5,
        "h",
        "ber",
        "r",
    )
    assert alert["message"] == "r on h"
    assert alert["details"]["device_tags"] == {"team": "web"}


def test_grafana_s_links_and_values() -> None:
    [alert] = from_grafana(examples.GRAFANA, MAPPING)
    assert alert["event_type"] == "CLOSED"
    assert alert["details"]["url"] == "https://grafana.example.org/alerting/grafana/1/view"
    assert alert["details"]["silence_url"] == "https://grafana.example.org/alerting/silence/new"
    assert alert["details"]["values"] == "[ var='B' labels={} value=0.61 ]"
    assert "device_id" not in alert


@pytest.mark.parametrize(
    ("document", "field"),
    [
        (None, ""),
        ([], ""),
        ({}, "version"),
        (group() | {"version": "3"}, ""),
        (group(firing(status="flapping")), "alerts[0].status"),
        (group(firing(), firing(labels={"a": 1})), "alerts[1].labels.a"),
        (group(firing(fingerprint="")), "alerts[0].fingerprint"),
        (group(firing(startsAt="yesterday")), "alerts[0].startsAt"),
        (group(firing(startsAt="2026-03-29T01:30:00")), "alerts[0].startsAt"),
    ],
)
def test_what_is_no_group_is_refused_with_its_field(document: Any, field: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        from_alertmanager(document, MAPPING)
    assert field in [problem.field for problem in raised.value.problems]
