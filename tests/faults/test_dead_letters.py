"""What nobody could work on is counted, listed, and can be put back to work."""

from __future__ import annotations

import contextlib
import socket
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import dramatiq
import pika
import pytest
from dramatiq import Message, Worker
from dramatiq.middleware import Retries

from actors.memory import MemoryBroker
from actors.rabbitmq import ConfirmingRabbitmqBroker
from admin.dead_letters import PATIENCE, count_dead_letters, import_dead_letters, list_dead_letters
from admin.deaths import deaths_of, refused_at
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


def test_each_says_where_and_when_it_died_and_why(rabbitmq_url: str) -> None:
    # Given a worker with a step that always fails, one that fails in a way that is not tried again, and one that works
    retries = Retries(max_retries=1, min_backoff=1)
    broker = ConfirmingRabbitmqBroker(rabbitmq_url, queue_type="classic", middleware=[retries])
    broken, hopeless = (
        dramatiq.actor(actor_name=name, broker=broker, queue_name=QUEUE, max_retries=tries)(fail)
        for name, tries in (("broken", 1), ("hopeless", 0))
    )
    # And messages that end in its dead letters, each for a reason of its own
    sent = {"broken": broken.send("no"), "hopeless": hopeless.send("no")}
    bodies = {
        "unknown": Message(QUEUE, "of_tomorrow", (), {}, {}).encode(),
        "elsewhere": Message("tocsin.other", "broken", (), {}, {}).encode(),
        "shapeless": Message(QUEUE, "broken", (), [], {}).encode(),  # type: ignore[arg-type]  # what it is about
        "surplus": broken.message("no").encode().replace(b"{", b'{"surplus": 1, ', 1),
        "text": b"no JSON",
    }
    with contextlib.closing(pika.BlockingConnection(pika.URLParameters(rabbitmq_url))) as connection:
        channel = connection.channel()
        for body in bodies.values():
            channel.basic_publish("", QUEUE, body)
        # And one that was put there beside RabbitMQ's own way, as the refusal of an alert is
        headers = {"reason": "alert_id: required", "x-death": "nonsense"}
        channel.basic_publish(
            "",
            f"{QUEUE}.XQ",
            broken.message("bad").encode(),
            pika.BasicProperties(headers=headers, timestamp=1_800_000_000),
        )
    worker = Worker(broker, worker_threads=1, worker_timeout=50)
    began = datetime.now(UTC)
    worker.start()
    try:
        wait_until(lambda: broker.dead_letters(QUEUE) == 8, 20, "the dead letters")
    finally:
        worker.stop()

    # When they are listed
    found = list_dead_letters(broker)

    # Then each says why, and whether it can be imported
    by_why = {each.why: each for each in found}
    assert {why: each.why_not for why, each in by_why.items()} == {
        "too many failures: given up after 2 tries; the last try but one ended with ValueError: no": None,
        "a worker refused it, or failed in a way that is not tried again: its log says why, by message_id": None,
        "can never be accepted: alert_id: required": None,
        "not Dramatiq's shape: queue_name: must be tocsin.test, the queue that it is in": None,
        "not Dramatiq's shape: kwargs: must be an object": "not Dramatiq's shape: kwargs: must be an object",
        "unknown actor: no worker of this version knows it": "unknown actor: start workers that know it first",
        "unreadable: parts of a Dramatiq message are missing, or surplus": "unreadable",
        "unreadable: no JSON": "unreadable",
    }
    # And RabbitMQ where, how and when, but of the one that it did not put there
    for each in found:
        if "accepted" in each.why:
            assert (each.deaths, each.died_at) == ([], datetime(2027, 1, 15, 8, tzinfo=UTC))
            continue
        (death,) = each.deaths
        assert (death.queue, death.reason, death.count) == (QUEUE, "rejected", 1)
        assert each.died_at is not None
        assert abs(each.died_at - began) < timedelta(seconds=30)
        assert each.document()["deaths"] == [
            {"queue": QUEUE, "reason": "rejected", "count": 1, "time": each.died_at.isoformat()}
        ]
    # And the log names them by the same id
    ids = {each.actor: each.message_id for each in found if each.why.startswith(("too many", "a worker"))}
    assert ids == {name: message.message_id for name, message in sent.items()}
    # And what no import mends stays where it is
    left = import_dead_letters(broker).left
    assert sorted(left.values()) == [1, 1, 2]
    broker.close()


def fail(why: str) -> None:
    raise ValueError(why)


def test_what_dies_twice_and_of_a_time_to_live_says_so(rabbitmq_url: str) -> None:
    # Given a message that died of the time that it had, was moved back, and died again
    broker = ConfirmingRabbitmqBroker(rabbitmq_url, queue_type="classic", middleware=[])
    broker.declare_queue(QUEUE, ensure=True)
    with contextlib.closing(pika.BlockingConnection(pika.URLParameters(rabbitmq_url))) as connection:
        channel = connection.channel()
        body, headers = Message(QUEUE, "of_tomorrow", (), {}, {"retries": "x"}).encode(), None
        for _ in range(2):
            channel.basic_publish("", QUEUE, body, pika.BasicProperties(expiration="1", headers=headers))
            wait_until(lambda: broker.dead_letters(QUEUE) == 1, 10, "the dead letter")
            (letter,) = list_dead_letters(broker)
            wait_until(lambda: broker.dead_letters(QUEUE) == 1, 10, "the dead letter to be back")
            _, properties, _ = channel.basic_get(f"{QUEUE}.XQ", auto_ack=True)
            headers = properties.headers

    # Then both are told
    assert ", ".join(map(str, letter.deaths)) == f"expired 2 times in {QUEUE}"
    broker.close()


@pytest.mark.parametrize(
    ("header", "told"),
    [
        (None, []),
        ({"x-death": {}}, []),
        ({"x-death": [1, {}]}, ["? in ?"]),
        ({"x-death": [{"queue": "q", "reason": "maxlen", "count": "x", "time": 7}]}, ["maxlen in q"]),
    ],
)
def test_a_header_that_somebody_made_up_breaks_no_list(
    header: dict[str, Any] | None, told: list[str]
) -> None:
    assert [str(each) for each in deaths_of(header)] == told


@pytest.mark.parametrize(
    ("timestamp", "moment"),
    [(None, None), (1_800_000_000, datetime(2027, 1, 15, 8, tzinfo=UTC)), (2**63, None), (2**64 - 1, None)],
)
def test_a_timestamp_that_somebody_made_up_breaks_no_list_either(
    timestamp: int | None, moment: datetime | None
) -> None:
    assert refused_at(pika.BasicProperties(timestamp=timestamp)) == moment


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
