"""Readiness and metrics, and what callers are told while the database is away."""

from __future__ import annotations

from typing import TYPE_CHECKING

from config import load_settings
from model.database import open_database
from tests.servers.programs import free_port
from tests.support.database import KEY

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.api.conftest import Api


def test_while_the_database_is_away_nothing_is_accepted_and_the_answer_says_so(sqlite_api: Api) -> None:
    # Given a database that nobody serves
    url = f"postgresql://nobody:secret-4711@127.0.0.1:{free_port()}/none"
    open_database(load_settings(database_url=url, secret_keys=KEY))
    # When an alert comes
    answer = sqlite_api.call("POST", "/v1/alerts", json={"alert_id": 1})
    # Then it is to be repeated later
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    assert "4711" not in answer.text
    # And readiness tells, while the process lives and counts on
    ready = sqlite_api.client.get("/readyz")
    assert ready.status_code == 503
    assert ready.json()["parts"]["database"] == "away"
    assert sqlite_api.client.get("/healthz").json() == {"status": "ok"}
    assert "python_info" in sqlite_api.client.get("/metrics").text


def test_a_schema_that_is_not_up_to_date_is_not_ready(sqlite_api: Api, tmp_path: Path) -> None:
    open_database(load_settings(database_url=f"sqlite:///{tmp_path / 'empty.db'}", secret_keys=KEY))
    ready = sqlite_api.client.get("/readyz")
    assert ready.status_code == 503
    assert "tocsin migrate" in ready.json()["parts"]["migrations"]


def test_readiness_is_a_line_a_part(sqlite_api: Api) -> None:
    lines = sqlite_api.client.get("/readyz").text.splitlines()
    assert [line.strip().rstrip(",") for line in lines if '"ok"' in line] == [
        f'"{part}": "ok"' for part in ("database", "migrations", "broker")
    ]


def test_a_server_shows_every_metric_before_anything_is_counted(sqlite_api: Api) -> None:
    text = sqlite_api.client.get("/metrics").text
    assert "# TYPE tocsin_delivery_latency_seconds histogram" in text
    for series in (
        'tocsin_alerts_total{result="rejected"}',
        'tocsin_deliveries_total{channel_type="teams",reason="exhausted",state="FAILED"}',
        'tocsin_push_attempts_total{outcome="transient",platform="web"}',
    ):
        assert f"\n{series} " in text


def test_the_backlog_is_measured(sqlite_api: Api) -> None:
    sqlite_api.call("POST", "/v1/alerts", json=[{"alert_id": 1}, {"alert_id": 2}])
    text = sqlite_api.client.get("/metrics").text
    assert 'tocsin_in_progress{stage="match"} 2.0' in text
    assert 'tocsin_alerts_total{result="accepted"}' in text
