"""`python -m receivers`, as another process sees it."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from receivers.__main__ import main, summary

if TYPE_CHECKING:
    from collections.abc import Iterator

    from receivers import FarSide


class Program:
    """The running program, and the environment that it announced."""

    def __init__(self, directory: Path) -> None:
        self.record = directory / "record.jsonl"
        self.output = directory / "output"
        env_file = directory / "env"
        options = ["--json", "--env-file", str(env_file), "--record", str(self.record)]
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "receivers", *options],
                stdout=output,
                cwd=Path(__file__).parents[3],
                env={**os.environ, "PYTHONWARNINGS": "error"},
            )
        deadline = time.monotonic() + 10
        while not env_file.exists():
            assert self.process.poll() is None, "it has ended"
            assert time.monotonic() < deadline
            time.sleep(0.02)
        words = [shlex.split(line)[1] for line in env_file.read_text().splitlines()]
        self.environment = dict(each.partition("=")[::2] for each in words)

    def control(self, order: str, **document: Any) -> httpx.Response:
        return httpx.post(f"{self.environment['FAR_URL']}/control/{order}", json=document)

    def received(self, **query: str) -> list[dict[str, Any]]:
        response = httpx.get(f"{self.environment['FAR_URL']}/control/received", params=query)
        found: list[dict[str, Any]] = response.json()["received"]
        return found


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    program = Program(tmp_path_factory.mktemp("receivers"))
    yield program
    program.process.send_signal(signal.SIGINT)
    assert program.process.wait(10) == 0


def test_it_announces_records_and_obeys(program: Program) -> None:
    # Given an order from another process
    url, record = program.environment["FAR_SLACK_URL"], program.record
    ordered = program.control(
        "script", receiver="slack", target="main", answers=[{"status": 503}, {"delay": 0.01}]
    )
    assert ordered.json() == {"status": "ok"}
    # When two messages arrive
    statuses = [httpx.post(url, json={"text": "hi"}).status_code for _ in range(2)]
    # Then the order is followed, and each is on record by the time it is answered
    assert statuses == [503, 200]
    lines = [json.loads(line) for line in record.read_text().splitlines()]
    assert [(each["receiver"], each["target"], each["status"]) for each in lines] == [
        ("slack", "main", 503),
        ("slack", "main", 200),
    ]
    assert program.output.read_text() == record.read_text()
    # And it can be asked for
    assert program.received(receiver="slack") == lines
    assert program.received(target="main") == lines
    assert program.received(receiver="webhook") == program.received(target="other") == []
    # Until it is forgotten
    program.control("clear", receiver="slack")
    assert program.received() == []


def test_standing_orders_can_be_taken_back(program: Program) -> None:
    url = program.environment["FAR_SLACK_URL"]
    program.control("always", receiver="slack", answer={"status": 500})
    assert httpx.post(url, json={"text": "hi"}).status_code == 500
    program.control("normal")
    assert httpx.post(url, json={"text": "hi"}).status_code == 200


def test_a_browser_can_be_subscribed(program: Program) -> None:
    subscription = program.control("subscribe", name="alice").json()
    assert subscription["endpoint"] == f"{program.environment['FAR_URL']}/push/alice"
    assert set(subscription["keys"]) == {"p256dh", "auth"}


@pytest.mark.parametrize(
    ("order", "document", "problem"),
    [
        ("stop", {}, "no such order"),
        ("script", {"receiver": "sms"}, "no receiver sms"),
        ("script", {"receiver": ["slack"]}, "receiver must be a string"),
        ("script", {"receiver": "slack"}, "answers must be a list"),
        ("script", {"receiver": "slack", "answers": 5}, "answers must be a list"),
        ("always", {"receiver": "slack", "answer": {"state": 1}}, "no such key: state"),
        ("always", {"target": 5, "answer": {}}, "target must be a string"),
        ("subscribe", {"name": 5}, "name must be a string"),
    ],
)
def test_a_wrong_order_is_explained(
    program: Program, order: str, document: dict[str, Any], problem: str
) -> None:
    response = program.control(order, **document)
    assert response.status_code == 400
    assert problem in response.json()["error"]


def test_it_ends_on_sigterm_and_leaves_nothing(tmp_path: Path) -> None:
    program = Program(tmp_path)
    key = Path(program.environment["TOCSIN_APNS_KEY_FILE"])
    assert key.exists()
    program.process.send_signal(signal.SIGTERM)
    assert program.process.wait(10) == 0
    assert not key.parent.exists()


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("--port", "99999", "--port: must be from 0 to 65535"),
        ("--apns-port", "-1", "--apns-port: must be from 0 to 65535"),
        ("--port", None, "ddress already in use"),
        ("--apns-port", None, "ddress already in use"),
        ("--record", "no/such/folder/x", "error: no/such/folder/x: No such file or directory"),
        ("--env-file", "no/such/folder/x", "error: no/such/folder/x.part: No such file or directory"),
    ],
)
def test_what_keeps_it_from_running_is_one_line(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    option: str,
    value: str | None,
    told: str,
) -> None:
    monkeypatch.setattr("receivers.__main__.signal.signal", lambda *_: None)  # they are the tests' own here
    with socket.create_server(("127.0.0.1", 0)) as taken:
        try:
            status = main(["--quiet", option, value or str(taken.getsockname()[1])])
        except SystemExit as end:  # argparse's, for an option's value
            status = int(str(end.code))
    assert status != 0
    assert told in capsys.readouterr().err.splitlines()[-1]


def test_a_line_for_people_says_what_happened(far: FarSide, http: httpx.Client) -> None:
    http.post(far.slack.url("ops"), json={})
    line = summary(far.slack.received[0]).plain
    assert "slack     ops" in line
    assert "400 no_text" in line
    assert line.endswith("neither text nor blocks nor attachments")
