"""Alerts by the queue: a message that no Python wrote, and what becomes of one that can never be accepted."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pika
import pytest
from cryptography.fernet import Fernet
from dramatiq import Message, Worker
from dramatiq.middleware import TimeLimitExceeded
from dramatiq.worker import _WorkerMiddleware
from peewee import OperationalError, ProgrammingError

import actors
from actors import accept_alerts, accepting, intake
from actors.accept_alerts import _publish_dead
from actors.broker import runtime
from actors.memory import MemoryBroker
from actors.rabbitmq import ConfirmingRabbitmqBroker
from actors.roads import ACCEPT
from config import load_settings
from config.metrics import metrics
from model.database import connection, tuples
from model.tables import Alert, Tenant
from tests.servers.programs import wait_until
from tests.support.database import KEY, open_test_database

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from actors.intake import Accepted, Call
    from tests.servers import RabbitServer

ROOT = Path(__file__).parents[3]
SECONDS = 40.0


#: Parts of a message that nobody can work with.
FLAWED: list[dict[str, Any]] = [
    {"queue_name": "nope"}, {"queue_name": 5}, {"queue_name": "tocsin.match"}, {"options": []}, {"options": None},
    {"kwargs": []}, {"message_id": {}}, {"message_timestamp": "now"}, {"actor_name": 7}, {"surplus": 1}, {"args": 7},
]  # fmt: skip


def stored() -> list[tuple[str, str]]:
    with connection():
        return [
            (row[0], row[1]) for row in tuples(Alert.select(Alert.tenant, Alert.alert_id).order_by(Alert.id))
        ]


def message(*arguments: Any, **changes: Any) -> bytes:
    """The message of docs/producers.md, written by hand."""
    document = {
        "queue_name": "tocsin.accept",
        "actor_name": "accept_alerts",
        "args": list(arguments),
        "kwargs": {},
        "options": {},
        "message_id": str(uuid.uuid4()),
        "message_timestamp": 0,
    }
    return json.dumps(document | changes).encode()


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    """A worker of the in-process broker in this process."""
    url = f"sqlite:///{tmp_path / 'test.db'}"
    before = runtime.settings
    runtime.settings = load_settings(database_url=url, secret_keys=KEY)
    with open_test_database(url):
        with connection():
            Tenant.create(tenant_id="acme")
        running = Worker(actors.broker, worker_threads=2, worker_timeout=20)
        running.start()
        yield running
        running.stop()
        actors.broker.middleware[:] = [
            each for each in actors.broker.middleware if not isinstance(each, _WorkerMiddleware)
        ]
        actors.broker.flush_all()
    runtime.settings = before


def dead() -> list[Any]:
    assert isinstance(actors.broker, MemoryBroker)
    return list(actors.broker.dead_letters_by_queue[ACCEPT])


@pytest.mark.usefixtures("worker")
def test_one_alert_or_a_list_for_a_tenant_or_the_default_one() -> None:
    accept_alerts.send({"alert_id": 1})
    accept_alerts.send([{"alert_id": 2}, {"alert_id": 3}], "acme")
    accept_alerts.send([{"alert_id": 2}], tenant_id="acme")
    wait_until(lambda: len(stored()) == 3, SECONDS, "three alerts")
    assert sorted(stored()) == [("acme", "2"), ("acme", "3"), ("default", "1")]


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (([{"alert_id": 1}, {"alert_id": 2, "severity": "high"}], "acme"), "[1].severity"),
        (("alert", "acme"), "an alert must be an object"),
        (([{"alert_id": 1}], "nobody"), "there is no tenant 'nobody'"),
        (([{"alert_id": 1}], 7), "tenant_id"),
        (([{"alert_id": 1}], "\ud800"), "tenant_id"),
        (([{"alert_id": 1}], "n" * 65), "tenant_id"),  # PostgreSQL's column is not wider
        (([{"alert_id": 1}] * 1001, "acme"), "at most 1,000"),
    ],
)
def test_what_can_never_be_accepted_is_dead_with_its_reason(arguments: tuple[Any, ...], reason: str) -> None:
    before = len(dead())
    sent = accept_alerts.send(*arguments)
    wait_until(lambda: len(dead()) == before + 1, SECONDS, "the dead letter")
    letter = dead()[-1]
    assert reason in letter.options["reason"]
    assert (letter.message_id, letter.args) == (sent.message_id, sent.args)
    assert "retries" not in letter.options
    assert stored() == []


def counted() -> dict[str, float]:
    outcomes = ("accepted", "duplicate", "rejected")
    return {each: metrics().alerts.labels(each)._value.get() for each in outcomes}


def test_of_several_that_go_together_only_those_come_again_that_must(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a worker that is busy, and messages that came meanwhile: a good one, a wrong one, and one that fails
    opened, tries = threading.Event(), list[list[str]]()

    def accept(calls: Sequence[Call]) -> list[Accepted]:
        opened.wait(SECONDS)
        tries.append([alert.key for call in calls for alert in call.alerts])
        if "fails" in tries[-1]:
            raise LookupError("nobody can accept this")
        return intake.accept(calls)

    monkeypatch.setattr(accepting, "accept", accept)
    accept_alerts.send({"alert_id": "first"})
    wait_until(lambda: worker.work_queue.qsize() < worker.work_queue.unfinished_tasks, SECONDS, "work")
    before, letters = counted(), len(dead())
    for alert in ({"alert_id": 1}, {"severity": 1}, {"alert_id": "fails"}):
        accept_alerts.send(alert)
    wait_until(lambda: worker.work_queue.qsize() == 3, SECONDS, "three that wait")
    # When they are worked on together
    opened.set()
    # Then the one that failed comes again, alone, and the others have ended
    wait_until(lambda: len(dead()) == letters + 2, SECONDS, "the dead letters")
    assert tries == [["first"], ["1", "fails"], ["1"], ["fails"], ["fails"]]
    assert [letter.options.get("reason") for letter in dead()[letters:]] == ["alert_id: required", None]
    assert {name: value - before[name] for name, value in counted().items()} == {
        "accepted": 2,
        "duplicate": 0,
        "rejected": 1,
    }


def producer_example() -> str:
    """The shell lines of docs/producers.md that publish."""
    text = (ROOT / "docs" / "producers.md").read_text(encoding="utf-8")
    found = re.search(r"```sh\n(# publish\n.*?)```", text, re.DOTALL)
    assert found, "docs/producers.md has lost its example"
    return found[1]


@pytest.mark.timeout(180)
def test_on_rabbitmq_by_the_documented_shell_lines_and_by_plain_amqp(
    tmp_path: Path, rabbitmq: RabbitServer, rabbitmq_url: str
) -> None:
    url = f"sqlite:///{tmp_path / 'tocsin.db'}"
    environment = {
        **os.environ,
        "TOCSIN_DATABASE_URL": url,
        "TOCSIN_BROKER_URL": rabbitmq_url,
        "TOCSIN_SECRET_KEYS": Fernet.generate_key().decode(),
        "TOCSIN_METRICS_PORT": "0",
        "dramatiq_prom_db": str(tmp_path / "metrics"),
    }
    with (tmp_path / "output").open("wb") as output:
        # Given a worker group, as it is run in production
        command = [sys.executable, "-m", "dramatiq", "actors", "--processes", "1", "--threads", "2"]
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output)
        try:
            parameters = pika.URLParameters(rabbitmq_url)

            def declared() -> bool:
                connection = pika.BlockingConnection(parameters)
                try:
                    connection.channel().queue_declare("tocsin.accept", passive=True)
                    connection.channel().queue_declare("tocsin.accept.XQ", passive=True)
                except pika.exceptions.ChannelClosedByBroker:
                    return False
                finally:
                    connection.close()
                return True

            wait_until(declared, SECONDS, "the queue", describe=(tmp_path / "output").read_text)
            # When an alert is published by what the documentation shows
            user, password = parameters.credentials.username, parameters.credentials.password
            answer = subprocess.run(
                ["sh", "-euc", producer_example()],
                env={
                    **os.environ,
                    "RABBITMQ_API": rabbitmq.management_url,
                    "RABBITMQ_USER": f"{user}:{password}",
                    "RABBITMQ_VHOST": parameters.virtual_host,
                    "no_proxy": "127.0.0.1",
                },
                capture_output=True, text=True, timeout=30, check=True,
            )  # fmt: skip
            assert json.loads(answer.stdout) == {"routed": True}
            # And a good and a bad one by plain AMQP
            with pika.BlockingConnection(parameters) as amqp:
                channel = amqp.channel()
                channel.confirm_delivery()
                # Behind some that Dramatiq's worker would die of
                for flawed in FLAWED:
                    channel.basic_publish("", "tocsin.accept", message([{"alert_id": 7}], **flawed))

                def flawed_are_dead() -> bool:
                    passive = channel.queue_declare("tocsin.accept.XQ", passive=True)
                    return bool(passive.method.message_count == len(FLAWED))

                wait_until(flawed_are_dead, SECONDS, "dead letters", describe=(tmp_path / "output").read_text)
                channel.queue_purge("tocsin.accept.XQ")
                for body in (message([{"alert_id": "amqp-1"}]), message([{"severity": 1}])):
                    channel.basic_publish("", "tocsin.accept", body, mandatory=True)
                letters: list[tuple[Any, Any, Any]] = []

                def dead_letter() -> bool:
                    got = channel.basic_get("tocsin.accept.XQ", auto_ack=True)
                    if got[0] is not None:
                        letters.append(got)
                    return bool(letters)

                wait_until(dead_letter, SECONDS, "the dead letter", describe=(tmp_path / "output").read_text)
            # Then the good ones are accepted, and the bad one is dead with its reason
            reason = letters[0][1].headers["reason"]
            assert reason == "alert_id: required"
            assert json.loads(letters[0][2])["options"]["reason"] == reason
            with open_test_database(url, migrated=False):
                wait_until(lambda: len(stored()) == 2, SECONDS, "the alerts")
                assert sorted(stored()) == [("default", "amqp-1"), ("default", "door-7-2026-03-29")]
        finally:
            process.terminate()
            process.wait(30)


def test_a_worker_that_was_idle_tells_the_reason_too(rabbitmq: RabbitServer, rabbitmq_url: str) -> None:
    # Given a thread that has published before, whose connection the broker has closed since, as it does when it hears
    # nothing on it for three heartbeats
    broker = ConfirmingRabbitmqBroker(rabbitmq_url, queue_type="classic", middleware=[])
    broker.declare_queue(ACCEPT, ensure=True)
    broker.enqueue(Message(ACCEPT, "accept_alerts", ({"alert_id": 1},), {}, {}))
    vhost = broker.parameters[0].virtual_host
    rabbitmq.rabbitmqctl("close_all_connections", "--vhost", vhost, "a test cuts it")
    # When it refuses a message
    _publish_dead(broker, Message(ACCEPT, "accept_alerts", (7,), {}, {}), "an alert must be an object")
    # Then the message is dead, with its reason
    _, properties, _ = broker.channel.basic_get(f"{ACCEPT}.XQ", auto_ack=True)
    assert properties.headers == {"reason": "an alert must be an object"}
    broker.close()


@pytest.mark.parametrize(
    ("error", "comes_again"),
    [
        (OperationalError("away"), True),
        (TimeLimitExceeded("hangs"), True),
        (ProgrammingError("no such table: nobody has migrated yet"), True),
        (ValueError("a bug"), False),
    ],
)
def test_the_only_copy_comes_again_while_the_database_is_away_or_hangs(
    error: BaseException,
    comes_again: bool,  # noqa: FBT001  # a parameter of the test
) -> None:
    assert accept_alerts.options["retry_when"](1000, error) is comes_again
