"""Grafana's and Alertmanager's ends whose beginning has moved: they close what fires, once, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from api import examples
from api.ingest import strays
from model.database import connection, tuples
from model.tables import Alert

if TYPE_CHECKING:
    from tests.integration.api.conftest import Api


def moment(clock: str) -> str:
    return f"2026-03-29T{clock}:00Z"


def firing(began: str, fingerprint: str = "f1") -> dict[str, Any]:
    return {
        "status": "firing",
        "labels": {},
        "startsAt": moment(began),
        "endsAt": "0001-01-01T00:00:00Z",
        "fingerprint": fingerprint,
    }


def resolved(began: str, ended: str, fingerprint: str = "f1") -> dict[str, Any]:
    return firing(began, fingerprint) | {"status": "resolved", "endsAt": moment(ended)}


def post(api: Api, *alerts: dict[str, Any], system: str = "grafana", tenant: str = "acme") -> dict[str, int]:
    document = examples.GRAFANA | {"alerts": list(alerts)}
    answer = api.call("POST", f"/v1/ingest/{system}", role="ingest", tenant=tenant, json=document)
    assert answer.status_code == 202, answer.text
    found: dict[str, int] = answer.json()
    return found


def stored(tenant: str = "acme") -> list[str]:
    """Such as "f1@10:00 OPEN", in order of acceptance."""
    with connection():
        query = (
            Alert.select(Alert.alert_id, Alert.event_type).where(Alert.tenant == tenant).order_by(Alert.id)
        )
        rows = [(key.partition("@"), kind) for key, kind in tuples(query) if "@" in key]
        return [f"{parts[0]}@{parts[2][11:16]} {kind}" for parts, kind in rows]


@pytest.mark.parametrize("system", ["grafana", "alertmanager"])
def test_an_end_whose_beginning_has_moved_closes_what_fires(api: Api, system: str) -> None:
    post(api, firing("10:00"), firing("10:00", "f2"), firing("10:00", "f"), system=system)
    post(api, firing("10:00"), tenant="other")
    post(api, resolved("10:30", "10:30"), system=system)
    assert stored()[3:] == ["f1@10:00 CLOSED"]
    # And its repeat is a duplicate, which closes nothing else
    assert post(api, resolved("10:30", "10:30"), system=system) == {"accepted": 0, "duplicates": 1}
    assert stored("other") == ["f1@10:00 OPEN"]


def test_the_newest_that_is_open_is_closed_and_a_repeat_leaves_the_others_open(api: Api) -> None:
    post(api, firing("08:00"), firing("09:00"), firing("10:00"))
    post(api, resolved("10:00", "10:05"))
    post(api, resolved("10:30", "10:30"))
    post(api, resolved("10:30", "10:30"))
    assert stored()[3:] == ["f1@10:00 CLOSED", "f1@09:00 CLOSED"]


def test_an_end_that_comes_late_leaves_alone_what_fired_after_it(api: Api) -> None:
    post(api, firing("10:00"))
    post(api, firing("11:00"))
    post(api, resolved("10:30", "10:30"))
    assert stored() == ["f1@10:00 OPEN", "f1@11:00 OPEN", "f1@10:00 CLOSED"]


def test_what_fires_may_stand_in_the_same_call(api: Api) -> None:
    assert post(api, firing("10:00"), resolved("10:30", "10:30"), resolved("10:30", "10:30")) == {
        "accepted": 2,
        "duplicates": 1,
    }
    assert stored() == ["f1@10:00 OPEN", "f1@10:00 CLOSED"]


def test_an_end_of_nothing_keeps_its_id(api: Api) -> None:
    post(api, firing("10:00"), resolved("10:00", "10:10"))
    post(api, resolved("10:30", "10:30"))
    post(api, resolved("10:30", "10:30"))
    assert stored()[2:] == ["f1@10:30 CLOSED"]


def test_a_call_looks_up_no_more_than_it_may(sqlite_api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strays, "MOST", 1)
    post(sqlite_api, firing("10:00"), firing("10:00", "f2"))
    post(sqlite_api, resolved("10:30", "10:30"), resolved("10:30", "10:30", "f2"))
    assert stored()[2:] == ["f1@10:00 CLOSED", "f2@10:30 CLOSED"]
