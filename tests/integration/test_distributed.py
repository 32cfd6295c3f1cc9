"""The demo's day on PostgreSQL and RabbitMQ: workers by the plain `dramatiq` command, alerts from a third process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from base64 import b64encode
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import yaml
from cryptography.fernet import Fernet
from prometheus_client.parser import text_string_to_metric_families

from config import load_settings
from demo import report
from demo.scenario import STEPS, TENANT, configuration
from model.database import open_database
from receivers import FarSide
from tests.integration.cli.conftest import Preloaded, Tocsin
from tests.servers.programs import free_port, wait_until
from tests.support import alert_rules

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.servers import RabbitServer


@contextmanager
def workers(environment: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`dramatiq actors`, as a user would start it."""
    command = [sys.executable, "-m", "dramatiq", "actors", "--processes", "2", "--threads", "4"]
    with (
        log.open("wb") as file,
        subprocess.Popen(command, env=environment, stderr=file, stdout=file) as process,
    ):
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                raise


def test_the_demos_day_on_rabbitmq_and_postgresql(
    postgres_url: str, rabbitmq_url: str, rabbitmq: RabbitServer, tmp_path: Path
) -> None:
    # Given a migrated PostgreSQL, RabbitMQ, the far side, and two worker processes
    with FarSide() as far, closing(Preloaded()) as preloaded:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TOCSIN_")}
        environment |= far.environment() | {
            "TOCSIN_DATABASE_URL": postgres_url,
            "TOCSIN_BROKER_URL": rabbitmq_url,
            "TOCSIN_SECRET_KEYS": Fernet.generate_key().decode(),
            "TOCSIN_RETRY_MIN_BACKOFF": "0.5",
            "TOCSIN_METRICS_PORT": str(port := free_port()),
            "dramatiq_prom_db": str(tmp_path),
        }
        tocsin = Tocsin(preloaded, environment, tmp_path, far)
        tocsin("migrate")
        (tmp_path / "acme.yaml").write_text(yaml.safe_dump(configuration(far, now=datetime.now(UTC))))
        tocsin("apply", str(tmp_path / "acme.yaml"))
        opened: Any = open_database(
            load_settings(database_url=postgres_url, secret_keys=Fernet.generate_key().decode())
        )
        log = tmp_path / "workers.log"
        with workers(environment, log):
            for step in STEPS:
                # When a third process hands in the alerts of each step
                step.prepare(far)
                answer = tocsin.json("send", "-", "--tenant", TENANT, text=json.dumps(step.alerts))
                assert answer["duplicates"] == step.duplicates
                wait_until(report.is_settled, 30, step.title, describe=log.read_text)

            # Then every delivery ended as it should, and the far side saw the same
            found = report.lines()
            assert report.differences(found, [each for step in STEPS for each in step.expected]) == []
            assert report.far_side_differences(far, found) == []
            assert report.equation()["targets"] == len(found)

            # And the management console shows our queues
            queues = _management(rabbitmq, rabbitmq_url)
            assert {"tocsin.match", "tocsin.fanout", "tocsin.deliver"} <= queues.keys()
            assert all(
                queues[name]["consumers"] >= 1 for name in ("tocsin.match", "tocsin.fanout", "tocsin.deliver")
            )
            # And the metrics of both worker processes are one
            exposition = _exposition(port)
            metrics = _sums(exposition)
            delivered = sum(line.state == "DELIVERED" for line in found)
            assert metrics["tocsin_deliveries_total"] == sum(line.state != "DEFERRED" for line in found)
            assert metrics["tocsin_delivery_latency_seconds_count"] == delivered
            assert metrics["tocsin_delivery_attempts_total"] == sum(line.attempts for line in found)
            assert (
                metrics["tocsin_push_dispatch_total"] == 2
            )  # two of the four have a delivery for the morning
            assert metrics["tocsin_push_dispatch_duration_seconds_count"] == 2
            assert metrics["tocsin_in_progress"] == 2
            assert {
                "tocsin_push_dispatch_devices",
                "tocsin_oldest_pending_seconds",
                "dramatiq_messages_total",
            } <= set(metrics)
            # And they have all that the alert rules for operators speak of
            assert alert_rules.lacking(exposition) == {}
            status = tocsin.json("status", "--tenant", TENANT)
            assert status["dead_letters"] == dict.fromkeys(
                (
                    "tocsin.match",
                    "tocsin.fanout",
                    "tocsin.deliver",
                    "tocsin.critical",
                    "tocsin.later",
                    "tocsin.accept",
                ),
                0,
            )
            assert status["deliveries"]["DELIVERED"] == sum(line.state == "DELIVERED" for line in found)
        lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith('{"')]
        opened.close_all()
    # And each attempt left one canonical line, which holds no token
    attempts = [line for line in lines if line.get("event") == "delivery" and line["outcome"] != "none"]
    assert len(attempts) == sum(line.attempts for line in found)
    assert {
        "tenant",
        "alert",
        "job",
        "delivery",
        "channel_type",
        "outcome",
        "code",
        "attempt",
        "latency_ms",
    } <= set(attempts[0])
    assert far.apns.device_token("Alice's iPhone") not in log.read_text()


def _exposition(port: int) -> str:
    """What the workers show."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        return str(answer.read().decode())


def _sums(exposition: str) -> dict[str, float]:
    """The sum of each metric's samples, over all labels."""
    sums: dict[str, float] = {}
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples:
            sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
    return sums


def _management(server: RabbitServer, url: str) -> dict[str, Any]:
    """The queues of a virtual host as RabbitMQ's management console lists them."""
    vhost = url.rsplit("/", 1)[1]
    request = urllib.request.Request(  # noqa: S310  # the address of our own server
        f"{server.management_url}/api/queues/{vhost}",
        headers={"Authorization": "Basic " + b64encode(f"tocsin:{server.password}".encode()).decode()},
    )
    deadline = time.monotonic() + 20
    while True:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310  # as above
            queues = {queue["name"]: queue for queue in json.load(answer)}
        # Its statistics lag behind by an interval.
        if all(queue.get("consumers") for name, queue in queues.items() if not name.endswith(".XQ")):
            return queues
        assert time.monotonic() < deadline, queues
        time.sleep(0.5)
