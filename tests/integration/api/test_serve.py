"""`tocsin serve` as people run it: the first key, the whole chain in one process, an outage of the broker, the end."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from cryptography.fernet import Fernet

from receivers import FarSide
from tests.servers.programs import wait_until
from tests.support import alert_rules

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.servers import RabbitServer

SECONDS = 30.0
#: In the words that it says, and as JSON.
ADDRESS = r'listens[ _]on(?: |": *")(http://[^\s"]+)[\s"]'


class Served:
    """A `tocsin serve` of its own process."""

    def __init__(
        self,
        directory: Path,
        environment: dict[str, str],
        *options: str,
        program: Sequence[str] = ("-m", "cli"),
    ) -> None:
        self.output = directory / "output"
        self._file = self.output.open("wb")
        self.process = subprocess.Popen(
            [sys.executable, *program, "serve", "--port", "0", *options],
            stdout=self._file,
            stderr=subprocess.STDOUT,
            env={
                **{name: value for name, value in os.environ.items() if not name.startswith("TOCSIN_")},
                "TOCSIN_DATABASE_URL": f"sqlite:///{directory / 'tocsin.db'}",
                **environment,
            },
        )
        wait_until(self._is_up, SECONDS, "tocsin serve to listen", describe=self.text)
        address = re.search(ADDRESS, self.text())
        assert address
        self.client = httpx.Client(base_url=address[1], trust_env=False, timeout=60)
        wait_until(self._answers, SECONDS, "tocsin serve to answer", describe=self.text)

    def text(self) -> str:
        return self.output.read_text(encoding="utf-8")

    def key(self) -> str | None:
        found = re.search(r"^  (tocsin_\S+)$", self.text(), re.MULTILINE)
        return found[1] if found else None

    def use(self, key: str) -> None:
        self.client.headers["Authorization"] = f"Bearer {key}"

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(SECONDS)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.client.close()
        self._file.close()

    def _is_up(self) -> bool:
        assert self.process.poll() is None, self.text()
        return re.search(ADDRESS, self.text()) is not None

    def _answers(self) -> bool:
        try:
            return self.client.get("/healthz").status_code == 200
        except httpx.TransportError:
            return False


@contextmanager
def served(
    directory: Path, environment: dict[str, str], *options: str, program: Sequence[str] = ("-m", "cli")
) -> Iterator[Served]:
    server = Served(directory, environment, *options, program=program)
    try:
        yield server
    finally:
        server.close()


def hook(far: FarSide) -> dict[str, Any]:
    config = {"url": far.webhook.url("ops"), "secret": far.webhook.secret}
    return {"name": "ops", "channel_type": "webhook", "config": config}


def test_from_nothing_to_an_alert_at_one_s_own_webhook(tmp_path: Path) -> None:
    with FarSide() as far, served(tmp_path, far.environment()) as server:
        # Given the key that the first start prints
        key = server.key()
        assert key
        server.use(key)
        # When a channel and a rule are made, and an alert comes
        made = server.client.post("/v1/channels", json=hook(far)).json()
        assert server.client.post("/v1/rules", json={"name": "all", "channel": "ops"}).status_code == 201
        test = server.client.post(f"/v1/channels/{made['id']}/test")
        assert (test.status_code, test.json()["status"]) == (200, "ok")
        assert server.client.post("/v1/alerts", json={"alert_id": "a1"}).status_code == 202

        # Then it is delivered, here, and the record says so
        def delivered() -> bool:
            jobs = server.client.get("/v1/jobs").json()["items"]
            return [job["state"] for job in jobs] == ["COMPLETED"]

        wait_until(delivered, SECONDS, "the delivery", describe=lambda: server.text()[-3000:])
        assert [entry["outcome"] for entry in server.client.get("/v1/log").json()["items"]] == ["ok"]
        # And a user is notified, and waited for
        device = {"platform": "ios", "token": far.apns.device_token("phone")}
        assert server.client.post("/v1/users/alice/devices", json=device).status_code == 200
        result = server.client.post("/v1/users/alice/notify?wait=20", json={"message": "hello"})
        assert result.status_code == 200
        assert (result.json()["total_devices"], result.json()["all_succeeded"]) == (1, True)
        # And the metrics and parts show it
        assert (
            'tocsin_deliveries_total{channel_type="webhook",reason="",state="DELIVERED"} 1.0'
            in server.client.get("/metrics").text
        )
        assert "tocsin_oldest_pending_seconds" in server.client.get("/metrics").text
        # With all that the alert rules speak of, but for the dead letters, which no queue in memory keeps
        assert alert_rules.lacking(server.client.get("/metrics").text).keys() == {"tocsin_dead_letters"}
        # Dramatiq's own, once each
        told = server.client.get("/metrics").text.splitlines()
        assert told.count("# TYPE dramatiq_messages_total counter") == 1
        assert any(line.startswith('dramatiq_messages_total{actor_name="match_rules"') for line in told)
        ready = server.client.get("/readyz").json()
        assert ready == {
            "ready": True,
            "parts": dict.fromkeys(["database", "migrations", "broker", "worker"], "ok"),
        }
        assert server.end() == 0
    # And the key is stored nowhere in the clear, and printed once
    assert key.encode() not in (tmp_path / "tocsin.db").read_bytes()
    with served(tmp_path, {}) as again:
        assert again.key() is None
        again.use(key)
        assert len(again.client.get("/v1/jobs").json()["items"]) == 2
        assert again.end(signal.SIGINT) == 0


def test_with_json_every_line_is_json_whatever_the_settings_say(tmp_path: Path) -> None:
    with served(tmp_path, {"TOCSIN_LOG_FORMAT": "console"}, "--json") as server:
        # Given the key of the first start
        (greeting,) = (json.loads(line) for line in server.text().splitlines() if "listens_on" in line)
        assert greeting["first_key"]["tenant"] == "default"
        # When it is used, and the server ends
        server.use(greeting["first_key"]["key"])
        assert server.client.get("/v1/jobs").status_code == 200
        assert server.end() == 0
        # Then the log has the request, and nothing is in words
        lines = [json.loads(line) for line in server.text().splitlines()]
    assert any("/v1/jobs" in str(line) for line in lines[1:])


def test_who_waits_for_a_result_is_told_at_once_that_the_server_ends(tmp_path: Path) -> None:
    with served(tmp_path, {}) as server, ThreadPoolExecutor(1) as caller:
        # Given a user who sleeps, and a caller who waits for what is kept for the morning
        server.use(server.key() or "")
        asleep = {
            "quiet_hours_enabled": True, "quiet_hours_start": "00:00", "quiet_hours_end": "24:00",
            "quiet_hours_action": "defer",
        }  # fmt: skip
        assert server.client.put("/v1/users/alice/preferences", json=asleep).status_code == 200
        phone = {"platform": "android", "token": "a" * 100}
        assert server.client.post("/v1/users/alice/devices", json=phone).status_code == 200
        path = "/v1/users/alice/notify?wait=55"
        answer = caller.submit(server.client.post, path, json={"message": "hello"})
        wait_until(
            lambda: bool(server.client.get("/v1/jobs").json()["items"]),
            SECONDS,
            "the job",
            describe=server.text,
        )
        # When the server is to end, then it answers, and need not break anything off
        began = time.monotonic()
        assert server.end() == 0
        assert time.monotonic() - began < 8
        assert (answer.result().status_code, set(answer.result().json())) == (202, {"job_id"})


def test_a_port_in_use_is_one_line(tmp_path: Path) -> None:
    with served(tmp_path, {}) as server:
        port = str(server.client.base_url.port)
        second = subprocess.run(
            [sys.executable, "-m", "cli", "serve", "--port", port],
            env={**os.environ, "TOCSIN_DATABASE_URL": f"sqlite:///{tmp_path / 'tocsin.db'}"},
            capture_output=True, text=True, timeout=SECONDS, check=False,
        )  # fmt: skip
    assert second.returncode == 1
    assert f"cannot listen on 127.0.0.1 port {port}" in second.stderr
    assert "Traceback" not in second.stderr


def test_the_limits_that_the_command_was_given_and_the_metrics_that_processes_share(tmp_path: Path) -> None:
    shared = tmp_path / "metrics"
    shared.mkdir()
    environment = {"PROMETHEUS_MULTIPROC_DIR": str(shared)}
    with served(tmp_path, environment, "--max-body", "1024", "--rate", "0.1", "--burst", "3") as server:
        server.use(server.key() or "")
        assert server.client.post("/v1/alerts", json={"alert_id": 2}).status_code == 202
        large = {"alert_id": 1, "message": "x" * 2000}
        assert server.client.post("/v1/alerts", json=large).status_code == 413
        assert [server.client.get("/v1/jobs").status_code for _ in range(2)] == [200, 429]
        # And another process that counts in the same files
        counting = "from config.metrics import metrics; metrics().swept.labels('match').inc(41)"
        subprocess.run(
            [sys.executable, "-c", counting], env=os.environ | environment, timeout=SECONDS, check=True
        )
        assert 'tocsin_swept_total{stage="match"} 41.0' in server.client.get("/metrics").text

        # As does the worker of this one, by Dramatiq's own metrics
        def counted() -> bool:
            return "dramatiq_messages_total{" in server.client.get("/metrics").text

        wait_until(counted, SECONDS, "the message to be counted", describe=server.text)


#: `tocsin`, with less patience for the head of a request.
IMPATIENT = "import sys, cli.heads, cli.main; cli.heads.SECONDS = 2.5; sys.exit(cli.main.main())"
HEAD = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"


def answer(connection: socket.socket) -> bytes:
    """The next one, with its JSON; nothing: the server has closed the connection."""
    connection.settimeout(SECONDS)
    found = b""
    while not found.endswith(b"}") and (more := connection.recv(10_000)):
        found += more
    return found


def test_a_connection_whose_request_does_not_begin_is_closed_and_no_other(tmp_path: Path) -> None:
    with served(tmp_path, {}, program=["-c", IMPATIENT]) as server, contextlib.ExitStack() as stack:
        port = server.client.base_url.port
        assert port

        def connect(sent: bytes) -> socket.socket:
            made = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            made.sendall(sent)
            return made

        def trickled_in_vain() -> bool:
            try:
                trickling.sendall(b"X: 1\r\n")
            except OSError:
                return True
            return False

        # Given connections that say nothing, half a head, or half of a second one, and a body that takes its time
        dumb, half, trickling = connect(b""), connect(HEAD), connect(HEAD)
        second = connect(HEAD + b"\r\n")
        assert answer(second).startswith(b"HTTP/1.1 200 ")
        second.sendall(HEAD)
        body = connect(
            f"POST /v1/alerts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.key()}\r\n"
            "Content-Type: application/json\r\nContent-Length: 14\r\n\r\n".encode()
        )
        # And one that was refused at once, and goes on with its body
        refused = connect(b"POST /v1/alerts HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n")
        assert answer(refused).startswith(b"HTTP/1.1 401 ")
        refused.sendall(b"{")
        # When the time for a head is over, then they are closed, and nobody gains any by another line
        wait_until(trickled_in_vain, SECONDS, "the end of a head that goes on and on")
        assert [answer(each) for each in (dumb, half, second, refused)] == [b""] * 4
        # And the one that had begun its request has its answer
        body.sendall(b'{"alert_id":1}')
        assert b" 202 Accepted" in answer(body)
        # As has one whose head came in pieces, in time, and again after a pause
        slow = connect(HEAD)
        for _ in range(2):
            time.sleep(1.5)
            slow.sendall(b"\r\n")
            assert b" 200 OK" in answer(slow)
            time.sleep(1.5)
            slow.sendall(HEAD)
        assert server.end() == 0


@pytest.mark.timeout(240)
def test_alerts_are_accepted_while_rabbitmq_is_down_and_delivered_when_it_is_back(
    tmp_path: Path, rabbitmq: RabbitServer, rabbitmq_url: str
) -> None:
    environment = {
        "TOCSIN_BROKER_URL": rabbitmq_url,
        "TOCSIN_SECRET_KEYS": Fernet.generate_key().decode(),
        "TOCSIN_SWEEP_INTERVAL": "0.5",
        "TOCSIN_SWEEP_GRACE": "1",
    }
    with FarSide() as far, served(tmp_path, environment | far.environment(), "--with-worker") as server:
        server.use(server.key() or "")
        server.client.post("/v1/channels", json=hook(far))
        server.client.post("/v1/rules", json={"name": "all", "channel": "ops"})
        # Given RabbitMQ is stopped
        rabbitmq.stop()
        try:
            # When alerts come
            answers = [server.client.post("/v1/alerts", json={"alert_id": number}) for number in range(3)]
            # Then they are accepted, and this process remains ready to accept more
            assert [answer.status_code for answer in answers] == [202] * 3
            ready = server.client.get("/readyz")
            assert ready.status_code == 200
            assert ready.json()["parts"]["broker"].startswith("away")
        finally:
            rabbitmq.start()

        def delivered() -> bool:
            jobs = server.client.get("/v1/jobs").json()["items"]
            return sorted((job["alert_id"], job["state"]) for job in jobs) == [
                (n, "COMPLETED") for n in range(3)
            ]

        # And delivered when it is back
        wait_until(delivered, 60, "the deliveries", describe=lambda: server.text()[-3000:])
        assert server.end() == 0


@pytest.mark.alone("how long each of sixty calls takes")
@pytest.mark.timeout(240)
def test_alerts_are_accepted_at_once_while_rabbitmq_says_nothing_and_delivered_when_it_speaks(
    tmp_path: Path, rabbitmq: RabbitServer, rabbitmq_url: str
) -> None:
    environment = {"TOCSIN_BROKER_URL": rabbitmq_url, "TOCSIN_SECRET_KEYS": Fernet.generate_key().decode()}
    with FarSide() as far, served(tmp_path, environment | far.environment(), "--with-worker") as server:
        server.use(server.key() or "")
        server.client.post("/v1/channels", json=hook(far))
        server.client.post("/v1/rules", json={"name": "all", "channel": "ops"})

        def call(number: int) -> tuple[int, float]:
            began = time.monotonic()
            alert = {"alert_id": number, "details": {"is_critical": number % 2 == 0}}
            answer = server.client.post("/v1/alerts", json=alert)
            return answer.status_code, time.monotonic() - began

        calls = 60
        with ThreadPoolExecutor(calls) as callers:
            # Given RabbitMQ takes connections and says nothing
            rabbitmq.program.signal(signal.SIGSTOP)
            try:
                # When alerts come, five a second
                answers = []
                for number in range(calls):
                    answers.append(callers.submit(call, number))
                    time.sleep(0.2)
                # Then all are accepted, and at once but for the few that ask on everybody's behalf
                found = [answer.result() for answer in answers]
            finally:
                rabbitmq.program.signal(signal.SIGCONT)
        assert {status for status, _ in found} == {202}
        took = sorted(seconds for _, seconds in found)
        assert took[-1] < 10
        assert took[-10] < 2, took[-15:]

        def delivered() -> bool:
            return len({each.id for each in far.webhook.received}) == calls

        # And delivered when it speaks again
        wait_until(delivered, 60, "the deliveries", describe=lambda: server.text()[-3000:])
        assert server.end() == 0
