"""A real Alertmanager: what it posts when an alert fires, fires on, ends, and fires again."""

from __future__ import annotations

import os
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.servers.programs import free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.integration.api.conftest import Api

PROGRAM = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
INSTALL = "apt-get install prometheus-alertmanager   (macOS: brew install alertmanager)"
SECONDS = 40.0

CONFIG = """
route:
  receiver: tocsin
  group_by: [alertname]
  group_wait: 100ms
  group_interval: 1s
  repeat_interval: 2s
receivers:
  - name: tocsin
    webhook_configs:
      - url: "{url}/v1/ingest/alertmanager?site_label=datacenter"
        send_resolved: true
        http_config: {{authorization: {{credentials: "{key}"}}}}
"""


@pytest.fixture
def alertmanager(sqlite_api: Api, tmp_path: Path) -> Iterator[httpx.Client]:
    """An Alertmanager that posts to the app with a key of role ingest; its own API."""
    if PROGRAM is None:
        if os.environ.get("CI", "").lower() in {"1", "true"}:
            pytest.fail(f"Alertmanager is missing: {INSTALL}", pytrace=False)
        pytest.skip(f"Alertmanager is missing: {INSTALL}")
    config = tmp_path / "alertmanager.yml"
    url = str(sqlite_api.client.base_url).rstrip("/")
    config.write_text(CONFIG.format(url=url, key=sqlite_api.keys["acme", "ingest"]), encoding="utf-8")
    port = free_port()
    log = tmp_path / "alertmanager.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                PROGRAM, f"--config.file={config}", f"--storage.path={tmp_path / 'data'}", "--cluster.listen-address=",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=output, stderr=output,
        )  # fmt: skip
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
                wait_until(lambda: is_ready(client), SECONDS, "Alertmanager", describe=log.read_text)
                yield client
        finally:
            process.terminate()
            process.wait(20)


def is_ready(client: httpx.Client) -> bool:
    try:
        return client.get("/-/ready").status_code == 200
    except httpx.TransportError:
        return False


def raise_alert(client: httpx.Client, began: datetime, ended: datetime | None = None) -> None:
    alert: dict[str, Any] = {
        "labels": {
            "alertname": "DiskFull",
            "instance": "db-1:9100",
            "severity": "critical",
            "datacenter": "ber",
        },
        "annotations": {"summary": "The disk of db-1 is full"},
        "startsAt": began.isoformat(),
        "generatorURL": "http://prometheus.example.org/graph",
    }
    if ended is not None:
        alert["endsAt"] = ended.isoformat()
    client.post("/api/v2/alerts", json=[alert]).raise_for_status()


def test_firing_repeating_resolving_and_firing_again(sqlite_api: Api, alertmanager: httpx.Client) -> None:
    def events() -> list[dict[str, Any]]:
        found = sqlite_api.get("/v1/alerts")["items"]
        return [each for each in reversed(found) if each.get("alert_type") == "DiskFull"]

    def seen() -> list[str]:
        return [each["event_type"] for each in events()]

    def posted() -> int:
        return sum(line.get("path") == "/v1/ingest/alertmanager" for line in sqlite_api.logs)

    # Given an alert that fires
    began = datetime.now(UTC) - timedelta(minutes=1)
    raise_alert(alertmanager, began)
    wait_until(lambda: seen() == ["OPEN"], SECONDS, "OPEN")
    # When it is posted again, as it fires on
    before = posted()
    wait_until(lambda: posted() > before, SECONDS, "a repeat")
    # Then that is a duplicate
    assert seen() == ["OPEN"]
    # When it ends
    raise_alert(alertmanager, began, datetime.now(UTC))
    wait_until(lambda: seen() == ["OPEN", "CLOSED"], SECONDS, "CLOSED")
    opened, closed = events()
    # Then that closes the same alert
    assert closed["alert_id"] == opened["alert_id"]
    assert (opened["severity"], opened["device_id"], opened["site_id"]) == (4, "db-1:9100", "ber")
    assert opened["message"] == "The disk of db-1 is full"
    assert opened["details"]["device_tags"]["alertname"] == "DiskFull"
    assert datetime.fromisoformat(opened["triggered_at"]) == began
    # And firing again is a new one
    raise_alert(alertmanager, datetime.now(UTC))
    wait_until(lambda: seen() == ["OPEN", "CLOSED", "OPEN"], SECONDS, "the second OPEN")
    assert events()[2]["alert_id"] != opened["alert_id"]
    # And everything it posted was answered 202
    assert {line["status"] for line in sqlite_api.logs if line.get("path") == "/v1/ingest/alertmanager"} == {
        202
    }
