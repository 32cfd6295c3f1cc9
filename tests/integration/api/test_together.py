"""Requests that come together are committed together, and each is answered as if it had come alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Barrier
from typing import TYPE_CHECKING, Any

import pytest
from peewee import DataError, OperationalError

from actors import accepting, intake
from actors.accepting import HandedIn, accept_all
from actors.intake import Accepted, dispatch_alerts, parse_alerts
from model.alert import parse_alert
from model.database import connection, database, is_sqlite, tuples
from model.problems import InvalidInput
from model.tables import Alert, Tenant

if TYPE_CHECKING:
    from tests.integration.api.conftest import Api


def brings(*alerts: Any, tenant: str = "acme") -> HandedIn:
    return HandedIn(tenant, partial(parse_alerts, [{"alert_id": each} for each in alerts]))


def counts(outcomes: list[Accepted | Exception]) -> list[Any]:
    return [
        (each.accepted, each.duplicates) if isinstance(each, Accepted) else type(each) for each in outcomes
    ]


def stored(tenant: str = "acme") -> list[str]:
    with connection():
        query = Alert.select(Alert.alert_id).where(Alert.tenant == tenant).order_by(Alert.id)
        return [row[0] for row in tuples(query) if row[0] != "door/7"]


@pytest.fixture
def transactions(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many calls each transaction of the intake had."""
    found: list[int] = []
    insert = intake._insert

    def counted(calls: Any) -> Any:
        found.append(len(calls))
        return insert(calls)

    monkeypatch.setattr(intake, "_insert", counted)
    return found


@pytest.mark.usefixtures("api")
def test_one_transaction_for_all_and_an_answer_for_each(transactions: list[int]) -> None:
    # Given requests of two tenants, with an alert in common, one twice in a request, and a bad one among them
    given = [brings(1, 2), brings(2, 3, 3), brings("\0"), brings(1, tenant="other"), brings(), brings(1)]
    # When they are accepted
    found = accept_all(given)
    # Then what is wrong is one caller's, and the alert in common is new in the first request that brought it
    assert counts(found) == [(2, 0), (1, 2), InvalidInput, (1, 0), (0, 0), (0, 1)]
    assert (sorted(stored()), stored("other")) == (["1", "2", "3"], ["1"])
    assert transactions == [5]


@pytest.mark.usefixtures("api")
def test_more_than_a_thousand_alerts_are_several_transactions_and_no_request_is_split_below_that(
    transactions: list[int],
) -> None:
    # Given two requests of one call each, one of another system's, which may bring as many as it likes, and a small one
    many = HandedIn("acme", lambda: [parse_alert({"alert_id": each}) for each in range(2000, 4500)])
    found = accept_all([brings(*range(600)), brings(*range(500, 1100)), many, brings("x")])
    assert counts(found) == [(600, 0), (500, 100), (2500, 0), (1, 0)]
    assert len(stored()) == 3601
    # 600; 600; 1,000; 1,000; 500 and the one
    assert transactions == [1, 1, 1, 1, 2]


@pytest.mark.usefixtures("api")
def test_what_the_database_refuses_of_one_is_not_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a request whose alert the database does not take, which nobody foresaw
    insert = intake._insert

    def particular(calls: Any) -> Any:
        if any(alert.key == "poison" for call in calls for alert in call.alerts):
            raise DataError("no such thing")
        return insert(calls)

    monkeypatch.setattr(intake, "_insert", particular)
    # Then it alone fails
    assert counts(accept_all([brings(1), brings("poison"), brings(2)])) == [(1, 0), DataError, (1, 0)]
    assert sorted(stored()) == ["1", "2"]


@pytest.mark.usefixtures("api")
def test_a_tenant_that_has_just_been_deleted_is_its_own_callers_problem() -> None:
    with connection():
        Tenant.delete().where(Tenant.tenant_id == "other").execute()
    found = accept_all([brings(1), brings(1, tenant="other"), brings(2)])
    assert counts(found) == [(1, 0), InvalidInput, (1, 0)]


@pytest.mark.usefixtures("api")
def test_a_database_that_is_away_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    error: Exception = OperationalError("away")

    def away(calls: Any) -> Any:
        asked.append(len(calls))
        raise error if len(calls) > 1 else OperationalError("away")

    monkeypatch.setattr(accepting, "accept", away)
    assert counts(accept_all([brings(1), brings(2)])) == [OperationalError] * 2
    assert asked == [2]
    # However many transactions it would have been, for one caller or for several
    many = [brings(*range(600)) for _ in range(4)]
    assert counts(accept_all([*many, brings("\0")])) == [OperationalError] * 4 + [InvalidInput]
    assert asked == [2, 1]
    # Also where it goes away while each is tried alone
    error = DataError("of one of them")
    assert counts(accept_all([brings(1), brings(2), brings(3)])) == [OperationalError] * 3
    assert asked == [2, 1, 3, 1]


