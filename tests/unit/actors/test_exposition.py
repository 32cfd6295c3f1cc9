"""The workers' metrics are there when they are needed: with the database away, and beside whoever disturbs."""

from __future__ import annotations

import socket
import threading
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.mmap_dict import MmapedDict, mmap_key
from structlog.testing import capture_logs

from actors import exposition
from config import load_settings
from model.database import open_database
from tests.support.database import KEY

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from wsgiref.simple_server import WSGIServer


def count_in(directory: Path, pid: int = 1) -> None:
    """What a worker process leaves behind that has counted one swept row."""
    make: Any = MmapedDict
    shared = make(str(directory / f"counter_{pid}.db"))
    name = "tocsin_swept_total"
    shared.write_value(mmap_key("tocsin_swept", name, ["stage"], ["match"], "Rows."), 1.0, 0.0)
    shared.close()


def text_of(collector: object) -> str:
    collected = CollectorRegistry()
    collected.register(collector)  # type: ignore[arg-type]  # has all that is asked of it
    return generate_latest(collected).decode()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WSGIServer]:
    """A server of the workers' metrics, with one count in them and the database away."""
    count_in(tmp_path)
    monkeypatch.setenv("dramatiq_prom_db", str(tmp_path))
    monkeypatch.setattr(exposition, "DeadLetterCollector", CollectorRegistry)
    settings = load_settings(
        database_url="postgresql://u:p@127.0.0.1:1/x",
        secret_keys=KEY,
        metrics_host="127.0.0.1",
        metrics_port=0,
    )
    open_database(settings)
    with exposition.make_metrics_server(settings) as made:
        serving = threading.Thread(target=made.serve_forever, daemon=True)
        serving.start()
        yield made
        made.shutdown()
        serving.join()


def ask(server: WSGIServer) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/metrics", timeout=5) as answer:
        return str(answer.read().decode())


def test_counters_are_shown_while_the_database_is_away(server: WSGIServer) -> None:
    text = ask(server)
    assert 'tocsin_swept_total{stage="match"} 1.0' in text
    assert "tocsin_in_progress" not in text


def test_a_connection_that_says_nothing_holds_up_nobody_and_ends(
    server: WSGIServer, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert exposition._Handler.timeout
    monkeypatch.setattr(exposition._Handler, "timeout", 0.5)
    # Given one that connects, and says nothing
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=10) as silent:
        # When another asks, then it has its answer
        assert "tocsin_swept_total" in ask(server)
        # And the first is let go, without a traceback
        assert silent.recv(1) == b""
    assert "Traceback" not in capfd.readouterr().err


def test_metrics_are_served_on_an_ipv6_address_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("dramatiq_prom_db", str(tmp_path))
    with exposition.make_metrics_server(load_settings(metrics_host="::1", metrics_port=0)) as made:
        assert made.server_address[0] == "::1"


@pytest.mark.parametrize(
    ("host", "remedy"),
    [
        ("127.0.0.1", "TOCSIN_METRICS_PORT, or dramatiq_prom_db"),  # where another group is
        ("192.0.2.1", "TOCSIN_METRICS_HOST must be an address of this machine"),  # nobody's: RFC 5737
        ("no-such-host.invalid", "TOCSIN_METRICS_HOST must be an address of this machine"),
        ("a" * 70, "TOCSIN_METRICS_HOST must be an address of this machine"),
    ],
)
def test_what_keeps_metrics_from_being_served_is_said_with_what_mends_it(
    server: WSGIServer, monkeypatch: pytest.MonkeyPatch, host: str, remedy: str
) -> None:
    settings = load_settings(metrics_host=host, metrics_port=server.server_port)
    monkeypatch.setattr(exposition, "get_settings", lambda: settings)
    monkeypatch.setattr(exposition, "open_database", lambda _settings: None)
    monkeypatch.setattr(exposition, "configure_logging", lambda _settings: None)
    monkeypatch.setattr("actors.exposition.signal.pause", lambda: None)
    with capture_logs() as lines:
        assert exposition.serve_metrics() == 0
    (line,) = lines
    assert (line["event"], line["host"]) == ("metrics_not_served", host)
    assert line["remedy"].startswith(remedy)


def test_every_metric_is_there_from_the_start_and_at_zero_where_nothing_was_counted(tmp_path: Path) -> None:
    # Given that the workers have counted one swept row, and nothing else
    count_in(tmp_path)
    # When their metrics are asked for
    text = text_of(exposition.SharedFiles(str(tmp_path)))
    # Then each is declared, once
    declared = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE ")]
    assert sorted(declared) == sorted(
        [
            "tocsin_alerts_total",
            "tocsin_deliveries_total",
            "tocsin_delivery_attempts_total",
            "tocsin_delivery_latency_seconds",
            "tocsin_push_dispatch_total",
            "tocsin_push_dispatch_devices",
            "tocsin_push_dispatch_duration_seconds",
            "tocsin_push_attempts_total",
            "tocsin_leases_recovered_total",
            "tocsin_duplicates_avoided_total",
            "tocsin_swept_total",
        ]
    )
    # And what alert rules ask for begins at zero, while what was counted stays
    for series in (
        'tocsin_alerts_total{result="rejected"}',
        'tocsin_swept_total{stage="deliver"}',
        'tocsin_delivery_attempts_total{channel_type="webhook",outcome="transient"}',
        'tocsin_deliveries_total{channel_type="push",reason="target_gone",state="FAILED"}',
        'tocsin_push_dispatch_total{status="PARTIAL"}',
        "tocsin_push_dispatch_duration_seconds_count",
    ):
        assert f"\n{series} " in text
    assert 'tocsin_swept_total{stage="match"} 1.0' in text
    # And no label that cannot come
    assert 'channel_type="webhook",reason="quiet_hours"' not in text


def test_a_file_that_a_killed_process_left_empty_hides_nothing(tmp_path: Path) -> None:
    count_in(tmp_path)
    (tmp_path / "counter_2.db").touch()
    assert 'tocsin_swept_total{stage="match"} 1.0' in text_of(exposition.SharedFiles(str(tmp_path)))
