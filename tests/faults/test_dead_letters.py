"""What nobody could work on is counted, listed, and can be put back to work."""

from __future__ import annotations

import contextlib
import socket
import time
from typing import Any

import dramatiq
import pika
import pytest
from dramatiq import Message, Worker

from actors.memory import MemoryBroker
from actors.rabbitmq import ConfirmingRabbitmqBroker
from admin.dead_letters import PATIENCE, count_dead_letters, import_dead_letters, list_dead_letters
from config import load_settings
from tests.servers.programs import free_port, wait_until

QUEUE = "tocsin.test"


def test_dead_letters_are_counted_listed_and_imported(rabbitmq_url: str) -> None:
    broker = ConfirmingRabbitmqBroker(rabbitmq_url, queue_type="classic", middleware=[])
    worked: list[list[int]] = []

    @dramatiq.actor(broker=broker, queue_name=QUEUE)
    def step(ids: list[int]) -> None:
        worked.append(ids)

    # Given three messages that died: of a step that was broken, for an actor that is not there, and one of no JSON
    broker.declare_queue(QUEUE, ensure=True)
    messages = [
        Message(f"{QUEUE}.XQ", "step", ([1, 2],), {}, {"retries": 5, "traceback": "..."}).encode(),
        Message(f"{QUEUE}.XQ", "of_tomorrow", ([3],), {}, {}).encode(),
        b"\xff no JSON",
    ]
    with contextlib.closing(pika.BlockingConnection(pika.URLParameters(rabbitmq_url))) as connection:
        for body in messages:
            connection.channel().basic_publish("", f"{QUEUE}.XQ", body)
    wait_until(lambda: broker.dead_letters(QUEUE) == 3, 10, "the dead letters")

    # When they are listed, twice: looking takes nothing away
    for _ in range(2):
        found = list_dead_letters(broker)
        assert {(each.actor, each.why_not is None) for each in found} == {
            ("step", True),
            ("of_tomorrow", False),
            (None, False),
        }
        wait_until(lambda: broker.dead_letters(QUEUE) == 3, 10, "the dead letters to be back")

    # And imported, then what can be worked on is worked on, and the others stay
    done = import_dead_letters(broker, queue=QUEUE)
    assert (done.messages, sum(done.left.values())) == (1, 2)
    worker = Worker(broker, worker_threads=1, worker_timeout=50)
    worker.start()
    try:
        wait_until(lambda: worked == [[1, 2]], 10, "the imported message")
    finally:
        worker.stop()
    assert broker.dead_letters(QUEUE) == 2
    assert import_dead_letters(broker).messages == 0
    broker.close()


def test_what_cannot_be_imported_leaves_the_limit_to_what_can(rabbitmq_url: str) -> None:
    broker = ConfirmingRabbitmqBroker(rabbitmq_url, queue_type="classic", middleware=[])

    @dramatiq.actor(broker=broker, queue_name=QUEUE)
    def step(ids: list[int]) -> None:
        """Is never run."""

    # Given as many unreadable ones as the limit, before three that can be imported
    broker.declare_queue(QUEUE, ensure=True)
    readable = [Message(f"{QUEUE}.XQ", "step", ([number],), {}, {}).encode() for number in range(3)]
    with contextlib.closing(pika.BlockingConnection(pika.URLParameters(rabbitmq_url))) as connection:
        for body in [b"\xff no JSON"] * 2 + readable:
            connection.channel().basic_publish("", f"{QUEUE}.XQ", body)
    wait_until(lambda: broker.dead_letters(QUEUE) == 5, 10, "the dead letters")

    # When they are imported, then as many are as were asked for, and the rest the next time
    for imported, left in ((2, 3), (1, 2)):
        assert import_dead_letters(broker, limit=2).messages == imported
        wait_until(lambda left=left: broker.dead_letters(QUEUE) == left, 10, "the others to be back")  # type: ignore[misc]
    assert import_dead_letters(broker, limit=0).left == {}
    assert len(list_dead_letters(broker, limit=1)) == 1
    broker.close()


def test_a_queue_that_waits_is_told_from_one_that_is_empty_or_gone(rabbitmq_url: str) -> None:
    broker = ConfirmingRabbitmqBroker(rabbitmq_url, queue_type="classic", middleware=[])

    @dramatiq.actor(broker=broker, queue_name=QUEUE)
    def step(ids: list[int]) -> None:
        """Is never run."""

    assert broker.waiting(QUEUE) == 0
    step.send([1])
    step.send_with_options(args=([2],), delay=60_000)
    wait_until(lambda: broker.waiting(QUEUE) == 2, 10, "the messages")
    with contextlib.closing(pika.BlockingConnection(pika.URLParameters(rabbitmq_url))) as connection:
        for name in (QUEUE, f"{QUEUE}.DQ"):
            connection.channel().queue_delete(name)
    assert broker.waiting(QUEUE) == 0
    # And the next message declares the queue again, instead of vanishing
    step.send([3])
    wait_until(lambda: broker.waiting(QUEUE) == 1, 10, "the message")
    broker.close()


def test_the_in_process_queue_has_none_to_list() -> None:
    broker: Any = MemoryBroker([])
    with pytest.raises(LookupError, match="memory://"):
        list_dead_letters(broker)
    assert count_dead_letters(load_settings(broker_url="memory://")) == {}


def test_each_queue_tells_how_many_died_in_it(rabbitmq_url: str) -> None:
    settings = load_settings(broker_url=rabbitmq_url, database_url="sqlite:///unused.db")
    names = (
        "tocsin.match",
        "tocsin.fanout",
        "tocsin.deliver",
        "tocsin.critical",
        "tocsin.later",
        "tocsin.accept",
    )
    # Given a broker on which nobody has declared a queue yet
    assert count_dead_letters(settings) == dict.fromkeys(names, 0)

    # When two die
    with contextlib.closing(pika.BlockingConnection(pika.URLParameters(rabbitmq_url))) as connection:
        channel = connection.channel()
        channel.queue_declare("tocsin.deliver.XQ")
        for _ in range(2):
            channel.basic_publish("", "tocsin.deliver.XQ", b"dead")

        # Then they are counted where they lie
        wait_until(lambda: (count_dead_letters(settings) or {}).get("tocsin.deliver") == 2, 10, "the count")


@pytest.mark.parametrize("listens", [True, False], ids=["accepts and says nothing", "refuses"])
def test_a_broker_that_is_away_is_unknown_and_quickly_so(*, listens: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        if not listens:
            server.close()
        host, port = server.getsockname() if listens else ("127.0.0.1", free_port())
        settings = load_settings(
            broker_url=f"amqp://guest:guest@{host}:{port}/", database_url="sqlite:///unused.db"
        )
        began = time.monotonic()

        assert count_dead_letters(settings) is None
        assert time.monotonic() - began < 2 * PATIENCE
