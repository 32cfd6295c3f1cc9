"""A message that is the only copy outlives a retry that the broker does not take; a hint at rows may go."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import dramatiq
import pytest
from dramatiq import Message, Worker
from dramatiq.common import current_millis
from dramatiq.errors import ConnectionClosed
from dramatiq.middleware import Retries

from actors.rabbitmq import ConfirmingRabbitmqBroker
from actors.roads import LONGEST_DELAYED_MESSAGE
from actors.together import Together
from tests.servers.programs import wait_until

PAUSE = timedelta(minutes=1)


class Reluctant(ConfirmingRabbitmqBroker):
    """Takes no delayed message, as a broker with an alarm; Dramatiq logs that and acknowledges the original."""

    refused = 0

    def declare_queue(self, queue_name: str, *, ensure: bool = False) -> None:
        if getattr(self.state, "delayed", False):
            self.refused += 1
            raise ConnectionClosed("an alarm")  # type: ignore[no-untyped-call]  # Dramatiq's
        super().declare_queue(queue_name, ensure=ensure)

    def enqueue(self, message: Message[Any], *, delay: int | None = None) -> Message[Any]:
        self.state.delayed = delay is not None
        return super().enqueue(message, delay=delay)


@pytest.mark.parametrize(("actor_name", "comes_again"), [("accept_alerts", True), ("deliver", False)])
def test_what_is_no_hint_at_rows_comes_again(actor_name: str, comes_again: bool, rabbitmq_url: str) -> None:  # noqa: FBT001  # a parameter
    broker = Reluctant(
        rabbitmq_url, queue_type="classic", middleware=[Retries(min_backoff=10, max_backoff=20)]
    )
    tries: list[str] = []
    done = threading.Event()

    @dramatiq.actor(broker=broker, queue_name="tocsin.test", actor_name=actor_name)
    def step(word: str) -> None:
        tries.append(word)
        if len(tries) == 1:
            raise RuntimeError("the database is away")
        done.set()

    worker = Worker(broker, worker_threads=1, worker_timeout=50)
    worker.start()
    try:
        # When a message fails, and its retry is refused
        step.send("first")
        wait_until(lambda: broker.refused == 1, 10, "the refusal")
        # Then it comes again by itself or, where the database knows what to do, is gone and does not go round
        if comes_again:
            assert done.wait(10)
            assert tries == ["first", "first"]
        else:
            step.send("second")
            assert done.wait(10)
            assert tries == ["first", "second"]
    finally:
        worker.stop()
        broker.close()


@pytest.mark.parametrize(
    ("ahead", "waits"), [(timedelta(0), PAUSE), (timedelta(hours=2), LONGEST_DELAYED_MESSAGE)]
)
def test_what_a_machine_whose_clock_is_ahead_puts_off_waits_as_long_as_any(
    ahead: timedelta, waits: timedelta, rabbitmq_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = ConfirmingRabbitmqBroker(rabbitmq_url, queue_type="classic", middleware=[])
    broker.declare_queue("tocsin.test", ensure=True)
    # Given a message that was put off, by its sender's clock
    skew, delay = (int(each.total_seconds() * 1000) for each in (ahead, PAUSE))
    with monkeypatch.context() as patched:
        patched.setattr("dramatiq.brokers.rabbitmq.current_millis", lambda: current_millis() + skew)
        broker.enqueue(Message("tocsin.test", "accept_alerts", ({},), {}, {}), delay=delay)
    # When a machine takes it whose clock is right, then it waits its time, or ours at most
    consumer: Any = broker.consume("tocsin.test.DQ", prefetch=1, timeout=5000)
    message = next(consumer)
    left = timedelta(milliseconds=message.options["eta"] - current_millis())
    assert abs(left - waits) < timedelta(seconds=20)
    consumer.ack(message)
    consumer.close()
    broker.close()


def test_what_a_producer_puts_off_itself_takes_no_place_of_what_is_due(rabbitmq_url: str) -> None:
    broker = ConfirmingRabbitmqBroker(rabbitmq_url, queue_type="classic", middleware=[])
    broker.declare_queue("tocsin.test", ensure=True)
    # Given a message in the queue itself that is to wait, and one behind it
    due = current_millis() + int(PAUSE.total_seconds() * 1000)
    for number, options in enumerate(({"eta": due}, {})):
        broker.enqueue(Message("tocsin.test", "accept_alerts", ({"alert_id": number},), {}, options))
    # When a consumer takes one at a time
    consumer: Any = broker.consume("tocsin.test", prefetch=1, timeout=5000)
    found = [next(consumer) for _ in range(2)]
    # Then it has the second one, and the first waits its time where all wait
    assert found[0] is None
    assert found[1].args == ({"alert_id": 1},)
    delayed: Any = broker.consume("tocsin.test.DQ", prefetch=1, timeout=5000)
    message = next(delayed)
    assert message.args == ({"alert_id": 0},)
    assert message.message_id != found[1].message_id
    assert abs(message.options["eta"] - due) < 5000
    consumer.close()
    delayed.close()
    broker.close()


def test_who_acknowledges_on_a_connection_that_is_gone_does_not_wait(rabbitmq_url: str) -> None:
    broker = ConfirmingRabbitmqBroker(rabbitmq_url, queue_type="classic", middleware=[])
    broker.declare_queue("tocsin.test", ensure=True)
    for number in range(2):
        broker.enqueue(Message("tocsin.test", "nobody", (number,), {}, {}))
    # Given two messages of a consumer whose connection goes
    consumer: Any = broker.consume("tocsin.test", prefetch=2, timeout=5000)
    held = [next(consumer), next(consumer)]
    consumer.connection.close()

    # When they are done with, nobody is told to try again
    consumer.ack(held[0])
    consumer.nack(held[1])

    # And both come again
    following: Any = broker.consume("tocsin.test", prefetch=2, timeout=5000)
    assert sorted(next(following).args[0] for _ in range(2)) == [0, 1]
    following.close()
    broker.close()


def test_of_what_went_together_and_failed_only_that_comes_again_which_has_not_ended(
    rabbitmq_url: str,
) -> None:
    broker = ConfirmingRabbitmqBroker(rabbitmq_url, queue_type="classic", middleware=[])
    broker.declare_queue("tocsin.test", ensure=True)
    for number in range(3):
        broker.enqueue(Message("tocsin.test", "accept_alerts", ({"alert_id": number},), {}, {}))
    # Given three messages that are worked on together, and one of them ends before the step fails
    consumer: Any = broker.consume("tocsin.test", prefetch=3, timeout=5000)
    together = Together([next(consumer) for _ in range(3)])
    together.ended.append(together.parts[1])
    # When they are given back, then the two others come again
    consumer.nack(together)
    assert sorted(next(consumer).args[0]["alert_id"] for _ in range(2)) == [0, 2]
    wait_until(lambda: broker.waiting("tocsin.test") == 0, 10, "an empty queue")
    consumer.close()
    assert broker.dead_letters("tocsin.test") == 0
    broker.close()
