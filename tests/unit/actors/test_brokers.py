"""The two brokers: the embedded one is bounded, RabbitMQ's waits for nothing without end."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import dramatiq
import pika
import pytest
from dramatiq import Worker
from dramatiq.errors import ConnectionClosed
from dramatiq.middleware import Retries
from hypothesis import given
from hypothesis import strategies as st

from actors import rabbitmq
from actors.broker import make_broker
from actors.memory import DEAD_LETTERS, MemoryBroker
from actors.rabbitmq import CONNECTION, ConfirmingRabbitmqBroker, _with_defaults
from config import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def broker() -> Iterator[MemoryBroker]:
    memory = MemoryBroker([Retries()])
    worker = Worker(memory, worker_timeout=20, worker_threads=2)
    worker.start()
    yield memory
    worker.stop()
    memory.close()


def test_the_embedded_broker_delivers(broker: MemoryBroker) -> None:
    done: list[int] = []
    actor = dramatiq.actor(broker=broker, queue_name="q", actor_name="append")(done.append)

    for number in range(10):
        actor.send(number)
    broker.join("q", timeout=5000)

    assert sorted(done) == list(range(10))


def test_dead_letters_are_bounded_and_the_latest_are_kept(broker: MemoryBroker) -> None:
    def fail(number: int) -> None:
        raise ArithmeticError(number)

    actor = dramatiq.actor(broker=broker, queue_name="q", throws=(ArithmeticError,))(fail)
    for number in range(DEAD_LETTERS + 50):
        actor.send(number)
    broker.join("q", timeout=5000, fail_fast=False)

    numbers = {message.args[0] for message in broker.dead_letters}
    assert len(broker.dead_letters) == DEAD_LETTERS
    assert numbers >= set(range(52, DEAD_LETTERS + 50))


def test_the_settings_choose_the_broker() -> None:
    embedded = make_broker(load_settings(broker_url="memory://"))
    distributed = make_broker(load_settings(broker_url="amqp://a:5672/;amqp://b:5672/", queue_type="quorum"))

    assert isinstance(embedded, MemoryBroker)
    assert isinstance(distributed, ConfirmingRabbitmqBroker)
    assert distributed.confirm_delivery
    assert [node.host for node in distributed.parameters] == ["a", "b"]
    # The hooks after a message run from last to first, and TimeLimit's must be over when Retries publishes.
    for made in (embedded, distributed):
        names = [type(part).__name__ for part in made.middleware]
        assert names.index("TimeLimit") > names.index("Retries")


@pytest.mark.parametrize(
    ("queue_type", "expected"),
    [
        ("classic", {"x-queue-type": "classic"}),
        ("quorum", {"x-queue-type": "quorum", "x-delivery-limit": -1}),
    ],
)
def test_a_queue_is_of_the_type_that_was_chosen(queue_type: str, expected: dict[str, Any]) -> None:
    broker = ConfirmingRabbitmqBroker("amqp://localhost", queue_type=queue_type, middleware=[])

    arguments = broker._build_queue_arguments("q")

    assert {name: arguments.get(name) for name in ("x-queue-type", "x-delivery-limit")} == {
        "x-delivery-limit": None
    } | expected
    assert arguments["x-dead-letter-exchange"] == ""


def test_every_wait_has_an_end_unless_the_url_says_otherwise() -> None:
    parameters = pika.URLParameters(_with_defaults("amqp://localhost:5672/"))

    assert parameters.blocked_connection_timeout == 10
    assert parameters.socket_timeout == 5
    assert parameters.stack_timeout == 15
    assert parameters.connection_attempts == 2
    assert parameters.retry_delay == 0.5
    assert parameters.heartbeat == 10


def test_a_broker_that_accepts_and_says_nothing_is_away_like_any_other() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"amqp://127.0.0.1:{server.getsockname()[1]}/?stack_timeout=0.3&connection_attempts=1"
        broker = ConfirmingRabbitmqBroker(url, queue_type="classic", middleware=[])
        with pytest.raises(ConnectionClosed):
            broker.enqueue(dramatiq.Message("q", "nobody", (), {}, {}))
        with pytest.raises(ConnectionClosed):
            broker.waiting("q")


def test_a_hint_or_a_question_waits_for_seconds_whatever_the_url_allows_a_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rabbitmq, "PATIENCE", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"amqp://127.0.0.1:{server.getsockname()[1]}/"
        broker = ConfirmingRabbitmqBroker(url, queue_type="classic", middleware=[])
        began = time.monotonic()
        with pytest.raises(ConnectionClosed):
            broker.enqueue(dramatiq.Message("q", "match_rules", ([1],), {}, {}))
        with pytest.raises(ConnectionClosed):
            broker.waiting("q")
        assert time.monotonic() - began < 3


@pytest.mark.parametrize("name", sorted(CONNECTION))
def test_what_the_url_says_wins(name: str) -> None:
    parameters = pika.URLParameters(_with_defaults(f"amqp://localhost/?{name}=3"))

    assert getattr(parameters, name) == 3
    for other in CONNECTION.keys() - {name}:
        assert getattr(parameters, other) == float(CONNECTION[other])


TEXT = st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S"]), min_size=1, max_size=20)


@given(user=TEXT, password=TEXT, vhost=TEXT)
def test_credentials_and_virtual_host_come_through_whole(user: str, password: str, vhost: str) -> None:
    url = f"amqps://{quote(user, safe='')}:{quote(password, safe='')}@mq.example.org:5671/{quote(vhost, safe='')}"

    parameters = pika.URLParameters(_with_defaults(url))

    assert (parameters.credentials.username, parameters.credentials.password) == (user, password)
    assert parameters.virtual_host == vhost
    assert (parameters.host, parameters.port) == ("mq.example.org", 5671)
    assert parameters.ssl_options is not None