def test_a_database_that_goes_away_between_two_thousands_is_told_of_as_it_is(
    sqlite_api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a database that takes the first alerts of another system's request, as many as go at once, and is away then
    monkeypatch.setattr(accepting, "MAX_ALERTS", 2)
    insert = intake._insert
    given: list[Any] = []

    def once(calls: Any) -> Any:
        given.append(calls)
        if len(given) == 2:
            raise OperationalError("away")
        return insert(calls)

    monkeypatch.setattr(intake, "_insert", once)
    call = partial(
        sqlite_api.call, "POST", "/v1/ingest/alertmanager", role="ingest",
        json={"version": "4", "alerts": [
            {"status": "firing", "labels": {}, "fingerprint": str(n), "startsAt": "2026-03-01T00:00:00Z"}
            for n in range(3)
        ]},
    )  # fmt: skip
    # Then the answer says what was stored and what was not, and a repeat brings the rest
    answer = call()
    problem = answer.json()
    assert (answer.status_code, problem["accepted"], problem["duplicates"]) == (503, 2, 0)
    assert "the first 2 alerts are stored" in problem["detail"]
    assert "Retry-After" in answer.headers
    assert call().json() == {"accepted": 1, "duplicates": 2}


@pytest.mark.usefixtures("api")
def test_a_database_that_is_away_is_asked_once_by_those_who_look_before_they_hand_in(
    transactions: list[int],
) -> None:
    asked = []

    def look() -> Any:
        asked.append(1)
        raise OperationalError("away")

    found = accept_all([brings("\0"), brings(1), HandedIn("acme", look), HandedIn("acme", look)])
    assert counts(found) == [InvalidInput, *[OperationalError] * 3]
    assert (asked, transactions) == ([1], [])


@pytest.mark.usefixtures("api")
def test_two_with_the_same_events_of_an_alert_in_another_order_do_not_wait_for_each_other() -> None:
    # Given a database that takes its time for each event
    if not is_sqlite():
        slowly = "BEGIN PERFORM pg_sleep(0.1); RETURN NEW; END"
        with connection():
            database.execute_sql(f"CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS '{slowly}'")
            database.execute_sql(
                "CREATE TRIGGER slow BEFORE INSERT ON alerts FOR EACH ROW EXECUTE FUNCTION slow()"
            )
    events = ["OPEN", "ACKNOWLEDGED", "CLOSED"]
    start = Barrier(2)

    def hand_in(order: list[str]) -> list[int]:
        start.wait()
        given = [{"alert_id": 1, "event_type": each} for each in order]
        return list(dispatch_alerts(given, tenant_id="acme").ids)

    # When two accept the same events, in opposite orders
    with ThreadPoolExecutor(2) as pool:
        orders = [events, events[::-1]]
        found = list(pool.map(hand_in, orders))
    # Then each event is accepted once, and in the order in which its caller gave them
    with connection():
        rows = dict(tuples(Alert.select(Alert.id, Alert.event_type).where(Alert.alert_id == "1")))
    assert sorted(rows.values()) == sorted(events)
    for ids, order in zip(found, orders, strict=True):
        assert ids == sorted(ids)
        assert [rows[each] for each in ids] == [each for each in order if each in {rows[n] for n in ids}]


def test_many_callers_at_once_each_have_their_own_answer(api: Api, transactions: list[int]) -> None:
    def hand_in(number: int) -> tuple[int, Any]:
        role = ("ingest", "read", "admin")[number % 3]
        alert = {"alert_id": f"many/{number // 2}", "severity": "high" if number % 10 == 7 else 1}
        answer = api.call("POST", "/v1/alerts", role=role, json=alert)
        return answer.status_code, answer.json()

    with ThreadPoolExecutor(20) as threads:
        found = list(threads.map(hand_in, range(100)))
    assert [status for status, _ in found] == [422 if number % 10 == 7 else 202 for number in range(100)]
    assert sum(answer["accepted"] for status, answer in found if status == 202) == 50
    assert sum(answer["duplicates"] for status, answer in found if status == 202) == 40
    assert len(stored()) == 50
    assert 1 <= len(transactions) <= 90
    with connection():
        assert (
            database.execute_sql("SELECT count(*) FROM alerts WHERE tenant_id = 'acme'").fetchone()[0] == 51
        )
